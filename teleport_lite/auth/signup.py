"""Links with which people set their password: made, shown, looked at, used once.

The page behind a link is served by a proxy, which asks here (`look`, `accept`); so a proxy sees
a password that is set there, and no other (docs/threat-model.md).
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Entry, Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.limits import GuessLimit
from teleport_lite.auth.lockout import Lockout
from teleport_lite.auth.passwords import PasswordBook
from teleport_lite.auth.record import write_recorded
from teleport_lite.auth.tokens import MIN_TTL
from teleport_lite.errors import Conflict, Malformed, NotFound
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.invite import LIVES, Invite, InviteKind
from teleport_lite.model.password import MIN_LENGTH, Password
from teleport_lite.model.user import User
from teleport_lite.proto.login import InviteAccept, InviteLook, InviteView
from teleport_lite.proto.resource import moment
from teleport_lite.secret import Secret
from teleport_lite.store.protocols import Store, Tx

# 128 bits: nobody guesses that, so a fast hash will do (a slow one would let strangers who ask
# for pages keep auth busy).
TOKEN_BYTES = 16
PAGES = {InviteKind.INVITE: "/web/invite/", InviteKind.RESET: "/web/reset/"}
_NEW_LINK = "an administrator makes a new one: tctl users reset"


class SignupDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        trail: Trail,
        cluster: str,
        key: bytes,
        passwords: PasswordBook,
        lockout: Lockout,
        door: Callable[[], str],
        servers: Callable[[], int] = lambda: 1,
    ) -> None:
        """`door` is host:port of a web page people can reach, "" while no proxy is there."""
        self._clock, self._chance = clock, chance
        self._store, self._trail, self._cluster, self._key = store, trail, cluster, key
        self._passwords, self._lockout, self._door = passwords, lockout, door
        self._limit = GuessLimit(clock, "invitations", servers)
        self._busy: set[str] = set()
        self._guard = Lock()  # guards _busy

    # --- for administrators

    def draft(self, user: str, kind: InviteKind, ttl: str, by: Caller) -> Invite:
        """Not kept yet. Raises Malformed for a life that is none, or too long."""
        usual, longest = LIVES[kind]
        life = parse_duration(ttl, "ttl") if ttl else usual
        if not MIN_TTL <= life <= longest:
            hours = longest.total_seconds() / 3600
            raise Malformed(f"ttl of this link must be between 1s and {hours:.0f}h")
        token, now = Secret(self._chance.token(TOKEN_BYTES)), self._clock.now()
        return Invite(
            name=self._name(token),
            token=token,
            user=user,
            kind=kind,
            expires_at=now + life,
            created_at=now,
            created_by=by.label,
        )

    def reset(self, caller: Caller, user: User, ttl: str) -> Invite:
        """A link for a new password. The old one works until that is set; a lock-out ends."""
        invite = self.draft(user.name, InviteKind.RESET, ttl, caller)
        facts = {"name": user.name, "user": caller.label, "addr.remote": caller.address}
        with self._trail.attempt(
            "reset_password_token.create", ok="T6000I", refused="T6000E", **facts
        ) as entry:
            entry.facts |= {"invite_id": invite.id, "expires": moment(invite.expires_at) or ""}

            def change(tx: Tx) -> bool:
                self._lockout.forget(tx, user.name)
                return tx.put_invite(invite)

            if not write_recorded(self._store, entry, change):
                raise NotFound(f"user {user.name} was removed a moment ago", hint="tctl users ls")
        return invite

    def shown(self, invite: Invite) -> dict[str, Any]:
        """For who may hand it on. The URL is "" while there is no proxy that serves it."""
        door, path = self._door(), f"{PAGES[invite.kind]}{invite.token.reveal()}"
        return {
            "url": f"https://{door}{path}" if door else "",
            "proxy": door,
            "path": path,
            "token": invite.token.reveal(),
            "kind": invite.kind.value,
            "expires": moment(invite.expires_at),
            "ttl_seconds": round((invite.expires_at - invite.created_at).total_seconds()),
        }

    def live(self) -> list[Invite]:
        """All that still work, those that expire first in front."""
        now = self._clock.now()
        kept = [invite for invite in self._store.invites() if not invite.expired(now)]
        return sorted(kept, key=lambda invite: (invite.expires_at, invite.user))

    def remove(self, invite: Invite, by: Caller) -> None:
        """Raises NotFound."""
        facts = {"name": invite.user, "user": by.label, "addr.remote": by.address}
        with self._trail.attempt(
            "reset_password_token.delete",
            ok="T6001I",
            refused="T6001E",
            invite_id=invite.id,
            **facts,
        ) as entry:
            if not write_recorded(self._store, entry, lambda tx: tx.remove_invite(invite.name)):
                raise NotFound("the token was removed or used a moment ago")

    # --- for the proxy that serves the page

    def look(self, caller: Caller, asked: InviteLook) -> InviteView:
        """Whose link is this? Raises NotFound, the same for used, expired and never made."""
        source = asked.source or caller.address
        self._limit.check(source)
        invite = self._found(asked.token, source)
        return InviteView(
            user=invite.user,
            cluster=self._cluster,
            kind=invite.kind.value,
            expires=moment(invite.expires_at) or "",
            min_length=MIN_LENGTH,
        )

    def accept(self, caller: Caller, asked: InviteAccept) -> dict[str, Any]:
        """Set the password and use the link up, in one transaction.

        Raises Malformed for a password that is not good enough (the link still works), NotFound
        as `look` does, Conflict while the same link is being used, Unavailable.
        """
        source = asked.source or caller.address
        self._limit.check(source)
        facts = {"addr.remote": _shown(source), "proxy": caller.label}
        with self._trail.attempt(
            "user.password_change", ok="T1005I", refused="T1005W", user="", **facts
        ) as entry:
            invite = self._found(asked.token, source)
            entry.facts |= {"user": invite.user, "kind": invite.kind, "invite_id": invite.id}
            with self._alone(invite):
                password = self._passwords.make(invite.user, Secret(asked.password))
            self._store.write(lambda tx: self._record(tx, invite, password, entry))
        return {"user": invite.user}

    def _record(self, tx: Tx, invite: Invite, password: Password, entry: Entry) -> None:
        used = tx.use_invite(invite.name, now=self._clock.now())
        if not used or not tx.put_password(password):
            raise _gone("used, removed or expired a moment ago")
        self._lockout.forget(tx, invite.user)
        entry.commit(tx)

    def _found(self, token: str, source: str) -> Invite:
        invite = self._store.invite(self._name(Secret(token)))
        if invite is None or invite.expired(self._clock.now()):
            self._limit.failed(source)
            raise _gone("expired" if invite else "no such invite")
        return invite

    @contextmanager
    def _alone(self, invite: Invite) -> Iterator[None]:
        """One at a time may stretch a password for a link: whoever has one can not use it to

        keep auth busy.
        """
        with self._guard:
            if invite.name in self._busy:
                raise Conflict("this link is being used just now", hint="try again in a second")
            self._busy.add(invite.name)
        try:
            yield
        finally:
            with self._guard:
                self._busy.discard(invite.name)

    def _name(self, token: Secret) -> str:
        text = b"invite " + token.reveal().encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, hashlib.sha256).hex()


def _gone(log: str) -> NotFound:
    return NotFound("this link was used, has expired or never existed", hint=_NEW_LINK, log=log)


def _shown(source: str) -> str:
    """What a proxy says about its visitor goes into the trail; an address is short."""
    return ascii(source[:64])[1:-1]
