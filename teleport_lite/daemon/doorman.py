"""Who is at the door of the auth service: from a connection to a Caller, and on to the desks."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from teleport_lite.auth.api import HOST_STREAM, ROUTES, answer, authorise
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.cas import View
from teleport_lite.auth.desks import Desks
from teleport_lite.auth.rotation import retired
from teleport_lite.daemon.from_roots import caller_from_root
from teleport_lite.errors import Denied
from teleport_lite.model.authority import CaType
from teleport_lite.model.trust import LEAF_ROLE
from teleport_lite.net.accept import Peer
from teleport_lite.net.https import Stream
from teleport_lite.pki.pin import issuer_pin, pin_of
from teleport_lite.pki.verify import Peer as CertifiedPeer
from teleport_lite.pki.verify import peer_identity
from teleport_lite.proto.codec import MAX_ADMIN, MAX_JOIN, Message

# Certificates looked at once per connection; agents of a cluster and a few people.
MAX_CACHED = 16_384
_KINDS = {"host": Kind.HOST, "user": Kind.USER}


@dataclass(frozen=True, slots=True)
class _Known:
    """A certificate that was good, and the id of the CA that has issued it."""

    peer: CertifiedPeer
    ca: str


@dataclass(slots=True)
class _Book:
    """What was seen under one view of the CAs. After a step of a rotation everybody is looked at
    anew; who was in the book before can be told why he is refused now."""

    view: View
    known: dict[bytes, _Known] = field(default_factory=dict)
    before: dict[bytes, _Known] = field(default_factory=dict)


class Doorman:
    """Turns a connection into a Caller, and asks the desks. Called from worker threads."""

    def __init__(self, desks: Desks, own_uid: int) -> None:
        self._desks, self._own_uid = desks, own_uid
        self._book = _Book(desks.cas.view)

    def limit(self, path: str, peer: Peer) -> int:
        """A megabyte is for people whose certificate or socket we have seen."""
        route = ROUTES.get(path)
        known = peer.certificate is not None or peer.uid is not None
        return min(route.limit if route else MAX_JOIN, MAX_ADMIN if known else MAX_JOIN)

    def answer(self, path: str, peer: Peer, raw: bytes) -> Message | dict[str, Any]:
        return answer(self._desks, path, self.caller(peer), raw)

    def open_stream(self, peer: Peer, send: Callable[[bytes | None], None]) -> Stream:
        caller = self.caller(peer)
        authorise(self._desks, HOST_STREAM, caller)
        return self._desks.streams.open(caller, send)

    def caller(self, peer: Peer) -> Caller:
        """Raises Denied for a socket peer that is not root or us, and for a bad certificate."""
        if peer.uid is not None:
            if peer.uid not in (0, self._own_uid):
                raise Denied("only root and the service's own user may use this socket")
            name = "root" if peer.uid == 0 else f"uid-{peer.uid}"
            return Caller(kind=Kind.ADMIN, name=name, address="local")
        if (visitor := caller_from_root(self._desks, peer)) is not None:
            return visitor
        if peer.certificate is None:
            return Caller(
                kind=Kind.ANYONE,
                name="",
                address=peer.address,
                our_certificate=peer.our_certificate,
            )
        found = self._certified(peer.certificate)
        shown = found.peer
        return Caller(
            kind=_kind(shown),
            name=shown.name,
            address=peer.address,
            roles=shown.roles,
            bot_instance=shown.bot_id,
            until=shown.not_after,
            ca=found.ca,
            our_certificate=peer.our_certificate,
        )

    def _certified(self, der: bytes) -> _Known:
        """Looked at once per certificate and view; its end is checked on every request."""
        book, view = self._book, self._desks.cas.view
        if book.view is not view:
            book = self._book = _Book(view, before=book.before | book.known)
        found = book.known.get(der)
        if found is None:
            found = self._looked_at(der, book)
            if len(book.known) + len(book.before) >= MAX_CACHED:
                book.known.clear()
                book.before.clear()
            book.known[der] = found
        if self._desks.clock.now() >= found.peer.not_after:
            raise Denied("this certificate has expired", hint="tsh login, or tctl auth sign")
        return found

    def _looked_at(self, der: bytes, book: _Book) -> _Known:
        view, cas = book.view, self._desks.cas
        host_cas = view.tls(CaType.HOST)
        try:
            peer = peer_identity(
                der,
                host_cas=host_cas,
                user_cas=view.tls(CaType.USER),
                now=self._desks.clock.now(),
            )
        except Denied as why:
            before = book.before.get(der)
            if before is None:
                raise
            raise retired(view.rotations[_ca_type(before.peer)], log=why.log) from why
        if peer.cluster != cas.cluster:
            raise Denied("this certificate is of another cluster")
        return _Known(peer, _issuer(der, view, _ca_type(peer)))


def _kind(shown: CertifiedPeer) -> Kind:
    if shown.bot_id:
        return Kind.BOT
    is_leaf = shown.kind == "host" and LEAF_ROLE in shown.roles
    return Kind.LEAF if is_leaf else _KINDS[shown.kind]


def _ca_type(shown: CertifiedPeer) -> CaType:
    return CaType.HOST if shown.kind == "host" else CaType.USER


def _issuer(der: bytes, view: View, type: CaType) -> str:
    """Of a certificate that is good: the id of its CA."""
    cas = {pin_of(keys.public.tls_cert): keys.id for keys in view.of(type)}
    if len(cas) == 1:
        return next(iter(cas.values()))
    return cas.get(issuer_pin(ssl.DER_cert_to_PEM_cert(der), view.tls(type)), "")
