"""Every route, asked by every kind of caller. A new route without a row here fails."""

import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from teleport_lite.auth.api import ROUTES, answer
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.daemon.doorman import Doorman
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unauthenticated
from teleport_lite.model.host import Host
from teleport_lite.model.trust import RemoteCluster, RoleMapping, TrustedCluster
from teleport_lite.model.user import Condition, Role, Rule
from teleport_lite.net.accept import Peer
from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key
from teleport_lite.proto.codec import MAX_ADMIN, MAX_JOIN, write
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeClock
from tests.auth.bench import CLUSTER, OURS, ROOT, Applicant, Bench, stranger, the_host

SSH, CSR = new_ssh_key()[1], csr(new_tls_key(), "x")
HELLO = {"node_name": "w", "roles": ["node"], "ssh_key": SSH, "tls_csr": CSR}

SID = "c52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
FACTS = {"user": "alice", "login": "root", "started": 0, "ended": 1, "complete": True}

# What is asked of each route; good enough to come through when the caller may.
WORDS: dict[str, dict[str, Any]] = {
    "/v1/ca": {},
    "/v1/join/start": {"client_first": "x", "node_name": "w", "time": 0},
    "/v1/join/finish": {"session": "x", "client_final": "x", "hello": HELLO},
    "/v1/login/start": {"client_first": "x", "time": 0},
    "/v1/login/finish": {"session": "x", "client_final": "x", "ssh_key": SSH, "tls_csr": CSR},
    "/v1/invite/look": {"token": "x", "source": "192.0.2.9"},
    "/v1/invite/accept": {"token": "x", "password": "x", "source": "192.0.2.9"},
    "/v1/me": {},
    "/v1/me/cas": {},
    "/v1/me/nodes": {},
    "/v1/me/clusters": {},
    "/v1/trust/finish": {"session": "x", "client_final": "x", "hello": {"cluster": "leaf.test"}},
    "/v1/trust/refresh": {"hello": {"cluster": "leaf.test"}},
    "/v1/trust/passes": {},
    "/v1/host/renew": {"hello": HELLO},
    "/v1/status": {},
    "/v1/tokens/add": {"types": "node"},
    "/v1/tokens/list": {},
    "/v1/tokens/look": {"token": "x", "source": "192.0.2.9"},
    "/v1/tokens/remove": {"token": "nosuch"},
    "/v1/nodes/list": {},
    "/v1/resources/get": {"kind": "user"},
    "/v1/resources/create": {"resource": {"kind": "role", "metadata": {"name": "r"}, "spec": {}}},
    "/v1/resources/remove": {"kind": "user", "name": "nosuch"},
    "/v1/resources/update": {"kind": "rc", "name": "nosuch", "labels": {}},
    "/v1/users/add": {"name": "new", "roles": []},
    "/v1/users/reset": {"name": "nosuch"},
    "/v1/users/unlock": {"name": "nosuch"},
    "/v1/users/list": {},
    "/v1/users/update": {"name": "nosuch"},
    "/v1/users/remove": {"name": "nosuch"},
    "/v1/bots/add": {"name": "new"},
    "/v1/bots/list": {},
    "/v1/bots/remove": {"name": "nosuch"},
    "/v1/auth/sign": {"user": "nosuch", "ssh_key": SSH, "tls_csr": CSR},
    "/v1/auth/sign-host": {"names": ["db-1"], "ssh_key": SSH, "tls_csr": CSR},
    "/v1/auth/export": {"type": "host"},
    "/v1/auth/rotate": {"types": ["jwt"]},
    "/v1/auth/rotation": {},
    "/v1/backup/begin": {},
    "/v1/backup/read": {"id": "x"},
    "/v1/backup/end": {"id": "x"},
    "/v1/keyring/look": {},
    "/v1/keyring/reseal": {},
    "/v1/audit/list": {},
    "/v1/audit/verify": {},
    "/v1/locks/add": {"target": "user", "value": "mallory"},
    "/v1/auth/keyring": {},
    "/v1/auth/store": {},
    "/v1/auth/recordings/piece": {"sid": SID},
    "/v1/auth/recordings/dropped": {"sid": SID},
    "/v1/recordings/begin": {"sid": SID, "size": 1, "digest": "x", "facts": FACTS},
    "/v1/recordings/part": {"sid": SID, "at": 0, "data": "eA==", "digest": "x"},
    "/v1/recordings/end": {"sid": SID},
    "/v1/recordings/list": {},
    "/v1/recordings/read": {"sid": SID},
    "/v1/recordings/remove": {"sid": SID},
    "/v1/sessions/list": {},
    "/v1/sessions/join": {"sid": SID},
}
# Who gets as far as the desk. Everybody else is turned away at the door.
EVERYBODY = frozenset(
    {
        "anyone",
        "admin",
        "host",
        "proxy",
        "auth",
        "bot",
        "no roles",
        "access",
        "editor",
        "auditor",
        "removed user",
    }
)
CONFIG = frozenset({"admin", "editor"})
PEOPLE = frozenset({"admin", "bot", "no roles", "access", "editor", "auditor", "removed user"})
MAY: dict[str, frozenset[str]] = {
    "/v1/ca": EVERYBODY,
    "/v1/join/start": EVERYBODY,
    "/v1/join/finish": EVERYBODY,
    "/v1/login/start": EVERYBODY,
    "/v1/login/finish": EVERYBODY,
    "/v1/invite/look": frozenset({"proxy"}),
    "/v1/invite/accept": frozenset({"proxy"}),
    # Who may ask about herself is decided by the desk, which knows whether she is still there.
    "/v1/me": frozenset({"no roles", "access", "editor", "auditor", "removed user", "visitor"}),
    "/v1/me/cas": frozenset({"no roles", "access", "editor", "auditor", "removed user"}),
    "/v1/me/nodes": frozenset(
        {"no roles", "access", "editor", "auditor", "removed user", "visitor"}
    ),
    "/v1/me/clusters": frozenset({"no roles", "access", "editor", "auditor", "removed user"}),
    "/v1/trust/finish": EVERYBODY,
    "/v1/trust/refresh": frozenset({"leaf"}),
    "/v1/trust/passes": frozenset({"proxy"}),
    "/v1/host/renew": frozenset({"host", "proxy", "auth", "bot"}),
    "/v1/status": CONFIG | {"access", "auditor"},
    "/v1/tokens/add": CONFIG,
    "/v1/tokens/list": CONFIG,
    "/v1/tokens/look": frozenset({"proxy"}),
    "/v1/tokens/remove": CONFIG,
    "/v1/nodes/list": CONFIG | {"access", "auditor"},
    "/v1/resources/get": CONFIG,
    "/v1/resources/create": CONFIG,
    "/v1/resources/remove": CONFIG,
    "/v1/resources/update": CONFIG,
    "/v1/users/add": CONFIG,
    "/v1/users/reset": CONFIG,
    "/v1/users/unlock": CONFIG,
    "/v1/users/list": CONFIG,
    "/v1/users/update": CONFIG,
    "/v1/users/remove": CONFIG,
    "/v1/bots/add": CONFIG,
    "/v1/bots/list": CONFIG,
    "/v1/bots/remove": CONFIG,
    "/v1/auth/sign": CONFIG,
    "/v1/auth/sign-host": CONFIG,
    "/v1/auth/export": CONFIG,
    "/v1/auth/rotate": CONFIG,
    "/v1/auth/rotation": CONFIG,
    # All there is, sealed or not: for root on the auth host, or a role made for it.
    "/v1/backup/begin": frozenset({"admin"}),
    "/v1/backup/read": frozenset({"admin"}),
    "/v1/backup/end": frozenset({"admin"}),
    "/v1/keyring/look": frozenset({"admin"}),
    "/v1/keyring/reseal": frozenset({"admin"}),
    "/v1/audit/list": frozenset({"admin", "auditor"}),
    "/v1/audit/verify": frozenset({"admin", "auditor"}),
    "/v1/locks/add": CONFIG,
    "/v1/auth/keyring": frozenset({"auth"}),
    "/v1/auth/store": frozenset({"auth"}),
    "/v1/auth/recordings/piece": frozenset({"auth"}),
    "/v1/auth/recordings/dropped": frozenset({"auth"}),
    "/v1/recordings/begin": frozenset({"host", "proxy"}),
    "/v1/recordings/part": frozenset({"host", "proxy"}),
    "/v1/recordings/end": frozenset({"host", "proxy"}),
    # One's own sessions need no role.
    "/v1/recordings/list": PEOPLE,
    "/v1/recordings/read": PEOPLE,
    "/v1/recordings/remove": CONFIG,
    "/v1/sessions/list": PEOPLE,
    "/v1/sessions/join": PEOPLE,
}
NOBODY = frozenset(
    {
        "locked user",
        "locked role",
        "locked host",
        "locked bot",
        "removed host",
        "removed leaf",
        "locked visitor",
        "visitor without a role",
        "visitor of nobody",
    }
)

