"""Texts of the administrator's that a visitor is shown before there is a shell.

Read by the monitor, which is root, from paths that root has named. They go to strangers, so
nothing but text is passed on.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

# RFC 4252 §5.4 sets no limit; OpenSSH's client shows 4 KiB of a line and any number of lines.
MAX_BANNER = 8 * 1024
# Where systemd and people say that nobody may log in now (pam_nologin(8)).
NOLOGIN = (Path("/run/nologin"), Path("/etc/nologin"))
_NOBODY_NOW = "System is going down or not up yet: only root may log in."


def banner(path: str) -> str:
    """What stands in the file, "" if it cannot be read: a login does not depend on it."""
    return _text(Path(path)) or "" if path else ""


def nologin(paths: Sequence[Path] = NOLOGIN) -> str | None:
    """Why nobody but root may log in now; None when everybody may."""
    for path in paths:
        if path.exists():
            return (_text(path) or "").strip() or _NOBODY_NOW
    return None


def shown(text: str) -> str:
    """Nothing that a terminal takes for an order."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def _text(path: Path) -> str | None:
    """A FIFO or a device would make every login wait."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            raw = file.read(MAX_BANNER)
    except OSError:
        return None
    return shown(raw.decode("utf-8", "replace").replace("\r\n", "\n"))
