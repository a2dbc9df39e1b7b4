"""`tctl get`, `create` and `rm`."""

import json
from typing import Any

import pytest

from teleport_lite.errors import Conflict, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.lock import Target
from teleport_lite.proto.codec import write
from teleport_lite.proto.join import token_name
from teleport_lite.proto.stream import Announced, Beat, FromAgent, StreamHello
from teleport_lite.secret import Secret
from teleport_lite.store.memory import MemoryTx
from teleport_lite.testing.makers import TOKEN
from tests.auth.bench import Applicant, Bench, the_host


def doc(kind: str, name: str, spec: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, **meta}, "spec": spec or {}}


def create(bench: Bench, resource: Any, *, force: bool = False) -> dict[str, Any]:
    return bench.ask("/v1/resources/create", resource=resource, force=force)


def get(bench: Bench, kind: str, name: str = "") -> list[dict[str, Any]]:
    return bench.ask("/v1/resources/get", kind=kind, name=name)["resources"]


def remove(bench: Bench, kind: str, name: str) -> dict[str, Any]:
    return bench.ask("/v1/resources/remove", kind=kind, name=name)


def refusal(bench: Bench, path: str, **words: Any) -> Error:
    with pytest.raises(Error) as why:
        bench.ask(f"/v1/resources/{path}", **words)
    return why.value


ROLE = doc("role", "ops", {"allow": {"logins": ["root"], "node_labels": {"env": "prod"}}})
USER = doc("user", "alice", {"roles": ["access"], "traits": {"logins": ["root"]}})
LOCK = doc("lock", "l1", {"target": {"user": "alice"}, "message": "gone"})


# Creating


@pytest.mark.parametrize(
    ("resource", "event", "code"),
    [
        (ROLE, "role.create", "T9000"),
        (USER, "user.create", "T1002"),
        (LOCK, "lock.created", "TLK00"),
    ],
)
def test_a_resource_is_made_once_unless_forced(resource: Any, event: str, code: str) -> None:
    bench = Bench()
    kind, name = resource["kind"], resource["metadata"]["name"]
    assert create(bench, resource) == {"kind": kind, "name": name, "created": True}
    why = refusal(bench, "create", resource=resource)
    assert (type(why), why.hint) == (Conflict, "tctl create -f")
    assert why.message == f"{kind} {name} already exists"
    assert create(bench, resource, force=True)["created"] is False
    assert len(get(bench, kind, name)) == 1
    codes = [each.code for each in bench.events(event)]
    assert codes[0] == codes[-1] == f"{code}I"


@pytest.mark.parametrize("resource", [ROLE, USER, LOCK], ids=lambda each: each["kind"])
def test_what_get_shows_create_takes(resource: Any) -> None:
    bench = Bench()
    create(bench, resource)
    [shown] = get(bench, resource["kind"], resource["metadata"]["name"])
    create(bench, json.loads(json.dumps(shown)), force=True)
    assert get(bench, resource["kind"], resource["metadata"]["name"]) == [shown]


def test_a_token_is_made_from_a_document() -> None:
    bench = Bench()
    made = create(
        bench,
        doc(
            "token",
            TOKEN,
            {"roles": ["Node", "App"]},
            expires="2026-03-02T13:00:00Z",
            labels={"env": "prod"},
        ),
    )
    assert made["name"] == TOKEN
    [shown] = get(bench, "token", TOKEN)
    assert shown["spec"]["roles"] == ["Node", "App"]
    assert shown["metadata"]["expires"] == "2026-03-02T13:00:00Z"
    bench.join()
    assert isinstance(refusal(bench, "create", resource=shown), Conflict)


