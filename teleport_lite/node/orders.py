"""What a daemon and a zygote that systemd starts for it say to each other, once.

    PID 1 ── accepts at sessions.sock, runs `teleport-lite zygote DATA_DIR`, the connection is stdin
    daemon ──Order───► zygote    which program calls, and how visitors are to be served
    daemon ◄──Answer── zygote    the control socket for all that follows, or why not

The zygote is outside the daemon's sandbox, so an order holds what an administrator may set and
nothing else, and each of it is checked again: it may come from a daemon that has been taken over.
"""

import os
import re
import shlex
import stat
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import teleport_lite
from teleport_lite.errors import Denied, Malformed
from teleport_lite.model.env_names import NAME, check_patterns, never
from teleport_lite.node.notices import MAX_BANNER, banner, shown
from teleport_lite.node.settings import Settings
from teleport_lite.proto.codec import Message, Statement, read, read_any

# 64 variables of 1 kB, 64 patterns of names, and a banner.
MAX_ORDER = 256 * 1024
MAX_ANSWER = 4096
# In the environment of the zygote's unit.
DATA_DIR = "TELEPORT_LITE_DATA_DIR"
# A file name in /etc/pam.d; "." and ".." are none.
_SERVICE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_MAX_VARIABLES, _MAX_VALUE = 64, 1024
_LAST_DISPLAY = 65535 - 6000


class Order(Message, frozen=True):
    """The fields of Settings with these names. No others: limits and accounts of the processes
    are not the daemon's to choose, nor is a file that root reads to strangers."""

    build: str
    data_dir: str
    accept_env: tuple[str, ...]
    permit_user_env: bool
    banner_text: str
    pam_service: str
    pam_environment: tuple[tuple[str, str], ...]
    create_host_users: bool
    port_forwarding: bool
    file_copy: bool
    x11: bool
    x11_first: int
    x11_last: int
    recording_spool_quota: int
    strict_locks: bool


class Answer(Statement, frozen=True):
    """Comes with the control socket, unless there is a reason why not."""

    pid: int = 0
    reason: str = ""
    hint: str = ""


def build() -> str:
    """Which program this is: the version, and the tree that it was loaded from."""
    tree = Path(teleport_lite.__file__).parent.parent.name
    return f"{teleport_lite.__version__} {tree}"


def order(settings: Settings) -> Order:
    """Raises ValueError for settings that an order can not hold. The banner is read now."""
    if settings.banner:
        settings = replace(settings, banner="", banner_text=banner(settings.banner))
    said: dict[str, Any] = {
        name: value for name, value in asdict(settings).items() if name in Order.__struct_fields__
    }
    said["data_dir"] = str(settings.data_dir)
    found = Order(build=build(), **said)
    if _settings(found) != settings:
        raise ValueError("these settings are for a zygote of our own")
    return found


def obey(raw: bytes, data_dir: Path) -> Settings:
    """The settings of an order, for the node whose data directory that is.

    Raises Malformed or Denied: whoever is told why may be an administrator.
    """
    said = read_any(raw, limit=MAX_ORDER)
    caller = said.get("build") if isinstance(said, dict) else None
    # The file may have been replaced since the daemon was started. What a message looks like is
    # known for one's own build only, and a setting that is not understood may be a restriction.
    if caller != build():
        raise Denied(
            f"the daemon is {str(caller)[:100]!a}, and this program is {build()!a} by now",
            hint="systemctl restart teleport-lite",
        )
    found = _settings(read(Order, raw, limit=MAX_ORDER))
    _check_place(found.data_dir, data_dir)
    _check_names(found)
    _check_numbers(found)
    return replace(found, banner_text=shown(found.banner_text)[:MAX_BANNER])


def _settings(said: Order) -> Settings:
    fields = {name: getattr(said, name) for name in said.__struct_fields__ if name != "build"}
    return Settings(**{**fields, "data_dir": Path(said.data_dir)})


def _check_place(asked: Path, ours: Path) -> None:
    """In there are the host's key and whom it trusts, so nobody else may choose or change it."""
    if not ours.is_absolute() or not ours.is_dir():
        raise Denied(f"there is no directory {ours}")
    if asked.resolve() != ours.resolve():
        raise Denied(
            f"the daemon's data_dir is {asked}, and teleport-lite-sessions@.service has {ours}",
            hint=f"systemctl edit teleport-lite-sessions@.service (Environment={DATA_DIR}={asked})",
        )
    status = ours.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise Denied(
            f"{ours} belongs to uid {status.st_uid}, who would decide who becomes root here",
            hint=f"chown -R root: {shlex.quote(str(ours))}",
        )
    if status.st_mode & 0o022:
        raise Denied(f"others may write to {ours} (mode {stat.S_IMODE(status.st_mode):04o})")


def _check_names(said: Settings) -> None:
    check_patterns(said.accept_env)
    if said.pam_service and not _SERVICE.fullmatch(said.pam_service):
        raise Malformed(f"{said.pam_service[:64]!a} is no file in /etc/pam.d")
    if len(said.pam_environment) > _MAX_VARIABLES:
        raise Malformed(f"more than {_MAX_VARIABLES} variables for PAM")
    for name, value in said.pam_environment:
        # Modules run programs with these, as root (pam_exec(8)).
        if not NAME.fullmatch(name) or never(name):
            raise Malformed(f"pam.environment: {name[:64]!a} may decide which code runs")
        if len(value) > _MAX_VALUE or not value.isprintable():
            raise Malformed(f"pam.environment: {name} is not one line of text")


def _check_numbers(said: Settings) -> None:
    if not 0 < said.x11_first <= said.x11_last <= _LAST_DISPLAY:
        raise Malformed("the displays are not a range from 1 on")
    if said.recording_spool_quota < 0:
        raise Malformed("the quota of recordings is below zero")
