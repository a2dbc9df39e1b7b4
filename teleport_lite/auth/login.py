"""Logging in with a password, from the auth role's side. Read `finish` first.

proto/login.py draws the conversation. A wrong password, a name that nobody has, a user without
a password and a bot are told apart by the trail alone: the same words, the same questions to
the store, salts that tell nothing (auth/passwords.py).
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta

from teleport_lite.access.decide import locked, merged_options, session_ttl
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Entry, Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.issue import Issuer
from teleport_lite.auth.join import MAX_SKEW, skew_text
from teleport_lite.auth.limits import GuessLimit
from teleport_lite.auth.lockout import Guess, Lockout
from teleport_lite.auth.passwords import PasswordBook
from teleport_lite.auth.scram import Talks
from teleport_lite.errors import Conflict, Denied, Malformed
from teleport_lite.model.authority import CaType
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.guess import GUESSES_LAST, MAX_GUESSES
from teleport_lite.model.password import Password, Stretching
from teleport_lite.model.source import source_of
from teleport_lite.model.token import Verifier
from teleport_lite.model.user import DEFAULT_SESSION_TTL, User
from teleport_lite.pki.keys import check_ssh_public, public_of_csr
from teleport_lite.pki.plan import UserCertPlan
from teleport_lite.pki.source_address import read_address
from teleport_lite.proto.login import (
    LoginChallenge,
    LoginFinish,
    LoginStart,
    LoginWelcome,
    Stretch,
)
from teleport_lite.proto.resource import moment
from teleport_lite.store.protocols import Store, Tx

WRONG = "wrong user name or password"
UNKNOWN = "(unknown)"
HELP = "an administrator makes a link for a new one: tctl users reset"


@dataclass(frozen=True, slots=True)
class _Proved:
    """Whose password it was, as it was when that was looked at."""

    user: User
    password: Password
    guess: Guess
    server_final: str


class LoginDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        trail: Trail,
        cas: Cas,
        issuer: Issuer,
        passwords: PasswordBook,
        lockout: Lockout,
        servers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._clock, self._chance = clock, chance
        self._store, self._trail, self._cas = store, trail, cas
        self._issuer, self._passwords, self._lockout = issuer, passwords, lockout
        self._limit = GuessLimit(clock, "logins", servers)
        self._talks = Talks(clock, chance, "login")

    def start(self, caller: Caller, asked: LoginStart) -> LoginChallenge:
        """Salts for a name, whether or not somebody has it.

        Raises Denied for a wrong clock or a user who is locked out, Unavailable after too many
        failures from one address, Malformed.
        """
        if not caller.our_certificate:
            raise Malformed("a login needs TLS, to be bound to its certificate")
        self._limit.check(caller.address)
        self._check_clock(caller, asked)
        found: list[Stretching] = []

        def find(name: str) -> Verifier:
            by, verifier = self._passwords.find(name)
            found.append(by)
            return verifier

        session, talk = self._talks.begin(
            asked.client_first, find, caller.our_certificate, caller.address
        )
        self._lockout.check(talk.name, caller.address)
        [by] = found
        return LoginChallenge(
            session=session,
            server_first=talk.server_first,
            stretch=Stretch(salt=by.salt, time=by.time, memory=by.memory, lanes=by.lanes),
        )

    def finish(self, caller: Caller, asked: LoginFinish) -> LoginWelcome:
        """Check the proof and sign certificates: never more than the roles allow.

        Raises Denied, Conflict, Unavailable or Malformed. The try is counted before it is looked
        at, and nothing is signed until the login stands in the trail, as of whom it was decided.
        """
        self._limit.check(caller.address)
        facts = {"method": "local", "addr.remote": caller.address}
        with self._trail.attempt(
            "user.login", ok="T1000I", refused="T1000W", user=UNKNOWN, **facts
        ) as entry:
            with ExitStack() as until_kept:
                proved = self._proved(caller, asked, entry, until_kept)
                plan = self._planned(caller, asked, proved.user)
                entry.facts["expires"] = moment(plan.ends) or ""
                self._store.write(lambda tx: self._record(tx, proved, caller, entry))
            return self._welcome(plan, proved.server_final)

    def _proved(
        self, caller: Caller, asked: LoginFinish, entry: Entry, until_kept: ExitStack
    ) -> _Proved:
        """Whoever fails here has failed at a guess, for the limit of the address."""
        try:
            return self._looked_at(caller, asked, entry, until_kept)
        except Denied:
            self._limit.failed(caller.address)
            raise

    def _looked_at(
        self, caller: Caller, asked: LoginFinish, entry: Entry, until_kept: ExitStack
    ) -> _Proved:
        talk = self._talks.take(asked.session)
        user = self._store.user(talk.name)
        # A name that nobody has may be a password that was typed too early.
        entry.facts["user"] = user.name if user else UNKNOWN
        guess = until_kept.enter_context(self._lockout.take(talk.name, caller.address))
        try:
            server_final = talk.prove(asked.client_final)
        except Denied as why:
            if self._lockout.wrong(guess, stranger=user is None):
                self._tell_of_lockout(guess, entry)
            reason = "wrong password" if user else "no such user"
            raise Denied(WRONG, hint=HELP, log=reason) from why
        password = self._store.password(talk.name)
        if user is None or password is None or password.verifier != talk.verifier:
            # Removed, or reset, since the first half.
            raise Denied(WRONG, hint=HELP, log="the password was changed a moment ago")
        return _Proved(user, password, guess, server_final)

    def _planned(self, caller: Caller, asked: LoginFinish, user: User) -> UserCertPlan:
        verdict = locked(self._store.locks(), self._clock.now(), user=user.name, role=user.roles)
        if isinstance(verdict, Refused):
            raise Denied(verdict.reason)
        roles = self._issuer.roles_of(user)
        wish = parse_duration(asked.ttl, "ttl") if asked.ttl else DEFAULT_SESSION_TTL
        ttl = session_ttl(wish, roles)
        if ttl < timedelta(seconds=1):
            raise Malformed("ttl must be at least a second, like 12h")
        pinned = merged_options(roles).pin_source_ip
        return self._issuer.plan_user(
            user,
            roles,
            ttl=ttl,
            ssh_key=check_ssh_public(asked.ssh_key),
            tls_key=public_of_csr(asked.tls_csr),
            id=self._chance.uuid(),
            source_address=_plain(caller.address) if pinned else "",
        )

    def _record(self, tx: Tx, proved: _Proved, caller: Caller, entry: Entry) -> None:
        user = proved.user
        self._lockout.right(tx, proved.guess)
        if not tx.note_login(user.name, source_of(caller.address), self._clock.now()):
            raise Denied(WRONG, hint=HELP, log="the user was removed a moment ago")
        if not tx.is_still(Password, user.name, proved.password):
            raise Denied(WRONG, hint=HELP, log="the password was changed a moment ago")
        if not tx.is_still(User, user.name, user):
            # Roles that were taken away must not get into a certificate of hours.
            raise Conflict(f"user {user.name} was changed a moment ago", hint="tsh login")
        entry.commit(tx)

    def _welcome(self, plan: UserCertPlan, server_final: str) -> LoginWelcome:
        signed = self._issuer.sign(plan)
        return LoginWelcome(
            server_final=server_final,
            user=plan.user,
            cluster=plan.cluster,
            roles=list(plan.roles),
            logins=list(plan.logins),
            traits={key: list(values) for key, values in plan.traits.items()},
            expires=moment(plan.ends) or "",
            ssh_cert=signed.ssh_cert,
            tls_cert=signed.tls_cert,
            host_cas=self._cas.tls(CaType.HOST),
            ssh_host_cas=self._cas.ssh(CaType.HOST),
        )

    def _check_clock(self, caller: Caller, asked: LoginStart) -> None:
        """Certificates start two minutes ago; further off, the client could not use its own."""
        skew = asked.time - self._clock.now().timestamp()
        if abs(skew) <= MAX_SKEW.total_seconds():
            return
        self._limit.failed(caller.address)
        raise Denied(
            f"you can not log in, {skew_text(skew).replace('its clock', 'the clock here')}",
            hint="set the clock, for example: timedatectl set-ntp true",
        )

    def _tell_of_lockout(self, guess: Guess, entry: Entry) -> None:
        self._trail.note(
            "user.lockout",
            "T1000E",
            "denied",
            user=entry.facts["user"],
            failures=str(MAX_GUESSES),
            minutes=str(round(GUESSES_LAST.total_seconds() / 60)),
            known_source="yes" if guess.source else "no",
            **{"addr.remote": entry.facts["addr.remote"]},
        )


def _plain(address: str) -> str:
    """IPv4 inside IPv6 as nodes will see it. What is no address is refused by the plan."""
    with suppress(ValueError):
        return str(read_address(address))
    return address