HOST_ID = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
PROXY_ID = "f52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
AUTH_ID = "a52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
LEAF_ID = "b52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
BOT_ID = "e52527f9-b260-41d0-bb5a-e23b0cfe0f8f"


def person(name: str, *roles: str) -> Caller:
    return Caller(kind=Kind.USER, name=name, address="192.0.2.7", roles=roles)


def visitor(name: str, *roles: str, cluster: str = "root.test") -> Caller:
    """Somebody from a cluster that ours trusts, with roles of that one."""
    return Caller(
        kind=Kind.REMOTE,
        name=f"{name}@{cluster}",
        address="192.0.2.7",
        roles=roles,
        cluster=cluster,
    )


def a_leaf(leaf_id: str) -> Caller:
    return Caller(kind=Kind.LEAF, name=leaf_id, address="192.0.2.7", roles=("RemoteProxy",))


CALLERS: dict[str, Caller] = {
    "leaf": a_leaf(LEAF_ID),
    "removed leaf": a_leaf("77777777-b260-41d0-bb5a-e23b0cfe0f8f"),
    "visitor": visitor("alice", "dev"),
    "locked visitor": visitor("locked", "dev"),
    "visitor without a role": visitor("alice", "access"),
    "visitor of nobody": visitor("alice", "dev", cluster="other.test"),
    "anyone": stranger(),
    "admin": ROOT,
    "host": the_host(HOST_ID, "Node"),
    "proxy": the_host(PROXY_ID, "Node", "Proxy"),
    "auth": the_host(AUTH_ID, "Auth"),
    "bot": Caller(
        kind=Kind.BOT, name="bot-deploy", address="192.0.2.7", bot_instance=BOT_ID, roles=()
    ),
    "no roles": person("none"),
    "access": person("access", "access"),
    "editor": person("editor", "editor"),
    "auditor": person("auditor", "auditor"),
    "removed user": person("removed", "editor"),
    "locked user": person("locked", "editor"),
    "locked role": person("editor", "editor", "banned"),
    "locked host": the_host("99999999-b260-41d0-bb5a-e23b0cfe0f8f", "Node"),
    "removed host": the_host("88888888-b260-41d0-bb5a-e23b0cfe0f8f", "Node"),
    "locked bot": Caller(
        kind=Kind.BOT, name="bot-deploy", address="192.0.2.7", bot_instance="locked-instance"
    ),
}


