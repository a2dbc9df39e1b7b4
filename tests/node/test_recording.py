"""Sessions on terminals are recorded, and what happens where they can not be."""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from teleport_lite.agent.record_spool import RecordSpool
from teleport_lite.audit.cast import read_events, read_header
from teleport_lite.model.lock import Target
from teleport_lite.model.user import Options, RecordMode, Role
from teleport_lite.node.account import Account
from teleport_lite.node.broker import Broker, Guest
from teleport_lite.node.permit import Rights
from teleport_lite.node.records import PLACE
from teleport_lite.node.surroundings import Surroundings
from teleport_lite.node.wire import (
    Ask,
    Expect,
    FromBroker,
    Link,
    Pty,
    Start,
    Stop,
    ToBroker,
    ToWorker,
)
from tests.node.house import ME, ROLE, House, Visitor, running
from tests.support import eventually

STRICT = Role(name="strict", options=Options(record_session=RecordMode.STRICT))
FULL = "the disk for recordings is almost full"
SID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    with running(tmp_path) as house:
        house.roles = [ROLE, STRICT]
        house.save_knowledge()
        yield house


def recordings(house: House, *suffixes: str) -> list[Path]:
    place = house.data_dir / PLACE
    wanted = suffixes or (".cast",)
    return sorted(path for path in place.glob("*") if path.suffix in wanted)


def recording(house: House, marker: str) -> Path:
    """That with `marker` in its command, as soon as it is finished."""

    def find() -> Path | None:
        for path in recordings(house):
            with path.open("rb") as file:
                if marker in read_header(file)[1]["command"]:
                    return path
        return None

    return eventually(find, what=f"a recording of {marker}")


def unfinished(house: House, command: str) -> Path:
    """That of a session that runs; those of earlier ones may be about to be finished."""
    sid = house.event("T2000I", command=command)["facts"]["sid"]
    return house.data_dir / PLACE / f"{sid}.part"


def content(path: Path) -> list[tuple[str, str]]:
    with path.open("rb") as file:
        read_header(file)
        return [(event.kind, event.data) for event in read_events(file)]


def shown(path: Path) -> str:
    return "".join(data for kind, data in content(path) if kind == "o")


def strict(house: House) -> Visitor:
    return house.visitor(house.cluster.user(logins=(ME,), roles=("access", "strict")))


class Screen:
    """An ssh on a terminal of ours."""

    def __init__(self, visitor: Visitor, *words: str, options: tuple[str, ...] = ("-tt",)) -> None:
        self.master, slave = os.openpty()
        self.resize(80, 24)
        both = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.client = visitor.start(*words, options=options, start_new_session=True, **both)
        os.close(slave)
        self.seen = bytearray()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if hasattr(self, "client"):
            self.client.send_signal(signal.SIGWINCH)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def until(self, text: bytes, seconds: float = 60) -> None:
        deadline, at = time.monotonic() + seconds, 0
        while self.seen.find(text, at) < 0:
            at = max(0, len(self.seen) - len(text))
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in {self.seen[-300:]!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:  # the last one has closed it
                    assert text in self.seen, f"{text!r} is not in {self.seen[-300:]!r}"

    def drain(self) -> None:
        """Whatever is there now."""
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)

    def answers(self, typed: bytes, text: bytes) -> bool:
        """Does it say that, within a moment?"""
        self.type(typed)
        while text not in self.seen and select.select([self.master], [], [], 0.5)[0]:
            self.seen += os.read(self.master, 65536)
        return text in self.seen

    def end(self) -> int:
        with suppress(OSError):  # EIO: the last one has closed it
            while select.select([self.master], [], [], 60)[0]:
                self.seen += os.read(self.master, 65536)
        os.close(self.master)
        return self.client.wait(60)


# --- what is recorded


