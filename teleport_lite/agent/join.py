"""Joining, from the host's side. Read `join` first: it is the whole story.

proto/join.py draws the conversation. The token never leaves this process: it is the password
of a SCRAM proof bound to the TLS connection (RFC 5802, RFC 5929).
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from teleport_lite import __version__
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.probe import (
    PROBE_TIMEOUT,
    Auth,
    check_clock,
    find_auth,
    trusted_cas,
    untrusted,
)
from teleport_lite.agent.servers import ONE_OF_MANY
from teleport_lite.agent.token_proof import TokenProof, prove_token
from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.net.http import TIMEOUT, Connection
from teleport_lite.net.tls import client_context, stranger_context
from teleport_lite.pki.keys import csr, new_portable_ssh_key, new_ssh_key, new_tls_key
from teleport_lite.pki.pin import pin_of
from teleport_lite.proto.codec import MAX_JOIN, read, write
from teleport_lite.proto.join import (
    Hello,
    JoinFinish,
    JoinStart,
    Welcome,
    token_name,
)
from teleport_lite.secret import Secret

# For an answer, while there are other servers to ask. The token is not spent twice.
WITH_OTHERS = 8.0

NO_PIN = (
    "no CA pin was given: joining without verifying the auth server's identity beforehand; "
    "give --ca-pin (see: tctl status)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Made on the host, before anything is asked; the private halves never leave it."""

    ssh_private: Secret
    ssh_public: str
    tls_private: Secret

    @classmethod
    def new(cls) -> "Keys":
        ssh_private, ssh_public = new_ssh_key()
        return cls(ssh_private=ssh_private, ssh_public=ssh_public, tls_private=new_tls_key())

    @classmethod
    def single(cls) -> "Keys":
        """One key for SSH and TLS: programs that use a bot's files expect one `key`."""
        private, ssh_public = new_portable_ssh_key()
        return cls(ssh_private=private, ssh_public=ssh_public, tls_private=private)


