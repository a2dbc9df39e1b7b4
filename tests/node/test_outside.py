"""A zygote that is no child of the daemon: systemd starts it, outside of the daemon's sandbox."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.node import zygote
from teleport_lite.node.orders import MAX_ANSWER, Answer, order
from teleport_lite.node.settings import Settings
from teleport_lite.proto.codec import read, write
from tests.node import paper_systemd
from tests.node.house import REPO, House
from tests.node.paper_systemd import PRIVATE, PaperSystemd
from tests.node.test_outlive import end, kill_daemon, open_sessions, session
from tests.node.test_rehearsal import HEAVY
from tests.support import eventually

NOBODY = 65534


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    with PaperSystemd(tmp_path, house.data_dir) as systemd:
        house.popen = {"env": {**os.environ, zygote.SESSIONS: str(systemd.path)}}
        house.start()
        try:
            yield house
        finally:
            house.stop()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# --- sessions


def test_sessions_are_none_of_the_daemons_processes(house: House) -> None:
    assert parent(house.zygote) != house.daemon.pid
    eventually(lambda: house.named("tl-ssh-zygote") == [house.zygote], what="its name")
    done = house.ssh("env")
    assert done.returncode == 0, done.stderr
    assert b"SSH_TELEPORT_USER=" in done.stdout
    assert not [name for name in (*PRIVATE, zygote.SESSIONS) if name.encode() in done.stdout]


def test_sessions_outlive_the_daemon_and_its_zygote_does_not(house: House) -> None:
    first, client = house.zygote, session(house)
    kill_daemon(house)
    eventually(lambda: not house.named("tl-ssh-zygote"), what="the zygote to end")
    house.start()
    assert house.zygote != first
    eventually(lambda: open_sessions(house) == ["echo up; cat"], what="the session to come back")
    end(client)


def test_its_end_is_noticed_though_systemd_holds_the_connection(house: House) -> None:
    os.kill(house.zygote, signal.SIGKILL)
    assert house.hear() == {"lost": True}


def test_a_host_that_goes_down_tells_its_visitors_and_leaves_nobody(house: House) -> None:
    """Systemd sends SIGTERM to all that are in the unit, in any order. In a login session, where
    modules of PAM may put some of them, SIGHUP as well."""
    client = session(house, "trap '' TERM HUP; echo up; while :; do sleep 0.1; done")
    family = house.processes()
    for pid in (pid for pid, name in family.items() if name in ("tl-ssh-broker", "tl-ssh-pam")):
        os.kill(pid, signal.SIGHUP)
    for pid in sorted(family, reverse=True):
        with suppress(ProcessLookupError):  # the monitor may be quick
            os.kill(pid, signal.SIGTERM)
    _, errors = client.communicate(timeout=30)
    assert client.returncode == 255
    assert b"this host ends its sessions" in errors
    eventually(lambda: not house.processes(), what="all to end")
    assert house.event("T2004I")["facts"]["reason"] == "this host ends its sessions"


# --- who calls


@contextmanager
def somebody(uid: int) -> Iterator[None]:
    """What is connected or listened to meanwhile is that user's (SO_PEERCRED)."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def call(data_dir: Path, raw: bytes, uid: int = 0) -> tuple[Answer, list[int]]:
    """As a daemon of that user would."""
    name = f"\0tl-test-{uuid.uuid4()}"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ours,
    ):
        listener.bind(name)
        listener.listen()
        with somebody(uid):
            ours.connect(name)
        ours.send(raw)
        theirs, _ = listener.accept()
        with theirs:
            assert paper_systemd.zygote(theirs, data_dir, data_dir / "errors") == 0
        ours.settimeout(30)
        answer, fds, _, _ = socket.recv_fds(ours, MAX_ANSWER, 1)
        return read(Answer, answer, limit=MAX_ANSWER), fds


def test_only_root_and_our_own_user_may_call(tmp_path: Path) -> None:
    raw = write(order(Settings(data_dir=tmp_path)))
    answer, fds = call(tmp_path, raw, NOBODY)
    assert (answer.reason, fds) == (f"uid {NOBODY} may not start sessions", [])
    assert f"no SSH sessions: uid {NOBODY} may not" in (tmp_path / "errors").read_text()