def test_a_session_on_a_terminal_is_recorded(house: House) -> None:
    done = house.ssh("echo marker-plain; tty; exit 3", options=["-tt"])
    assert done.returncode == 3
    path = recording(house, "marker-plain")
    assert shown(path).encode() == done.stdout
    facts = json.loads(path.with_suffix(".json").read_text())
    with path.open("rb") as file:
        header = read_header(file)[1]
    assert header.items() <= facts.items()
    assert (facts["user"], facts["login"], facts["host_id"]) == ("alice", ME, house.host.id)
    assert (facts["complete"], facts["gaps"]) == (True, 0)
    assert facts["bytes"] == path.stat().st_size
    assert facts["lines"] == len(path.read_bytes().splitlines())
    assert facts["started"] <= facts["ended"] <= time.time()
    assert (
        path.stem == house.event("T2000I", command="echo marker-plain; tty; exit 3")["facts"]["sid"]
    )


def test_the_spool_finds_what_was_recorded(house: House) -> None:
    house.ssh("echo marker-spool", options=["-tt"])
    path = recording(house, "marker-spool")
    spool = RecordSpool(house.data_dir)
    assert path.stem in spool.waiting(time.time())
    begin = spool.open(path.stem).begin
    assert (begin.facts.user, begin.facts.command) == ("alice", "echo marker-spool")
    assert begin.facts.complete
    assert begin.size == path.stat().st_size


def test_only_root_reads_recordings(house: House) -> None:
    house.ssh("echo marker-modes", options=["-tt"])
    path = recording(house, "marker-modes")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_suffix(".json").stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_uid == os.getuid()


def test_the_trail_says_what_is_recorded_and_how_much_moved(house: House) -> None:
    house.ssh("echo marker-trail", options=["-tt"])
    assert house.event("T2000I", command="echo marker-trail")["facts"]["recorded"] == "yes"
    ended = house.event("T2004I", command="echo marker-trail")["facts"]
    assert (ended["bytes_up"], ended["bytes_down"]) == ("0", str(len("marker-trail\r\n")))
    house.ssh("cat; echo marker-none >&2", input=b"12345")
    assert house.event("T2000I", command="cat; echo marker-none >&2")["facts"]["recorded"] == "no"
    ended = house.event("T2004I", command="cat; echo marker-none >&2")["facts"]
    assert (ended["bytes_up"], ended["bytes_down"]) == ("5", str(5 + len("marker-none\n")))
    # Of the whole connection, at its end.
    house.event("T2006I", bytes_up="5", bytes_down=str(5 + len("marker-none\n")))


def test_a_window_that_changes_is_recorded(house: House) -> None:
    screen = Screen(house.visitor(), "echo marker-window; while read x; do stty size; done")
    screen.until(b"marker-window")
    screen.resize(133, 44)
    eventually(lambda: screen.answers(b"\n", b"44 133"))
    screen.type(b"\x04")
    screen.end()
    assert ("r", "133x44") in content(recording(house, "marker-window"))


def test_a_letter_in_two_pieces_is_one_letter(house: House) -> None:
    house.ssh(r": marker-utf8; printf '\303'; sleep 0.3; printf '\274\377'", options=["-tt"])
    path = recording(house, "marker-utf8")
    assert shown(path) == "ü�"
    assert path.read_bytes().isascii()


def test_what_is_typed_blindly_is_in_no_recording(house: House) -> None:
    screen = Screen(house.visitor(), "stty -echo; echo marker-blind; read x; echo got ${#x}")
    screen.until(b"marker-blind")
    screen.type(b"hunter2\n")
    screen.until(b"got 7")
    screen.end()
    assert "hunter2" not in recording(house, "marker-blind").read_text()


def test_a_flood_is_recorded_whole_in_little_memory(house: House) -> None:
    size = 6_000_000
    client = house.visitor().start(
        f": marker-flood; stty raw; head -c {size} /dev/zero | tr '\\0' x; sleep 1", options=["-tt"]
    )
    assert client.stdout
    left, peak = size - len(client.stdout.read(1)), 0
    pids = [house.one("tl-ssh-scribe1"), house.one("tl-ssh-worker")]
    while left > 0:
        more = client.stdout.read(min(left, 1 << 18))
        assert more
        left -= len(more)
        peak = max(peak, *map(resident, pids))
    client.communicate(timeout=60)
    assert peak < 100_000_000
    path = recording(house, "marker-flood")
    assert json.loads(path.with_suffix(".json").read_text())["complete"] is True
    assert shown(path) == "x" * size


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


