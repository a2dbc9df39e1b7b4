"""OpenSSH's programs, and those that run `ssh` below them: rsync and git."""

import fcntl
import hashlib
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.node.house import ME, House, Visitor
from tests.support import eventually

TARGET = f"{ME}@127.0.0.1"
# More than a channel's window, and no multiple of a packet.
SIZE = (5 << 20) + 4321
SESSIONS = 10


def noise(size: int) -> bytes:
    return hashlib.shake_128(b"noise").digest(size)


def options(visitor: Visitor) -> list[str]:
    """What an ssh needs to know, without where to."""
    return ["-F", "none", *(word for word in visitor.command() if word.startswith("-o"))]


def transport(house: House) -> str:
    """As rsync and git want to be told."""
    return shlex.join(["ssh", *options(house.visitor()), "-p", str(house.port)])


def run(words: Sequence[str | Path], **more: object) -> str:
    """Output of something that has to work."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files as they are found: nested, empty, large, with odd names and modes."""
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    (root / "large").write_bytes(noise(SIZE))
    (root / "empty").touch()
    (root / "a" / "odd name; 'quoted' $HOME").write_text("odd")
    (root / "a" / "b" / "run").write_text("#!/bin/sh\n")
    (root / "a" / "b" / "run").chmod(0o750)
    return root


def told(root: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a tree: names, modes, contents."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(root.rglob("*"))
    }


# --- copies


@pytest.mark.parametrize("protocol", ["-s", "-O"])
def test_scp_copies_a_tree_there_and_back(
    house: House, tree: Path, tmp_path: Path, protocol: str
) -> None:
    scp = ["scp", protocol, "-r", "-p", *options(house.visitor()), "-P", str(house.port)]
    run([*scp, tree, f"{TARGET}:{tmp_path}/there"])
    run([*scp, f"{TARGET}:{tmp_path}/there", tmp_path / "back"])
    assert told(tmp_path / "back") == told(tree)


def test_sftp_copies_a_tree_there_and_back(house: House, tree: Path, tmp_path: Path) -> None:
    sftp = ["sftp", "-b", "-", *options(house.visitor()), "-P", str(house.port), TARGET]
    batch = f"put -Rp {tree} {tmp_path}/there\nget -Rp {tmp_path}/there {tmp_path}/back\n"
    run(sftp, input=batch)
    assert told(tmp_path / "back") == told(tree)


def test_sftp_goes_on_where_it_stopped(house: House, tree: Path, tmp_path: Path) -> None:
    sftp = ["sftp", "-b", "-", *options(house.visitor()), "-P", str(house.port), TARGET]
    there = tmp_path / "there"
    there.write_bytes(noise(SIZE)[:1_000_000])
    run(sftp, input=f"reput {tree}/large {there}\ndf {tmp_path}\n")
    assert there.read_bytes() == noise(SIZE)


def test_rsync_there_and_back_and_only_what_changed(
    house: House, tree: Path, tmp_path: Path
) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    rsync = ["rsync", "-a", "--delete", "--stats", "-e", transport(house)]
    run([*rsync, f"{tree}/", f"{TARGET}:{there}/"])
    assert told(there) == told(tree)
    (tree / "empty").unlink()
    with (tree / "large").open("ab") as file:
        file.write(b"and more")
    said = run([*rsync, f"{tree}/", f"{TARGET}:{there}/"])
    literal = next(line for line in said.splitlines() if line.startswith("Literal data"))
    assert int(literal.split()[2].replace(",", "")) < 100_000
    run([*rsync, f"{TARGET}:{there}/", f"{back}/"])
    assert told(back) == told(tree)