# Where the socket's own administrator is turned away, somebody who is not.
WELCOME_AT = {
    "/v1/host/renew": CALLERS["bot"],
    "/v1/invite/look": CALLERS["proxy"],
    "/v1/invite/accept": CALLERS["proxy"],
    "/v1/tokens/look": CALLERS["proxy"],
    "/v1/auth/keyring": CALLERS["auth"],
    "/v1/auth/store": CALLERS["auth"],
    "/v1/auth/recordings/piece": CALLERS["auth"],
    "/v1/auth/recordings/dropped": CALLERS["auth"],
    "/v1/trust/refresh": CALLERS["leaf"],
    "/v1/trust/passes": CALLERS["proxy"],
    "/v1/me/clusters": CALLERS["access"],
    "/v1/me": CALLERS["access"],
    "/v1/me/cas": CALLERS["access"],
    "/v1/me/nodes": CALLERS["access"],
    "/v1/recordings/begin": CALLERS["host"],
    "/v1/recordings/part": CALLERS["host"],
    "/v1/recordings/end": CALLERS["host"],
}


@pytest.fixture(scope="module")
def crowd() -> Bench:
    """A cluster in which every caller of the table is known, and some are locked."""
    bench = Bench()
    for name in ("access", "editor", "auditor"):
        bench.ask("/v1/users/add", name=name, roles=[name])
    bench.ask("/v1/users/add", name="none", roles=[])
    bench.ask("/v1/users/add", name="locked", roles=["editor"])
    bench.ask("/v1/bots/add", name="deploy")
    for host_id in (HOST_ID, PROXY_ID, AUTH_ID, "99999999-b260-41d0-bb5a-e23b0cfe0f8f"):
        host = Host(
            id=host_id,
            name="web-1",
            roles=("Node",),
            joined_at=bench.clock.now(),
            token_id="t",
            ssh_key=f"key of {host_id}",
            tls_key="PEM",
        )
        bench.store.write(lambda tx, host=host: tx.put_host(host))
    trusted = TrustedCluster(
        name="root.test",
        proxy="root.test:3080",
        role_map=(RoleMapping(remote="dev", local=("access",)),),
        created_at=bench.clock.now(),
    )
    leaf = RemoteCluster(name="leaf.test", id=LEAF_ID, created_at=bench.clock.now())
    bench.store.write(lambda tx: (tx.put_trusted(trusted), tx.put_remote(leaf)))
    for target, value in (
        ("user", "locked"),
        ("user", "locked@root.test"),
        ("role", "banned"),
        ("node", "99999999-b260-41d0-bb5a-e23b0cfe0f8f"),
        ("bot_instance_id", "locked-instance"),
    ):
        bench.ask("/v1/locks/add", target=target, value=value)
    return bench


