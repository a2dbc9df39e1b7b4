"""A proxy asks about a join token, to write it into a script for the host that was sent there.

Whoever has a token may join with it, so that nothing is given away by saying that it works. What
must not be told is why another one does not: there is one answer for all of those.
"""

from collections.abc import Callable

from teleport_lite.access.decide import locked
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.limits import GuessLimit
from teleport_lite.auth.tokens import TokenDesk
from teleport_lite.errors import NotFound
from teleport_lite.model.system_role import NODE
from teleport_lite.model.token import JoinToken
from teleport_lite.proto.script import TokenLook, TokenView
from teleport_lite.secret import Secret
from teleport_lite.store.protocols import Store

# The URL of such a script passes through histories, chats and the proxy: a token that lets in a
# proxy or an auth server is too much for it.
ALLOWED = (NODE,)


class TokenLookDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        trail: Trail,
        cas: Cas,
        tokens: TokenDesk,
        servers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._clock, self._store, self._trail = clock, store, trail
        self._cas, self._tokens = cas, tokens
        self._limit = GuessLimit(clock, "tokens", servers)

    def look(self, caller: Caller, asked: TokenLook) -> TokenView:
        """Raises NotFound, the same for a token that is wrong, expired, revoked, locked, or for

        other roles; Unavailable for who guesses.
        """
        source = asked.source or caller.address
        self._limit.check(source)
        shown = ascii(source[:64])[1:-1]  # a proxy says it, and it goes into the trail
        facts = {"addr.remote": shown, "proxy": caller.label}
        with self._trail.attempt(
            "join_token.look", ok="TJT02I", refused="TJT02W", **facts
        ) as entry:
            token = self._alike(Secret(asked.token))
            if token is not None:
                entry.facts |= {"token_id": token.id, "roles": ",".join(token.roles)}
            why_not = self._why_not(token)
            if why_not:
                self._limit.failed(source)
                raise _gone(why_not)
        return TokenView(
            cluster=self._cas.cluster,
            ca_pins=self._cas.pins(),
            labels=dict(token.labels) if token else {},
        )

    def _alike(self, text: Secret) -> JoinToken | None:
        """Compared with every token that works, each in constant time. Not by its name as in a

        join: that costs a slow hash, and strangers could keep auth busy with those.
        """
        found = [token for token in self._tokens.live() if token.text == text]
        return found[0] if found else None

    def _why_not(self, token: JoinToken | None) -> str:
        """For the trail alone."""
        if token is None:
            return "no such token, or not any more"
        if token.roles != ALLOWED or token.once:
            return "the token is not for a node alone"
        verdict = locked(self._store.locks(), self._clock.now(), join_token=token.id)
        return verdict.reason if isinstance(verdict, Refused) else ""


def _gone(log: str) -> NotFound:
    return NotFound(
        "this token has expired, was revoked, is not for a node alone, or never was one",
        hint="tctl tokens add --type=node",
        log=log,
    )
