"""tbot configure: the file that says what the flags say."""

from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.show import out
from teleport_lite.cli.tbot import options
from teleport_lite.cli.tbot.settings import (
    CERTIFICATE_TTL,
    RENEWAL_INTERVAL,
    Flags,
    directory,
    settle,
)
from teleport_lite.cli.tbot.start import refuse_unbuilt
from teleport_lite.config.yaml import dump
from teleport_lite.pki.keyfile import write_public

HEADER = "# Written by tbot configure. To use it: tbot start -c FILE\n"


def configure(
    kind: options.Kind = "identity",
    output: Annotated[
        str, typer.Option("--output", "-o", help="stdout, or file:///a/path or a path.")
    ] = "stdout",
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
    diag_addr: options.DiagAddr = "",
) -> None:
    """Print a configuration file, or write one. Does not overwrite."""
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
    )
    text = render(flags)
    if output == "stdout":
        out(text)
        return
    path: Path = directory("--output", output)
    # It may hold a token, so nobody else reads it.
    write_public(path, text.encode(), mode=0o600, replace=False)
    out(f"The configuration has been written to {path}\nTo use it:\n\n> tbot start -c {path}\n")


def render(flags: Flags) -> str:
    """A file that reads back as the same settings. Raises Malformed as `start` would."""
    settled = settle(flags)
    document = {
        "version": "v2",
        "proxy_server" if settled.only_proxies else "auth_server": (
            list(settled.servers) if len(settled.servers) > 1 else settled.servers[0]
        ),
        "onboarding": {
            "join_method": "token",
            "token": flags.token,
            "ca_pins": list(flags.ca_pins),
        },
        "storage": {"type": "directory", "path": str(settled.storage)},
        "certificate_ttl": flags.certificate_ttl or CERTIFICATE_TTL,
        "renewal_interval": flags.renewal_interval or RENEWAL_INTERVAL,
        "oneshot": flags.oneshot,
        "outputs": [
            {"type": "identity", "destination": {"type": "directory", "path": str(path)}}
            for path in settled.destinations
        ],
    }
    return HEADER + dump(document)