def test_the_scribe_has_nothing_but_its_file(house: House) -> None:
    screen = Screen(house.visitor(), "echo marker-scribe; read x")
    screen.until(b"marker-scribe")
    pid = house.one("tl-ssh-scribe1")

    def confined() -> str:
        """What it is, when it has given up everything: it may be born after the shell."""
        status = Path(f"/proc/{pid}/status").read_text()
        return status if "NoNewPrivs:\t1" in status else ""

    status = eventually(confined)
    if os.getuid() == 0:
        assert "Uid:\t0" not in status
        assert "CapPrm:\t0000000000000000" in status
    ends = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    files = [each for each in ends if not each.startswith(("socket:", "/dev/null"))]
    assert files == [str(unfinished(house, "echo marker-scribe; read x"))]
    assert sum(each.startswith("socket:") for each in ends) == 2
    screen.type(b"\n")
    screen.end()


def test_nothing_is_recorded_where_the_cluster_says_so(tmp_path: Path) -> None:
    with running(tmp_path) as house:
        house.roles = [ROLE, STRICT]
        house.save_knowledge(session_recording="off")
        assert strict(house).ssh("echo marker-off", options=["-tt"]).stdout == b"marker-off\r\n"
        assert house.event("T2000I", command="echo marker-off")["facts"]["recorded"] == "no"
        assert not (house.data_dir / PLACE).exists()


# --- a worker that lies


@contextmanager
def broker() -> Iterator[tuple[Link, Link]]:
    """One in a process of its own; its worker's and its monitor's lines."""
    ours, worker = Link.pair()
    mine, monitor = Link.pair()
    account = Account(name=ME, uid=os.getuid(), gid=os.getgid(), home="/", shell="/bin/sh")
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            mine.close()
            rights = Rights(extensions=frozenset({"permit-pty"}))
            guest = Guest(
                rights=rights,
                force_command=None,
                around=Surroundings(account=account),
                displays=(10, 20),
            )
            Broker(
                worker=worker, monitor=monitor, account=account, guest=guest, hang_up_time=0.2
            ).run()
        finally:
            os._exit(0)
    worker.close()
    monitor.close()
    try:
        yield ours, mine
    finally:
        ours.close()
        mine.close()
        os.waitpid(pid, 0)


PTY = Pty(channel=0, term=b"xterm", columns=80, rows=24, width=0, height=0, modes=b"\0")


def answer(worker: Link, asked: ToBroker) -> tuple[bool, str, int]:
    worker.send(asked)
    while True:
        said, fds = worker.receive_with_fds(ToWorker, 3)
        for fd in fds:
            os.close(fd)
        if said.reply is not None:
            return said.reply.ok, said.reply.reason, len(fds)


def test_a_terminal_that_was_not_announced_is_refused() -> None:
    with broker() as (worker, monitor):
        start = ToBroker(start=Start(channel=0, command=b"exec sleep 60"))
        assert answer(worker, ToBroker(pty=PTY))[0]
        assert answer(worker, start) == (False, "a terminal that was not announced", 0)
        # Only the monitor announces.
        assert not answer(worker, ToBroker(expect=Expect(channel=0, sid=SID)))[0]
        assert not answer(worker, start)[0]
        monitor.send(ToBroker(expect=Expect(channel=1, sid=SID)))
        assert not answer(worker, start)[0]
        monitor.send(ToBroker(expect=Expect(channel=0, sid=SID)))
        assert answer(worker, start) == (True, "", 1)
        started = monitor.receive(FromBroker).started
        assert started is not None
        assert (started.sid, started.pty, started.channel) == (SID, True, 0)


def test_a_session_that_was_announced_once_starts_once() -> None:
    with broker() as (worker, monitor):
        monitor.send(ToBroker(expect=Expect(channel=0, sid=SID)))
        start = ToBroker(start=Start(channel=0, command=b"true"))
        assert answer(worker, ToBroker(pty=PTY))[0]
        assert answer(worker, start)[0]
        eventually(lambda: monitor.receive(FromBroker).ended)
        assert answer(worker, ToBroker(pty=PTY))[0]
        assert not answer(worker, start)[0]


