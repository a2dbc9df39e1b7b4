"""A leaf asks its root: to be taken in, with a token, and from then on for news.

proto/trust.py draws the conversation. The token never leaves this process, as in agent/join.py.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from teleport_lite.agent.probe import check_clock, find_auth, trusted_cas, untrusted
from teleport_lite.agent.token_proof import prove_token
from teleport_lite.ambient import Clock
from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.model.trust import TrustedCluster
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.net.way import Way
from teleport_lite.pki.pin import parse_pins, pin_of
from teleport_lite.proto.codec import MAX_ADMIN, read, write
from teleport_lite.proto.join import (
    token_name,
)
from teleport_lite.proto.trust import TrustedWish, TrustFinish, TrustHello, TrustRefresh, TrustWord

# For one round of news. Somebody who answers at all does it in a tenth of a second.
NEWS_TIMEOUT = 10.0
# Seconds for all of it: a root that says a byte now and then must not keep us from the others.
PATIENCE = 30.0


def join_root(wish: TrustedWish, hello: TrustHello, clock: Clock) -> TrustWord:
    """Prove the token to the auth server of the root, and come back with what it tells.

    Raises Denied (pin, token, name), Conflict, Unavailable (address, clock) or Malformed.
    """
    auth = find_auth(wish.proxy, clock)
    if auth.bundle.cluster != wish.name:
        raise Malformed(
            f"the cluster at {wish.proxy} is {auth.bundle.cluster[:128]!a}, not {wish.name}",
            hint="metadata.name of a trusted_cluster is the name of the root",
        )
    pins = parse_pins(wish.pins)
    cas = trusted_cas(auth, pins)
    check_clock(auth)
    try:
        with Connection.tls(auth.way, client_context(None, None, cas)) as wire, _patience(wire):
            word = _prove(wire, wish, hello, clock)
    except ssl.SSLError as why:
        raise untrusted(auth.way.name, why) from why
    if word.cluster != wish.name or not word.tls_cert:
        raise Malformed(f"{auth.way.name} answers for another cluster, or without a certificate")
    if pins and not any(pin_of(ca) in pins for ca in word.host_cas):
        raise Malformed(f"{auth.way.name} answered with CAs that the pin does not cover")
    return word


def news_of(root: TrustedCluster, hello: TrustHello) -> TrustWord:
    """What the root says now. Raises Denied or NotFound when it knows us no more, Unavailable."""
    way = Way(root.proxy, root.name)
    try:
        me = client_context(root.tls_cert, root.tls_private, root.host_cas)
        with Connection.tls(way, me, timeout=NEWS_TIMEOUT) as wire, _patience(wire):
            answer = wire.ask("/v1/trust/refresh", TrustRefresh(hello=hello))
    except ssl.SSLError as why:
        raise untrusted(way.name, why) from why
    return _read(answer)


@contextmanager
def _patience(wire: Connection) -> Iterator[None]:
    timer = Timer(PATIENCE, wire.cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _prove(wire: Connection, wish: TrustedWish, hello: TrustHello, clock: Clock) -> TrustWord:
    name, now = token_name(wish.token), clock.now().timestamp()
    proof = prove_token(wire, wish.token, name, asked_by=hello.cluster, now=now)
    finish = TrustFinish(session=proof.session, client_final=proof.client_final, hello=hello)
    word = _read(wire.ask("/v1/trust/finish", finish))
    proof.believe(word.server_final)
    return word


def _read(answer: object) -> TrustWord:
    if not isinstance(answer, dict):
        raise Malformed("the auth server of the root answers with something else")
    try:
        return read(TrustWord, write(answer), limit=MAX_ADMIN)
    except Error as why:
        raise Unavailable(
            f"the auth server of the root can not be understood: {why.message}"
        ) from why
