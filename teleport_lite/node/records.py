"""The directory that recordings are written to, and how much may be in it. For the monitor: root.

data_dir/log/records/<sid>.part         while it is written, locked (flock(2)) by who writes
data_dir/log/records/<sid>.cast, .json  finished; `agent/uploads.py` sends them to auth
"""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from teleport_lite.errors import Error, Unavailable
from teleport_lite.pki.keyfile import make_private_dir

PLACE = Path("log") / "records"
# A session that begins with less room than this is as good as not recorded.
_LEAST = 64 * 1024
# What even the smallest file takes of a disk, and how many files others may still want to make.
_BLOCK = 4096
_FILES = 1000


class Records:
    """`quota` bytes in all, and never fewer than `floor` bytes left on the disk for others."""

    def __init__(self, data_dir: Path, *, quota: int, floor: int) -> None:
        self.place, self._quota, self._floor = data_dir / PLACE, quota, floor

    @property
    def most(self) -> int:
        """Of one recording: nobody alone can use up the room of all."""
        return self._quota // 4

    def begin(self, sid: str) -> int:
        """A new file, locked, which nobody else can open. Raises Unavailable with the reason."""
        try:
            make_private_dir(self.place.parent)
            make_private_dir(self.place)
            self._check_room(_LEAST)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(self._path(sid, "part"), flags, 0o600)
        except OSError as why:
            raise Unavailable(_words(why)) from why
        except Unavailable:
            raise
        except Error as why:
            raise Unavailable(why.message) from why
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # new, so nobody else has it
        return file

    def has_room(self, size: int) -> str:
        """ "" if `size` more bytes may be written; why not, else."""
        try:
            self._check_room(size)
        except Unavailable as why:
            return why.message
        except OSError as why:
            return _words(why)
        return ""

    def finish(self, sid: str, facts: dict[str, Any]) -> None:
        """It is whole, and on the disk. The facts come first: alone they are of no harm.

        Raises OSError; what is there is then found, and finished, as after a crash.
        """
        path = self._path(sid, "json")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            # Not waited for: a disk that is slow must not keep a lock from cutting a session.
            # After a power cut the header of the recording says the same.
            file.write(json.dumps(facts).encode())
        self._path(sid, "part").rename(self._path(sid, "cast"))

    def discard(self, sid: str) -> None:
        with suppress(OSError):
            self._path(sid, "part").unlink()

    def _check_room(self, size: int) -> None:
        used = 0
        with os.scandir(self.place) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # sent meanwhile
                    size_there = entry.stat(follow_symlinks=False).st_size
                    used += -(-size_there // _BLOCK) * _BLOCK
        if used + size > self._quota:
            raise Unavailable("the space for recordings is used up (recording_spool_quota)")
        disk = os.statvfs(self.place)
        if disk.f_bavail * disk.f_frsize - size < self._floor:
            raise Unavailable("the disk for recordings is almost full")
        if disk.f_files and disk.f_favail < _FILES:
            raise Unavailable("the disk for recordings has almost no room for more files")

    def _path(self, sid: str, suffix: str) -> Path:
        return self.place / f"{sid}.{suffix}"


def _words(why: OSError) -> str:
    return (why.strerror or "can not be written").lower()