@pytest.mark.parametrize(
    ("resource", "kind", "cause"),
    [
        (doc("token", TOKEN, {"roles": []}), Malformed, "does not exist"),
        (doc("token", TOKEN, {"roles": ["root"]}), Malformed, "does not exist"),
        (doc("token", "short", {"roles": ["node"]}), Malformed, "8 to 128 characters"),
        (doc("token", TOKEN, {"roles": ["node"]}, expires="soon"), Malformed, "is not a time"),
        (
            doc("token", TOKEN, {"roles": ["node"]}, expires="2026-03-02T11:00:00Z"),
            Malformed,
            "ttl must be between",
        ),
        (doc("user", "alice", {"roles": ["nosuch"]}), NotFound, "role 'nosuch' does not exist"),
        (doc("user", "bot-x", {"roles": []}), Malformed, "begin with bot-"),
        (doc("user", "alice", {"bot": True}), Malformed, "begin with bot-"),
        (doc("user", "a", {"traits": {"logins": ["a,root"]}}), Malformed, "login 'a,root'"),
        (doc("lock", "l", {"target": {"join_token": "nosuch"}}), NotFound, "token not found"),
        (doc("lock", "l", {"target": {"user": "a b"}}), Malformed, "lock value"),
        (doc("node", "x"), Malformed, "node can not be created by hand"),
        (doc("cert_authority", "x"), Malformed, "can not be created by hand"),
        (doc("bot", "x"), Malformed, "can not be created by hand"),
        (doc("app_server", "x"), Malformed, "can not be created by hand"),
        (doc("rolle", "x"), Malformed, "kind 'rolle' does not exist"),
        ({"metadata": {"name": "x"}}, Malformed, "has no kind"),
    ],
)
def test_what_cannot_be_made_is_refused(resource: Any, kind: type, cause: str) -> None:
    bench = Bench()
    before = (bench.store.users(), bench.store.tokens(), bench.store.locks())
    why = refusal(bench, "create", resource=resource)
    assert isinstance(why, kind)
    assert cause in why.message
    assert (bench.store.users(), bench.store.tokens(), bench.store.locks()) == before


def test_who_made_a_lock_and_when_is_not_for_its_document_to_say() -> None:
    bench = Bench()
    spec = {**LOCK["spec"], "created_by": "somebody else", "created_at": "1999-01-01T00:00:00Z"}
    create(bench, doc("lock", "l1", spec))
    [lock] = bench.store.locks()
    assert (lock.created_by, lock.created_at) == ("admin:root", bench.clock.now())


def test_a_user_keeps_its_birthday() -> None:
    bench = Bench()
    create(bench, USER)
    born = bench.clock.now()
    bench.later(days=1)
    create(bench, USER, force=True)
    assert bench.store.user("alice").created_at == born  # type: ignore[union-attr]


# Locks by command


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ({"target": "users", "value": "a"}, "lock target must be one of"),
        ({"target": "user", "value": ""}, "lock value"),
        ({"target": "user", "value": "a b"}, "lock value"),
        ({"target": "user", "value": "a", "ttl": "0s"}, "ttl of a lock"),
        ({"target": "user", "value": "a", "ttl": "999999999d"}, "ttl of a lock"),
        ({"target": "user", "value": "a", "ttl": "soon"}, "is not a length of time"),
        ({"target": "join_token", "value": "nosuch"}, "join token not found"),
    ],
)
def test_a_lock_that_would_lock_nobody_is_refused(words: dict[str, str], cause: str) -> None:
    bench = Bench()
    with pytest.raises(Error, match=cause):
        bench.ask("/v1/locks/add", **words)
    assert bench.store.locks() == []


@pytest.mark.parametrize("word", [TOKEN, token_name(Secret(TOKEN))[:16]])
def test_a_lock_on_a_token_never_shows_the_token(word: str) -> None:
    bench = Bench()
    bench.token()
    bench.ask("/v1/locks/add", target="join_token", value=word)
    [lock] = bench.store.locks()
    assert (lock.target, lock.value) == (Target.TOKEN, token_name(Secret(TOKEN))[:16])
    assert TOKEN not in bench.trail_text()
    with pytest.raises(Error, match="is locked"):
        bench.join()


