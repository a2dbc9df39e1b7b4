"""Who may come in: certificate, signature, locks, roles, account. Runs in the monitor.

Everything it needs is on disk, kept there by the agent, so logins go on while auth is away.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from teleport_lite.access.decide import forced_command, locked, merged_options
from teleport_lite.access.host_user import HostUser, host_user
from teleport_lite.access.join import may_join
from teleport_lite.access.verdict import Refused, Verdict
from teleport_lite.agent import heard, knowledge, roots
from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied, Error
from teleport_lite.model.user import JoinMode, Options, Role
from teleport_lite.node.account import Account, exists, find_account
from teleport_lite.node.host_tools import check_login
from teleport_lite.node.wire import Login
from teleport_lite.pki.verify import (
    Visitor,
    verify_login_signature,
    verify_user_certificate,
)
from teleport_lite.pki.wire import text
from teleport_lite.proto.resource import lock_from_doc, role_from_doc
from teleport_lite.proto.stream import Knowledge

_USERAUTH_REQUEST = 50  # RFC 4252 §6
# Seconds; for `strict_locks`. Beats are answered every 15 s at the latest.
STRICT_AFTER = 600.0
_NOT_YET = "login is not possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Somebody who may come in, and what says so."""

    visitor: Visitor
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Admitted):
    """Somebody who may have shells here, and as whom."""

    account: Account | None  # None: there is none, and `host_user` wants it made
    options: Options  # of the roles, merged, as this host knows them
    host_user: HostUser | None = None  # how the account is to be, if it is one of ours
    web_proxy: str = ""  # host:port

    @property
    def force_command(self) -> str | None:
        """Runs in place of whatever is asked for. The certificate's own counts first."""
        if self.visitor.force_command is not None:
            return self.visitor.force_command
        return self.options.force_command or None


