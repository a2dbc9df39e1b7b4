"""`teleport-lite start`: from a Config to running roles, and back to nothing.

Read `run` first. Everything that can be refused is refused before anything listens.
"""

import asyncio
import faulthandler
import logging
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from teleport_lite import __version__
from teleport_lite.ambient import Chance, Clock
from teleport_lite.config.model import Config
from teleport_lite.daemon import logs
from teleport_lite.daemon.further import check_storage, fetch_keyring, needs_keyring
from teleport_lite.daemon.health import STATUS
from teleport_lite.daemon.heap import raise_descriptors, settle, share_arenas
from teleport_lite.daemon.notify import Notify
from teleport_lite.daemon.outlast import leave_behind
from teleport_lite.daemon.patience import OPENING, has_served, not_for_good, until_reached
from teleport_lite.daemon.process import Process
from teleport_lite.daemon.reload import reload
from teleport_lite.daemon.watch import Watch
from teleport_lite.errors import Error, Malformed
from teleport_lite.model.host import Resource
from teleport_lite.model.system_role import AUTH, BOT, NODE
from teleport_lite.net.listen import forget_unused
from teleport_lite.pki.keyfile import write_public
from teleport_lite.pki.pin import parse_pins
from teleport_lite.plugin.guests import Guests

if TYPE_CHECKING:  # who does not need them does not pay for their imports
    from teleport_lite.daemon.node_role import NodeRole
    from teleport_lite.net.diag import DiagServer

log = logging.getLogger("teleport_lite.daemon")


def run(
    config: Config,
    guests: Guests,
    *,
    clock: Clock,
    chance: Chance,
    reread: Callable[[], Config] | None = None,
) -> int:
    """Run until told to stop. Returns an exit code; raises Error for what can not start.

    `reread` makes a Config of the same file and flags again, for SIGHUP.
    """
    share_arenas()
    # The watchdog of systemd ends who hangs by SIGABRT: then the journal has every thread's stack.
    faulthandler.enable(2)
    logs.set_up(config.log, debug=config.debug)
    for warning in config.warnings:
        log.warning("%s", warning)
    pins = parse_pins(config.ca_pins)
    roles = _wanted(config, guests)
    resources = _announced(config, guests, roles)
    notify = Notify()
    again = notify.there and has_served(config.data_dir, roles)
    with not_for_good() if again else nullcontext():
        node = _start_node(config, roles)
        process = Process(config, guests, clock=clock, chance=chance)
        process.resources, process.node = resources, node
        if AUTH in roles:
            if needs_keyring(config):
                until_reached(partial(fetch_keyring, config, pins, clock), notify)
            notify.wait("opening the store", OPENING)
            process.open_auth(roles)
        else:
            until_reached(partial(_enlisted, process, roles, pins, again=again), notify)
        raise_descriptors()
        return _loop(process, reread or (lambda: config), notify)


def _enlisted(
    process: Process, roles: tuple[str, ...], pins: tuple[str, ...], *, again: bool
) -> None:
    """Who is refused `again` has patience, too."""
    with not_for_good() if again else nullcontext():
        process.enlist(roles, pins)


def _wanted(config: Config, guests: Guests) -> tuple[str, ...]:
    """The roles of this process, checked. Raises Malformed for what this version can not be."""
    roles = tuple(role.name for role in guests.book if role.name in config.roles)
    if not roles:
        raise Malformed("no role is enabled", hint="teleport-lite start --roles=node")
    if BOT in roles:
        raise Malformed("role bot is run by tbot, not by start", hint="tbot start --help")
    if AUTH in roles:
        check_storage(config)
    for role in (guests.book.get(name) for name in roles):
        if not role.built:
            log.warning(
                "role %s joins and announces itself, its service is not built yet", role.flag
            )
    return roles


def _announced(config: Config, guests: Guests, roles: tuple[str, ...]) -> list[Resource]:
    found: list[Resource] = []
    for role in roles:
        found += guests.announce(role, config.sections.get(role, {}))
    return found


def _start_node(config: Config, roles: tuple[str, ...]) -> "NodeRole | None":
    """Early, because its imports take as long as a join, and then go on beside it."""
    if NODE not in roles:
        return None
    from teleport_lite.daemon.node_role import NodeRole

    return NodeRole(config)


def _loop(process: Process, reread: Callable[[], Config], notify: Notify) -> int:
    """uvloop where auth or a proxy runs: 48 KiB for an idle TLS connection instead of 314."""
    if process.auth is None and process.proxy is None:
        return asyncio.run(_main(process, reread, notify))
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_main(process, reread, notify))


async def _main(process: Process, reread: Callable[[], Config], notify: Notify) -> int:
    config, stop, watch = process.config, process.stop, Watch(process, notify)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.told_to_stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: reload(process, reread, notify))
    diag = None
    try:
        await process.serve()
        diag = _diagnose(process)
        settle()
        forget_unused()
        if config.pid_file:
            _write_pid(config.pid_file, notify)
        notify.ready()
        watch.start()
        log.info("teleport-lite %s is running", __version__)
        await stop.wait()
        notify.stopping()
        log.info("stopping")
    finally:
        await watch.stop()
        if config.pid_file:
            with suppress(OSError):  # in a sandbox it was not written either
                config.pid_file.unlink(missing_ok=True)
        if diag is not None:
            diag.close()
        await process.retire()
        if process.relayed and not process.told_twice:
            await leave_behind(process, code=process.exit_code)
        await process.close()
    return process.exit_code


def _write_pid(path: Path, notify: Notify) -> None:
    """Systemd knows our process without, and its sandbox may forbid the place."""
    try:
        write_public(path, f"{os.getpid()}\n".encode())
    except Error as why:
        if not notify.there:
            raise
        log.warning("teleport.pid_file: %s; systemd does without", why.message)


def _diagnose(process: Process) -> "DiagServer | None":
    if not process.config.diag_addr:
        return None
    from teleport_lite.daemon.metrics import render
    from teleport_lite.net.diag import DiagServer

    def ready() -> tuple[int, dict[str, object]]:
        state, components = process.health.overall()
        body = {"status": state.name.lower(), "pid": os.getpid(), "components": components}
        return STATUS[state], body

    loop = asyncio.get_running_loop()

    def metrics() -> bytes:
        return render(process, len(asyncio.all_tasks(loop)))

    return DiagServer(process.config.diag_addr, ready=ready, metrics=metrics)