def test_a_lock_ends_when_it_was_told_to() -> None:
    bench = Bench()
    bench.token()
    bench.ask("/v1/locks/add", target="join_token", value=TOKEN, ttl="5m")
    bench.later(minutes=5)
    bench.join()


# Getting


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("tokens", "token"), ("Token", "token"), ("roles", "role"), ("ca", "cert_authority"),
        ("cert_authorities", "cert_authority"), ("apps", "app_server"), ("db", "db_server"),
        ("db_servers", "db_server"), ("kube", "kube_server"), ("windows_desktops",
        "windows_desktop"), ("auth_servers", "auth_server"),
        ("nodes", "node"), ("locks", "lock"), ("bots", "bot"),
    ],
)  # fmt: skip
def test_people_may_spell_kinds_their_way(word: str, kind: str) -> None:
    assert Bench().desks.resources.kind(word) == kind


@pytest.mark.parametrize("word", ["", "s", "rolle", "x" * 5000, "\x1b[2J", "ports"])
def test_a_kind_that_does_not_exist_is_refused_with_those_that_do(word: str) -> None:
    why = refusal(Bench(), "get", kind=word)
    assert isinstance(why, Malformed)
    assert why.hint.startswith("one of app_server, auth_server, bot, cert_authority")
    assert why.message.isprintable()
    assert len(why.message) < 100


def test_a_name_that_is_not_there_is_not_found() -> None:
    why = refusal(Bench(), "get", kind="user", name="nobody")
    assert (type(why), why.message) == (NotFound, "user 'nobody' does not exist")


def test_all_of_a_kind_may_be_none() -> None:
    assert get(Bench(), "users") == []


def test_cas_are_shown_without_their_keys() -> None:
    bench = Bench()
    shown = get(bench, "ca")
    assert [each["spec"]["type"] for each in shown] == ["host", "user", "db", "openssh", "jwt"]
    assert len(get(bench, "ca", "host")) == 1
    assert "PRIVATE" not in json.dumps(shown)


def connected(bench: Bench, **beat: Any) -> str:
    """A host that joined and is beating; its UUID."""
    bench.token("node,app")
    host_id = bench.join(Applicant(roles=("Node", "App"))).host_id
    stream = bench.desks.streams.open(the_host(host_id, "Node", "App"), lambda frame: None)
    stream.frame(write(FromAgent(hello=StreamHello(version="1", roles=["Node"], boot_id="b"))))
    now = bench.clock.now().timestamp()
    stream.frame(write(FromAgent(beat=Beat(time=now, address="10.0.0.5:3022", **beat))))
    return host_id


def test_a_node_is_found_by_its_id_and_by_its_name() -> None:
    bench = Bench()
    host_id = connected(bench, labels={"env": "prod"})
    for name in (host_id, "web-1"):
        [node] = get(bench, "node", name)
        assert node["metadata"] == {"name": host_id, "labels": {"env": "prod"}}
        assert node["status"]["state"] == "online"
    [listed] = bench.ask("/v1/nodes/list")["nodes"]
    assert (listed["id"], listed["hostname"]) == (host_id, "web-1")
    assert (listed["state"], listed["address"]) == ("online", "10.0.0.5:3022")


def test_hosts_are_nodes_and_all_the_others() -> None:
    bench = Bench()
    bench.token("app")
    app = bench.join(Applicant(name="app-1", roles=("App",))).host_id
    bench.token("bot", text="the-token-of-a-bot")
    bench.join(Applicant("the-token-of-a-bot", roles=("Bot",)))
    assert [each["metadata"]["name"] for each in get(bench, "hosts")] == [app]
    assert get(bench, "nodes") == []
    remove(bench, "host", app)
    assert get(bench, "hosts") == []


def test_what_a_host_announces_is_found_by_kind() -> None:
    bench = Bench()
    app = Announced(kind="app_server", name="grafana", labels={"a": "b"}, spec={"uri": "http://x"})
    host_id = connected(bench, resources=[app])
    [found] = get(bench, "apps")
    assert found["metadata"]["name"] == "grafana"
    assert found["spec"]["host_id"] == host_id
    assert get(bench, "db") == []