def comes_through(bench: Bench, path: str, caller: Caller, monkeypatch) -> bool:
    """Whether the desk is asked at all; what it would answer is tested elsewhere."""
    asked: list[str] = []
    route = ROUTES[path]
    stand_in = replace(route, answer=lambda d, c, m: asked.append(path) or {})
    monkeypatch.setitem(ROUTES, path, stand_in)
    try:
        answer(bench.desks, path, caller, write(WORDS[path]))
    except (Denied, Unauthenticated, NotFound) as why:
        assert not asked
        assert isinstance(why, Unauthenticated) is (caller.kind is Kind.ANYONE)  # noqa: PT017  # it may also pass
    return bool(asked)


def test_every_route_is_in_the_tables() -> None:
    assert set(ROUTES) == set(WORDS) == set(MAY)


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("path", ROUTES)
def test_who_may_ask_what(crowd: Bench, path: str, who: str, monkeypatch) -> None:
    expected = who in MAY[path] and who not in NOBODY
    assert comes_through(crowd, path, CALLERS[who], monkeypatch) is expected


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_an_administrator_gets_an_answer_or_an_error_we_mean(path: str) -> None:
    """And nothing else: with the words of the table no desk falls over."""
    try:
        found = Bench().ask(path, **WORDS[path])
    except Error:
        return
    assert write(found)


