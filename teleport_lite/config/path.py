"""Paths of the config: absolute, so that they mean the same wherever a process starts."""

import os
from pathlib import Path

from teleport_lite.errors import Malformed


def absolute_path(text: str) -> Path:
    """`text` without "..", or Malformed."""
    if not text.startswith("/") or not text.isprintable():
        raise Malformed(f"{text[:80]!a} is not an absolute path, like '/var/lib/teleport-lite'")
    # normpath keeps a leading "//", which means nothing on Linux.
    return Path("/" + os.path.normpath(text).lstrip("/"))
