"""utmp, wtmp and lastlog: what the system's own tools read from the files we write."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from teleport_lite.node import utmp as module
from teleport_lite.node.utmp import Files, Records, layout
from teleport_lite.testing.fakes import FakeClock
from tests.node.house import House
from tests.node.own_etc import System, system
from tests.node.test_session import Terminal, env
from tests.support import eventually

__all__ = ["system"]  # pytest finds fixtures by name

LOGIN = "tl-test-who"
FORM = layout()
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or FORM is None, reason="needs root and a utmp that we know"
)


def has(tool: str) -> bool:
    """Newer systems have left some of them out, with the files."""
    return shutil.which(tool) is not None


def test_the_records_are_as_long_as_glibc_has_them() -> None:
    sizes = {name: layout(name) for name in ("x86_64", "aarch64", "vax")}
    assert [(form.utmp.size, form.lastlog.size) for form in sizes.values() if form] == [
        (384, 292),
        (400, 296),
    ]
    assert sizes["vax"] is None


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Empty ones, and a broker that is believed."""
    monkeypatch.setattr(module, "_is_theirs", lambda *_: True)
    monkeypatch.setattr(module, "_is_over", lambda *_: False)
    files = Files(utmp=tmp_path / "utmp", wtmp=tmp_path / "wtmp", lastlog=tmp_path / "lastlog")
    for path in (files.utmp, files.wtmp, files.lastlog):
        path.touch()
    return files


def records(files: Files, login: str = "alice", address: str = "192.0.2.7") -> Records:
    return Records(login=login, uid=1234, address=address, clock=FakeClock(), files=files)


def read(path: Path) -> list[tuple[int, int, str, str, str]]:
    assert FORM is not None
    rows = FORM.utmp.iter_unpack(path.read_bytes())
    texts = [
        (row[0], row[1], *(row[at].rstrip(b"\0").decode() for at in (2, 4, 5))) for row in rows
    ]
    return [(kind, pid, line, user, host) for kind, pid, line, user, host in texts]


def test_a_session_comes_and_goes(files: Files) -> None:
    ours = records(files)
    ours.started("sid", "/dev/pts/7", 4321)
    assert read(files.utmp) == [(7, 4321, "pts/7", "alice", "192.0.2.7")]
    ours.ended("sid")
    assert read(files.utmp) == [(8, 4321, "pts/7", "", "")]
    assert [row[0] for row in read(files.wtmp)] == [7, 8]


def test_the_system_s_dump_understands_it(files: Files) -> None:
    records(files, address="2001:db8::7").started("sid", "/dev/pts/12", 4321)
    if not has("utmpdump"):
        pytest.skip("there is no utmpdump")
    said = subprocess.run(["utmpdump", files.utmp], capture_output=True, text=True).stdout
    for word in ("[7]", "[04321]", "[s/12]", "[alice ", "[pts/12 ", "[2001:db8::7 "):
        assert word in said, said


def test_the_place_of_who_was_there_before_is_taken(files: Files) -> None:
    first, second, third = records(files, "a"), records(files, "b"), records(files, "c")
    first.started("1", "/dev/pts/1", 10)
    second.started("2", "/dev/pts/2", 20)
    first.ended("1")
    third.started("3", "/dev/pts/1", 30)
    assert [row[:4] for row in read(files.utmp)] == [(7, 30, "pts/1", "c"), (7, 20, "pts/2", "b")]
    first.started("1", "/dev/pts/1", 10)
    third.ended("3")  # which is not there any more
    assert read(files.utmp)[0][:2] == (7, 10)


def test_what_is_open_at_the_end_is_closed(files: Files) -> None:
    ours = records(files)
    ours.started("1", "/dev/pts/1", 10)
    ours.started("2", "/dev/pts/2", 20)
    ours.close()
    assert [row[0] for row in read(files.utmp)] == [8, 8]


