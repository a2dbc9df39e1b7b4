"""Who is logged in, for `who`, `w`, `last` and `lastlog`. Written by the monitor.

Only where the files exist: newer systems have none of them. The terminal and the process come
from the broker, which belongs to the user, so both are looked at before they are believed.
"""

import fcntl
import os
import platform
import re
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from teleport_lite.ambient import Clock
from teleport_lite.node.notices import shown
from teleport_lite.node.processes import is_below_us

_USER_PROCESS, _DEAD_PROCESS = 7, 8
_PROCESSES = range(5, 9)  # INIT, LOGIN, USER and DEAD: those that have an id
# glibc waits ten seconds for a lock; a login must not. Whoever may read a file can lock it, and
# three of them together must not hold up a recording (`ssh_tap`: a second).
_LOCK_TIME = 0.2
_LOCK_STEP = 0.02
_LOOKS = 5
# 2,700 terminals. Anything longer is no utmp.
_MAX_UTMP = 1 << 20
# Of one connection in all. A broker that makes them up must not fill the disk.
_MAX_SESSIONS = 1000
_PTS = re.compile(r"/dev/(pts/[0-9]{1,7})")
# PID_MAX_LIMIT of the kernel. The field of a record has 32 bits.
_MOST_PID = 1 << 22
# proc(5), field 9, flags: PF_EXITING of the kernel's sched.h. Its terminal is gone by then, or will
# be in a moment, and on a busy machine that moment may be long.
_EXITING = 0x4
_PTS_MAJOR = 136  # Linux, Documentation/admin-guide/devices.txt; minors go on in later majors


@dataclass(frozen=True, slots=True)
class Layout:
    """struct utmp: type, pid, line, id, user, host, exit (2), session, seconds, microseconds,
    address, unused. struct lastlog: seconds, line, host."""

    utmp: struct.Struct
    lastlog: struct.Struct


_NARROW = Layout(
    struct.Struct("=h2xi32s4s32s256shhiII16s20x"),  # bits/utmp.h with 32-bit times
    struct.Struct("=I32s256s"),
)
_WIDE = Layout(struct.Struct("=h2xi32s4s32s256shhqqq16s20x4x"), struct.Struct("=q32s256s"))
_LAYOUTS = {"x86_64": _NARROW, "i686": _NARROW, "riscv64": _NARROW, "aarch64": _WIDE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    utmp: Path = Path("/run/utmp")
    wtmp: Path = Path("/var/log/wtmp")
    lastlog: Path = Path("/var/log/lastlog")


@dataclass(frozen=True, slots=True)
class _Entry:
    line: str
    pid: int


def layout(machine: str = platform.machine()) -> Layout | None:
    """None where we do not know it: then nothing is written. musl's differ."""
    try:
        os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        return None
    return _LAYOUTS.get(machine)


class Records:
    """Of one login, by a process that is root; for anybody else it does nothing."""

    def __init__(
        self, *, login: str, uid: int, address: str, clock: Clock, files: Files | None = None
    ) -> None:
        self._login, self._uid, self._address, self._clock = login, uid, address, clock
        self._files = files or Files()
        self._layout = layout() if os.geteuid() == 0 else None
        self._entries: dict[str, _Entry] = {}
        self._left = _MAX_SESSIONS

    def last_login(self) -> str:
        """When and from where this account was last logged in, in sshd's words; "" if never."""
        form = self._layout
        if form is None:
            return ""
        size = form.lastlog.size
        try:
            with self._files.lastlog.open("rb") as file:
                file.seek(self._uid * size)
                seconds, line, host = form.lastlog.unpack(file.read(size))
        except (OSError, struct.error):
            return ""
        if not seconds:
            return ""
        where = shown(_text(host) or _text(line))
        when = time.ctime(seconds)
        return f"Last login: {when} from {where}" if where else f"Last login: {when}"

    def started(self, sid: str, tty: str, pid: int) -> None:
        """A terminal session has begun, as the broker tells it."""
        form = self._layout
        if form is None or sid in self._entries or self._left == 0:
            return
        self._left -= 1
        alive = _is_alive(tty, pid, self._uid)
        if alive is None:
            return
        entry = _Entry(tty.removeprefix("/dev/"), pid)
        self._entries[sid] = entry
        record = self._record(form, _USER_PROCESS, entry)
        if alive:
            _quietly(lambda: _put(self._files.utmp, form, record, entry.pid, new=True))
        _quietly(lambda: _append(self._files.wtmp, record))
        _quietly(lambda: self._note_last(form, entry))

    def ended(self, sid: str) -> None:
        form, entry = self._layout, self._entries.pop(sid, None)
        if form is None or entry is None:
            return
        record = self._record(form, _DEAD_PROCESS, entry)
        _quietly(lambda: _put(self._files.utmp, form, record, entry.pid, new=False))
        _quietly(lambda: _append(self._files.wtmp, record))

    def close(self) -> None:
        """Sessions whose end nobody reported have ended, too."""
        for sid in list(self._entries):
            self.ended(sid)

    def _record(self, form: Layout, kind: int, entry: _Entry) -> bytes:
        now = self._clock.now().timestamp()
        alive = kind == _USER_PROCESS
        return form.utmp.pack(
            kind,
            entry.pid,
            entry.line.encode(),
            _id(entry.line),
            self._login.encode() if alive else b"",
            self._address.encode() if alive else b"",
            0,
            0,
            entry.pid if alive else 0,
            int(now),
            int(now * 1_000_000) % 1_000_000,
            _packed(self._address) if alive else b"",
        )

    def _note_last(self, form: Layout, entry: _Entry) -> None:
        now = int(self._clock.now().timestamp())
        raw = form.lastlog.pack(now, entry.line.encode(), self._address.encode())
        with _locked(self._files.lastlog) as fd:
            os.pwrite(fd, raw, self._uid * form.lastlog.size)


def _is_alive(tty: str, pid: int, uid: int) -> bool | None:
    """None: it is not to be believed. A process may end between the two looks."""
    for _ in range(_LOOKS):
        if _is_theirs(tty, pid, uid):
            return True
        if _is_over(tty, pid):
            return False
        time.sleep(_LOCK_STEP)
    return None


def _is_over(tty: str, pid: int) -> bool:
    """A shell may end before we look, or be about to. Then its terminal is history only, where a
    broker that lies about it hurts nobody: who logged in, when and from where is what we say."""
    if not _PTS.fullmatch(tty) or not 1 < pid <= _MOST_PID:
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    fields = stat.rpartition(b")")[2].split()
    return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & _EXITING)