class Gate:
    """Answers for one connection, from `peer_ip` to the host `host_id`."""

    def __init__(
        self,
        *,
        data_dir: Path,
        host_id: str,
        peer_ip: str,
        clock: Clock,
        makes_accounts: bool = False,
        strict: bool = False,
    ) -> None:
        """`makes_accounts`: for logins that have none, where roles say so. `strict`: nobody new
        while auth was silent for more than STRICT_AFTER seconds."""
        self._data_dir, self._host_id = data_dir, host_id
        self._peer_ip, self._clock = peer_ip, clock
        self._makes_accounts, self._strict = makes_accounts, strict

    def admit(self, login: Login, session_id: bytes | None) -> Admitted:
        """Raises Denied; `log` has the reason, the message is no help to a guesser.

        Without a signature the answer is what it would be with a good one (RFC 4252 §7).
        """
        known = self._known()
        if self._strict:
            self._check_silence()
        visitor = self._visitor(login, known)
        if login.signature is not None:
            self._check_signature(login, session_id)
        verdict = self._decide(visitor, known)
        if isinstance(verdict, Refused):
            raise refusal(verdict.reason)
        return self._admitted(visitor, verdict.by, known)

    def _check_silence(self) -> None:
        """What is known may be too old. Raises Denied."""
        if reason := too_silent(heard.silence(self._data_dir, self._clock)):
            raise refusal(reason)

    def decide_again(self, visitor: Visitor) -> Verdict:
        """Is somebody who is inside still welcome, by what is known now?

        Raises an Error if what is known cannot be read.
        """
        return self._decide(visitor, self._known())

    def trusts(self, visitor: Visitor) -> bool:
        """Is the CA that vouches for somebody inside one of those of now? What cannot be read
        right now is no verdict."""
        try:
            known = self._known()
        except Error:
            return True
        return visitor.ca_blob in roots.ssh_cas(known)

    def may_join(
        self, joiner: str, roles: Iterable[str], *, mode: JoinMode, owner: Visitor
    ) -> Verdict:
        """May `joiner`, whose certificate names `roles`, come into a session of `owner`?

        Raises an Error if what is known cannot be read.
        """
        theirs = _roles(tuple(roles), self._known())
        return may_join(theirs, joiner=joiner, owner=owner.user, owner_roles=owner.roles, mode=mode)

    def records_sessions(self) -> bool:
        """What the cluster says. Raises an Error if that cannot be read."""
        return self._known().session_recording != "off"

    def mark(self) -> tuple[int, ...]:
        """Changes when what is known changes; () while there is nothing."""
        return knowledge.mark(self._data_dir)

    def _visitor(self, login: Login, known: Knowledge) -> Visitor:
        return self._verify(login, login.login, known)

    def _admitted(self, visitor: Visitor, by: str, known: Knowledge) -> Admitted:
        roles = _roles(visitor.roles, known)
        plan = self._host_user(visitor, roles)
        account = self._account(visitor.login, plan)
        forced = forced_command(roles)
        if isinstance(forced, Refused) and visitor.force_command is None:
            raise refusal(forced.reason)
        return Welcome(
            visitor=visitor,
            account=account,
            by=by,
            options=merged_options(roles),
            host_user=plan,
            web_proxy=next((each.public[0] for each in known.proxies if each.public), ""),
        )

    def _host_user(self, visitor: Visitor, roles: list[Role]) -> HostUser | None:
        if not self._makes_accounts:
            return None
        # Groups and lines of sudoers are not for another cluster to fill in.
        traits = {} if visitor.cluster else visitor.traits
        return host_user(roles, traits, knowledge.load_labels(self._data_dir))

    def _account(self, login: str, plan: HostUser | None) -> Account | None:
        if plan is None or exists(login):
            return find_account(login, self._clock.now())
        try:
            check_login(login)
        except Error as why:
            raise refusal(why.message) from why
        return None

    def _verify(self, login: Login, name: str | None, known: Knowledge) -> Visitor:
        visitor = verify_user_certificate(
            login.certificate,
            algorithm=login.algorithm,
            login=name,
            trusted_cas=roots.ssh_cas(known),
            peer_ip=self._peer_ip,
            now=self._clock.now(),
        )
        try:
            visitor = roots.placed(visitor, known)
            return replace(visitor, roles=self._roles_of(visitor, known))
        except Denied as why:
            raise refusal(why.message) from why

    def _roles_of(self, visitor: Visitor, known: Knowledge) -> tuple[str, ...]:
        """Roles of ours. Of somebody from elsewhere as the role map says now; Denied if none."""
        if not visitor.cluster:
            return visitor.roles
        root = next((each for each in known.roots if each.cluster == visitor.cluster), None)
        return roots.roles_here(
            None if root is None else roots.rules_of(root),
            cluster=visitor.cluster,
            user=visitor.claimed_user,
            roles=visitor.claimed_roles,
            bot_id=visitor.id,
            now=self._clock.now(),
        )

    def _check_signature(self, login: Login, session_id: bytes | None) -> None:
        if session_id is None or login.signature is None:
            raise refusal("a signature before the first key exchange")
        signed = signed_login(session_id, login)
        if not verify_login_signature(
            login.certificate,
            algorithm=login.algorithm,
            signed=signed,
            signature=login.signature,
        ):
            raise refusal("the signature does not fit the certificate")

    def _known(self) -> Knowledge:
        known = knowledge.load(self._data_dir)
        if known is None:
            raise refusal("this host has heard nothing from auth yet")
        return known

    def _decide(self, visitor: Visitor, known: Knowledge) -> Verdict:
        """Locks first. Raises Denied for locks and roles that cannot be read: better no login
        than one that a rule we do not understand forbids."""
        verdict = self._unlocked(visitor, known, login=visitor.login)
        if isinstance(verdict, Refused):
            return verdict
        try:
            roles = _roles(self._roles_of(visitor, known), known)
        except Error as why:
            raise refusal(why.message) from why
        labels = knowledge.load_labels(self._data_dir)
        return roots.open_shell(visitor, roles, labels)

    def _unlocked(self, visitor: Visitor, known: Knowledge, **more: str) -> Verdict:
        try:
            locks = [lock_from_doc(doc) for doc in known.locks]
        except Error as why:
            raise refusal(why.message) from why
        try:
            roles = self._roles_of(visitor, known)
        except Denied as why:  # those who are inside have to leave
            return Refused(why.message)
        return locked(
            locks,
            self._clock.now(),
            user=visitor.user,
            role=roles,
            node=self._host_id,
            bot_instance_id=visitor.id,
            **more,
        )


def too_silent(seconds: float | None) -> str:
    """Why nobody new comes in under `strict_locks`, nor anything new of who is inside; "" if auth
    was heard not long ago."""
    if seconds is None:
        return "strict_locks: nothing was heard from auth since this host has started"
    if seconds > STRICT_AFTER:
        return f"strict_locks: nothing was heard from auth for {seconds / 60:.0f} min"
    return ""


def refusal(reason: str) -> Denied:
    """The same words for everybody; the trail gets the reason."""
    return Denied(_NOT_YET, log=reason)


def signed_login(session_id: bytes, login: Login) -> bytes:
    """What a client signs to log in (RFC 4252 §7), put together by ourselves."""
    return (
        text(session_id)
        + bytes([_USERAUTH_REQUEST])
        + text(login.login.encode())
        + text(b"ssh-connection")
        + text(b"publickey")
        + b"\x01"
        + text(login.algorithm.encode())
        + text(login.certificate)
    )


def _roles(names: tuple[str, ...], known: Knowledge) -> list[Role]:
    """Of the cluster's roles those that the certificate names. One that is gone allows nothing."""
    wanted = [doc for doc in known.roles if _name(doc) in names]
    return [role_from_doc(doc) for doc in wanted]


def _name(doc: dict[str, object]) -> object:
    metadata = doc.get("metadata")
    return metadata.get("name") if isinstance(metadata, dict) else None
