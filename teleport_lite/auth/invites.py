"""Invitations: a token together with all that its holder needs to use it."""

import ipaddress
from collections.abc import Callable
from typing import Any

from teleport_lite.ambient import Clock
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.people import PeopleDesk
from teleport_lite.auth.signup import SignupDesk
from teleport_lite.auth.tokens import TokenDesk, check_ttl, weakness
from teleport_lite.errors import Malformed
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.invite import SIGNUP, Invite
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
        signup: SignupDesk,
        cas: Cas,
        book: RoleBook,
        auth_address: str,
        door: Callable[[], str],
    ) -> None:
        """`door` is host:port of the proxies, "" while there is none."""
        self._clock, self._tokens, self._people = clock, tokens, people
        self._signup, self._cas, self._book = signup, cas, book
        self._auth_address, self._door = auth_address, door

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

    def list_tokens(self, *, signups: bool) -> dict[str, Any]:
        """All that work; links for people too, for those who could make one themselves."""
        links = [_signup_doc(invite) for invite in self._signup.live()] if signups else []
        tokens = [
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
        return {"tokens": sorted(tokens + links, key=_expiry)}

    def remove_token(self, caller: Caller, text: str, *, signups: bool) -> dict[str, Any]:
        """By value, or by the beginning of one value only. Raises NotFound, Malformed, Conflict."""
        links = self._signup.live() if signups else []
        tokens = [token.text for token in self._tokens.live()]
        found = [invite for invite in links if invite.token == Secret(text)]
        if not found and Secret(text) not in tokens:
            found = [i for i in links if text and i.token.reveal().startswith(text)]
            same = [each for each in tokens if text and each.reveal().startswith(text)]
            if found and len(found) + len(same) > 1:
                raise Malformed(
                    f"{len(found) + len(same)} tokens begin like this", hint="give the whole token"
                )
        if not found:
            return {"token": self._tokens.remove(text, caller).text.reveal()}
        self._signup.remove(found[0], caller)
        return {"token": found[0].token.reveal()}

    def _invitation(self, token: JoinToken) -> dict[str, Any]:
        assert token.expires_at is not None
        left = token.expires_at - self._clock.now()
        warning, proxy = weakness(token), self._door()
        # The guides send hosts to auth. Where nobody can reach it, the proxy is the door.
        by_proxy = bool(proxy) and _is_loopback(self._auth_address)
        return {
            "token": token.text.reveal(),
            "id": token.id,
            "roles": list(token.roles),
            "expires": moment(token.expires_at),
            "ttl_minutes": round(left.total_seconds() / 60),
            "uses": "once" if token.once else "many",
            "ca_pins": self._cas.pins(),
            "auth_server": self._auth_address,
            "proxy_server": proxy,
            "door": "proxy_server" if by_proxy else "auth_server",
            "warnings": [warning] if warning else [],
        }


def _signup_doc(invite: Invite) -> dict[str, Any]:
    return {
        "token": invite.token.reveal(),
        "id": invite.id,
        "roles": [SIGNUP],
        "labels": {},
        "expires": moment(invite.expires_at),
        "static": False,
        "once": True,
        "bot_name": "",
        "user": invite.user,
        "created_by": invite.created_by,
    }


def _expiry(doc: dict[str, Any]) -> tuple[bool, str]:
    """What ends first in front, static ones last. RFC 3339 in UTC sorts as text."""
    return doc["expires"] is None, doc["expires"] or ""


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