def test_data_of_somebody_else_gets_nobody_in_even_if_they_call(tmp_path: Path) -> None:
    """The user of auth and proxy, on a host that was one of those before."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it away")
    raw = write(order(Settings(data_dir=tmp_path)))
    os.chown(tmp_path, NOBODY, NOBODY)
    answer, fds = call(tmp_path, raw, NOBODY)
    assert (answer.reason, fds) == (f"uid {NOBODY} may not start sessions", [])
    answer, fds = call(tmp_path, raw)
    assert (f"{tmp_path} belongs to uid {NOBODY}" in answer.reason, fds) == (True, [])


def test_a_refusal_says_why_and_what_to_do(tmp_path: Path) -> None:
    said = json.loads(write(order(Settings(data_dir=tmp_path))))
    answer, fds = call(tmp_path, json.dumps({**said, "build": "0.0.1 old"}).encode())
    assert "the daemon is '0.0.1 old'" in answer.reason
    assert (answer.hint, fds) == ("systemctl restart teleport-lite", [])


def test_it_ends_quietly_when_the_daemon_has(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    errors = tmp_path / "errors"
    with theirs:
        with ours:
            ours.send(write(order(Settings(data_dir=tmp_path))))
        assert paper_systemd.zygote(theirs, tmp_path, errors) == 0
        eventually(lambda: not mentioned(tmp_path), what="the zygote to end")
    assert errors.read_text() == ""


def mentioned(directory: Path) -> list[str]:
    """Processes that have it in their arguments."""
    done = subprocess.run(["pgrep", "-f", f"zygote {directory}"], capture_output=True, text=True)
    return done.stdout.split()


def test_a_person_is_told_what_it_is() -> None:
    for stdin in (subprocess.DEVNULL, subprocess.PIPE):
        words = [sys.executable, "-m", "teleport_lite", "zygote", "/"]
        done = subprocess.run(words, cwd=REPO, stdin=stdin, capture_output=True, text=True)
        assert done.returncode == 2
        assert "what systemd runs for a node" in done.stderr
        assert done.stderr.splitlines()[1].startswith("  try: systemctl status teleport-lite-")


def test_it_starts_as_lean_as_a_child() -> None:
    code = (
        "import json, sys\n"
        "sys.path[:] = sys.argv[1:]\n"
        "from teleport_lite.__main__ import main\n"
        "main(['teleport-lite', 'zygote'])\n"
        "import teleport_lite.node.nursery\n"
        "print(json.dumps([name for name, module in sys.modules.items() if module]))\n"
    )
    words = [sys.executable, "-I", "-S", "-c", code, *sys.path]
    done = subprocess.run(words, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True)
    names = set(json.loads(done.stdout))
    assert not HEAVY & (names | {name.partition(".")[0] for name in names})


def test_its_environment_is_as_clean_as_a_childs() -> None:
    code = "import os, sys; sys.path[:] = sys.argv[1:]\n"
    code += "from teleport_lite.node.lean import clean_env; clean_env(); os.execlp('env', 'env')"
    words = [sys.executable, "-I", "-S", "-c", code, *sys.path]
    env = {**PRIVATE, "PATH": os.environ["PATH"], "TZ": "UTC", "TELEPORT_TOKEN": "secret"}
    said = subprocess.run(words, cwd=REPO, env=env, capture_output=True, text=True).stdout
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names == {"PATH", "TZ", "JOURNAL_STREAM"}  # its words there have a level


# --- the daemon's side


@contextmanager
def listening(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(path))
        monkeypatch.setenv(zygote.SESSIONS, str(path))
        yield sock


Answers = Callable[[socket.socket], Any]


@pytest.mark.parametrize(
    ("answers", "why", "hint"),
    [
        (lambda sock: sock.close(), "has ended|reset|not a Answer", "journalctl"),
        (lambda sock: None, "timed out", "journalctl"),
        (lambda sock: sock.send(b"?"), "not a Answer", "journalctl"),
        (lambda sock: sock.send(write(Answer(reason="no", hint="do"))), ": no$", "^do$"),
        (lambda sock: sock.send(write(Answer(pid=1))), "has ended", "journalctl"),
    ],
)
def test_a_daemon_says_why_systemd_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: Answers, why: str, hint: str
) -> None:
    with listening(tmp_path / "sock", monkeypatch) as sock:
        sock.listen()
        born = zygote.start(Settings(data_dir=tmp_path))
        theirs, _ = sock.accept()
        with theirs:
            answers(theirs)
            with pytest.raises(Unavailable, match=why) as refused:
                born.settle(0.2)
        born.close()
    assert re.search(hint, refused.value.hint)


def test_whoever_listens_has_to_be_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(tmp_path / "sock", monkeypatch) as sock:
        with somebody(NOBODY):
            sock.listen()
        with pytest.raises(Unavailable, match=f"uid {NOBODY} is at the other end of .*/sock"):
            zygote.start(Settings(data_dir=tmp_path))


def test_without_the_socket_there_is_a_child_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(zygote.SESSIONS, str(tmp_path / "sock"))
    born = zygote.start(Settings(data_dir=tmp_path))
    born.settle()
    assert parent(born.pid) == os.getpid()
    born.close()
    [warning] = caplog.messages
    assert "SSH sessions live inside this unit" in warning
    assert f"{tmp_path}/sock: No such file" in warning
    os.waitpid(born.pid, 0)


def test_a_jump_host_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(zygote.SESSIONS, str(tmp_path / "sock"))
    born = zygote.start(Settings(data_dir=tmp_path, jump=True))
    assert parent(born.pid) == os.getpid()
    born.close()
    os.waitpid(born.pid, 0)


def test_a_sandbox_is_no_place_for_a_child() -> None:
    code = (
        "from pathlib import Path\n"
        "from teleport_lite.node import zygote, settings\n"
        "zygote.start(settings.Settings(data_dir=Path('/nowhere')))\n"
    )
    words = ["setpriv", "--no-new-privs", sys.executable, "-c", code]
    env = {**os.environ, zygote.SESSIONS: "/nowhere/sock"}
    done = subprocess.run(words, cwd=REPO, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Unavailable: SSH sessions can not be started outside of this unit" in done.stderr
