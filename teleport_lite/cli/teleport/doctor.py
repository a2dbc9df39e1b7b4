"""teleport-lite doctor: why can this host not join, or not connect?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.agent import identity as identities
from teleport_lite.agent.checkup import Finding, check_up
from teleport_lite.ambient import SystemClock
from teleport_lite.cli.show import Format, emit
from teleport_lite.config.flags import Flags
from teleport_lite.config.load import for_start
from teleport_lite.config.load import invited as invited_by
from teleport_lite.pki.pin import parse_pins
from teleport_lite.plugin.invited import gather

_MARK = {"ok": "ok  ", "warn": "WARN", "bad": "BAD "}


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="Config file. [default: /etc/teleport-lite.yaml]"),
    ] = None,
    auth_server: Annotated[
        list[str] | None,
        typer.Option(help="Address of auth, or of a proxy. May be repeated."),
    ] = None,
    proxy: Annotated[str, typer.Option(help="Address of a proxy.")] = "",
    token: Annotated[
        str, typer.Option(help="Join token to look at, as for start. It is not spent.")
    ] = "",
    ca_pin: Annotated[list[str] | None, typer.Option(help="CA pin to check, as for start.")] = None,
    data_dir: Annotated[str, typer.Option(help="Where this host keeps its identity.")] = "",
    format: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TEXT,
) -> None:
    """Ask the questions of a join one by one: name, TCP, TLS, who answers, clock, pin, token."""
    flags = Flags(
        token=token,
        auth_servers=tuple(auth_server or ()),
        proxy=proxy,
        ca_pins=tuple(ca_pin or ()),
        data_dir=data_dir,
    )
    invited = invited_by(config)
    guests = gather(directories=invited.directories, distributions=invited.distributions)
    wanted = for_start(config, flags, guests.book)
    only_proxies = bool(wanted.proxy_server)
    findings = check_up(
        servers=(wanted.proxy_server,) if only_proxies else wanted.auth_servers,
        only_proxies=only_proxies,
        pins=parse_pins(wanted.ca_pins),
        token=None if wanted.token is None else wanted.token.read,
        identity=lambda: identities.load(wanted.data_dir),
        clock=SystemClock(),
    )
    _show(findings, format)
    raise typer.Exit(1 if any(each.state == "bad" for each in findings) else 0)


def _show(findings: list[Finding], format: Format) -> None:
    emit([each.as_dict() for each in findings], format, lambda: "\n".join(_lines(findings)))


def _lines(findings: list[Finding]) -> Iterator[str]:
    for each in findings:
        yield f"{_MARK[each.state]}  {each.what}: {each.words}"
        if each.hint:
            yield f"      try: {each.hint}"
