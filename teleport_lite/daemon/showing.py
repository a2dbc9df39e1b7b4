"""What the listener of auth shows of itself, and whom it lets in as far as TLS decides that.

Renewals, rotations and trust change it, each from a thread of its own. It is put together anew
from what is there at that moment, which takes a while; who has begun last has seen most.
"""

import ssl
from collections.abc import Callable
from threading import Lock

from teleport_lite.agent.identity import Identity
from teleport_lite.auth.desks import Desks
from teleport_lite.daemon.from_roots import trust_people
from teleport_lite.model.authority import CaType
from teleport_lite.net.accept import Shown
from teleport_lite.net.tls import server_context
from teleport_lite.pki.keys import csr

_END = "-----END CERTIFICATE-----"


class Showing:
    """`show` whenever a part of it has changed. From any thread."""

    def __init__(self, desks: Desks, use: Callable[[Shown], None]) -> None:
        """`use` is called with what connections are to see from here on, one call at a time."""
        self._desks, self._use = desks, use
        self._guard = Lock()  # guards all below
        self._identity: Identity | None = None
        self._begun = self._used = 0

    @property
    def identity(self) -> Identity | None:
        """Of this process; None until it serves."""
        return self._identity

    def show(self, identity: Identity | None = None) -> None:
        """Use this certificate (None: the one of before), and the CAs as they are now.

        Nothing happens before there is one. What another thread has begun earlier, and finishes
        later, is dropped: it may not know of what we know. Raises Unavailable.
        """
        with self._guard:
            self._identity = me = identity or self._identity
            self._begun = turn = self._begun + 1
        if me is None:
            return
        made = self._made(me)
        with self._guard:
            if turn > self._used:
                self._used = turn
                self._use(made)

    def _made(self, me: Identity) -> Shown:
        """While the host CA is rotated it is a certificate that both generations stand for."""
        request = csr(me.tls_private, me.host_id)
        shown = self._desks.local.shown_to_all(me.host_id, request) or me.serve_tls
        cas = self._desks.cas.view
        trusted = [*cas.tls(CaType.HOST), *cas.tls(CaType.USER)]
        context = server_context(shown, me.tls_private, trusted)
        trust_people(context, self._desks.trust.words())
        return Shown(context, ssl.PEM_cert_to_DER_cert(shown[: shown.index(_END) + len(_END)]))
