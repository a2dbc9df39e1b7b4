"""How many connections a user has to this host: one locked file for each, in the data directory.

A lock ends with the process that holds it, however that ends, so nothing has to be tidied up, and
neither a restart of the daemon nor two of them at once can make the count wrong.
"""

import fcntl
import hashlib
import os
from pathlib import Path

DIRECTORY = "connections"
_COUNTING = ".lock"


class Place:
    """Held by a monitor for as long as its visitor is here."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd

    def leave(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def take_place(data_dir: Path, user: str, most: int) -> Place | None:
    """None if `user` has `most` connections already; 0 is no limit. Raises OSError."""
    # Names of users may be longer than names of files, and the same but for case.
    room = data_dir / DIRECTORY / hashlib.sha256(user.encode()).hexdigest()[:32]
    room.mkdir(mode=0o700, parents=True, exist_ok=True)
    counting = os.open(room / _COUNTING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Two at once must not both find the last place free.
        fcntl.flock(counting, fcntl.LOCK_EX)
        if most and _taken(room) >= most:
            return None
        path = room / str(os.getpid())
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return Place(path, fd)
    finally:
        os.close(counting)


def _taken(room: Path) -> int:
    """Files that nobody holds any more are removed: their monitors have been killed."""
    count = 0
    for path in room.iterdir():
        if path.name == _COUNTING:
            continue
        if _is_held(path):
            count += 1
        else:
            path.unlink(missing_ok=True)
    return count


def _is_held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