def test_a_session_that_is_over_already_is_history_only(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_is_theirs", lambda *_: False)
    looks = iter((False, False, True))  # it ends while we look
    monkeypatch.setattr(module, "_is_over", lambda *_: next(looks))
    ours = records(files)
    ours.started("1", "/dev/pts/1", 10)
    ours.ended("1")
    assert read(files.utmp) == []
    assert [row[:4] for row in read(files.wtmp)] == [
        (7, 10, "pts/1", "alice"),
        (8, 10, "pts/1", ""),
    ]
    assert ours.last_login()


def test_files_that_are_not_there_are_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_is_theirs", lambda *_: True)
    monkeypatch.setattr(module, "_is_over", lambda *_: False)
    files = Files(utmp=tmp_path / "u", wtmp=tmp_path / "w", lastlog=tmp_path / "l")
    ours = records(files)
    assert ours.last_login() == ""
    ours.started("1", "/dev/pts/1", 10)
    ours.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_layout_is_left_alone(files: Files) -> None:
    files.utmp.write_bytes(b"x" * 100)
    records(files).started("1", "/dev/pts/1", 10)
    assert files.utmp.read_bytes() == b"x" * 100


def test_a_broken_end_of_wtmp_is_written_over(files: Files) -> None:
    assert FORM is not None
    files.wtmp.write_bytes(b"\0" * (FORM.utmp.size + 5))
    records(files).started("1", "/dev/pts/1", 10)
    assert files.wtmp.stat().st_size == 2 * FORM.utmp.size
    assert read(files.wtmp)[1][3] == "alice"


def test_somebody_who_keeps_the_lock_does_not_keep_the_login(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_TIME", 0.05)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX);"
        " print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, files.utmp], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        records(files).started("1", "/dev/pts/1", 10)
        holder.communicate(b"\n")
    assert read(files.utmp) == []
    assert len(read(files.wtmp)) == 1


def test_the_last_login_is_that_before_this_one(files: Files) -> None:
    ours = records(files)
    assert ours.last_login() == ""
    ours.started("1", "/dev/pts/1", 10)
    said = records(files).last_login()
    assert said.startswith("Last login: ")
    assert said.endswith(" from 192.0.2.7")
    others = Records(login="b", uid=77, address="::1", clock=FakeClock(), files=files)
    assert others.last_login() == ""


# Whom the broker is believed


@pytest.mark.parametrize(
    ("tty", "pid"),
    [
        ("/dev/pts/0/../../etc/passwd", 0),
        ("/dev/tty1", 0),
        ("/etc/passwd", 0),
        ("/dev/pts/999999", 0),
        ("/dev/pts/1", 1),
        ("/dev/pts/1", -5),
        ("/dev/pts/1", 1 << 40),
        ("/dev/pts/1", -1),
        ("/dev/pts/1", 1 << 31),  # no record has room for it
        ("/dev/pts/1", 1 << 70),
        ("", 0),
    ],
)
def test_a_terminal_that_is_none_is_not_believed(tty: str, pid: int) -> None:
    assert not module._is_theirs(tty, pid or os.getpid(), os.getuid())
    assert not module._is_over(tty, pid or os.getpid())


def test_what_is_not_believed_is_not_written(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_theirs", lambda *_: False)
    ours = records(files)
    ours.started("1", "/dev/pts/1", 10)
    ours.ended("1")
    assert [path.stat().st_size for path in (files.utmp, files.wtmp, files.lastlog)] == [0, 0, 0]


def test_only_a_process_below_us_that_has_the_terminal_is_believed() -> None:
    master, slave = os.openpty()
    tty = os.ttyname(slave)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as elsewhere:
        assert not module._is_theirs(tty, elsewhere.pid, os.getuid())
        elsewhere.kill()
        elsewhere.wait()
        assert module._is_over(tty, elsewhere.pid)
    code = (
        "import os,sys; os.setsid(); os.open(sys.argv[1], os.O_RDWR); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tty], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.readline()
        assert module._is_theirs(tty, child.pid, os.getuid())
        assert not module._is_theirs(tty, child.pid, os.getuid() + 1)
        assert not module._is_theirs(tty, os.getppid(), os.getuid())
        child.communicate(b"\n")
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    ("state", "flags", "over"), [("S", 0x400100, False), ("R", 0x400104, True), ("Z", 0, True)]
)
def test_a_process_that_is_about_to_end_is_over(
    monkeypatch: pytest.MonkeyPatch, state: str, flags: int, over: bool
) -> None:
    """It has let go of its terminal, and how soon the rest follows is for the kernel to say."""
    line = f"77 (a) b) {state} 1 77 77 0 -1 {flags} 0 0".encode()
    paper = SimpleNamespace(read_bytes=lambda: line)
    monkeypatch.setattr(module, "Path", lambda _path: paper)
    assert module._is_over("/dev/pts/7", 77) is over


# Through ssh


@pytest.fixture(scope="module")
def house(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    for place in ("/run/utmp", "/var/log/wtmp", "/var/log/lastlog"):
        system.path(place).touch()
    house = House(tmp_path_factory.mktemp("house"))
    house.python = system.command(sys.executable)
    house.start()
    yield house
    house.stop()


@pytest.fixture
def login(house: House, system: System, request: pytest.FixtureRequest) -> str:
    """An account that nobody has used yet, on a host where nobody is."""
    eventually(lambda: not house.named("tl-ssh-monitor"), what="earlier ones to end")
    number = sorted(dir(request.module)).index(request.node.originalname)
    system.add_user(f"{LOGIN}{number}")
    return f"{LOGIN}{number}"


def entries(system: System, login: str) -> list[int]:
    """Process ids of sessions of theirs in utmp, read without a lock: who holds one for long keeps
    the monitor from writing."""
    return [row[1] for row in read(system.path("/run/utmp")) if row[3] == login]


def test_who_w_last_and_lastlog_show_a_session(house: House, system: System, login: str) -> None:
    before = len(read(system.path("/var/log/wtmp")))
    master, slave = os.openpty()
    visitor = house.visitor(house.cluster.user(logins=(login,)))
    client = visitor.start(
        login=login, options=["-tt"], stdin=slave, stdout=slave, stderr=slave, env=env(TERM="dumb")
    )
    os.close(slave)
    terminal = Terminal(master)
    os.write(master, b"tty; echo re''ady\n")
    eventually(lambda: "ready" in terminal.so_far(), what=terminal.so_far())
    assert "Last login" not in terminal.so_far()
    tty = next(word for word in terminal.so_far().split() if word.startswith("/dev/pts/"))[5:]
    eventually(lambda: entries(system, login), what="the entry")
    # Of the three files that are written it is the first.
    eventually(lambda: recorded(system, login), what="the last login")
    [line] = system.run("who").stdout.splitlines()
    assert line.split()[:2] == [login, tty]
    assert line.endswith("(127.0.0.1)")
    assert login[:8] in system.run("w", "-h").stdout
    if has("last"):
        assert "still logged in" in system.run("last", login).stdout
    if has("lastlog"):
        assert "127.0.0.1" in system.run("lastlog", "-u", login).stdout
    os.write(master, b"exit\n")
    client.wait(60)
    os.close(master)
    eventually(lambda: not entries(system, login), what="the entry to go")
    assert not system.run("who").stdout
    eventually(lambda: [row[0] for row in read(system.path("/var/log/wtmp"))[before:]] == [7, 8])


def recorded(system: System, login: str) -> bool:
    """Does lastlog know of them?"""
    assert FORM is not None
    uid = int(system.run("id", "-u", login).stdout)
    start = uid * FORM.lastlog.size
    return any(system.path("/var/log/lastlog").read_bytes()[start : start + FORM.lastlog.size])


def test_the_next_login_is_told_of_the_last_one(house: House, system: System, login: str) -> None:
    assert b"Last login: " not in house.ssh(login=login, options=["-tt"], input=b"exit\n").stdout
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitor to end")
    done = house.ssh(login=login, options=["-tt"], input=b"exit\n")
    assert b"Last login: " in done.stdout
    assert b" from 127.0.0.1\r\n" in done.stdout


def test_a_session_that_ends_at_once_is_remembered(
    house: House, system: System, login: str
) -> None:
    before = len(read(system.path("/var/log/wtmp")))
    house.ssh("true", login=login, options=["-tt"])
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitor to end")
    added = read(system.path("/var/log/wtmp"))[before:]
    assert [(kind, user) for kind, _, _, user, _ in added] == [(7, login), (8, "")]
    assert not system.run("who").stdout


def test_a_command_without_a_terminal_is_no_login(house: House, system: System, login: str) -> None:
    before = system.path("/var/log/wtmp").stat().st_size
    house.ssh("true", login=login)
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitor to end")
    assert system.path("/var/log/wtmp").stat().st_size == before


def test_a_session_whose_broker_is_killed_has_an_end(
    house: House, system: System, login: str
) -> None:
    client = house.visitor(house.cluster.user(logins=(login,))).start(
        "echo up; cat", login=login, options=["-tt"]
    )
    assert client.stdout
    assert b"up" in client.stdout.readline()
    eventually(lambda: entries(system, login), what="the entry")
    broker = house.one("tl-ssh-broker")
    os.kill(broker, 9)
    client.communicate(timeout=60)
    eventually(lambda: not entries(system, login), what="the entry to go")
