"""A further auth server asks the others for the keyring of the storage they share."""

import ssl
from collections.abc import Iterable

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.probe import untrusted
from teleport_lite.agent.renew import way_of
from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.keyring import MAX_COPY, PATH, KeyringCopy

# Both forms of the file begin like this (pki/seal.py, pki/custody.py).
TITLE = b"teleport-lite "


def ask_for_keyring(identity: Identity, servers: Iterable[str]) -> bytes:
    """What the file of another auth server holds, over mTLS, from the first that can be reached.

    Raises Denied, NotFound or Unavailable, and Malformed for what is no keyring.
    """
    why: Error = Unavailable("no auth server is configured", hint="--auth-server=HOST:3025")
    for address in servers:
        try:
            return _ask(identity, address)
        except Unavailable as problem:
            why = problem
    raise why


def _ask(me: Identity, address: str) -> bytes:
    context = client_context(me.tls_cert, me.tls_private, me.host_cas)
    try:
        with Connection.tls(way_of(me, address), context) as wire:
            copy = read(KeyringCopy, write(wire.ask(PATH, {})), limit=MAX_COPY)
    except ssl.SSLError as why:
        raise untrusted(address, why) from why
    text = copy.text.encode("ascii", "replace")
    if not text.startswith(TITLE):
        raise Malformed(f"{address} answered with something that is no keyring")
    return text