def test_who_does_not_go_when_stopped_is_killed() -> None:
    with broker() as (worker, monitor):
        monitor.send(ToBroker(expect=Expect(channel=0, sid=SID)))
        stubborn = b"trap '' HUP; while :; do sleep 0.1; done"
        assert answer(worker, ToBroker(pty=PTY))[0]
        assert answer(worker, ToBroker(start=Start(channel=0, command=stubborn)))[0]
        assert monitor.receive(FromBroker).started
        monitor.send(ToBroker(stop=Stop(sid=SID)))
        monitor.set_timeout(60)
        ended = monitor.receive(FromBroker).ended
        assert ended is not None
        assert ended.signal in ("KILL", "HUP")
        assert answer(worker, ToBroker(ask=Ask(what="open session")))[0]


# --- what can not be recorded


def test_strictly_a_session_without_room_is_refused_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path, settings={"recording_spool_quota": 0}) as house:
        house.roles = [ROLE, STRICT]
        house.save_knowledge()
        (house.data_dir / PLACE).mkdir(parents=True, mode=0o700)
        (house.data_dir / "log").chmod(0o700)
        (house.data_dir / PLACE / "old.cast").write_text("x")
        done = strict(house).ssh("touch ran", options=["-tt"])
        assert done.returncode != 0
        assert b"can not be recorded, which the role demands: the space for recordings" in (
            done.stderr
        ), done
        reason = "this session can not be recorded, which the role demands: "
        rejected = house.event("T1006W")
        assert rejected["kind"] == "session.rejected"
        assert rejected["facts"]["reason"].startswith(reason)
        assert not [each for each in house.events() if each["code"] == "T2000I"]
        # Without a terminal there is nothing to record, and at best effort none is refused.
        assert strict(house).ssh("echo yes").stdout == b"yes\n"
        done = house.ssh("echo marker-effort", options=["-tt"])
        assert done.stdout == b"marker-effort\r\n"
        assert b"this session is not recorded: the space for recordings is used up" in done.stderr
        assert house.event("T2000I", command="echo marker-effort")["facts"]["recorded"] == "no"


def on_a_small_disk(house: House, size: str) -> None:
    """Before the house is started: recordings go to a file system of their own."""
    log = house.data_dir / "log"
    (house.data_dir / PLACE).mkdir(parents=True, mode=0o700)
    log.chmod(0o700)
    mount = f"mount -t tmpfs -o size={size},mode=700 none '{house.data_dir / PLACE}'"
    house.python = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[House]:
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    house = House(tmp_path, settings={"recording_free_floor": 0})
    house.roles = [ROLE, STRICT]
    on_a_small_disk(house, "256k")
    house.save_knowledge()
    house.start()
    try:
        yield house
    finally:
        house.stop()


