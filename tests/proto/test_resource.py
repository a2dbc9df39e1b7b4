"""Resources as documents: out, in again, and what is refused on the way in."""

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.access.presets import PRESETS
from teleport_lite.errors import Malformed
from teleport_lite.model.authority import CaType
from teleport_lite.model.host import Host, Report, Resource
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.user import Condition, Options, Role, Rule, User
from teleport_lite.pki.authority import new_ca
from teleport_lite.proto import resource as docs
from teleport_lite.testing.fakes import T0
from teleport_lite.testing.makers import TOKEN, a_token

ROLE = Role(
    name="ops",
    allow=Condition(
        logins=("root", "{{internal.logins}}"),
        node_labels={"env": ("prod", "^st.*$"), "*": ("*",)},
        rules=(Rule(resources=("token",), verbs=("list", "create")),),
    ),
    deny=Condition(logins=("nobody",), node_labels={"rack": ("1",)}),
    options=Options(
        max_session_ttl=timedelta(hours=2, minutes=3),
        port_forwarding=False,
        forward_agent=True,
        x11_forwarding=True,
        file_copy=False,
        pin_source_ip=True,
    ),
)
USER = User(name="alice@example.com", roles=("access", "ops"), traits={"logins": ("alice",)})
LOCK = Lock(
    id="lock-1",
    target=Target.USER,
    value="alice",
    message="gone",
    created_at=T0,
    created_by="admin:root",
    expires_at=T0 + timedelta(hours=1),
)
HOST = Host(
    id="d52527f9-b260-41d0-bb5a-e23b0cfe0f8f",
    name="web-1",
    roles=("Node",),
    joined_at=T0,
    token_id="t",
    ssh_key="ssh-ed25519 AAAA",
    tls_key="PEM",
)


def over_the_wire(doc: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(doc))


