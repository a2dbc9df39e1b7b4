"""The server's half of the SCRAM conversation, between the two requests of a join.

SCRAM-SHA-256-PLUS by `scramp` (RFC 5802, RFC 7677). An unknown name gets a salt and a refusal
that look exactly like those of a wrong token (RFC 5802 §9): names can not be tried out.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from scramp import ScramException, ScramMechanism

from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.model.token import Verifier
from teleport_lite.proto.join import BINDING, MECHANISM, SCRAM_ITERATIONS, server_end_point
from teleport_lite.secret import Secret

# A host answers at once; half a minute covers a link of seconds and an interrupted laptop.
TALK_LIFE = 30.0
# Every open talk costs 2 KiB. 4096 of them are more hosts than can join in half a minute.
MAX_TALKS = 4096


def make_verifier(token: Secret, salt: bytes) -> Verifier:
    """What the store keeps to check a proof. Not enough to make one (RFC 5802 §3)."""
    salt, stored_key, server_key, rounds = ScramMechanism(MECHANISM).make_auth_info(
        token.reveal(), iteration_count=SCRAM_ITERATIONS, salt=salt
    )
    return Verifier(salt=salt, iterations=rounds, stored_key=stored_key, server_key=server_key)


@dataclass(slots=True)
class _Talk:
    server: Any  # scramp's ScramServer, untyped
    name: str
    began: float


class Talks:
    """Open conversations, bounded in number and life. Safe to call from several threads."""

    def __init__(
        self, clock: Clock, chance: Chance, find: Callable[[str], Verifier | None]
    ) -> None:
        self._clock, self._chance, self._find = clock, chance, find
        self._decoy_key = chance.bytes(32)
        self._open: OrderedDict[str, _Talk] = OrderedDict()
        self._guard = Lock()  # guards _open

    def begin(self, client_first: str, our_certificate: bytes) -> tuple[str, str]:
        """(session, server_first). Raises Malformed for other than SCRAM, Unavailable when full."""
        asked: list[str] = []
        failed: list[Error] = []

        def look_up(name: str) -> tuple[bytes, bytes, bytes, int]:
            asked.append(name)
            try:
                kept = self._find(name) or self._decoy(name)
            except Error as why:  # scramp would make a malformed message of it
                failed.append(why)
                raise
            return kept.salt, kept.stored_key, kept.server_key, kept.iterations

        server = ScramMechanism(MECHANISM).make_server(
            look_up, channel_binding=(BINDING, server_end_point(our_certificate))
        )
        try:
            server.set_client_first(client_first)
            server_first = server.get_server_first()
        except (ScramException, ValueError) as why:
            if failed:
                raise failed[0] from why
            raise Malformed("client_first is not a SCRAM message", log=repr(why)) from why
        session = self._chance.token(16)
        with self._guard:
            self._expire()
            if len(self._open) >= MAX_TALKS:
                raise Unavailable("too many joins at once", hint="try again in half a minute")
            self._open[session] = _Talk(server, asked[0] if asked else "", self._clock.monotonic())
        return session, server_first

    def prove(self, session: str, client_final: str) -> tuple[str, str]:
        """(token name, server_final). A session proves once, right or wrong. Raises Denied."""
        with self._guard:
            self._expire()
            talk = self._open.pop(session, None)
        if talk is None:
            raise Denied("the join was not finished in time, or begun elsewhere", log="no session")
        try:
            talk.server.set_client_final(client_final)
            return talk.name, talk.server.get_server_final()
        except (ScramException, ValueError) as why:
            raise Denied("the proof does not fit", log=repr(why)) from why

    def _expire(self) -> None:
        oldest = self._clock.monotonic() - TALK_LIFE
        while self._open and next(iter(self._open.values())).began < oldest:
            self._open.popitem(last=False)

    def _decoy(self, name: str) -> Verifier:
        """The same salt for the same unknown name, so that asking twice tells nothing."""
        stretched = hmac.digest(self._decoy_key, name.encode(), hashlib.sha256)
        return Verifier(
            salt=stretched[:16],
            iterations=SCRAM_ITERATIONS,
            stored_key=hmac.digest(stretched, b"stored", hashlib.sha256),
            server_key=hmac.digest(stretched, b"server", hashlib.sha256),
        )
