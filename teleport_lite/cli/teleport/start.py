"""teleport-lite start: run this host's roles."""

from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.config.flags import Flags
from teleport_lite.config.load import for_start
from teleport_lite.config.load import invited as invited_by
from teleport_lite.daemon import init
from teleport_lite.daemon.argv import scrub
from teleport_lite.daemon.run import run
from teleport_lite.plugin.ground import check_apart
from teleport_lite.plugin.invited import gather


def start(
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="Config file. [default: /etc/teleport-lite.yaml]"),
    ] = None,
    roles: Annotated[
        str,
        typer.Option("-r", "--roles", help="What this host does, like auth,proxy,node."),
    ] = "",
    token: Annotated[
        str,
        typer.Option(help="Join token: a value, an absolute path, env:NAME, or - for stdin."),
    ] = "",
    auth_server: Annotated[
        list[str] | None,
        typer.Option(help="Address of auth, port 3025 if none is given. May be repeated."),
    ] = None,
    proxy: Annotated[str, typer.Option(help="Web address of a proxy to join through.")] = "",
    ca_pin: Annotated[
        list[str] | None,
        typer.Option(help="sha256:... of the host CA (see: tctl status), or a file. Repeatable."),
    ] = None,
    nodename: Annotated[str, typer.Option(help="Name of this host. [default: host name]")] = "",
    labels: Annotated[str, typer.Option(help='Labels, like env=prod,rack="a 1".')] = "",
    listen_ip: Annotated[
        str, typer.Option("-l", "--listen-ip", help="IP to listen on. [default: 0.0.0.0]")
    ] = "",
    advertise_ip: Annotated[str, typer.Option(help="IP others reach this host by.")] = "",
    data_dir: Annotated[
        str, typer.Option(help="Where state is kept. [default: /var/lib/teleport-lite]")
    ] = "",
    pid_file: Annotated[str, typer.Option(help="Write the process ID here.")] = "",
    diag_addr: Annotated[
        str, typer.Option(help="Serve /healthz, /readyz and /metrics here, like 127.0.0.1:3000.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option(help="Do not verify a proxy's web certificate. Never skips a CA pin.")
    ] = False,
    debug: Annotated[bool, typer.Option("-d", "--debug", help="Log everything.")] = False,
) -> None:
    """Run this host's roles: by default auth, proxy and node, or what the config file says."""
    scrub()
    code = init.begin()
    if code is not None:  # we were the first process of a container, and the daemon has ended
        raise typer.Exit(code)
    flags = Flags(
        roles=roles,
        token=token,
        auth_servers=tuple(auth_server or ()),
        proxy=proxy,
        ca_pins=tuple(ca_pin or ()),
        nodename=nodename,
        labels=labels,
        listen_ip=listen_ip,
        advertise_ip=advertise_ip,
        data_dir=data_dir,
        pid_file=pid_file,
        diag_addr=diag_addr,
        insecure=insecure,
        debug=debug,
    )
    raise typer.Exit(_run(config, flags))


def _run(path: Path | None, flags: Flags) -> int:
    invited = invited_by(path)
    guests = gather(directories=invited.directories, distributions=invited.distributions)
    config = for_start(path, flags, guests.book)
    check_apart(invited.directories, config.written)
    return run(
        config,
        guests,
        clock=SystemClock(),
        chance=SystemChance(),
        reread=lambda: for_start(path, flags, guests.book),
    )
