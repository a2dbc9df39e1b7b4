"""Users and bots: who they are, and their certificates."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import ceil
from typing import Any

from teleport_lite.access.decide import locked, session_ttl
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.issue import Issuer, bot_user
from teleport_lite.auth.lockout import Lockout
from teleport_lite.auth.names import check_ours
from teleport_lite.auth.record import write_recorded
from teleport_lite.auth.signup import SignupDesk
from teleport_lite.errors import Conflict, Denied, Malformed, NotFound
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.invite import InviteKind
from teleport_lite.model.names import LOGIN, RESOURCE_NAME, USER_NAME, checked
from teleport_lite.model.user import User
from teleport_lite.pki.authority import Signed
from teleport_lite.pki.keys import check_ssh_public, public_of_csr
from teleport_lite.proto.admin import BotAdd, SignUser, UserAdd, UserReset, UserUpdate
from teleport_lite.proto.resource import moment, user_doc
from teleport_lite.store.protocols import Store, Tx

# Two who change one user at once are rare.
TRIES = 4


class PeopleDesk:
    """Every change is told to the agents by `changed`: roles and locks are decided there too."""

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        trail: Trail,
        issuer: Issuer,
        signup: SignupDesk,
        lockout: Lockout,
        changed: Callable[[], None],
    ) -> None:
        self._clock, self._chance = clock, chance
        self._store, self._trail, self._issuer = store, trail, issuer
        self._signup, self._lockout = signup, lockout
        self._changed = changed

    def add(self, caller: Caller, asked: UserAdd) -> dict[str, Any]:
        """A user, and the link to set a password with, in one transaction.

        Raises Conflict if the name is taken, NotFound for a role that does not exist.
        """
        user = self._user(asked.name, asked.roles, asked.logins)
        if user.name.startswith(bot_user("")):
            raise Malformed("user names beginning with bot- are for bots", hint="tctl bots add")
        invite = self._signup.draft(user.name, InviteKind.INVITE, asked.ttl, caller)
        self._create(caller, user, lambda tx: tx.put_invite(invite))
        return {"user": user_doc(user), "invite": self._signup.shown(invite)}

    def reset(self, caller: Caller, asked: UserReset) -> dict[str, Any]:
        """A link for a new password. Raises NotFound, or Malformed for a bot."""
        user = self._known(asked.name)
        if user.bot:
            raise Malformed(f"{user.name} is a bot and has no password", hint="tctl bots add")
        return {"invite": self._signup.shown(self._signup.reset(caller, user, asked.ttl))}

    def unlock(self, caller: Caller, name: str) -> dict[str, Any]:
        """Forget wrong passwords, so that the user may try again. Raises NotFound."""
        user = self._known(name)
        with self._trail.attempt(
            "user.unlock", ok="T1007I", refused="T1007E", **_facts(caller, user)
        ) as entry:
            locked = self._lockout.lift(user.name)
            entry.facts["locked"] = "yes" if locked else "no"
        return {"name": user.name, "locked": locked}

    def update(self, caller: Caller, asked: UserUpdate) -> dict[str, Any]:
        """Raises NotFound, Malformed, and Conflict if others change the same user all the time."""
        user, changed = self._updated(asked)
        facts = _facts(caller, changed)
        with self._trail.attempt("user.update", ok="T1003I", refused="T1003E", **facts) as entry:
            for _ in range(TRIES):
                if write_recorded(self._store, entry, partial(_change, user, changed)):
                    return {"user": user_doc(changed)}
                user, changed = self._updated(asked)
                entry.facts |= _facts(caller, changed)
            raise Conflict(f"user {user.name} is being changed by others", hint="tctl users ls")

    def _updated(self, asked: UserUpdate) -> tuple[User, User]:
        """As it is, and as it is to be."""
        user = self._known(asked.name)
        roles = user.roles if asked.roles is None else tuple(asked.roles)
        logins = user.logins if asked.logins is None else tuple(asked.logins)
        checked = self._user(user.name, roles, logins)
        traits = {**user.traits, **checked.traits}
        return user, replace(user, roles=checked.roles, traits=traits)

    def remove(self, caller: Caller, name: str) -> dict[str, Any]:
        user = self._known(name)
        facts = _facts(caller, user)
        with self._trail.attempt("user.delete", ok="T1004I", refused="T1004E", **facts) as entry:

            def remove(tx: Tx) -> bool:
                self._lockout.forget(tx, name)
                return tx.remove_user(name)

            if not write_recorded(self._store, entry, remove):
                raise _removed(user)
        return {"name": name}

    def listing(self) -> list[dict[str, Any]]:
        """People, and whether they can log in."""
        have = self._store.with_password()
        invited = {invite.user: moment(invite.expires_at) for invite in self._signup.live()}
        people = [user for user in self._store.users() if not user.bot]
        locked = self._lockout.left([user.name for user in people])
        return [
            _listed(user)
            | {
                "password": user.name in have,
                "invited_until": invited.get(user.name),
                "locked_seconds": ceil(locked[user.name]),
            }
            for user in people
        ]

    def bots(self) -> list[dict[str, Any]]:
        return [_listed(user) for user in self._store.users() if user.bot]

    def add_bot(self, caller: Caller, asked: BotAdd) -> User:
        checked(RESOURCE_NAME, asked.name, "bot name", example="deploy")
        user = replace(self._user(bot_user(asked.name), asked.roles, asked.logins), bot=True)
        self._create(caller, user, event="bot.create", code="TB001I")
        return user

    def remove_bot(self, caller: Caller, name: str) -> dict[str, Any]:
        if not self._known(bot_user(name)).bot:
            raise NotFound(f"bot {name} does not exist", hint="tctl bots ls")
        self.remove(caller, bot_user(name))
        return {"name": name}

    def sign(self, caller: Caller, asked: SignUser) -> tuple[Signed, datetime]:
        """Certificates for a user, as `tctl auth sign` asks for them."""
        user = self._known(asked.user)
        roles = self._issuer.roles_of(user)
        ttl = session_ttl(parse_duration(asked.ttl, "ttl"), roles)
        if not ttl:
            raise Malformed("ttl must be longer than nothing, like 12h")
        ssh_key, tls_key = check_ssh_public(asked.ssh_key), public_of_csr(asked.tls_csr)
        facts = _facts(caller, user)
        with self._trail.attempt("cert.create", ok="TC000I", refused="TC000E", **facts) as entry:
            verdict = locked(
                self._store.locks(), self._clock.now(), user=user.name, role=user.roles
            )
            if isinstance(verdict, Refused):
                raise Denied(verdict.reason)
            plan = self._issuer.plan_user(
                user, roles, ttl=ttl, ssh_key=ssh_key, tls_key=tls_key, id=self._chance.uuid()
            )
            entry.facts["expires"] = moment(plan.ends) or ""
            return self._issuer.sign(plan), plan.ends

    def _create(
        self,
        caller: Caller,
        user: User,
        also: Callable[[Tx], bool] | None = None,
        *,
        event: str = "user.create",
        code: str = "T1002I",
    ) -> None:
        def create(tx: Tx) -> bool:
            return tx.add_user(user) and (also is None or also(tx))

        check_ours(self._store, user.name)
        facts = _facts(caller, user)
        with self._trail.attempt(event, ok=code, refused=f"{code[:-1]}E", **facts) as entry:
            if not write_recorded(self._store, entry, create):
                raise Conflict(f"user {user.name} already exists", hint="tctl users ls")
        self._changed()

    def _user(self, name: str, roles: Sequence[str], logins: Sequence[str]) -> User:
        checked(USER_NAME, name, "user name", example="alice")
        for login in logins:
            checked(LOGIN, login, "login", example="root")
        for role in roles:
            if self._store.role(role) is None:
                raise NotFound(f"role {role[:64]!a} does not exist", hint="tctl get roles")
        return User(
            name=name,
            roles=tuple(dict.fromkeys(roles)),
            traits={"logins": tuple(dict.fromkeys(logins))},
            created_at=self._clock.now(),
        )

    def _known(self, name: str) -> User:
        user = self._store.user(name)
        if user is None:
            raise NotFound(f"user {name[:64]!a} does not exist", hint="tctl users ls")
        return user


def _change(was: User, changed: User, tx: Tx) -> bool:
    """False, and nothing changes, if it is another one by now. Raises NotFound: who was removed
    meanwhile stays removed."""
    if tx.is_still(User, was.name, None):
        raise _removed(was)
    return tx.is_still(User, was.name, was) and tx.change_user(changed)


def _listed(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "roles": list(user.roles),
        "logins": list(user.logins),
        "created_at": moment(user.created_at),
    }


def _removed(user: User) -> NotFound:
    return NotFound(f"user {user.name} was removed a moment ago", hint="tctl users ls")


def _facts(caller: Caller, user: User) -> dict[str, str]:
    return {
        "name": user.name,
        "roles": ",".join(user.roles),
        "user": caller.label,
        "addr.remote": caller.address,
    }
