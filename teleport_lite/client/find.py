"""Which cluster is meant, and with what credentials. The order, and the honest reasons.

    1. --identity FILE            asks --auth-server, or 127.0.0.1:3025
    2. the auth service here      its socket, when the config file or the default place has one
    3. the tsh profile            ~/.tsh, or $TELEPORT_HOME

`--auth-server` alone skips 2: the socket leads to this host, whatever was typed. It may name a
proxy too, which passes us on; the profile goes through the proxy it was made with.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from teleport_lite.client.doors import TlsDoor, UnixDoor, no_socket, readable
from teleport_lite.client.local import DATA_DIR, LocalAuth, default_config, look
from teleport_lite.client.transport import Door
from teleport_lite.errors import Error, NotFound, Unauthenticated, Unavailable

if TYPE_CHECKING:  # on the way to the local socket, files of credentials are not looked at
    from teleport_lite.client.identity_file import IdentityFile

SOCKET = "auth.sock"
AUTH_PORT = 3025
HERE = f"127.0.0.1:{AUTH_PORT}"
ELSEWHERE = "tctl status on the auth host, or tctl --identity=FILE --auth-server=HOST:3025 status"


def profile_home() -> Path:
    """Where tsh profiles live. A service without a home directory has none, and may still ask."""
    chosen = os.environ.get("TELEPORT_HOME")
    try:
        return Path(chosen) if chosen else Path.home() / ".tsh"
    except RuntimeError:
        return Path("/nonexistent/.tsh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was said on the command line. "" and () mean nothing was."""

    config: str = ""
    data_dir: str = ""
    auth_servers: tuple[str, ...] = ()
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where to look. Tests have their own."""

    config: Path = field(default_factory=default_config)
    data_dir: Path = DATA_DIR
    home: Path = field(default_factory=profile_home)


def find(wish: Wish, places: Places | None = None) -> Door:
    """The way to the auth service. Raises NotFound, Denied, Unauthenticated, Malformed
    or Unavailable, each naming the place that was looked at."""
    places = places or Places()
    if wish.identity:
        from teleport_lite.client.identity_file import load

        path = Path(wish.identity)
        return _tls(load(path), str(path), wish, "")
    if wish.auth_servers:
        door = _by_profile(wish, places)
        if door is None:
            raise Unauthenticated(
                f"no credentials for {wish.auth_servers[-1]}: no --identity and no tsh profile "
                f"in {places.home}",
                hint=f"tctl --identity=FILE --auth-server={wish.auth_servers[-1]} status",
            )
        return door
    return _near(wish, places)


def _near(wish: Wish, places: Places) -> Door:
    """The socket of this host, or the profile."""
    local = look(wish.config, wish.data_dir, places.config, places.data_dir)
    if local.data_dir is None:
        door = _by_profile(wish, places)
        if door is None:
            raise _nothing(local, places)
        return door
    socket = local.data_dir / SOCKET
    trouble = readable(socket)
    if trouble is None:
        return UnixDoor(socket)
    # A config that runs auth here means this cluster; without one it was only a guess.
    door = None if local.certain else _by_profile(wish, places)
    if door is None:
        raise _elsewhere(no_socket(socket, trouble), local)
    return door


def _by_profile(wish: Wish, places: Places) -> Door | None:
    from teleport_lite.client import profile

    chosen = profile.current(places.home)
    if chosen is None:
        return None
    try:
        credentials = profile.identity(places.home, chosen)
    except NotFound as why:
        raise Unauthenticated(
            f"not logged in to {chosen.proxy}: {why.message}", hint=profile.LOG_IN
        ) from why
    known = chosen.auth_addr or chosen.web_proxy_addr
    return _tls(credentials, f"the tsh profile {chosen.proxy}", wish, known)


def _tls(credentials: "IdentityFile", source: str, wish: Wish, known: str) -> Door:
    last = wish.auth_servers[-1] if wish.auth_servers else ""
    said = [each.strip() for each in last.split(",")]
    address, *others = [_with_port(each) for each in said if each] or [known or HERE]
    return TlsDoor(
        address=address,
        others=tuple(others),
        cluster=credentials.cluster,
        source=source,
        cert=credentials.tls_cert,
        key=credentials.tls_private,
        host_cas=credentials.host_cas,
    )


def _with_port(address: str) -> str:
    from teleport_lite.config.address import parse_address

    return parse_address(address, AUTH_PORT)


def _elsewhere(trouble: Error, local: LocalAuth) -> Error:
    """Most people who see "no socket" by accident sit at a workstation."""
    if isinstance(trouble, Unavailable) and not local.certain:
        return Unavailable(
            f"{trouble.message}, and there is no tsh profile",
            hint=ELSEWHERE,
        )
    return trouble


def _nothing(local: LocalAuth, places: Places) -> Error:
    return Unauthenticated(
        f"{local.why}, and there is no tsh profile in {places.home}",
        hint=ELSEWHERE,
    )