class Keeper(Protocol):
    """Where keys wait while their join is unanswered (agent/pending.py)."""

    def take(self) -> Keys: ...
    def keep(self, keys: Keys) -> None: ...
    def drop(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    servers: tuple[str, ...]  # host:port of auth or of proxies, tried in order
    token: Secret
    pins: tuple[str, ...]  # parsed; () joins without
    roles: tuple[str, ...]  # canonical names
    node_name: str
    clock: Clock
    say: Callable[[str], None]  # gets warnings, one line each
    principals: tuple[str, ...] = ()
    keeper: Keeper | None = None
    current: Identity | None = None  # a joined host that adds a role
    # A host whose certificates nobody takes any more: it keeps its UUID if it proves that it has
    # the TLS key that auth knows it by. Such a join makes no new keys.
    again: Identity | None = None
    only_proxies: bool = False  # somebody said that all servers are proxies


def join(request: JoinRequest) -> Identity:
    """Prove the token and come back with an identity, which the caller saves.

    Raises Denied (pin, token, role, lock), Unavailable (address, clock) or Malformed, each
    with the one cause and what to do. With several servers the first that answers decides; if it
    falls silent in the middle, the next one is asked with the same keys, for which the token is
    spent once, whoever has spent it.
    """
    keys = _known_keys(request) or (request.keeper or _NobodyKeeps()).take()
    name = cache(lambda: token_name(request.token))  # slow on purpose, and the same for the next
    if not request.pins:
        request.say(NO_PIN)
    auth, left = _first_answer(request, request.servers)
    try:
        return _join_at(auth, request, keys, name)
    except Unavailable as why:
        try:
            auth, _ = _first_answer(request, left)
        except Error:
            raise why from None
        return _join_at(auth, request, keys, name)


def _join_at(auth: Auth, request: JoinRequest, keys: Keys, name: Callable[[], str]) -> Identity:
    cas = trusted_cas(auth, request.pins)
    if not auth.clock_fits:
        _let_auth_know(auth, request)
        check_clock(auth)
    welcome = _talk(auth, cas, request, keys, name)
    if request.pins:
        _pins_cover(welcome, request.pins)
    return identity_of(welcome, keys)


def _known_keys(request: JoinRequest) -> Keys | None:
    """The request for a certificate, signed with the key of before, is the proof."""
    known = request.again
    if known is None:
        return None
    return Keys(
        ssh_private=known.ssh_private, ssh_public=known.ssh_public, tls_private=known.tls_private
    )


def hello_of(
    keys: Keys, *, node_name: str, roles: tuple[str, ...], host_id: str, principals: tuple[str, ...]
) -> Hello:
    return Hello(
        node_name=node_name,
        roles=list(roles),
        ssh_key=keys.ssh_public,
        tls_csr=csr(keys.tls_private, node_name),
        host_id=host_id,
        principals=list(principals),
        version=__version__,
    )


def identity_of(welcome: Welcome, keys: Keys) -> Identity:
    return Identity(
        cluster=welcome.cluster,
        host_id=welcome.host_id,
        roles=tuple(welcome.roles),
        ssh_private=keys.ssh_private,
        ssh_public=keys.ssh_public,
        tls_private=keys.tls_private,
        ssh_cert=welcome.ssh_cert,
        tls_cert=welcome.tls_cert,
        host_cas=tuple(welcome.host_cas),
        ssh_host_cas=tuple(welcome.ssh_host_cas),
        ssh_user_cas=tuple(welcome.ssh_user_cas),
        user_cas=tuple(welcome.user_cas),
        serving_ssh_cert=welcome.serving_ssh_cert,
        serving_tls_cert=welcome.serving_tls_cert,
        rotation=welcome.rotation,
        auths=tuple(welcome.auths),
        proxies=tuple(welcome.proxies),
    )


def _first_answer(request: JoinRequest, servers: tuple[str, ...]) -> tuple[Auth, tuple[str, ...]]:
    """And the servers that were not asked."""
    failures: list[Error] = []
    if not servers:
        raise Malformed("no auth server is configured", hint="--auth-server=HOST:3025")
    patience = ONE_OF_MANY if len(servers) > 1 else PROBE_TIMEOUT
    for number, address in enumerate(servers, 1):
        try:
            auth = find_auth(
                address, request.clock, only_proxies=request.only_proxies, timeout=patience
            )
            return auth, servers[number:]
        except Error as why:
            failures.append(why)
    if len(failures) == 1:
        raise failures[0]
    tried = "; ".join(failure.message for failure in failures)
    raise Unavailable(f"no auth server can be reached, tried {tried}", hint=failures[0].hint)


def _talk(
    auth: Auth, cas: list[str], request: JoinRequest, keys: Keys, name: Callable[[], str]
) -> Welcome:
    """The proof, on a connection that trusts `cas` alone. `name` is that of the token."""
    current = request.current
    context = client_context(
        current.tls_cert if current else None, current.tls_private if current else None, cas
    )
    patience = WITH_OTHERS if len(request.servers) > 1 else TIMEOUT
    try:
        with Connection.tls(auth.way, context, timeout=patience) as wire:
            return _prove(wire, request, keys, name)
    except ssl.SSLError as why:
        if not isinstance(why, ssl.SSLCertVerificationError):
            raise untrusted(auth.way.name, why) from why
        raise Denied(
            f"{auth.way.name} shows a CA but holds no certificate of it "
            f"({(why.reason or str(why)).lower().replace('_', ' ')}); something may be "
            "intercepting the connection",
            hint=f"teleport-lite doctor --auth-server={auth.way.address}",
        ) from why


def _prove(wire: Connection, request: JoinRequest, keys: Keys, name: Callable[[], str]) -> Welcome:
    now = request.clock.now().timestamp()
    proof = prove_token(wire, request.token, name(), asked_by=request.node_name, now=now)
    hello = hello_of(
        keys,
        node_name=request.node_name,
        roles=request.roles,
        host_id=known.host_id if (known := request.current or request.again) else "",
        principals=request.principals,
    )
    finish = JoinFinish(session=proof.session, client_final=proof.client_final, hello=hello)
    return _ask_last(wire, finish, proof, keys, request.keeper or _NobodyKeeps())


class _NobodyKeeps:
    """For a join whose answer may get lost."""

    def take(self) -> Keys:
        return Keys.new()

    def keep(self, keys: Keys) -> None:
        del keys

    def drop(self) -> None:
        return


def _ask_last(
    wire: Connection, finish: JoinFinish, proof: TokenProof, keys: Keys, keeper: Keeper
) -> Welcome:
    """The question that spends the token. Its keys are kept until an answer is here."""
    keeper.keep(keys)
    try:
        answer = wire.ask("/v1/join/finish", finish)
        welcome = read(Welcome, write(answer), limit=MAX_JOIN)
        proof.believe(welcome.server_final)
        return welcome
    except Unavailable:
        raise  # nobody knows whether it was spent: the keys stay for the next try
    except Error:
        keeper.drop()
        raise


def _pins_cover(welcome: Welcome, pins: tuple[str, ...]) -> None:
    if not any(pin_of(ca) in pins for ca in welcome.host_cas):
        raise Malformed("the auth server answered with CAs that the pin does not cover")


def _let_auth_know(auth: Auth, request: JoinRequest) -> None:
    """Have the refusal for a wrong clock in the audit trail too. Sends the time and no proof."""
    asked = JoinStart(
        client_first="", node_name=request.node_name, time=request.clock.now().timestamp()
    )
    try:
        with Connection.tls(auth.way, stranger_context()) as wire:
            wire.ask("/v1/join/start", asked)
    except (Error, ssl.SSLError):
        return  # it refused, as it should; what we tell the user does not depend on it
