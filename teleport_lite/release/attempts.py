"""What is remembered of upgrades, beside the versions: one under way, and those that failed."""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from teleport_lite.errors import Malformed
from teleport_lite.pki.keyfile import write_public
from teleport_lite.release.layout import settle
from teleport_lite.release.systemd import DAEMONS
from teleport_lite.release.version import Version

FAILED = "failed"
_UNDER_WAY = ".upgrading"
_MOST = 50  # lines in `failed`
_LIMIT = 64 * 1024  # bytes read of either


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An upgrade whose end is not known. Written before `current` moves, so that whoever comes
    after a power cut can see it through, or take it back."""

    old: str
    new: str
    units: tuple[str, ...]  # what ran before


def begin(lib: Path, attempt: Attempt) -> None:
    text = "\n".join([attempt.old, attempt.new, *attempt.units, ""])
    write_public(lib / _UNDER_WAY, text.encode())


def under_way(lib: Path) -> Attempt | None:
    """None if there is none, or if what is written is of no use."""
    lines = _lines(lib / _UNDER_WAY)
    try:
        old, new = (str(Version.parse(line)) for line in lines[:2])
    except (Malformed, ValueError):
        return None
    return Attempt(old=old, new=new, units=tuple(each for each in lines[2:] if each in DAEMONS))


def end(lib: Path) -> None:
    (lib / _UNDER_WAY).unlink(missing_ok=True)
    settle(lib)


def failed(lib: Path) -> dict[str, str]:
    """Versions that were tried here and taken back, each with when and why."""
    return dict(line.partition(" ")[::2] for line in _lines(lib / FAILED))


def remember(lib: Path, version: str, why: str, now: datetime) -> None:
    known = failed(lib)
    known.pop(version, None)
    known[version] = f"{now:%Y-%m-%dT%H:%M:%SZ} {re.sub(r'[^ -~]+', ' ', why)[:300]}"
    _write(lib, known)


def forget(lib: Path, version: str) -> None:
    known = failed(lib)
    if known.pop(version, None) is not None:
        _write(lib, known)


def _write(lib: Path, known: dict[str, str]) -> None:
    lines = [f"{version} {why}".rstrip() + "\n" for version, why in known.items()]
    write_public(lib / FAILED, "".join(lines[-_MOST:]).encode())


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT).decode("ascii", "replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
