"""tsh login."""

import os
import pwd
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.show import out
from teleport_lite.cli.tsh.desk import Desk, desk_of
from teleport_lite.client import profile
from teleport_lite.client.papers import read_papers
from teleport_lite.client.profile import Files, Profile
from teleport_lite.errors import Conflict, Error, Malformed, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from teleport_lite.client.login import LoggedIn

# Without a port: ours, and the one that a balancer in front would have.
PORTS = (3080, 443)
KNOCK = 5.0
# Somebody logged in for less than this logs in anew.
SOON = timedelta(minutes=1)


class Shape(StrEnum):
    FILE = "file"  # everything in one: tctl -i, tsh -i, ssh -i


def login(
    ctx: typer.Context,
    wanted: Annotated[
        str, typer.Argument(metavar="[CLUSTER]", help="Name of the cluster, to be sure.")
    ] = "",
    ca_pin: Annotated[
        list[str] | None,
        typer.Option(help="Pin of the cluster's CA, as tctl status shows it, or a file of pins."),
    ] = None,
    to: Annotated[
        str, typer.Option("--out", "-o", help="Write an identity file instead of a profile.")
    ] = "",
    format: Annotated[Shape, typer.Option("--format", "-f", help="Form of --out.")] = Shape.FILE,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace an --out that exists.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force/--no-force", help="Even if you are logged in already.")
    ] = False,
) -> None:
    """Log in to a cluster with a password.

    The password is asked for at the terminal, or read as one line from standard input. It
    never leaves this machine, and neither do the private keys that are made here.
    """
    del format  # there is one
    desk = desk_of(ctx)
    desk.cluster = wanted or desk.cluster
    pins = tuple(ca_pin or ())
    if to:
        return _to_file(desk, Path(to), pins, overwrite=overwrite)
    if not (force or desk.ttl or pins) and _still_logged_in(desk):
        return _show(desk)
    log_in(desk, pins)
    return _show(desk)


def log_in(desk: Desk, pins: tuple[str, ...] = ()) -> None:
    """Ask for the password, and save what it brings as the profile in use."""
    from teleport_lite.cli.tsh import ssh_agent

    how = ssh_agent.adding(desk.add_keys_to_agent)
    address = _address(desk)
    found = _enter(desk, address, pins)
    made = _profile(found, address)
    old = _known(desk, made.proxy)
    if old is not None and (old.user, old.cluster) != (made.user, made.cluster):
        _forget(desk, old)
    credentials = found.credentials
    left = read_papers(credentials.ssh_cert, "your certificate").expires - desk.clock.now()
    if how is ssh_agent.Adding.ONLY:
        credentials = ssh_agent.add_only(credentials, made.user, left)
    profile.save(desk.home, made, credentials)
    if how is not ssh_agent.Adding.ONLY:
        ssh_agent.add(Files(desk.home, made).ssh_key, left, how)


def _enter(
    desk: Desk, address: str, pins: tuple[str, ...], *, portable: bool = False
) -> "LoggedIn":
    from teleport_lite.ambient import SystemChance
    from teleport_lite.cli.tsh.password import ask_password
    from teleport_lite.client import login as client
    from teleport_lite.pki.pin import parse_pins

    known = _known(desk, _host(address))
    user = desk.user or (known.user if known else "") or _own_name()
    request = client.LoginRequest(
        proxy=address,
        user=user,
        password=lambda: ask_password(user),
        clock=desk.clock,
        chance=SystemChance(),
        pins=parse_pins(pins),
        known_cas=_known_cas(desk, known),
        insecure=desk.insecure,
        ttl=_ttl(desk.ttl),
        say=warn,
        portable=portable,
        cluster=desk.cluster,
    )
    if desk.insecure and not pins:
        warn("--insecure: nobody has vouched for this proxy or its cluster")
    return client.login(request)


def _to_file(desk: Desk, path: Path, pins: tuple[str, ...], *, overwrite: bool) -> None:
    """Looks for what is in the way first: nobody types a password for nothing."""
    from teleport_lite.client import identity_file
    from teleport_lite.pki.keyfile import write_public

    if path.is_symlink() or (path.exists() and not overwrite):
        raise Conflict(f"{path} exists already", hint="tsh login --overwrite, or another --out")
    found = _enter(desk, _address(desk), pins, portable=True)
    write_public(path, identity_file.write(found.credentials), mode=0o600, replace=overwrite)
    out(f"The credentials have been written to {path}")


def _profile(found: "LoggedIn", address: str) -> Profile:
    return Profile(
        proxy=_host(address),
        user=found.user,
        cluster=found.credentials.cluster,
        web_proxy_addr=address,
        ssh_proxy_addr=found.ping.ssh_addr,
    )


def _still_logged_in(desk: Desk) -> bool:
    """With what was typed, and long enough. Makes that profile the one in use."""
    try:
        found = desk.person(even_expired=True)
        chosen = desk.profile()
    except Error:
        return False
    if chosen is None or desk.identity or found.papers.expired(desk.clock.now() + SOON):
        return False
    profile.switch(desk.home, chosen)
    try:
        desk.trust_of_now()
    except Unauthenticated as why:
        warn(why.message)
        return False
    return True


def _address(desk: Desk) -> str:
    """Of the proxy: what was typed, or that of the current profile."""
    from teleport_lite.cli.tsh.desk import _has_port
    from teleport_lite.config.address import join_address

    if not desk.proxy:
        current = profile.current(desk.home)
        if current is None:
            raise Malformed("which proxy is not said", hint=profile.LOG_IN)
        return current.web_proxy_addr
    if _has_port(desk.proxy):
        return desk.proxy_address
    known = _known(desk, desk.proxy_host)
    if known is not None:
        return known.web_proxy_addr
    return _knock([join_address(desk.proxy_host, port) for port in PORTS])


def _knock(addresses: list[str]) -> str:
    """The first at which somebody answers."""
    from teleport_lite.net.dial import dial

    failures = []
    for address in addresses:
        try:
            dial(address, timeout=KNOCK).close()
            return address
        except Unavailable as why:
            failures.append(why.message)
    raise Unavailable(f"no proxy answers: {'; '.join(failures)}", hint=profile.LOG_IN)


def _known(desk: Desk, proxy: str) -> Profile | None:
    """A profile that cannot be read is no reason not to log in: it is replaced."""
    with suppress(Malformed):
        return profile.named(desk.home, proxy)
    return None


def _known_cas(desk: Desk, known: Profile | None) -> tuple[str, ...]:
    if known is None:
        return ()
    with suppress(Error):
        return profile.identity(desk.home, known).host_cas
    return ()


def _forget(desk: Desk, old: Profile) -> None:
    """Somebody else's login through the same proxy."""
    from teleport_lite.cli.tsh import ssh_agent

    ssh_agent.drop(Files(desk.home, old).ssh_public)
    profile.remove(desk.home, old)


def _host(address: str) -> str:
    from teleport_lite.config.address import split_address

    return split_address(address)[0]


def _ttl(text: str) -> str:
    """Bare numbers are minutes."""
    from teleport_lite.model.duration import parse_duration

    given = f"{text}m" if text.isdigit() else text
    if given:
        parse_duration(given, "--ttl")
    return given


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise Malformed("who you are is not said", hint=profile.LOG_IN) from None


def _show(desk: Desk) -> None:
    from teleport_lite.cli.tsh.status import show_current

    show_current(desk)
