"""tsh version: this program's, and that of the proxy somebody is logged in to."""

import sys
from typing import Annotated

import typer

from teleport_lite import __version__
from teleport_lite.cli.exit import warn
from teleport_lite.cli.show import Format, emit, line
from teleport_lite.cli.tsh.desk import Desk, desk_of
from teleport_lite.errors import Error


def version(
    ctx: typer.Context,
    client: Annotated[
        bool, typer.Option("--client/--no-client", help="Do not ask the proxy for its own.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Only the number.")] = False,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Form of the answer.")
    ] = Format.TEXT,
) -> None:
    """Print the version of this program, and of the proxy."""
    facts = {
        "version": __version__,
        "runtime": "python{}.{}.{}".format(*sys.version_info[:3]),
        "proxyVersion": "",
        "proxyPublicAddress": "",
    }
    if not (client or raw):
        facts |= _proxy(desk_of(ctx))
    emit(facts, format, lambda: __version__ if raw else _text(facts))


def _proxy(desk: Desk) -> dict[str, str]:
    """A proxy that can not be asked is no reason to fail."""
    address = ""
    try:
        chosen = desk.profile()
        address = desk.proxy_address if desk.proxy else chosen.web_proxy_addr if chosen else ""
        if not address:
            return {}
        from teleport_lite.client.ping import ping

        # Nothing follows from what it says.
        found = ping(address, insecure=True)
        return {"proxyVersion": found.version, "proxyPublicAddress": address}
    except Error as why:
        warn(f"the version of the proxy is not known: {why.message}")
        return {"proxyPublicAddress": address} if address else {}


def _text(facts: dict[str, str]) -> str:
    text = f"teleport-lite v{facts['version']} {facts['runtime']}\n"
    if facts["proxyVersion"]:
        text += f"Proxy version: {line(facts['proxyVersion'])}\n"
    if facts["proxyPublicAddress"]:
        text += f"Proxy: {facts['proxyPublicAddress']}\n"
    return text
