"""The API of auth, as a table: path, who may ask, how the words are read, who answers.

A path that is not in the table does not exist, and a caller that a row does not name is
refused: `tests/auth/test_api.py` walks every row with every kind of caller.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from teleport_lite.access.decide import locked, may_do
from teleport_lite.access.join import SESSION, may_see_session
from teleport_lite.access.verdict import Allowed, Refused, Verdict
from teleport_lite.auth import recordings
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.desks import Desks
from teleport_lite.errors import Denied, Malformed, NotFound, Unauthenticated
from teleport_lite.model.system_role import AUTH, NODE, PROXY
from teleport_lite.model.user import Role
from teleport_lite.proto import admin, backup, join, login, recording, script, trust
from teleport_lite.proto.codec import MAX_ADMIN, MAX_JOIN, Message, read

# Not people from elsewhere, nor other clusters: what they may ask is named for them alone.
ANYONE = frozenset(Kind) - {Kind.REMOTE, Kind.LEAF}
HOSTS = frozenset({Kind.HOST, Kind.BOT})
MACHINES = frozenset({Kind.HOST})
PERSONS = frozenset({Kind.USER})
VISITORS = frozenset({Kind.USER, Kind.REMOTE})
LEAVES = frozenset({Kind.LEAF})
# People and the local socket; a user also needs a role that allows the verb.
PEOPLE = frozenset({Kind.ADMIN, Kind.USER, Kind.BOT})

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    who: frozenset[Kind]
    reads: type[Message]
    answer: Callable[[Desks, Caller, Any], Any]
    host_role: str = ""  # that has to be in the certificate of a host
    resource: str = ""  # what a user's role has to allow; "" for routes that are not for people
    verb: str = ""
    limit: int = MAX_JOIN


def _people(
    reads: type[Message], resource: str, verb: str, answer: Callable[[Desks, Caller, Any], Any]
) -> Route:
    return Route(PEOPLE, reads, answer, resource=resource, verb=verb, limit=MAX_ADMIN)


def _node(reads: type[Message], answer: Callable[[Desks, Caller, Any], Any]) -> Route:
    return Route(MACHINES, reads, answer, host_role=NODE, limit=MAX_ADMIN)


def _session(reads: type[Message], answer: Callable[[Desks, Caller, Any], Any]) -> Route:
    return Route(PEOPLE, reads, answer, limit=MAX_ADMIN)


ROUTES: dict[str, Route] = {
    "/v1/ca": Route(ANYONE, admin.Nothing, lambda d, c, m: d.joins.bundle()),
    "/v1/join/start": Route(ANYONE, join.JoinStart, lambda d, c, m: d.joins.start(c, m)),
    "/v1/join/finish": Route(ANYONE, join.JoinFinish, lambda d, c, m: d.joins.finish(c, m)),
    "/v1/login/start": Route(ANYONE, login.LoginStart, lambda d, c, m: d.logins.start(c, m)),
    "/v1/login/finish": Route(ANYONE, login.LoginFinish, lambda d, c, m: d.logins.finish(c, m)),
    "/v1/invite/look": Route(
        MACHINES, login.InviteLook, lambda d, c, m: d.signup.look(c, m), host_role=PROXY
    ),
    "/v1/invite/accept": Route(
        MACHINES, login.InviteAccept, lambda d, c, m: d.signup.accept(c, m), host_role=PROXY
    ),
    "/v1/tokens/look": Route(
        MACHINES, script.TokenLook, lambda d, c, m: d.token_looks.look(c, m), host_role=PROXY
    ),
    "/v1/trust/finish": Route(ANYONE, trust.TrustFinish, lambda d, c, m: d.leaves.finish(c, m)),
    "/v1/trust/refresh": Route(LEAVES, trust.TrustRefresh, lambda d, c, m: d.leaves.refresh(c, m)),
    "/v1/trust/passes": Route(
        MACHINES, admin.Nothing, lambda d, c, m: d.trust.passes(), host_role=PROXY
    ),
    "/v1/me": Route(VISITORS, admin.Nothing, lambda d, c, m: d.me.me(c)),
    "/v1/me/cas": Route(PERSONS, admin.Nothing, lambda d, c, m: d.me.cas()),
    "/v1/me/nodes": Route(VISITORS, login.MyNodes, lambda d, c, m: d.me.nodes(c, m)),
    "/v1/me/clusters": Route(
        PERSONS, admin.Nothing, lambda d, c, m: d.leaves.clusters(d.me.roles(c))
    ),
    "/v1/host/renew": Route(HOSTS, join.Renew, lambda d, c, m: d.renewals.renew(c, m)),
    "/v1/status": _people(admin.Nothing, "status", "read", lambda d, c, m: d.status()),
    "/v1/tokens/add": _people(
        admin.TokenAdd, "token", "create", lambda d, c, m: d.invites.add_token(c, m)
    ),
    "/v1/tokens/list": _people(
        admin.Nothing,
        "token",
        "list",
        lambda d, c, m: d.invites.list_tokens(signups=_makes_links(d, c)),
    ),
    "/v1/tokens/remove": _people(
        admin.TokenRemove,
        "token",
        "delete",
        lambda d, c, m: d.invites.remove_token(c, m.token, signups=_makes_links(d, c)),
    ),
    "/v1/nodes/list": _people(
        admin.Nothing, "node", "list", lambda d, c, m: {"nodes": d.resources.nodes()}
    ),
    "/v1/resources/get": _people(
        admin.ResourceGet, "", "read", lambda d, c, m: d.resources.found(m)
    ),
    "/v1/resources/create": _people(
        admin.ResourceCreate,
        "",
        "create",
        lambda d, c, m: d.resources.create(c, m.resource, force=m.force),
    ),
    "/v1/resources/remove": _people(
        admin.ResourceRemove,
        "",
        "delete",
        lambda d, c, m: d.resources.remove(c, d.resources.kind(m.kind), m.name),
    ),
    "/v1/resources/update": _people(
        admin.ResourceUpdate, "", "update", lambda d, c, m: d.resources.update(c, m)
    ),
    "/v1/users/add": _people(admin.UserAdd, "user", "create", lambda d, c, m: d.people.add(c, m)),
    "/v1/users/reset": _people(
        admin.UserReset, "user", "update", lambda d, c, m: d.people.reset(c, m)
    ),
    "/v1/users/unlock": _people(
        admin.Named, "user", "update", lambda d, c, m: d.people.unlock(c, m.name)
    ),
    "/v1/users/list": _people(
        admin.Nothing, "user", "list", lambda d, c, m: {"users": d.people.listing()}
    ),
    "/v1/users/update": _people(
        admin.UserUpdate, "user", "update", lambda d, c, m: d.people.update(c, m)
    ),
    "/v1/users/remove": _people(
        admin.Named, "user", "delete", lambda d, c, m: d.people.remove(c, m.name)
    ),
    "/v1/bots/add": _people(admin.BotAdd, "bot", "create", lambda d, c, m: d.invites.add_bot(c, m)),
    "/v1/bots/list": _people(
        admin.Nothing, "bot", "list", lambda d, c, m: {"bots": d.people.bots()}
    ),
    "/v1/bots/remove": _people(
        admin.Named, "bot", "delete", lambda d, c, m: d.people.remove_bot(c, m.name)
    ),
    "/v1/auth/sign": _people(
        admin.SignUser, "auth", "create", lambda d, c, m: d.signatures.user(c, m)
    ),
    "/v1/auth/sign-host": _people(
        admin.SignHost, "auth", "create", lambda d, c, m: d.signatures.host(c, m)
    ),
    "/v1/auth/export": _people(
        admin.Export, "cert_authority", "read", lambda d, c, m: d.signatures.export(m.type)
    ),
    "/v1/auth/rotate": _people(
        admin.RotateCa, "cert_authority", "rotate", lambda d, c, m: d.rotation.rotate(c, m)
    ),
    "/v1/auth/rotation": _people(
        admin.Nothing, "cert_authority", "read", lambda d, c, m: d.rotation.listing()
    ),
    "/v1/backup/begin": _people(
        backup.BackupBegin, "backup", "create", lambda d, c, m: d.backups.begin(c, m)
    ),
    "/v1/backup/read": _people(
        backup.BackupRead, "backup", "create", lambda d, c, m: d.backups.read(c, m)
    ),
    "/v1/backup/end": _people(
        backup.BackupEnd, "backup", "create", lambda d, c, m: d.backups.end(c, m)
    ),
    "/v1/keyring/look": _people(
        backup.KeyringLook, "keyring", "read", lambda d, c, m: d.reseals.look()
    ),
    "/v1/keyring/reseal": _people(
        backup.KeyringReseal, "keyring", "update", lambda d, c, m: d.reseals.reseal(c)
    ),
    "/v1/audit/list": _people(
        admin.EventList, "event", "list", lambda d, c, m: d.audit(m.after, m.limit)
    ),
    "/v1/audit/verify": _people(admin.Nothing, "event", "read", lambda d, c, m: d.audit_check()),
    "/v1/locks/add": _people(
        admin.LockAdd, "lock", "create", lambda d, c, m: d.resources.lock(c, m)
    ),
    # The key to all that is sealed in the storage: for auth servers that share it, and nobody else.
    "/v1/auth/keyring": Route(
        MACHINES, admin.Nothing, lambda d, c, m: d.keyrings.hand_over(c), host_role=AUTH
    ),
    # Does another one reach the database? One that does not is asked before it gets here.
    "/v1/auth/store": Route(
        MACHINES, admin.Nothing, lambda d, c, m: {"trouble": d.store.health.trouble}, host_role=AUTH
    ),
    # Files of one auth server, for another one that was asked for them.
    recordings.PIECE: Route(
        MACHINES, recording.RecordingRead, lambda d, c, m: d.recordings.piece(m), host_role=AUTH
    ),
    recordings.DROPPED: Route(
        MACHINES, recording.RecordingRemove, lambda d, c, m: d.recordings.dropped(m), host_role=AUTH
    ),
    "/v1/recordings/begin": _node(recording.UploadBegin, lambda d, c, m: d.uploads.begin(c, m)),
    "/v1/recordings/part": _node(recording.UploadPart, lambda d, c, m: d.uploads.part(c, m)),
    "/v1/recordings/end": _node(recording.UploadEnd, lambda d, c, m: d.uploads.end(c, m)),
    # One's own sessions need no role, so it is the answer that asks for one.
    "/v1/recordings/list": _session(
        recording.RecordingList,
        lambda d, c, m: d.recordings.listing(c, m, everything=_sees_all(d, c, "list")),
    ),
    "/v1/recordings/read": _session(
        recording.RecordingRead,
        lambda d, c, m: d.recordings.read(c, m, everything=_sees_all(d, c, "read")),
    ),
    "/v1/recordings/remove": _people(
        recording.RecordingRemove, "session", "delete", lambda d, c, m: d.recordings.remove(c, m)
    ),
    "/v1/sessions/list": _session(
        admin.Nothing,
        lambda d, c, m: d.sessions.listing(c, _roles(d, c), everything=_sees_all(d, c, "list")),
    ),
    "/v1/sessions/join": _session(
        recording.SessionJoin, lambda d, c, m: d.sessions.join(c, _roles(d, c), m)
    ),
}


# The agent stream is no question and answer, so it is not in the table; the same check holds.
HOST_STREAM = Route(frozenset({Kind.HOST}), admin.Nothing, lambda d, c, m: None)


def answer(desks: Desks, path: str, caller: Caller, raw: bytes) -> Message | Answer:
    """Find the row, check who asks, read the words, ask the desk. Raises what they raise."""
    route = ROUTES.get(path)
    if route is None:
        raise NotFound(f"{path[:80]!a} is not part of this API", hint=_of(desks))
    authorise(desks, route, caller)
    message = _read(desks, route, raw)
    if route.verb:
        _allowed(desks, route, caller, message)
    found: Message | Answer = route.answer(desks, caller, message)
    return found


def _read(desks: Desks, route: Route, raw: bytes) -> Message:
    """A wish that says more than we know must not be granted in part. Raises Malformed."""
    try:
        return read(route.reads, raw, limit=route.limit)
    except Malformed as why:
        raise Malformed(why.message, hint=_of(desks)) from why


def _of(desks: Desks) -> str:
    """What helps whoever is of another version, which is the usual cause."""
    return f"auth runs teleport-lite {desks.version}: tctl version, teleport-lite version"


def authorise(desks: Desks, route: Route, caller: Caller) -> None:
    """May this kind of caller ask at all, is it still one of ours, and is it locked?

    Raises Unauthenticated, Denied, or NotFound for a host that was removed.
    """
    if caller.kind not in route.who:
        if caller.kind is Kind.ANYONE:
            raise Unauthenticated("this needs a client certificate", hint="tctl auth sign")
        raise Denied(f"a {caller.kind.value} may not do this")
    if caller.kind is Kind.HOST and route.host_role and route.host_role not in caller.roles:
        raise Denied(f"only a host with role {route.host_role} may do this")
    if caller.kind is Kind.HOST and desks.store.host(caller.name) is None:
        raise NotFound(
            f"host {caller.name} is not part of this cluster any more",
            hint="join again with a new token: tctl tokens add",
        )
    if caller.kind is Kind.LEAF:
        desks.leaves.known(caller)
    if caller.kind is Kind.ADMIN:  # nobody can lock the socket; it answers while the store is away
        return
    # Locks of ours are about roles of ours, and about people as they are called here.
    roles = desks.trust.roles_of(caller) if caller.kind is Kind.REMOTE else caller.roles
    person = caller.kind in (Kind.USER, Kind.BOT, Kind.REMOTE)
    verdict = locked(
        desks.store.locks(),
        desks.clock.now(),
        user=caller.name if person else (),
        role=roles if person else (),
        node=caller.name if caller.kind is Kind.HOST else (),
        bot_instance_id=caller.bot_instance or (),
    )
    if isinstance(verdict, Refused):
        raise Denied(verdict.reason)


def _allowed(desks: Desks, route: Route, caller: Caller, message: Any) -> None:
    """Raises Denied."""
    resource = route.resource or desks.resources.as_roles_name_it(message)
    verdict = _may(desks, caller, resource, route.verb)
    if isinstance(verdict, Refused):
        raise Denied(verdict.reason, hint="tctl get roles shows what each allows")


def _makes_links(desks: Desks, caller: Caller) -> bool:
    """Whoever sees the link of a user can become that user; join tokens are less."""
    return isinstance(_may(desks, caller, "user", "update"), Allowed)


def _may(desks: Desks, caller: Caller, resource: str, verb: str) -> Verdict:
    """A person needs a role for it. Roles as they are now, and only those in the certificate."""
    if caller.kind is Kind.ADMIN:
        return Allowed(by="the socket")
    if desks.store.user(caller.name) is None:
        return Refused(f"user {caller.name} does not exist any more")
    return may_do(_roles(desks, caller), resource, verb)


def _roles(desks: Desks, caller: Caller) -> list[Role]:
    """Of a person; nobody else has any. Raises Denied if she does not exist any more."""
    if caller.kind not in (Kind.USER, Kind.BOT):
        return []
    user = desks.store.user(caller.name)
    if user is None:
        raise Denied(f"user {caller.name} does not exist any more")
    names = [name for name in user.roles if name in caller.roles]
    return [role for name in names if (role := desks.store.role(name)) is not None]


def _sees_all(desks: Desks, caller: Caller, verb: str) -> bool:
    """False: only the sessions that are the caller's own. Raises Denied where not even those."""
    if isinstance(_may(desks, caller, SESSION, verb), Allowed):
        return True
    verdict = may_see_session(_roles(desks, caller), verb, user=caller.name, owner=caller.name)
    if isinstance(verdict, Refused):
        raise Denied(verdict.reason, hint="tctl get roles shows what each allows")
    return False
