"""Invitations: a token together with all that its holder needs to use it."""

from typing import Any

from teleport_lite.ambient import Clock
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.people import PeopleDesk
from teleport_lite.auth.tokens import TokenDesk, check_ttl, weakness
from teleport_lite.errors import Malformed
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.system_role import BOT, RoleBook
from teleport_lite.model.token import JoinToken
from teleport_lite.proto.admin import BotAdd, TokenAdd
from teleport_lite.proto.resource import moment
from teleport_lite.secret import Secret


class InviteDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        tokens: TokenDesk,
        people: PeopleDesk,
        cas: Cas,
        book: RoleBook,
        auth_address: str,
        proxy_address: str,
    ) -> None:
        self._clock, self._tokens, self._people = clock, tokens, people
        self._cas, self._book = cas, book
        self._auth_address, self._proxy_address = auth_address, proxy_address

    def add_token(self, caller: Caller, asked: TokenAdd) -> dict[str, Any]:
        if not asked.types:
            raise Malformed("token type is missing", hint=f"--type one of {self._book.flags()}")
        token = self._tokens.make(
            roles=self._book.parse(asked.types),
            text=Secret(asked.value),
            ttl=parse_duration(asked.ttl, "ttl"),
            labels=dict(asked.labels),
            bot_name=asked.bot_name,
            by=caller,
        )
        return self._invitation(token)

    def add_bot(self, caller: Caller, asked: BotAdd) -> dict[str, Any]:
        """A bot user and the token its machine joins with, once."""
        ttl = parse_duration(asked.ttl, "ttl")
        check_ttl(ttl)  # before the bot is there
        user = self._people.add_bot(caller, asked)
        token = self._tokens.make(
            roles=(BOT,), text=Secret(""), ttl=ttl, labels={}, bot_name=asked.name, by=caller
        )
        return {"bot": asked.name, "user": user.name, **self._invitation(token)}

    def list_tokens(self) -> dict[str, Any]:
        return {
            "tokens": [
                {
                    "token": token.text.reveal(),
                    "id": token.id,
                    "roles": list(token.roles),
                    "labels": dict(token.labels),
                    "expires": moment(token.expires_at),
                    "static": token.static,
                    "once": token.once,
                    "bot_name": token.bot_name,
                    "created_by": token.created_by,
                }
                for token in self._tokens.live()
            ]
        }

    def _invitation(self, token: JoinToken) -> dict[str, Any]:
        assert token.expires_at is not None
        left = token.expires_at - self._clock.now()
        warning = weakness(token)
        return {
            "token": token.text.reveal(),
            "id": token.id,
            "roles": list(token.roles),
            "expires": moment(token.expires_at),
            "ttl_minutes": round(left.total_seconds() / 60),
            "uses": "once" if token.once else "many",
            "ca_pins": self._cas.pins(),
            "auth_server": self._auth_address,
            "proxy_server": self._proxy_address,
            "warnings": [warning] if warning else [],
        }