def seen_by(house: House, *words: str) -> str:
    """What a process sees that looks where the daemon does."""
    command = ["nsenter", f"--mount=/proc/{house.daemon.pid}/ns/mnt", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_strictly_a_full_disk_ends_the_session_and_says_so(small: House) -> None:
    flood = "trap '' HUP; while :; do head -c 100000 /dev/urandom | base64; done"
    done = strict(small).ssh(flood, options=["-tt"])
    assert done.returncode != 0
    assert b"this session can not be recorded any more, and ends: the disk" in done.stderr
    facts = small.event("TSR02W")["facts"]
    assert (facts["mode"], facts["reason"]) == ("strict", FULL)
    small.event("T2004I", sid=facts["sid"])
    where = small.data_dir / PLACE
    name = f"{where}/{facts['sid']}.cast"
    # The file ends with a whole line, and what it says is what was shown.
    kept = eventually(lambda: seen_by(small, "sh", "-c", f"cat {name} 2>/dev/null; :"))
    assert kept.endswith("]\n")
    texts = [json.loads(line)[2] for line in kept.splitlines()[1:]]
    assert done.stdout.decode().startswith("".join(texts))


def test_strictly_nobody_goes_on_by_stopping_the_broker(small: House) -> None:
    """It belongs to the user, and can not be what a strict recording relies on."""
    flood = "while :; do head -c 100000 /dev/urandom | base64; done"
    screen = Screen(strict(small), f"echo begin; read x; kill -STOP $PPID; {flood}")
    screen.until(b"begin")
    screen.type(b"\n")
    assert screen.end() != 0
    assert b"this session can not be recorded any more, and ends: the disk" in screen.seen
    sid = small.event("TSR02W")["facts"]["sid"]
    small.event("T2004I", sid=sid)
    eventually(lambda: not small.named("tl-ssh-broker"))


def test_at_best_effort_a_full_disk_does_not_end_it_and_the_gap_is_marked(small: House) -> None:
    work = "echo begin; head -c 400000 /dev/zero | tr '\\0' x; echo; echo end; read x; echo bye"
    screen = Screen(small.visitor(), work)
    screen.until(b"end\r\n")
    screen.until(b"not all of this session is recorded: " + FULL.encode())
    screen.type(b"\n")
    screen.until(b"bye")
    assert screen.end() == 0
    assert screen.seen.count(b"not all of this session") == 1
    facts = small.event("TSR02W")["facts"]
    assert (facts["mode"], facts["reason"]) == ("best_effort", FULL)
    path = f"{small.data_dir / PLACE}/{facts['sid']}"
    told = eventually(lambda: seen_by(small, "sh", "-c", f"cat {path}.json 2>/dev/null; :"))
    assert json.loads(told)["complete"] is False
    assert json.loads(told)["gaps"] > 100_000
    kept = seen_by(small, "cat", f"{path}.cast").splitlines()
    missing = [json.loads(line)[2] for line in kept[1:] if json.loads(line)[1] == "m"]
    assert not missing or missing == [f"{json.loads(told)['gaps']} bytes of output are missing"]


def test_one_recording_may_not_take_the_room_of_all(tmp_path: Path) -> None:
    with running(tmp_path, settings={"recording_spool_quota": 400_000}) as house:
        work = "head -c 300000 /dev/zero | tr '\\0' x; : marker-large; read x"
        screen = Screen(house.visitor(), work)
        screen.until(b"not all of this session is recorded: file too large")
        screen.type(b"\n")
        assert screen.end() == 0
        assert recording(house, "marker-large").stat().st_size <= 100_000


# --- what is killed


def test_after_a_kill_what_was_written_can_be_read(tmp_path: Path) -> None:
    with running(tmp_path) as house:
        screen = Screen(house.visitor(), "echo marker-kill; read x; echo more")
        screen.until(b"marker-kill")
        eventually(lambda: recordings(house, ".part")[0].stat().st_size, what="the header")
        monitor = house.one("tl-ssh-monitor")
        os.kill(monitor, signal.SIGKILL)
        eventually(lambda: not house.named("tl-ssh-scribe1"), what="the scribe to end")
        [path] = recordings(house, ".part")
        assert "marker-kill" in shown(path)
        # A process that ends has lost its name a moment before its files.
        eventually(lambda: nobody_holds(path), what="the lock")
        screen.end()


def nobody_holds(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("mode", ["strict", "best_effort"])
def test_a_scribe_that_is_killed_is_told(tmp_path: Path, mode: str) -> None:
    with running(tmp_path) as house:
        house.roles = [ROLE, STRICT]
        house.save_knowledge()
        visitor = strict(house) if mode == "strict" else house.visitor()
        screen = Screen(visitor, "echo marker-scribe; read x; echo still here")
        screen.until(b"marker-scribe")
        scribe = house.one("tl-ssh-scribe1")
        os.kill(scribe, signal.SIGKILL)
        screen.until(b"the scribe has ended")
        if mode == "best_effort":
            screen.type(b"\n")
            screen.until(b"still here")
        assert (screen.end() == 0) == (mode == "best_effort")
        assert house.event("TSR02W")["facts"]["mode"] == mode
        [path] = recordings(house, ".part")
        assert path.read_bytes() == b"" or shown(path) in ("", "marker-scribe\r\n")


def test_of_a_worker_that_is_killed_nobody_knows_what_it_still_had(own: House) -> None:
    screen = Screen(own.visitor(), "echo marker-worker; read x")
    screen.until(b"marker-worker")
    own.event("T2000I", command="echo marker-worker; read x")
    worker = own.one("tl-ssh-worker")
    os.kill(worker, signal.SIGKILL)
    screen.end()
    path = recording(own, "marker-worker")
    assert shown(path) == "marker-worker\r\n"
    assert json.loads(path.with_suffix(".json").read_text())["complete"] is False


def test_while_it_is_written_nobody_else_may_finish_it(house: House) -> None:
    screen = Screen(house.visitor(), "echo marker-lock; read x")
    screen.until(b"marker-lock")
    path = unfinished(house, "echo marker-lock; read x")
    assert not nobody_holds(path)
    screen.type(b"\n")
    screen.end()


@pytest.mark.parametrize("mode", ["strict", "best_effort"])
def test_a_scribe_that_hangs(own: House, mode: str) -> None:
    """As on a disk that does not answer: strictly the session waits, else it goes on without."""
    size = 1_500_000
    flood = f"head -c {size} /dev/zero | tr '\\0' x; echo done"
    work = f": marker-hang; stty raw; read x; {flood}; read x"
    client = (strict(own) if mode == "strict" else own.visitor()).start(work, options=["-tt"])
    assert client.stdin
    assert client.stdout
    scribe = own.one("tl-ssh-scribe1")
    own.event("T2000I", command=work)
    os.kill(scribe, signal.SIGSTOP)
    client.stdin.write(b"\n")
    client.stdin.flush()
    seen = client.stdout.read(200_000)
    if mode == "strict":
        while select.select([client.stdout], [], [], 1.5)[0]:
            seen += client.stdout.read1(1 << 20)  # type: ignore[attr-defined]
        assert len(seen) < size
    else:
        while b"done" not in seen:
            seen += client.stdout.read1(1 << 20)  # type: ignore[attr-defined]
    part = unfinished(own, work)
    os.kill(scribe, signal.SIGCONT)
    while b"done" not in seen:
        seen += client.stdout.read1(1 << 20)  # type: ignore[attr-defined]
    # What it has missed it is told as soon as it has caught up; the end could be too soon for it.
    eventually(lambda: mode == "strict" or '"m"' in part.read_text(), what="the gap")
    seen += client.communicate(b"\n", timeout=60)[0]
    assert seen.count(b"x") == size
    path = recording(own, "marker-hang")
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["complete"] is (mode == "strict")
    assert shown(path).count("x") + facts["gaps"] >= size
    if mode == "strict":
        assert shown(path).count("x") == size


def test_a_session_that_is_cut_is_recorded_up_to_there(own: House) -> None:
    screen = Screen(own.visitor(), "echo marker-cut; sleep 600")
    screen.until(b"marker-cut")
    own.event("T2000I", command="echo marker-cut; sleep 600")
    own.lock(Target.USER, "alice")
    own.tell("recheck")
    screen.end()
    path = recording(own, "marker-cut")
    assert shown(path).startswith("marker-cut")
    eventually(lambda: not recordings(own, ".part"))


def test_two_sessions_of_one_connection_are_two_recordings(own: House) -> None:
    visitor = own.visitor()
    with visitor.master(own.directory / "control") as shared:
        screens = [
            Screen(
                visitor, f"echo marker-{each}; read x; echo ${{x}}{each}", options=("-tt", *shared)
            )
            for each in ("one", "two")
        ]
        for screen, each in zip(screens, ("one", "two"), strict=True):
            screen.until(f"marker-{each}".encode())
        for screen in reversed(screens):
            screen.type(b"by-\n")
            screen.end()
    assert "by-one" in shown(recording(own, "marker-one"))
    assert "by-two" in shown(recording(own, "marker-two"))