def test_git_clones_and_pushes(house: House, tree: Path, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "GIT_SSH_COMMAND": transport(house),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    } | {
        f"GIT_{who}_{what}": f"{who}@example.com"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    there, here = tmp_path / "there.git", tmp_path / "here"

    def git(*words: str, at: Path) -> str:
        return run(["git", *words], cwd=at, env=env)

    git("init", "--quiet", "--bare", "--initial-branch=main", str(there), at=tmp_path)
    git("init", "--quiet", "--initial-branch=main", at=tree)
    git("add", ".", at=tree)
    git("commit", "--quiet", "-m", "all of it", at=tree)
    url = f"ssh://{ME}@127.0.0.1/{there}"  # the port is in the command
    git("push", "--quiet", url, "main", at=tree)
    git("clone", "--quiet", url, str(here), at=tmp_path)
    assert (here / "large").read_bytes() == noise(SIZE)
    git("commit", "--quiet", "--allow-empty", "-m", "second", at=here)
    git("push", "--quiet", at=here)
    assert git("log", "-1", "--format=%s", "main", at=there) == "second\n"


# --- many sessions on one connection


@pytest.fixture
def visitor(house: House) -> Visitor:
    return house.visitor()


@pytest.fixture
def shared(visitor: Visitor, short: Path) -> Iterator[list[str]]:
    """The visitor's connection is there already; with these options another one shares it."""
    with visitor.master(short / "control") as options:
        yield options


def test_ten_sessions_share_a_connection_and_the_eleventh_is_refused(
    visitor: Visitor, shared: list[str]
) -> None:
    sessions = [visitor.start("cat", options=shared) for _ in range(SESSIONS)]
    for number, session in enumerate(sessions):
        assert session.stdin
        assert session.stdout
        session.stdin.write(b"%d\n" % number)
        session.stdin.flush()
        assert session.stdout.readline() == b"%d\n" % number
    refused = visitor.ssh("true", options=shared)
    assert refused.returncode == 255
    assert b"Session open refused by peer" in refused.stderr
    assert sessions[0].communicate(b"still\n", timeout=60)[0] == b"still\n"
    eventually(lambda: visitor.ssh("true", options=shared).returncode == 0)
    for number, session in enumerate(sessions[1:]):
        assert session.communicate(b"bye %d\n" % number, timeout=60)[0] == b"bye %d\n" % number
        assert session.returncode == 0


def test_a_hundred_sessions_one_after_the_other(visitor: Visitor, shared: list[str]) -> None:
    """None of them leaves anything behind that would count."""
    for number in range(100):
        done = visitor.ssh(f"exit {number}", options=shared)
        assert done.returncode == number, done.stderr


def test_a_bulk_transfer_does_not_hold_up_its_neighbours(
    visitor: Visitor, shared: list[str]
) -> None:
    bulk = visitor.start("cat /dev/zero", options=shared)
    assert bulk.stdout
    assert bulk.stdout.read(1 << 20) == bytes(1 << 20)
    # Nobody reads on: its window fills, and stays full.
    assert visitor.ssh("echo here", options=shared).stdout == b"here\n"
    bulk.kill()
    bulk.wait()
    assert visitor.ssh("echo there", options=shared).stdout == b"there\n"


# --- terminals, environment, long lives

WATCHER = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
while True:
    size = os.get_terminal_size()
    print(size.lines, size.columns)
    signal.sigwait({signal.SIGWINCH})
"""


def test_a_window_that_changes_size_is_told(house: House) -> None:
    ours, theirs = pty.openpty()

    def resize(rows: int, columns: int) -> None:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    resize(24, 80)
    script = f"{sys.executable} -uc {shlex.quote(WATCHER)}"
    client = house.visitor().start("-tt", script, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""

    def heard(what: bytes) -> bool:
        nonlocal said
        while what not in said:
            said += os.read(ours, 4096)
        return True

    assert heard(b"24 80\r\n")
    for size in ((50, 132), (1, 1), (200, 500)):
        resize(*size)
        # A terminal tells those who sit at it, which ssh does not: it is not its own.
        os.kill(client.pid, signal.SIGWINCH)
        assert heard(b"%d %d\r\n" % size)
    client.kill()
    client.wait()
    os.close(ours)


def test_only_harmless_variables_come_along(house: House) -> None:
    env = {**os.environ, "LC_TLT": "kept", "TLT_SECRET": "dropped", "LD_PRELOAD_": "dropped"}
    sent = ["-oSendEnv=LC_TLT TLT_SECRET LD_PRELOAD_", "-oSetEnv=BASH_ENV=/dev/null"]
    done = house.visitor().ssh("env", options=sent, env=env)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert "LC_TLT=kept" in lines
    assert not any("dropped" in line or line.startswith("BASH_ENV=") for line in lines)


def test_a_client_that_asks_whether_we_are_there_is_answered(house: House) -> None:
    """keepalive@openssh.com wants a reply; without any a client that is less patient gives up."""
    options = ["-oServerAliveInterval=1", "-oServerAliveCountMax=60", "-oLogLevel=DEBUG3"]
    done = house.visitor().ssh("sleep 2.5; echo done", options=options)
    assert (done.returncode, done.stdout) == (0, b"done\n")
    said = done.stderr.partition(b"receive packet: type 99")[2]  # from when the session began
    # SSH_MSG_GLOBAL_REQUEST, and REQUEST_SUCCESS or REQUEST_FAILURE.
    assert re.search(rb"send packet: type 80\b.*receive packet: type 8[12]\b", said, re.DOTALL)


def test_keys_change_under_load_in_both_directions(house: House) -> None:
    data = noise(16 << 20)
    done = house.visitor().ssh("cat", input=data, options=["-oRekeyLimit=1M"])
    assert done.returncode == 0
    assert done.stdout == data


def test_keys_change_under_load_beside_other_sessions(visitor: Visitor, short: Path) -> None:
    """Channels are opened and closed while keys are exchanged."""
    data = noise(4 << 20)
    answers: list[bytes] = [b"", b""]
    with visitor.master(short / "often", "-oRekeyLimit=300K") as shared:
        bulk = [visitor.start("cat", options=shared) for _ in range(2)]

        def pump(index: int) -> None:
            answers[index] = bulk[index].communicate(data, timeout=60)[0]

        threads = [threading.Thread(target=pump, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for number in range(10):
            assert visitor.ssh(f"echo {number}", options=shared).stdout == b"%d\n" % number
        for thread in threads:
            thread.join()
    assert answers == [data, data]


def test_exec_without_a_shell_for_input(house: House) -> None:
    """`bash -s`: what installers do, with the script on standard input."""
    script = b"set -e\nread -r line <<'EOF'\nfrom within\nEOF\necho \"$line $1\"\nexit 7\n"
    done = house.visitor().ssh("bash -s -- argument", input=script)
    assert (done.returncode, done.stdout) == (7, b"from within argument\n")
