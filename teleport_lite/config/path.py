"""Paths of the config: absolute, so that they mean the same wherever a process starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from teleport_lite.errors import Malformed


def absolute_path(text: str) -> Path:
    """`text` without "..", or Malformed."""
    if not text.startswith("/") or not text.isprintable():
        raise Malformed(f"{text[:80]!a} is not an absolute path, like '/var/lib/teleport-lite'")
    # normpath keeps a leading "//", which means nothing on Linux.
    return Path("/" + os.path.normpath(text).lstrip("/"))


def data_directory(text: str) -> Path:
    """A path with a place beside it, where the key file stands. Raises Malformed."""
    path = absolute_path(text)
    if not path.name:
        raise Malformed(f"{text[:80]!a} cannot be the data directory, '/var/lib/teleport-lite' can")
    return path


@contextmanager
def opened(path: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor to look at and read. Never waits: `path` may be a pipe nobody writes to.

    Raises OSError or ValueError, as os.open does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_up_to(descriptor: int, limit: int) -> bytes:
    """The content of a regular file; one byte more than `limit` when it is longer."""
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(limit + 1)
