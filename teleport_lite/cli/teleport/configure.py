"""teleport-lite configure and teleport-lite node configure: write a config file, or test one."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.exit import complain, warn
from teleport_lite.cli.show import out
from teleport_lite.config.load import Flags, default_file, for_start, invited, parse
from teleport_lite.config.path import absolute_path
from teleport_lite.config.sample import Wish, render
from teleport_lite.config.token_source import TokenSource
from teleport_lite.daemon.argv import scrub
from teleport_lite.errors import Conflict, Error, Malformed
from teleport_lite.pki.keyfile import write_public
from teleport_lite.plugin.builtin import builtin_book

Output = Annotated[
    str,
    typer.Option("--output", "-o", help="stdout, file (the usual place) or file:///a/path."),
]
ClusterName = Annotated[str, typer.Option(help="What the cluster is called, for ever.")]
Version = Annotated[str, typer.Option(help="Form of the file: v1, v2 or v3.")]
PublicAddr = Annotated[list[str] | None, typer.Option(help="How others reach it: host:port.")]
DataDir = Annotated[str, typer.Option(help="Where keys and state are kept.")]
Token = Annotated[
    str, typer.Option(help="Join token: its text, an absolute path, env:NAME, or - to type it.")
]
AuthServer = Annotated[list[str] | None, typer.Option(help="Auth service to join: host[:port].")]
Proxy = Annotated[str, typer.Option(help="Proxy to join through: host[:port].")]
CaPin = Annotated[list[str] | None, typer.Option(help="CA pin of `tctl status`, or its file.")]
JoinMethod = Annotated[str, typer.Option(help="How the machine proves itself: token.")]
NodeName = Annotated[str, typer.Option(help="What the machine is called.")]
Labels = Annotated[
    str, typer.Option("--node-labels", "--labels", help='Of the node: env=prod,note="a, b".')
]
Test = Annotated[str, typer.Option(help="Read this file as start would, and say OK.")]
Roles = Annotated[
    str, typer.Option("--roles", "-r", help="Like node or auth,proxy. All three if not given.")
]
CertFile = Annotated[str, typer.Option(help="Certificate of the web port, PEM.")]
KeyFile = Annotated[str, typer.Option(help="Its private key, PEM.")]
Acme = Annotated[bool, typer.Option("--acme/--no-acme", help="Get the certificate by ACME.")]
AcmeEmail = Annotated[str, typer.Option(help="Told before it expires.")]
AppName = Annotated[str, typer.Option(help="An application to serve.")]
AppUri = Annotated[str, typer.Option(help="Where it listens: http://localhost:8080.")]
Silent = Annotated[bool, typer.Option("--silent/--no-silent", help="Say nothing afterwards.")]


def configure(
    output: Output = "stdout",
    test: Test = "",
    roles: Roles = "",
    token: Token = "",
    auth_server: AuthServer = None,
    proxy: Proxy = "",
    ca_pin: CaPin = None,
    node_name: NodeName = "",
    node_labels: Labels = "",
    data_dir: DataDir = "",
    cluster_name: ClusterName = "",
    public_addr: PublicAddr = None,
    cert_file: CertFile = "",
    key_file: KeyFile = "",
    acme: Acme = False,
    acme_email: AcmeEmail = "",
    app_name: AppName = "",
    app_uri: AppUri = "",
    join_method: JoinMethod = "token",
    version: Version = "v3",
    silent: Silent = False,
) -> None:
    """Write a config file, or with --test say whether one is right."""
    if test:
        return _test(Path(test))
    flags = _flags(token, auth_server, proxy, ca_pin, node_name, node_labels, data_dir, join_method)
    wish = _wish(replace(flags, roles=roles), version, cluster_name, public_addr)
    wish = replace(wish, cert_file=cert_file, key_file=key_file, acme=acme, acme_email=acme_email)
    return _put(replace(wish, app_name=app_name, app_uri=app_uri), output, silent)


def node_configure(
    output: Output = "stdout",
    token: Token = "",
    auth_server: AuthServer = None,
    proxy: Proxy = "",
    ca_pin: CaPin = None,
    node_name: NodeName = "",
    labels: Labels = "",
    data_dir: DataDir = "",
    cluster_name: ClusterName = "",
    public_addr: PublicAddr = None,
    join_method: JoinMethod = "token",
    version: Version = "v3",
    silent: Silent = False,
) -> None:
    """Write a config file for a machine that only runs the SSH service."""
    flags = _flags(token, auth_server, proxy, ca_pin, node_name, labels, data_dir, join_method)
    wish = _wish(replace(flags, roles="node"), version, cluster_name, public_addr)
    _put(wish, output, silent)


def _wish(flags: Flags, version: str, cluster_name: str, public_addr: list[str] | None) -> Wish:
    addresses = tuple(public_addr or ())
    return Wish(flags=flags, version=version, cluster_name=cluster_name, public_addrs=addresses)


def _flags(
    token: str,
    auth_server: list[str] | None,
    proxy: str,
    ca_pin: list[str] | None,
    node_name: str,
    labels: str,
    data_dir: str,
    join_method: str,
) -> Flags:
    scrub()
    if join_method.lower() != "token":
        raise Malformed(f"--join-method: {join_method[:40]!a} is not built yet, only token is")
    if token == "-":  # a file cannot ask anybody; what is typed now goes into it
        token = TokenSource.parse(token).read().reveal()
    return Flags(
        token=token,
        auth_servers=tuple(auth_server or ()),
        proxy=proxy,
        ca_pins=tuple(ca_pin or ()),
        nodename=node_name,
        labels=labels,
        data_dir=data_dir,
    )


def _put(wish: Wish, output: str, silent: bool) -> None:
    """To where `output` says. Nothing is written that `start` would not read."""
    path = _target(output)
    text = render(wish, builtin_book())
    for line in parse(text, str(path or "the config"), builtin_book()).warnings:
        warn(line)
    if path is None:
        return out(text)
    try:
        # 0600: the file may hold the token.
        write_public(path, text.encode(), mode=0o600, replace=False)
    except Conflict:
        raise Conflict(
            f"{path} exists, and configure never overwrites a file",
            hint=f"mv {_word(path)} {_word(path)}.old",
        ) from None
    if not silent:
        out(f"The config is in {path}. To start with it:\n\n  {_start(path)}\n")
    return None


def _target(output: str) -> Path | None:
    if output in ("", "stdout"):
        return None
    if output == "file":
        return absolute_path(str(default_file()))
    if output.startswith(("file:///", "/")):
        return absolute_path(output.removeprefix("file://"))
    raise Malformed(f"--output: {output[:80]!a} is not stdout, file or file:///a/path")


def _start(path: Path) -> str:
    if path == default_file():
        return "sudo teleport-lite start"
    return f"sudo teleport-lite start --config={_word(path)}"


def _word(path: Path) -> str:
    return shlex.quote(str(path))


def _test(path: Path) -> None:
    # Only this needs them, and they cost 50 ms.
    from teleport_lite.pki.pin import parse_pins
    from teleport_lite.plugin.invited import gather

    try:
        guests = invited(path)
        book = gather(directories=guests.directories, distributions=guests.distributions).book
        config = for_start(path, Flags(), book)
        parse_pins(pin for pin in config.ca_pins if not pin.startswith("/"))
    except Error as why:
        typer.echo(f"FAIL {path}", err=True)
        complain(why.message, why.hint)
        raise typer.Exit(1) from None
    for line in config.warnings:
        warn(line)
    typer.echo(f"OK {path}", err=True)
