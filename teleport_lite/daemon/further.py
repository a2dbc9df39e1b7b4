"""Before a further auth server can open the storage it shares with others, it needs their keyring.

It joins like every host, with a token for role Auth, and asks for the keyring over mTLS. With a
keyring in its place nobody is asked: this is the first auth server, or one that was here before.
"""

import logging

from teleport_lite.agent import identity as identities
from teleport_lite.agent.enlist import Enlistment, enlist
from teleport_lite.agent.keyring import ask_for_keyring
from teleport_lite.ambient import Clock
from teleport_lite.config.model import Config
from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.model.system_role import AUTH
from teleport_lite.pki.keyfile import make_private_dir, write_secret

log = logging.getLogger("teleport_lite.daemon")

SQLITE = "sqlite"
# What the store says, in its message, of a keyring that does not fit.
OTHER_KEYRING = "sealed under another keyring"
THE_FIRST = "leave out --token to run the first auth server of a cluster"
HOW = "teleport-lite start --roles=auth --token=TOKEN --auth-server=HOST:3025"


def check_storage(config: Config) -> None:
    """Raises Malformed for a further auth server without storage that it could share."""
    if config.token is not None and config.storage.type == SQLITE:
        raise Malformed(
            "a further auth server needs storage that it shares with the first one, and "
            "teleport.storage.type is sqlite",
            hint=f"set teleport.storage.type to postgresql; or {THE_FIRST}",
        )


def needs_keyring(config: Config) -> bool:
    """Is this a further auth server that has not got the keyring yet?

    Raises as `identities.load`.
    """
    if config.storage.type == SQLITE or config.storage.keyring.exists():
        return False
    before = identities.load(config.data_dir)
    return config.token is not None or (before is not None and AUTH in before.roles)


def fetch_keyring(config: Config, pins: tuple[str, ...], clock: Clock) -> None:
    """Join as an auth server, if this host has not, and put the keyring in its place.

    Raises what `enlist` and `ask_for_keyring` raise.
    """
    token = config.token
    servers = (config.proxy_server,) if config.proxy_server else config.auth_servers
    try:
        identity = enlist(
            Enlistment(
                data_dir=config.data_dir,
                roles=(AUTH,),
                servers=servers,
                only_proxies=bool(config.proxy_server),
                pins=pins,
                node_name=config.nodename,
                principals=(),
                token=None if token is None else lambda: token.read(log.warning),
                clock=clock,
                say=log.warning,
            )
        )
        text = ask_for_keyring(identity, servers)
    except Unavailable as why:
        raise Unavailable(why.message, hint=f"{why.hint}; {THE_FIRST}", log=why.log) from why
    place = config.storage.keyring
    if not place.parent.exists():
        make_private_dir(place.parent)
    write_secret(place, text)
    log.info("this host is auth server %s, the keyring is in %s", identity.host_id, place)


def no_keyring(config: Config) -> Unavailable:
    """The storage is there, and so is a cluster in it, and nothing here opens it."""
    return Unavailable(
        "the storage belongs to a cluster whose keyring is not on this host",
        hint=f"{HOW}; or copy the keyring of another auth server to {config.storage.keyring}",
    )
