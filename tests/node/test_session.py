"""What people do with a shell, through the system's own ssh."""

import fcntl
import hashlib
import os
import pty
import struct
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from tests.node.house import ME, House
from tests.support import eventually

SIZE = 50 * 1024 * 1024


def test_a_command_runs_as_the_login_user(house: House) -> None:
    done = house.ssh("id -un")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ME}\n".encode(), b"")


def test_another_user_gets_their_own_world(house: House, other: str, others_home: Path) -> None:
    done = house.ssh("id -un; id -Gn; pwd; umask; grep ^Cap /proc/self/status", login=other)
    name, groups, home, umask, *capabilities = done.stdout.decode().split("\n")
    assert (name, groups, home, umask) == (other, other, str(others_home), "0022")
    sets = {line.partition(":")[0]: line.split()[1] for line in capabilities if line}
    assert sets["CapPrm"] == sets["CapEff"] == sets["CapAmb"] == "0" * 16


def test_a_user_who_is_not_root_cannot_become_it(house: House, other: str) -> None:
    code = "import os; os.setresuid(0, 0, 0)"
    done = house.ssh(f"/usr/bin/python3 -c '{code}'", login=other)
    assert done.returncode == 1
    assert b"PermissionError" in done.stderr


def test_output_and_errors_stay_apart(house: House) -> None:
    done = house.ssh("echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 7, 127, 254])
def test_the_exit_status_comes_back(house: House, code: int) -> None:
    assert house.ssh(f"exit {code}").returncode == code


def test_a_shell_killed_by_a_signal_says_which(house: House) -> None:
    # OpenSSH's client turns exit-signal into 255 and says so.
    done = house.visitor().ssh("kill -TERM $$", options=["-oLogLevel=VERBOSE"])
    assert done.returncode == 255
    house.event("T2004I", signal="TERM", command="kill -TERM $$")


def test_standard_input_ends_when_the_client_ends_it(house: House) -> None:
    done = house.ssh("cat; echo over", input=b"line\n")
    assert done.stdout == b"line\nover\n"


def test_a_command_that_does_not_read_does_not_hold_up_the_client(house: House) -> None:
    done = house.ssh("exec 0<&-; echo done", input=os.urandom(8 * 1024 * 1024))
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_50_mb_down_are_the_same_50_mb(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(SIZE))
    done = house.ssh(f"cat {source}")
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(source.read_bytes()).digest()


def test_50_mb_up_are_the_same_50_mb(house: House, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    done = house.ssh("sha256sum", input=data)
    assert done.stdout.decode().split()[0] == hashlib.sha256(data).hexdigest()


def test_20_mb_both_ways_at_once(house: House) -> None:
    data = os.urandom(20 * 1024 * 1024)
    assert house.ssh("cat", input=data).stdout == data


@pytest.mark.parametrize("cipher", ["aes256-gcm@openssh.com", "aes128-ctr"])
def test_new_keys_in_the_middle_of_a_transfer(house: House, cipher: str) -> None:
    data = os.urandom(10 * 1024 * 1024)
    options = ["-oRekeyLimit=1M", f"-oCiphers={cipher}"]
    assert house.visitor().ssh("cat", input=data, options=options).stdout == data


def test_a_login_shell_is_one(house: House) -> None:
    done = house.ssh(input=b"echo $0; shopt -q login_shell && echo login\n")
    assert done.stdout.decode().split()[-2:] == ["-bash", "login"]


def test_a_terminal_is_given_when_asked_for(house: House) -> None:
    done = house.ssh("tty; echo $TERM; echo $SSH_TTY", options=["-tt"], env=env(TERM="vt220"))
    tty, term, said = done.stdout.decode().split()
    assert tty.startswith("/dev/pts/")
    assert (term, said) == ("vt220", tty)


def test_none_is_given_when_not(house: House) -> None:
    done = house.ssh("tty; echo TERM=$TERM TTY=$SSH_TTY")
    assert done.stdout == b"not a tty\nTERM=dumb TTY=\n"


def test_size_and_changes_of_size_reach_the_shell(house: House) -> None:
    """A real terminal on our side, so that ssh asks for one and tells about its size."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    command = "trap 'stty size; exit 5' WINCH; stty size; while :; do sleep 0.05; done"
    client = subprocess.Popen(
        house.visitor().command(command, options=["-tt"]),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    said = Terminal(master)
    eventually(lambda: "33 101" in said.so_far(), what="the first size")
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
    eventually(lambda: "44 99" in said.so_far(), what="the second size")
    assert client.wait(60) == 5
    os.close(master)


def test_keys_typed_into_a_terminal_become_signals(house: House) -> None:
    client = house.visitor().start("trap 'exit 9' INT; echo ready; cat", options=["-tt"])
    assert client.stdin
    assert client.stdout
    assert client.stdout.readline().strip() == b"ready"
    client.stdin.write(b"\x03")
    client.stdin.flush()
    assert client.wait(60) == 9
    close(client)


def test_modes_of_the_client_s_terminal_are_taken_over(house: House) -> None:
    """Without a terminal of its own ssh sends none, so this one has an odd erase character."""
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[6][termios.VERASE] = b"\x05"
    attributes[3] &= ~termios.ECHOE
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    client = subprocess.Popen(
        house.visitor().command("stty -a; sleep 0.1", options=["-tt"]),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    said = Terminal(master)
    eventually(lambda: "erase = ^E" in said.so_far(), what="the erase character")
    eventually(lambda: "-echoe " in said.so_far(), what="the flag")
    client.wait(60)
    os.close(master)


def test_a_terminal_s_last_words_arrive(house: House) -> None:
    """The shell has gone when they are read; a job in the background holds the terminal."""
    done = house.ssh("(sleep 300 &) ; seq 100000 | tail -n 3", options=["-tt"])
    assert done.stdout.split() == [b"99998", b"99999", b"100000"]


def test_a_few_variables_pass_and_the_dangerous_ones_do_not(house: House) -> None:
    asked = {
        "LANG": "C",
        "LC_PAPER": "de_DE",
        "COLORTERM": "truecolor",
        "TZ": "Asia/Tokyo",
        "LD_PRELOAD": "/nowhere.so",
        "BASH_ENV": "/tmp/evil",
        "PYTHONPATH": "/tmp/evil",
        "IFS": "x",
        "SSH_CLIENT": "192.0.2.1",
        "LC_ALL; true": "x",
    }
    options = ["-oSendEnv=*"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    done = house.ssh("env -0", options=options, env=clean | asked)
    got = dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)
    assert {name: got.get(name) for name in ("LANG", "LC_PAPER", "COLORTERM", "TZ")} == {
        name: asked[name] for name in ("LANG", "LC_PAPER", "COLORTERM", "TZ")
    }
    assert not {"LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "IFS", "LC_ALL; true"} & set(got)
    assert got["SSH_CLIENT"].startswith("127.0.0.1 ")


def test_a_shell_knows_who_where_and_what_it_is(house: House, other: str) -> None:
    done = house.ssh("env -0", login=other)
    got = dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)
    assert got["USER"] == got["LOGNAME"] == other
    assert got["HOME"] == f"/home/{other}"
    assert got["SHELL"] == "/bin/bash"
    assert got["MAIL"] == f"/var/mail/{other}"
    assert got["SSH_TELEPORT_USER"] == "alice"
    assert got["SSH_TELEPORT_CLUSTER_NAME"] == house.cluster.name
    assert got["SSH_TELEPORT_HOST_UUID"] == house.host.id
    assert got["SSH_CONNECTION"].split()[2:] == ["127.0.0.1", str(house.port)]
    house.event("T2000I", sid=got["SSH_SESSION_ID"], login=other, user="alice")


def test_a_command_of_any_bytes_arrives_unchanged(house: House) -> None:
    odd = b"printf '%s' '\xff\xfe \x01' | od -An -tx1"
    command = [word.encode() for word in house.visitor().command()] + [odd]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.stdout.split() == [b"ff", b"fe", b"20", b"01"]


def test_several_sessions_share_a_connection(house: House, tmp_path: Path) -> None:
    visitor = house.visitor()
    with visitor.master(tmp_path / "m") as shared:
        shells = [visitor.start("cat", options=shared) for _ in range(10)]
        for number, shell in enumerate(shells):
            assert shell.stdin
            shell.stdin.write(b"%d\n" % number)
            shell.stdin.flush()
        for number, shell in enumerate(shells):
            assert shell.stdout
            assert shell.stdout.readline() == b"%d\n" % number
        eleventh = visitor.ssh("true", options=shared)
        assert b"Session open refused by peer" in eleventh.stderr
        for shell in shells:
            shell.communicate(timeout=30)
            assert shell.returncode == 0
        # A place that was given back can be had again.
        assert visitor.ssh("echo again", options=shared).stdout == b"again\n"


def test_a_client_that_vanishes_leaves_nothing_behind(house: House) -> None:
    client = house.visitor().start("sleep 1000 & echo $$; cat; sleep 1000")
    assert client.stdout
    shell = int(client.stdout.readline())
    client.kill()
    client.communicate(timeout=60)
    eventually(lambda: not Path(f"/proc/{shell}").exists(), what="the shell to end")
    eventually(lambda: not house.named("tl-ssh-worker"), what="the worker to end")
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitor to end")
    house.event("T2004I", signal="HUP")


def test_the_trail_tells_the_whole_story(house: House) -> None:
    house.ssh("echo story; exit 4")
    start = house.event("T2000I", command="echo story; exit 4")
    done = house.event("T3002E", sid=start["facts"]["sid"], exitCode="4")
    end = house.event("T2004I", sid=start["facts"]["sid"])
    for event in (start, done, end):
        assert event["facts"]["user"] == "alice"
        assert event["facts"]["login"] == ME
        assert event["facts"]["addr.remote"].startswith("127.0.0.1:")
    assert (done["kind"], done["outcome"]) == ("exec", "failed")
    assert house.event("T3007I")["facts"]["user"] == "alice"


def test_a_login_that_works_leaves_no_warning_about_the_key_offered_before(house: House) -> None:
    assert house.ssh("true offered").returncode == 0
    end = house.event("T2004I", command="true offered")
    where = end["facts"]["addr.remote"]
    codes = {each["code"] for each in house.events() if each["facts"]["addr.remote"] == where}
    assert "T3007W" not in codes


class Terminal:
    def __init__(self, master: int) -> None:
        self._master, self._said = master, b""
        os.set_blocking(master, False)

    def so_far(self) -> str:
        with suppress(OSError):
            self._said += os.read(self._master, 65536)
        return self._said.decode(errors="replace")


def env(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


def close(client: subprocess.Popen[bytes]) -> None:
    for pipe in (client.stdin, client.stdout, client.stderr):
        if pipe:
            pipe.close()
