"""tbot start: join or renew, write the files, and keep them fresh."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.cli.tbot import options
from teleport_lite.cli.tbot.bot import Bot, RealCluster
from teleport_lite.cli.tbot.settings import Flags, Settings, read_file, settle
from teleport_lite.cli.tbot.wake import Signals
from teleport_lite.config.model import LogConfig
from teleport_lite.daemon import logs
from teleport_lite.daemon.argv import scrub
from teleport_lite.errors import Malformed
from teleport_lite.pki.keyfile import read_secret, write_public

log = logging.getLogger("teleport_lite.tbot")
# `legacy` is what older files and scripts call the same thing.
KINDS = ("identity", "legacy")


def start(
    kind: options.Kind = "identity",
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", envvar="TBOT_CONFIG_PATH", help="File of tbot configure."),
    ] = None,
    token: options.Token = "",
    auth_server: options.AuthServer = "",
    proxy_server: options.ProxyServer = "",
    ca_pin: options.CaPin = None,
    join_method: options.JoinMethod = "",
    certificate_ttl: options.CertificateTtl = "",
    renewal_interval: options.RenewalInterval = "",
    storage: options.Storage = "",
    destination: options.Destination = None,
    oneshot: options.Oneshot = False,
    pid_file: Annotated[str, typer.Option(help="Write the process ID here.")] = "",
    diag_addr: options.DiagAddr = "",
    log_format: options.LogFormat = options.LogForm.TEXT,
    debug: Annotated[
        bool, typer.Option("-d", "--debug", envvar="TBOT_DEBUG", help="Log everything.")
    ] = False,
) -> None:
    """Join with a bot token and write certificates; renew them until stopped.

    SIGHUP and SIGUSR1 renew now, SIGTERM ends.
    """
    scrub()
    refuse_unbuilt(kind, diag_addr)
    flags = Flags(
        token=token,
        auth_server=auth_server,
        proxy_server=proxy_server,
        ca_pins=tuple(ca_pin or ()),
        join_method=join_method,
        certificate_ttl=certificate_ttl,
        renewal_interval=renewal_interval,
        storage=storage,
        destinations=tuple(destination or ()),
        oneshot=oneshot,
        pid_file=pid_file,
    )
    settings = settle(flags, _file(config) if config else None)
    logs.set_up(LogConfig(format=log_format), debug=debug)
    run(settings)


def run(settings: Settings) -> None:
    bot = Bot(
        settings,
        clock=SystemClock(),
        chance=SystemChance(),
        cluster=RealCluster(),
        say=log.warning,
    )
    with _pid(settings.pid_file):
        if settings.oneshot:
            bot.once()
            return
        with Signals() as signals:
            bot.forever(signals)


def _file(path: Path) -> Flags:
    """It may hold a token, so it has to be ours and closed to others. Raises as `read_secret`."""
    try:
        text = read_secret(path).decode()
    except UnicodeDecodeError:
        raise Malformed(f"{path}: is not UTF-8 text") from None
    return read_file(text, str(path))


def refuse_unbuilt(kind: str, diag_addr: str) -> None:
    """Raises Malformed: what is not there says so, before a token is spent."""
    if kind not in KINDS:
        raise Malformed(f"tbot start {kind[:40]}: only identity is part of this version")
    if diag_addr:
        raise Malformed("--diag-addr: tbot has no diagnostics in this version", hint="journalctl")


@contextmanager
def _pid(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    write_public(path, f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
