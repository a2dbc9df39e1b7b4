"""Which systemd files a host needs, and where they go. The texts are in systemd/, with reasons."""

import re
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.errors import Malformed
from teleport_lite.release import assets

UNITS = Path("/etc/systemd/system")
PREFIX = Path("/usr/local")
# Where systemd looks for what the administrator has built: sysusers.d(5), tmpfiles.d(5).
_SYSUSERS = PREFIX / "lib/sysusers.d/teleport-lite.conf"
_TMPFILES = PREFIX / "lib/tmpfiles.d/teleport-lite.conf"
_PROGRAM = PREFIX / "bin/teleport-lite"
_START = f"{_PROGRAM} start --config=/etc/teleport-lite.yaml"
_LIMIT = "LimitNOFILE=1024:524288"

ROLES = ("auth", "proxy", "node")
ALL = "teleport-lite.service"
# What has a unit of its own, with no more power than that.
_OWN = (*(frozenset({role}) for role in ROLES), frozenset({"auth", "proxy"}))
_SESSIONS = ("teleport-lite-sessions.socket", "teleport-lite-sessions@.service")
_UPGRADE = ("teleport-lite-upgrade.service", "teleport-lite-upgrade.timer")
# fs.nr_open of Linux: nobody has more descriptors.
_MOST_FILES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What may be another in the units of a host. Raises Malformed for what no unit could say."""

    program: Path = _PROGRAM
    env_file: Path | None = None  # read when the daemon starts, if it is there
    fd_limit: int | None = None

    def __post_init__(self) -> None:
        for path in (self.program, *([self.env_file] if self.env_file else [])):
            # Nothing that would have to be quoted, or that stands for something: "%h", "$X".
            if not re.fullmatch(r"(/[A-Za-z0-9._+@-]+)+", str(path)) or ".." in path.parts:
                raise Malformed(f"{str(path)[:200]!a} can not be named in a unit as it is")
        if self.fd_limit is not None and not 1024 <= self.fd_limit <= _MOST_FILES:
            raise Malformed(f"a limit of {self.fd_limit} files is not from 1024 to {_MOST_FILES}")


def units(*, roles: frozenset[str] | None, prefix: Path) -> dict[Path, str]:
    """Where each file goes, and its text, for the program in `prefix`/bin.

    Without `roles` every file there is, to choose from. Raises as `units_of`.
    """
    return units_of(roles, Wish(program=prefix / "bin" / "teleport-lite"))


def units_of(roles: frozenset[str] | None, wish: Wish) -> dict[Path, str]:
    """With one role, or auth and proxy, what a host needs that is nothing else. With others, one
    process for all of them; with none, for those of its settings.

    Raises Malformed for a role that has no unit.
    """
    found = {UNITS / name: assets.text(f"systemd/{name}") for name in names(roles)}
    if roles and roles not in _OWN:
        text = found[UNITS / ALL]
        found[UNITS / ALL] = text.replace(_START, f"{_START} --roles={','.join(sorted(roles))}")
    found[_SYSUSERS] = assets.text("systemd/teleport-lite.sysusers")
    found[_TMPFILES] = assets.text("systemd/teleport-lite.tmpfiles")
    return {where: _fitted(text, wish) for where, text in found.items()}


def names(roles: frozenset[str] | None) -> tuple[str, ...]:
    """Of the units; what people start comes first."""
    if roles is None:
        return (ALL, *map(_own, _OWN), *_SESSIONS, *_UPGRADE)
    if odd := roles - set(ROLES):
        wrong = ",".join(sorted(odd))[:80]
        raise Malformed(f"there is no unit for role {wrong!a}, there is for {', '.join(ROLES)}")
    if roles not in _OWN:
        return (ALL, *_SESSIONS)
    return (_own(roles), *(_SESSIONS if "node" in roles else ()))


def _own(roles: frozenset[str]) -> str:
    return f"teleport-lite-{'-'.join(sorted(roles))}.service"


def _fitted(text: str, wish: Wish) -> str:
    if "\nType=notify\n" in text:  # a daemon
        if wish.fd_limit is not None:
            text = text.replace(_LIMIT, f"LimitNOFILE=1024:{wish.fd_limit}")
        if wish.env_file is not None:
            text = text.replace(
                "\nType=notify\n", f"\nType=notify\nEnvironmentFile=-{wish.env_file}\n"
            )
    return text.replace(str(_PROGRAM), str(wish.program))