def changed(doc: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with `value` at "spec.allow.logins"."""
    doc = copy.deepcopy(doc)
    *steps, last = path.split(".")
    block = doc
    for step in steps:
        block = block.setdefault(step, {})
    block[last] = value
    return doc


# Out and in again


@pytest.mark.parametrize("role", [ROLE, *PRESETS, Role(name="empty")], ids=lambda role: role.name)
def test_a_role_comes_back_as_it_went_out(role: Role) -> None:
    assert docs.role_from_doc(over_the_wire(docs.role_doc(role))) == role


@pytest.mark.parametrize("user", [USER, replace(USER, bot=True), User(name="a", roles=())])
def test_a_user_comes_back_as_it_went_out(user: User) -> None:
    assert docs.user_from_doc(over_the_wire(docs.user_doc(user))) == user


@pytest.mark.parametrize("lock", [LOCK, replace(LOCK, message="", expires_at=None)])
def test_a_lock_comes_back_as_it_went_out(lock: Lock) -> None:
    assert docs.lock_from_doc(over_the_wire(docs.lock_doc(lock))) == lock


def test_a_token_comes_back_as_it_went_out() -> None:
    token = a_token(roles=("Node", "App"), labels={"env": "prod"}, bot_name="deploy")
    value, roles, expires, labels, bot = docs.token_parts(over_the_wire(docs.token_doc(token)))
    assert (value, roles, labels, bot) == (TOKEN, ("Node", "App"), {"env": "prod"}, "deploy")
    assert docs.read_moment(expires or "", "expires") == token.expires_at


def test_a_static_token_has_no_end_to_come_back_with() -> None:
    assert docs.token_parts(docs.token_doc(a_token(expires_at=None)))[2] is None


# What is only shown


def test_a_node_shows_what_it_reported_and_since_when() -> None:
    report = Report(version="1", address="10.0.0.5:3022", labels={"env": "prod"}, last_seen=T0)
    doc = docs.node_doc(HOST, report, T0)
    assert doc["metadata"] == {"name": HOST.id, "labels": {"env": "prod"}}
    assert doc["spec"]["hostname"] == "web-1"
    assert doc["status"] == {
        "state": "online",
        "last_seen": "2026-03-02T12:00:00Z",
        "clock_skew_seconds": 0.0,
    }


def test_a_host_cannot_announce_in_the_name_of_another() -> None:
    liar = Resource(kind="app_server", name="grafana", spec={"host_id": "other", "uri": "http://x"})
    spec = docs.resource_doc(HOST, Report(), liar, T0)["spec"]
    assert spec["host_id"] == HOST.id
    assert spec["uri"] == "http://x"


@pytest.mark.parametrize("type", list(CaType))
def test_a_ca_shows_its_public_half_only(type: CaType) -> None:
    keys = new_ca(type, cluster="test.example", id="1", now=T0)
    shown = json.dumps(docs.ca_doc(keys, "test.example"))
    assert "PRIVATE" not in shown
    for private in (keys.ssh_private, keys.tls_private, keys.jwt_private):
        assert private is None or private.reveal() not in shown
    assert docs.ca_doc(keys, "test.example")["metadata"]["name"] == f"{type}/test.example"


# What is refused on the way in

DOCS = {
    "role": (docs.role_doc(ROLE), docs.role_from_doc),
    "user": (docs.user_doc(USER), docs.user_from_doc),
    "lock": (docs.lock_doc(LOCK), docs.lock_from_doc),
    "token": (docs.token_doc(a_token()), docs.token_parts),
}
each_kind = pytest.mark.parametrize("kind", DOCS)


@each_kind
@pytest.mark.parametrize("path", ["surprise", "metadata.surprise", "spec.surprise"])
def test_an_unknown_key_is_refused_and_named(kind: str, path: str) -> None:
    doc, read = DOCS[kind]
    with pytest.raises(Malformed, match="unknown key 'surprise'"):
        read(changed(doc, path, 1))


@pytest.mark.parametrize("path", ["spec.allow.login", "spec.deny.nodelabels", "spec.options.ttl"])
def test_a_misspelt_condition_is_not_an_empty_one(path: str) -> None:
    with pytest.raises(Malformed, match="unknown key"):
        docs.role_from_doc(changed(docs.role_doc(ROLE), path, ["x"]))


@each_kind
@pytest.mark.parametrize("name", [None, 1, "", "a b", "../x", "a\n", "x" * 300, ["a"]])
def test_a_resource_needs_a_name_that_is_safe_everywhere(kind: str, name: Any) -> None:
    doc, read = DOCS[kind]
    with pytest.raises(Malformed, match="name"):
        read(changed(doc, "metadata.name", name))


@each_kind
@pytest.mark.parametrize("path", ["metadata", "spec"])
def test_a_block_has_to_be_a_mapping(kind: str, path: str) -> None:
    doc, read = DOCS[kind]
    with pytest.raises(Malformed, match="must be a mapping"):
        read(changed(doc, path, ["x"]))


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        ("spec.allow", "x", "allow must be a mapping"),
        ("spec.allow.logins", {"a": 1}, "list of text"),
        ("spec.allow.logins", [1], "list of text"),
        ("spec.allow.logins", [""], "list of text"),
        ("spec.allow.node_labels", ["x"], "must be a mapping"),
        ("spec.allow.node_labels", {"env": 1}, "list of text"),
        ("spec.deny.node_labels", {"env": "^[prod$"}, "is not an expression"),
        ("spec.allow.rules", {"a": 1}, "rules must be a list"),
        ("spec.allow.rules", [1], "must be a mapping"),
        ("spec.allow.rules", [{"resources": "token", "verb": "list"}], "unknown key 'verb'"),
        ("spec.options.max_session_ttl", "soon", "is not a length of time"),
        ("spec.options.max_session_ttl", "0s", "max_session_ttl must be longer than nothing"),
        ("spec.options.max_session_ttl", 5, "is not a length of time"),
        ("spec.options.forward_agent", "yes", "must be true or false"),
        ("spec.options", ["x"], "must be a mapping"),
        ("metadata.labels", ["x"], "must be a mapping"),
    ],
)
def test_a_role_that_cannot_be_understood_is_refused(path: str, value: Any, cause: str) -> None:
    with pytest.raises(Malformed, match=cause):
        docs.role_from_doc(changed(docs.role_doc(ROLE), path, value))


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        ("metadata.name", "-alice", "is not valid"),
        ("metadata.name", "a:b", "user name"),
        ("spec.roles", {"a": 1}, "roles must be a list"),
        ("spec.traits", ["x"], "must be a mapping"),
        ("spec.traits", {"logins": 1}, "logins must be a list"),
        ("spec.bot", "yes", "bot must be true or false"),
    ],
)
def test_a_user_that_cannot_be_understood_is_refused(path: str, value: Any, cause: str) -> None:
    with pytest.raises(Malformed, match=cause):
        docs.user_from_doc(changed(docs.user_doc(USER), path, value))


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        ("spec.target", {}, "exactly one of"),
        ("spec.target", {"user": "a", "role": "b"}, "exactly one of"),
        ("spec.target", {"users": "a"}, "'users' is not one of"),
        ("spec.target", {"user": ""}, "is not one of"),
        ("spec.target", {"user": 1}, "is not one of"),
        ("spec.target", ["user"], "must be a mapping"),
        ("spec.expires", "tomorrow", "is not a time"),
        ("spec.expires", "2030-01-31T12:00:00", "has no time zone"),
        ("spec.expires", 12, "is not a time"),
        ("spec.created_at", "x", "is not a time"),
    ],
)
def test_a_lock_that_cannot_be_understood_is_refused(path: str, value: Any, cause: str) -> None:
    with pytest.raises(Malformed, match=cause):
        docs.lock_from_doc(changed(docs.lock_doc(LOCK), path, value))


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        ("spec.join_method", "ec2", "join_method 'ec2' is not supported"),
        ("spec.join_method", ["x"], "is not supported"),
        ("spec.roles", 1, "roles must be a list"),
        ("metadata.labels", {"a b": "c"}, "label key"),
        ("metadata.labels", {"teleport.dev/x": "c"}, "reserved"),
    ],
)
def test_a_token_that_cannot_be_understood_is_refused(path: str, value: Any, cause: str) -> None:
    with pytest.raises(Malformed, match=cause):
        docs.token_parts(changed(docs.token_doc(a_token()), path, value))


@pytest.mark.parametrize("doc", [None, [], "role", {}, {"kind": 1}, {"kind": None}])
def test_what_has_no_kind_is_no_resource(doc: Any) -> None:
    with pytest.raises(Malformed, match="has no kind"):
        docs.kind_of(doc)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
)


@each_kind
@given(st.data())
def test_any_document_is_a_noun_or_malformed(kind: str, data) -> None:
    doc, read = DOCS[kind]
    paths = ["metadata", "spec", "metadata.labels", "version"]
    paths += [f"spec.{key}" for key in doc["spec"]]
    paths += ["spec.allow.logins", "spec.allow.node_labels", "spec.allow.rules"]
    broken = changed_somewhere(doc, data.draw(st.sampled_from(paths)), data.draw(anything))
    try:
        read(broken)
    except Malformed as why:
        assert len(why.message) < 2000  # noqa: PT017  # it need not be raised


def changed_somewhere(doc: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    return changed({**doc, "spec": dict(doc["spec"])}, path, value)


# Times


def test_a_time_is_shown_in_utc_and_whole_seconds() -> None:
    east = datetime(2030, 1, 31, 14, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    assert docs.moment(east) == "2030-01-31T12:00:00Z"
    assert docs.moment(None) is None


@pytest.mark.parametrize("text", ["2030-01-31T12:00:00Z", "2030-01-31T14:00:00+02:00"])
def test_a_time_with_a_zone_is_read(text: str) -> None:
    assert docs.read_moment(text, "expires") == datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2030-01-31", "", "now", "2030-13-01T00:00:00Z", "9" * 500])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(Malformed, match="expires"):
        docs.read_moment(text, "expires")


def test_a_time_at_the_edge_of_the_calendar_is_no_crash() -> None:
    with pytest.raises(Malformed, match="expires"):
        docs.read_moment("0001-01-01T00:00:00+14:00", "expires")
