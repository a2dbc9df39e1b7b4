"""The server's half of the SCRAM conversation, between the two requests of a join or login.

SCRAM-SHA-256-PLUS by `scramp` (RFC 5802, RFC 7677). An unknown name gets a salt and a refusal
that look exactly like those of a wrong token (RFC 5802 §9): names can not be tried out.
"""

import hashlib
import hmac
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from scramp import ScramException, ScramMechanism

from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.model.source import source_of
from teleport_lite.model.token import Verifier
from teleport_lite.proto.join import BINDING, MECHANISM, SCRAM_ITERATIONS, server_end_point
from teleport_lite.secret import Secret

# A host answers at once; half a minute covers a link of seconds, an interrupted laptop, and one
# that has to stretch a password first.
TALK_LIFE = 30.0
# Every open talk costs 2 KiB. 4096 of them are more hosts than can join in half a minute.
MAX_TALKS = 4096
# One source does not keep everybody else out; three hundred hosts behind one NAT get in at once.
MAX_OF_SOURCE = 512


def make_verifier(token: Secret, salt: bytes) -> Verifier:
    """What the store keeps to check a proof. Not enough to make one (RFC 5802 §3)."""
    salt, stored_key, server_key, rounds = ScramMechanism(MECHANISM).make_auth_info(
        token.reveal(), iteration_count=SCRAM_ITERATIONS, salt=salt
    )
    return Verifier(salt=salt, iterations=rounds, stored_key=stored_key, server_key=server_key)


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation whose first half is over."""

    name: str  # whom the client claims to be
    verifier: Verifier  # what its proof has to fit
    server_first: str
    source: str
    began: float
    _server: Any = field(repr=False)  # scramp's ScramServer, untyped

    def prove(self, client_final: str) -> str:
        """server_final. Once, right or wrong. Raises Denied."""
        try:
            self._server.set_client_final(client_final)
            return str(self._server.get_server_final())
        except (ScramException, ValueError) as why:
            raise Denied("the proof does not fit", log=repr(why)) from why


class Talks:
    """Open conversations, bounded in number and life. Safe to call from several threads.

    `what` is talked about, for messages: "join".
    """

    def __init__(self, clock: Clock, chance: Chance, what: str) -> None:
        self._clock, self._chance, self._what = clock, chance, what
        self._open: OrderedDict[str, Talk] = OrderedDict()
        self._by_source: Counter[str] = Counter()
        self._guard = Lock()  # guards the two above

    def begin(
        self,
        client_first: str,
        find: Callable[[str], Verifier],
        our_certificate: bytes,
        address: str = "",
    ) -> tuple[str, Talk]:
        """(session, talk). `find` gives the verifier of any name at all: for one that does not

        exist, a decoy. Raises Malformed for other than SCRAM, Unavailable when full, and what
        `find` raises.
        """
        asked: list[tuple[str, Verifier]] = []
        failed: list[Error] = []

        def look_up(name: str) -> tuple[bytes, bytes, bytes, int]:
            try:
                kept = find(name)
            except Error as why:  # scramp would make a malformed message of it
                failed.append(why)
                raise
            asked.append((name, kept))
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
        [(name, verifier)] = asked
        now, source = self._clock.monotonic(), source_of(address)
        talk = Talk(name, verifier, server_first, source, now, server)
        return self._kept(talk), talk

    def take(self, session: str) -> Talk:
        """To be proved now or never. Raises Denied if there is none of that name any more."""
        with self._guard:
            self._expire()
            talk = self._open.pop(session, None)
            if talk is not None:
                self._left(talk)
        if talk is None:
            raise Denied(
                f"the {self._what} was not finished in time, or begun elsewhere", log="no session"
            )
        return talk

    def _kept(self, talk: Talk) -> str:
        session = self._chance.token(16)
        with self._guard:
            self._expire()
            if self._by_source[talk.source] >= MAX_OF_SOURCE:
                raise Unavailable(
                    f"too many {self._what}s at once", hint="try again in half a minute"
                )
            if len(self._open) >= MAX_TALKS:
                self._make_room()
            self._open[session] = talk
            self._by_source[talk.source] += 1
        return session

    def _make_room(self) -> None:
        """Who holds the most talks loses the oldest: a few sources can not keep all others out."""
        greediest = max(self._by_source, key=self._by_source.__getitem__)
        session = next(each for each, talk in self._open.items() if talk.source == greediest)
        self._left(self._open.pop(session))

    def _expire(self) -> None:
        oldest = self._clock.monotonic() - TALK_LIFE
        while self._open and next(iter(self._open.values())).began < oldest:
            _, talk = self._open.popitem(last=False)
            self._left(talk)

    def _left(self, talk: Talk) -> None:
        self._by_source[talk.source] -= 1
        if not self._by_source[talk.source]:
            del self._by_source[talk.source]


class Decoys:
    """Verifiers of names that do not exist: the same for the same name, so that asking twice

    tells nothing. Without the key nobody can tell them from real ones.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def apart(self, kind: str) -> "Decoys":
        """For names of another kind: the same name is not to get the same answer there."""
        return Decoys(self._digest(kind, "key"))

    def verifier(self, name: str) -> Verifier:
        return Verifier(
            salt=self.salt(name, "scram"),
            iterations=SCRAM_ITERATIONS,
            stored_key=self._digest(name, "stored"),
            server_key=self._digest(name, "server"),
        )

    def salt(self, name: str, purpose: str) -> bytes:
        return self._digest(name, purpose)[:16]

    def _digest(self, name: str, purpose: str) -> bytes:
        return hmac.digest(self._key, f"{purpose} of {name}".encode(), hashlib.sha256)