@pytest.mark.parametrize("path", sorted(ROUTES))
@pytest.mark.parametrize("raw", [b"x", b"[]", b'{"surprise": 1}', b"\xff"])
def test_words_that_cannot_be_read_are_malformed(crowd: Bench, path: str, raw: bytes) -> None:
    with pytest.raises(Malformed):
        answer(crowd.desks, path, WELCOME_AT.get(path, ROOT), raw)


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_a_route_reads_no_more_than_its_limit(crowd: Bench, path: str) -> None:
    limit = ROUTES[path].limit
    for_people = "admin" in MAY[path] and "anyone" not in MAY[path]
    in_parts = path.startswith("/v1/recordings/")
    assert limit == (MAX_ADMIN if for_people or in_parts else MAX_JOIN)
    with pytest.raises(Malformed, match="the most we read is"):
        answer(crowd.desks, path, WELCOME_AT.get(path, ROOT), b" " * (limit + 1))


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/tokens", "/v2/ca", "/v1/ca/", "\x1b[2J"])
@pytest.mark.parametrize("caller", [ROOT, stranger()])
def test_what_is_not_in_the_table_does_not_exist(path: str, caller: Caller) -> None:
    with pytest.raises(NotFound, match="is not part of this API") as why:
        answer(Bench().desks, path, caller, b"{}")
    assert why.value.message.isprintable()


def test_who_says_more_than_we_know_is_told_which_version_we_are() -> None:
    """Granted in part it would be something else: a token without its new limit."""
    bench = Bench()
    with pytest.raises(Malformed, match="unknown field `uses`") as why:
        answer(bench.desks, "/v1/tokens/add", ROOT, b'{"types": "node", "uses": 3}')
    assert "auth runs teleport-lite 1.2.3" in why.value.hint
    assert bench.store.tokens() == []
    with pytest.raises(NotFound) as new:
        answer(bench.desks, "/v1/tokens/limit", ROOT, b"{}")
    assert "auth runs teleport-lite 1.2.3" in new.value.hint


# A person needs a role for it


def test_a_role_counts_while_it_is_both_given_and_in_the_certificate() -> None:
    bench = Bench()
    bench.ask("/v1/users/add", name="alice", roles=["auditor"])
    with pytest.raises(Denied, match="no role allows list on token"):
        bench.ask("/v1/tokens/list", person("alice", "auditor", "editor"))
    bench.ask("/v1/users/update", name="alice", roles=["auditor", "editor"])
    with pytest.raises(Denied):
        bench.ask("/v1/tokens/list", person("alice", "auditor"))
    assert bench.ask("/v1/tokens/list", person("alice", "auditor", "editor"))["tokens"]


def test_links_of_users_are_shown_to_those_who_could_make_them() -> None:
    """Whoever has the link of a user can become that user."""
    bench = Bench()
    tokens = Role(name="tokens", allow=Condition(rules=(Rule(resources=("token",), verbs=("*",)),)))
    bench.store.write(lambda tx: tx.add_role(tokens))
    bench.ask("/v1/users/add", name="alice", roles=["tokens"])
    link = bench.ask("/v1/users/add", name="bob", roles=["editor"])["invite"]["token"]
    join = bench.ask("/v1/tokens/add", types="node")["token"]
    alice, bob = person("alice", "tokens"), person("bob", "editor")
    assert [each["token"] for each in bench.ask("/v1/tokens/list", alice)["tokens"]] == [join]
    with pytest.raises(NotFound, match="token not found"):
        bench.ask("/v1/tokens/remove", alice, token=link)
    assert link in {each["token"] for each in bench.ask("/v1/tokens/list", bob)["tokens"]}
    assert bench.ask("/v1/tokens/remove", bob, token=link) == {"token": link}


def test_a_deny_in_one_role_wins() -> None:
    bench = Bench()
    deny = Role(name="no-tokens", deny=Condition(rules=(Rule(resources=("token",), verbs=("*",)),)))
    bench.store.write(lambda tx: tx.add_role(deny))
    bench.ask("/v1/users/add", name="alice", roles=["editor", "no-tokens"])
    alice = person("alice", "editor", "no-tokens")
    with pytest.raises(Denied, match="role no-tokens denies list on token"):
        bench.ask("/v1/tokens/list", alice)
    with pytest.raises(Denied, match="role no-tokens denies read on token"):
        bench.ask("/v1/resources/get", alice, kind="tokens")


@pytest.mark.parametrize(
    ("path", "words", "resource"),
    [
        ("/v1/resources/get", {"kind": "users"}, "read on user"),
        ("/v1/resources/get", {"kind": "ca"}, "read on cert_authority"),
        ("/v1/resources/get", {"kind": "apps"}, "read on resource"),
        ("/v1/resources/create", {"resource": {"kind": "token"}}, "create on token"),
        ("/v1/resources/remove", {"kind": "node", "name": "x"}, "delete on node"),
    ],
)
def test_a_question_about_any_kind_needs_a_role_for_that_kind(
    path: str, words: dict[str, Any], resource: str
) -> None:
    bench = Bench()
    bench.ask("/v1/users/add", name="alice", roles=["access"])
    with pytest.raises(Denied, match=f"no role allows {resource}") as why:
        bench.ask(path, person("alice", "access"), **words)
    assert why.value.hint == "tctl get roles shows what each allows"


def test_who_is_turned_away_is_told_what_is_missing() -> None:
    with pytest.raises(Unauthenticated, match="needs a client certificate") as why:
        Bench().ask("/v1/status", stranger())
    assert why.value.hint == "tctl auth sign"
    with pytest.raises(Denied, match="a host may not do this"):
        Bench().ask("/v1/status", CALLERS["host"])
    with pytest.raises(NotFound, match="is not part of this cluster any more"):
        Bench().ask("/v1/ca", CALLERS["host"])


# What an answer is


def test_status_tells_the_cluster_its_cas_and_its_pins() -> None:
    bench = Bench()
    status = bench.ask("/v1/status")
    assert (status["cluster"], status["version"]) == (CLUSTER, "1.2.3")
    assert [ca["type"] for ca in status["cas"]] == ["host", "user", "db", "openssh", "jwt"]
    assert {ca["last_rotated"] for ca in status["cas"]} == {None}
    assert status["ca_pins"] == bench.desks.cas.pins()
    assert status["time"] == "2026-03-02T12:00:00Z"


def test_the_trail_is_listed_in_pages_and_verified() -> None:
    bench = Bench()
    for _ in range(5):
        bench.token(text="")
    events = bench.ask("/v1/audit/list")["events"]
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[0]["event"] == "cluster.create"
    page = bench.ask("/v1/audit/list", after=2, limit=2)["events"]
    assert [event["seq"] for event in page] == [3, 4]
    assert len(bench.ask("/v1/audit/list", limit=-5, after=-5)["events"]) == 1
    assert bench.ask("/v1/audit/verify") == {"checked": 6, "broken_at": None}


def test_facts_of_an_event_do_not_hide_what_it_is() -> None:
    bench = Bench()
    bench.desks.trail.note("session.start", "T2000I", **{"seq": "x", "event": "y", "time": "z"})
    event = bench.ask("/v1/audit/list")["events"][-1]
    assert (event["seq"], event["event"]) == (2, "session.start")
    assert event["time"] == "2026-03-02T12:00:00Z"
    assert event["fact.event"] == "y"


# From a connection to a caller


class Door:
    """A doorman of a cluster on paper: its CAs are the bench's, its clock can be moved."""

    def __init__(self) -> None:
        self.paper = PaperCluster(CLUSTER, now=FakeClock().now())
        self.bench = Bench()
        store = self.bench.store
        theirs = [keys for keys in store.cas() if keys.type not in ("host", "user")]
        store.cas = lambda type=None: [self.paper.host_ca, self.paper.user_ca, *theirs]  # type: ignore[method-assign, assignment]
        self.bench.desks.cas.reload()
        self.doorman = Doorman(self.bench.desks, own_uid=1000)

    def caller(self, der: bytes | None, uid: int | None = None) -> Caller:
        return self.doorman.caller(Peer("192.0.2.7", der, uid, OURS))


def test_a_certificate_says_who_is_asking() -> None:
    door = Door()
    host, user = door.paper.host(), door.paper.user("alice", roles=("access",))
    caller = door.caller(host.tls_der)
    assert (caller.kind, caller.name, caller.roles) == (Kind.HOST, host.id, ("Node",))
    assert caller.until == door.paper.now + timedelta(days=7)
    caller = door.caller(user.tls_der)
    assert (caller.kind, caller.name, caller.roles) == (Kind.USER, "alice", ("access",))
    bot = door.paper.user("bot-deploy", bot=True, life=timedelta(hours=1))
    caller = door.caller(bot.tls_der)
    assert (caller.kind, caller.name, caller.bot_instance) == (Kind.BOT, "bot-deploy", bot.id)


def test_no_certificate_is_anyone_and_carries_the_binding() -> None:
    caller = Door().caller(None)
    assert (caller.kind, caller.name, caller.our_certificate) == (Kind.ANYONE, "", OURS)


@pytest.mark.parametrize(("uid", "name"), [(0, "root"), (1000, "uid-1000")])
def test_the_socket_is_for_root_and_for_our_own_user(uid: int, name: str) -> None:
    caller = Door().caller(None, uid)
    assert (caller.kind, caller.name, caller.address) == (Kind.ADMIN, name, "local")


@pytest.mark.parametrize("uid", [1, 1001, 65534])
def test_the_socket_is_for_nobody_else(uid: int) -> None:
    with pytest.raises(Denied, match="only root and the service's own user"):
        Door().caller(None, uid)


def test_a_certificate_that_expires_meanwhile_is_refused_with_the_next_question() -> None:
    door = Door()
    alice = door.paper.user("alice", life=timedelta(hours=1))
    assert door.caller(alice.tls_der).kind is Kind.USER
    door.bench.clock.set(door.paper.now + timedelta(hours=1))
    with pytest.raises(Denied, match="this certificate has expired"):
        door.caller(alice.tls_der)


FORGERIES: dict[str, Callable[[Door], bytes]] = {
    "expired": lambda door: door.paper.tls_forgery(
        ends=door.paper.now - timedelta(seconds=1)
    ).der(),
    "not yet valid": lambda door: door.paper.tls_forgery(
        starts=door.paper.now + timedelta(seconds=1)
    ).der(),
    "other cluster": lambda door: PaperCluster("other.example", now=door.paper.now).host().tls_der,
    "other CA, same name": lambda door: PaperCluster(CLUSTER, now=door.paper.now).host().tls_der,
    "cluster in the URI only": lambda door: door.paper.tls_forgery(
        common_names=(f"{HOST_ID}.other",), uris=(f"spiffe://other/host/{HOST_ID}",)
    ).der(),
    "a CA": lambda door: door.paper.tls_forgery(is_ca=True).der(),
    "no purposes": lambda door: door.paper.tls_forgery(purposes=None).der(),
    "garbage": lambda door: b"\x30\x00",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_certificate_that_is_not_ours_is_nobodys(forgery: str) -> None:
    door = Door()
    with pytest.raises(Denied):
        door.caller(FORGERIES[forgery](door))


def test_a_host_cannot_be_a_user_nor_a_user_a_host() -> None:
    door = Door()
    with pytest.raises(Denied, match="a host may not do this"):
        door.doorman.answer(
            "/v1/status", Peer("192.0.2.7", door.paper.host().tls_der, None, OURS), b"{}"
        )
    with pytest.raises(Denied, match="a user may not do this"):
        door.doorman.open_stream(
            Peer("192.0.2.7", door.paper.user().tls_der, None, OURS), lambda frame: None
        )


def test_nobody_but_a_host_opens_a_stream() -> None:
    door = Door()
    with pytest.raises(Unauthenticated):
        door.doorman.open_stream(Peer("192.0.2.7", None, None, OURS), lambda frame: None)
    with pytest.raises(Denied, match=r"an? admin may not do this"):
        door.doorman.open_stream(Peer("local", None, 0, b""), lambda frame: None)
    with pytest.raises(NotFound, match="is not part of this cluster"):
        door.doorman.open_stream(
            Peer("192.0.2.7", door.paper.host().tls_der, None, OURS), lambda frame: None
        )


def test_the_doorman_forgets_when_there_is_too_much_to_remember(monkeypatch) -> None:
    monkeypatch.setattr("teleport_lite.daemon.doorman.MAX_CACHED", 3)
    door = Door()
    for number in range(7):
        door.caller(door.paper.user(f"user-{number}").tls_der)
    assert len(door.doorman._book.known) <= 3


def test_a_joined_host_is_known_by_the_certificate_it_got() -> None:
    door = Door()
    door.bench.token()
    welcome = door.bench.join(Applicant())
    caller = door.caller(ssl.PEM_cert_to_DER_cert(welcome.tls_cert))
    assert (caller.kind, caller.name) == (Kind.HOST, welcome.host_id)
