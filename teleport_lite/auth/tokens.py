"""Join tokens, from the auth role's side: made, found, listed, revoked."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.issue import bot_user
from teleport_lite.auth.record import write_recorded
from teleport_lite.auth.scram import make_verifier
from teleport_lite.errors import Conflict, Malformed, NotFound
from teleport_lite.model.labels import check_labels
from teleport_lite.model.names import TOKEN
from teleport_lite.model.system_role import BOT, RoleBook
from teleport_lite.model.token import MAX_TTL, JoinToken
from teleport_lite.proto.join import token_name
from teleport_lite.secret import Secret
from teleport_lite.store.protocols import Store

# 16 bytes are 128 bits: nobody guesses that, with or without a hash to try against.
TOKEN_BYTES = 16
WEAK_BELOW = 16  # characters; a person chose it, so the CA pin has to carry the weight
MIN_TTL = timedelta(seconds=1)


class TokenDesk:
    """Tokens of the store and of the config file, behind one set of questions."""

    def __init__(
        self, *, clock: Clock, chance: Chance, store: Store, trail: Trail, book: RoleBook
    ) -> None:
        self._clock, self._chance = clock, chance
        self._store, self._trail, self._book = store, trail, book
        self._static: dict[str, JoinToken] = {}

    def make(
        self,
        *,
        roles: Sequence[str],
        text: Secret,
        ttl: timedelta,
        labels: dict[str, str],
        bot_name: str,
        by: Caller,
    ) -> JoinToken:
        """Create a token. Raises Malformed for a bad value or life, Conflict if it exists,

        NotFound for a bot that does not.
        """
        check_ttl(ttl)
        self._check_bot(bot_name, roles)
        now = self._clock.now()
        token = self._token(
            text or Secret(self._chance.token(TOKEN_BYTES)),
            self._book.with_implied(roles),
            expires_at=now + ttl,
            labels=check_labels(labels),
            bot_name=bot_name,
            created_at=now,
            created_by=by.label,
        )
        with self._trail.attempt(
            "join_token.create", ok="TJT00I", refused="TJT00W", **_facts(token, by)
        ) as entry:
            taken = token.name in self._static
            if taken or not write_recorded(self._store, entry, lambda tx: tx.add_token(token)):
                raise Conflict(
                    f"failed to create token (a token {token.text.tail()} already exists), "
                    "please use another name"
                )
        return token

    def add_static(self, roles: Iterable[str], text: Secret) -> JoinToken:
        """A token of the config file: never expires, can not be removed here."""
        token = self._token(text, self._book.with_implied(roles), expires_at=None, static=True)
        if token.once:
            raise Malformed("a bot token works once, so it can not be a static one")
        self._static[token.name] = token
        return token

    def find(self, name: str) -> JoinToken | None:
        """By slow hash, expired ones too: the trail wants to know which it was."""
        return self._static.get(name) or self._store.token(name)

    def id_of(self, word: str) -> str:
        """The id of the token that `word` is, or is the id of: a lock must not show a token.

        Raises NotFound.
        """
        for token in self.live():
            if word == token.id or token.text == Secret(word):
                return token.id
        raise NotFound("join token not found", hint="tctl tokens ls")

    def live(self) -> list[JoinToken]:
        """All that still work, those that expire first in front, static ones last."""
        now = self._clock.now()
        kept = [token for token in self._store.tokens() if not token.expired(now)]
        return sorted(kept, key=_expiry) + list(self._static.values())

    def remove(self, text: str, by: Caller) -> JoinToken:
        """By value, or by the beginning of one value only. Raises NotFound, Malformed, Conflict."""
        token = self._one(text)
        if token.static:
            raise Conflict(
                f"token {token.text.tail()} is written in the config file",
                hint="take it out of auth_service.tokens and restart auth",
            )
        with self._trail.attempt(
            "join_token.delete", ok="TJT01I", refused="TJT01W", **_facts(token, by)
        ) as entry:
            if not write_recorded(self._store, entry, lambda tx: tx.remove_token(token.name)):
                raise NotFound("the token was removed a moment ago")
        return token

    def _check_bot(self, bot_name: str, roles: Sequence[str]) -> None:
        if bot_name and BOT not in roles:
            raise Malformed("only a token of type bot can carry the name of a bot")
        if bot_name and self._store.user(bot_user(bot_name)) is None:
            raise NotFound(f"bot {bot_name[:64]!a} does not exist", hint="tctl bots add")

    def _one(self, text: str) -> JoinToken:
        tokens = self.live()
        exact = [token for token in tokens if token.text == Secret(text)]
        found = exact or [t for t in tokens if text and t.text.reveal().startswith(text)]
        if not found:
            raise NotFound("token not found", hint="tctl tokens ls")
        if len(found) > 1:
            raise Malformed(f"{len(found)} tokens begin like this", hint="give the whole token")
        return found[0]

    def _token(
        self,
        text: Secret,
        roles: tuple[str, ...],
        *,
        expires_at: datetime | None,
        static: bool = False,
        labels: dict[str, str] | None = None,
        bot_name: str = "",
        created_at: datetime | None = None,
        created_by: str = "config",
    ) -> JoinToken:
        if TOKEN.fullmatch(text.reveal()) is None:  # the value itself stays out of the error
            raise Malformed("a token must be 8 to 128 characters of A-Z a-z 0-9 . _ -")
        once = any(self._book.get(role).spends_token for role in roles)
        if once and len(roles) > 1:
            raise Malformed("a bot token can carry no other type", hint="make two tokens")
        return JoinToken(
            name=token_name(text),
            text=text,
            roles=roles,
            verifier=make_verifier(text, self._chance.bytes(16)),
            expires_at=expires_at,
            once=once,
            static=static,
            bot_name=bot_name,
            labels=labels or {},
            created_at=created_at,
            created_by=created_by,
        )


def check_ttl(ttl: timedelta) -> None:
    if not MIN_TTL <= ttl <= MAX_TTL:
        raise Malformed("ttl must be between 1s and 8760h", hint="tctl tokens add --ttl=30m")


def weakness(token: JoinToken) -> str:
    """A sentence of warning for a token that can be guessed, or ""."""
    if len(token.text.reveal()) >= WEAK_BELOW:
        return ""
    return (
        f"this token has less than {WEAK_BELOW} characters and can be guessed by who hijacks "
        "the auth address; always give hosts the CA pin with it"
    )


def _expiry(token: JoinToken) -> datetime:
    assert token.expires_at is not None
    return token.expires_at


def _facts(token: JoinToken, by: Caller) -> dict[str, str]:
    return {
        "token_id": token.id,
        "roles": ",".join(token.roles),
        "user": by.label,
        "addr.remote": by.address,
        "join_method": "token",
    }
