"""SIGHUP: read the configuration again, say what is wrong with it, and what a restart would change.

Only the log is changed at once. A restart leaves sessions alone, so there is little to gain from
more, and a setting that is half in use helps nobody.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace

from teleport_lite.ambient import SystemClock
from teleport_lite.config.model import Config
from teleport_lite.daemon import logs
from teleport_lite.daemon.process import Process
from teleport_lite.errors import Error

log = logging.getLogger("teleport_lite.daemon")

RESTART = "systemctl restart teleport-lite; sessions go on"
# Of Config: sections of the file, and what is no setting.
_SECTIONS = {
    "auth": "auth_service",
    "proxy": "proxy_service",
    "node": "ssh_service",
    "log": "teleport.log",
    "storage": "teleport.storage",
    "plugins": "plugins",
}
_NONE = {"source", "warnings", "given", "version"}


def reload(process: Process, reread: Callable[[], Config], notify: Callable[[str], None]) -> None:
    """Never raises. systemd hears when it begins and when it is over (Type=notify-reload)."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={int(SystemClock().monotonic() * 1e6)}")
    try:
        new = reread()
        _use_log(process, new)
    except Error as why:
        hint = f" (try: {why.hint})" if why.hint else ""
        log.error("the configuration stays as it was: %s%s", why.message, hint)
    else:
        _tell(process.config, new)
    notify("READY=1")


def _use_log(process: Process, new: Config) -> None:
    if new.log != process.config.log:
        logs.set_up(new.log, debug=new.debug)
        process.config = replace(process.config, log=new.log)


def _tell(old: Config, new: Config) -> None:
    changed = list(changes(old, new))
    for warning in new.warnings:
        log.warning("%s", warning)
    if changed:
        log.warning("a restart is needed for: %s (%s)", ", ".join(changed), RESTART)
    else:
        log.info("the configuration was read again, and needs no restart")


def changes(old: Config, new: Config) -> Iterator[str]:
    """Names of what differs, as near to the keys of the file as the Config knows them."""
    for field in fields(Config):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.name in _NONE or before == after:
            continue
        section = _SECTIONS.get(field.name, "")
        if not section or not is_dataclass(before) or not is_dataclass(after):
            yield f"teleport.{field.name}"
            continue
        for each in fields(before):
            if getattr(before, each.name) != getattr(after, each.name):
                yield f"{section}.{each.name.replace('_addrs', '_addr')}"