def test_a_bot_is_no_node() -> None:
    bench = Bench()
    bench.token("bot")
    bench.join(Applicant(roles=("Bot",)))
    assert bench.ask("/v1/nodes/list") == {"nodes": []}
    assert get(bench, "node") == []


# Removing


def test_what_is_removed_is_gone_and_recorded_with_it() -> None:
    bench = Bench()
    for resource in (ROLE, USER, LOCK):
        create(bench, resource)
        kind, name = resource["kind"], resource["metadata"]["name"]
        assert remove(bench, kind, name) == {"kind": kind, "name": name}
        assert isinstance(refusal(bench, "get", kind=kind, name=name), NotFound)
        again = refusal(bench, "remove", kind=kind, name=name)
        assert again.message == f"{kind} '{name}' does not exist"
    events = [(each.code, each.facts["type"]) for each in bench.events("resource.delete")]
    assert events == [
        ("TLR01I", "role"), ("TLR01E", "role"),
        ("TLR01I", "user"), ("TLR01E", "user"),
        ("TLK01I", "lock"), ("TLR01E", "lock"),
    ]  # fmt: skip


def test_a_removal_that_cannot_be_recorded_does_not_happen(monkeypatch) -> None:
    bench = Bench()
    create(bench, ROLE)

    def full(tx: MemoryTx, event: object) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryTx, "record", full)
        with pytest.raises(Unavailable, match="the disk is full"):
            remove(bench, "role", "ops")
    assert len(get(bench, "role", "ops")) == 1


def test_a_role_that_somebody_has_stays() -> None:
    bench = Bench()
    create(bench, ROLE)
    create(bench, doc("user", "alice", {"roles": ["ops"]}))
    why = refusal(bench, "remove", kind="role", name="ops")
    assert (type(why), why.message) == (Conflict, "role ops is in use by alice")
    remove(bench, "user", "alice")
    remove(bench, "role", "ops")


def test_a_token_is_removed_like_anything_else() -> None:
    bench = Bench()
    bench.token()
    remove(bench, "token", TOKEN)
    assert get(bench, "tokens") == []


def test_a_node_is_removed_by_its_id_and_its_stream_ends() -> None:
    bench = Bench()
    bench.token()
    host_id = bench.join().host_id
    said: list[bytes | None] = []
    stream = bench.desks.streams.open(the_host(host_id, "Node"), said.append)
    stream.frame(write(FromAgent(hello=StreamHello(version="1", roles=["Node"], boot_id="b"))))
    assert isinstance(refusal(bench, "remove", kind="node", name="web-1"), Malformed)
    remove(bench, "node", host_id)
    assert b"this host was removed from the cluster" in (said[-2] or b"")
    assert said[-1] is None
    assert bench.ask("/v1/nodes/list") == {"nodes": []}


@pytest.mark.parametrize(
    ("kind", "hint"), [("bot", "tctl bots --help"), ("cert_authority", ""), ("app_server", "")]
)
def test_what_is_not_removed_by_hand_says_so(kind: str, hint: str) -> None:
    why = refusal(Bench(), "remove", kind=kind, name="x")
    assert (type(why), why.hint) == (Malformed, hint)


# Telling the agents


@pytest.mark.parametrize("resource", [ROLE, LOCK], ids=lambda each: each["kind"])
def test_agents_hear_of_roles_and_locks_at_once(resource: Any) -> None:
    bench = Bench()
    bench.token()
    said: list[bytes | None] = []
    stream = bench.desks.streams.open(the_host(bench.join().host_id, "Node"), said.append)
    stream.frame(write(FromAgent(hello=StreamHello(version="1", roles=["Node"], boot_id="b"))))
    said.clear()
    create(bench, resource)
    assert len(said) == 1
    remove(bench, resource["kind"], resource["metadata"]["name"])
    assert len(said) == 2
