"""When this host has last heard from auth, on disk: for processes that decide whom to let in.

Kept by a clock that nobody can put back and that goes on while the host sleeps, with the boot it is
of. So what was heard before a reboot, or before a night in suspend, is never taken for new.
"""

import os
from pathlib import Path

from teleport_lite.ambient import Clock
from teleport_lite.errors import Error, Unavailable
from teleport_lite.pki.keyfile import read_secret, write_secret

FILE = "heard"
# Not more often than this, in seconds.
NOTE_EVERY = 2.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SIZE = 64


class Heard:
    """Notes it. For one thread."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._path, self._clock = data_dir / FILE, clock
        self._noted_at: float | None = None

    def note(self, at: float | None = None) -> None:
        """Auth has spoken, now or `at` (uptime), when this could not be kept. In place, so that
        a full disk is no obstacle. Raises Error."""
        at = self._clock.uptime() if at is None else at
        if self._noted_at is not None and 0 <= at - self._noted_at < NOTE_EVERY:
            return
        # Whole seconds, cut off: rounded up it would be of the future, and count for nothing.
        record = f"{_boot()} {int(at)}".ljust(_SIZE - 1).encode() + b"\n"
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            write_secret(self._path, record)
        else:
            _put(file, record, self._path)
        self._noted_at = at


def silence(data_dir: Path, clock: Clock) -> float | None:
    """Seconds since auth was last heard; None if it was not since the host has started."""
    try:
        return _silence(read_secret(data_dir / FILE, limit=_SIZE), clock)
    except Error:
        return None


class Silence:
    """The same, for a process that will not be allowed to open the file. It stays open."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._clock = clock
        try:
            self._file = os.open(data_dir / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def seconds(self) -> float | None:
        try:
            return _silence(os.pread(self._file, _SIZE, 0), self._clock)
        except OSError:
            return None


def _silence(record: bytes, clock: Clock) -> float | None:
    try:
        boot, _, at = record.decode("ascii").partition(" ")
        seconds = clock.uptime() - float(at)
    except ValueError:
        return None
    return seconds if boot == _boot() and seconds >= 0 else None


def _put(file: int, record: bytes, path: Path) -> None:
    try:
        os.pwrite(file, record, 0)
    except OSError as why:
        raise Unavailable(f"can not write {path}: {why.strerror}") from why
    finally:
        os.close(file)


def _boot() -> str:
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:  # not Linux, or not mounted: reboots are then not told apart
        return "-"
