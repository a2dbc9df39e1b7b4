"""Which systemd files a host needs, and where they go. The texts are in systemd/, with reasons."""

import re
from pathlib import Path

from teleport_lite.errors import Malformed
from teleport_lite.release import assets

UNITS = Path("/etc/systemd/system")
# Where systemd looks for what the administrator has built: sysusers.d(5), tmpfiles.d(5).
_SYSUSERS = Path("/usr/local/lib/sysusers.d/teleport-lite.conf")
_TMPFILES = Path("/usr/local/lib/tmpfiles.d/teleport-lite.conf")
PREFIX = Path("/usr/local")
_PROGRAM = "/usr/local/bin/teleport-lite"
_START = f"{_PROGRAM} start --config=/etc/teleport-lite.yaml"

ROLES = ("auth", "proxy", "node")
_ALL = "teleport-lite.service"
_SESSIONS = ("teleport-lite-sessions.socket", "teleport-lite-sessions@.service")
_UPGRADE = ("teleport-lite-upgrade.service", "teleport-lite-upgrade.timer")


def units(*, roles: frozenset[str] | None, prefix: Path) -> dict[Path, str]:
    """Where each file goes, and its text, for the program in `prefix`/bin.

    Without `roles` every file there is, to choose from. With one, what a host needs that is
    nothing else; with several, one process for all of them. Raises Malformed for a role that
    `start` does not run, and for a path that would have to be quoted.
    """
    return units_for(roles=roles, program=prefix / "bin" / "teleport-lite")


def units_for(*, roles: frozenset[str] | None, program: Path) -> dict[Path, str]:
    """The same for a program anywhere."""
    if not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._+-]*)+", str(program)):
        raise Malformed(f"{str(program)[:200]!a} can not be named in a unit as it is")
    names = wanted(roles)
    found = {UNITS / name: assets.text(f"systemd/{name}") for name in names}
    if roles is not None and len(roles) > 1:
        text = found[UNITS / _ALL]
        found[UNITS / _ALL] = text.replace(_START, f"{_START} --roles={','.join(sorted(roles))}")
    found[_SYSUSERS] = assets.text("systemd/teleport-lite.sysusers")
    found[_TMPFILES] = assets.text("systemd/teleport-lite.tmpfiles")
    return {where: text.replace(_PROGRAM, str(program)) for where, text in found.items()}


def wanted(roles: frozenset[str] | None) -> tuple[str, ...]:
    """The names of the units, what people start first."""
    if roles is None:
        each = tuple(f"teleport-lite-{role}.service" for role in ROLES)
        return (_ALL, *each, *_SESSIONS, *_UPGRADE)
    if not roles or not roles <= set(ROLES):
        odd = ",".join(sorted(roles - set(ROLES)))[:80]
        raise Malformed(f"no units for role {odd!a}, there are some for {', '.join(ROLES)}")
    main = _ALL if len(roles) > 1 else f"teleport-lite-{next(iter(roles))}.service"
    return (main, *(_SESSIONS if "node" in roles else ()))