def _is_theirs(tty: str, pid: int, uid: int) -> bool:
    """A terminal of that user's, and a process of theirs below us that has it."""
    if not _PTS.fullmatch(tty) or not 1 < pid <= _MOST_PID or not is_below_us(pid):
        return False
    try:
        status = Path(tty).lstat()
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    # proc(5), field 7, tty_nr: the minor's low byte, the major, the rest of the minor.
    number = int(fields[4])
    major, minor = (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)
    return (
        stat.S_ISCHR(status.st_mode)
        and status.st_uid == uid
        and major >= _PTS_MAJOR
        and (major, minor) == (os.major(status.st_rdev), os.minor(status.st_rdev))
    )


def _put(path: Path, form: Layout, record: bytes, pid: int, *, new: bool) -> None:
    """As pututxline(3): in place of the entry with the same id, else at the end. The end of a
    session replaces its own entry only."""
    with _locked(path) as fd:
        raw = os.pread(fd, _MAX_UTMP + 1, 0)
        size = form.utmp.size
        if len(raw) > _MAX_UTMP or len(raw) % size:
            return  # none of ours, or of another layout
        wanted = form.utmp.unpack(record)[3]
        at = None
        for start in range(0, len(raw), size):
            kind, its_pid, _line, its_id, *_ = form.utmp.unpack_from(raw, start)
            if kind in _PROCESSES and its_id == wanted and (new or its_pid == pid):
                at = start
                break
        if at is None and not new:
            return
        os.pwrite(fd, record, len(raw) if at is None else at)


def _append(path: Path, record: bytes) -> None:
    """As updwtmp(3): a part of a record would make nonsense of all that follow."""
    with _locked(path) as fd:
        end = os.lseek(fd, 0, os.SEEK_END)
        end -= end % len(record)
        try:
            written = os.pwrite(fd, record, end)
        except OSError:
            written = 0
        if written != len(record):
            os.ftruncate(fd, end)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open for writing and locked as glibc does it: fcntl(2), the whole file. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        deadline = time.monotonic() + _LOCK_TIME
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_STEP)
        yield fd
    finally:
        os.close(fd)


def _quietly(act: Callable[[], None]) -> None:
    """No file, or none that can be locked or written: a login does not depend on it."""
    with suppress(OSError):
        act()


def _id(line: str) -> bytes:
    """The last four characters, as OpenSSH and others have it."""
    return line.encode()[-4:]


def _packed(address: str) -> bytes:
    try:
        return ip_address(address).packed
    except ValueError:
        return b""


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")
