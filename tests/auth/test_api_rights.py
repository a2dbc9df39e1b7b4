"""Which right each route for people asks for, and how much it reads: said twice, so that neither
changes by accident."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from teleport_lite.auth.api import ROUTES, answer
from teleport_lite.auth.caller import Caller
from teleport_lite.errors import Denied
from teleport_lite.model.user import Condition, Role, Rule
from teleport_lite.proto.codec import write
from tests.auth.bench import ROOT, Bench
from tests.auth.test_api import WORDS, person

# (kind of resource, verb). Of the routes for resources the kind is that of the question.
RIGHTS = {
    "/v1/status": ("status", "read"),
    "/v1/tokens/add": ("token", "create"),
    "/v1/tokens/list": ("token", "list"),
    "/v1/tokens/remove": ("token", "delete"),
    "/v1/nodes/list": ("node", "list"),
    "/v1/resources/get": ("user", "read"),
    "/v1/resources/create": ("role", "create"),
    "/v1/resources/remove": ("role", "delete"),
    "/v1/resources/update": ("remote_cluster", "update"),
    "/v1/users/add": ("user", "create"),
    "/v1/users/reset": ("user", "update"),
    "/v1/users/unlock": ("user", "update"),
    "/v1/users/list": ("user", "list"),
    "/v1/users/update": ("user", "update"),
    "/v1/users/remove": ("user", "delete"),
    "/v1/bots/add": ("bot", "create"),
    "/v1/bots/list": ("bot", "list"),
    "/v1/bots/remove": ("bot", "delete"),
    "/v1/auth/sign": ("auth", "create"),
    "/v1/auth/sign-host": ("auth", "create"),
    "/v1/auth/export": ("cert_authority", "read"),
    "/v1/auth/rotate": ("cert_authority", "rotate"),
    "/v1/auth/rotation": ("cert_authority", "read"),
    "/v1/backup/begin": ("backup", "create"),
    "/v1/backup/read": ("backup", "create"),
    "/v1/backup/end": ("backup", "create"),
    "/v1/keyring/look": ("keyring", "read"),
    "/v1/keyring/reseal": ("keyring", "update"),
    "/v1/audit/list": ("event", "list"),
    "/v1/audit/verify": ("event", "read"),
    "/v1/locks/add": ("lock", "create"),
    "/v1/recordings/remove": ("session", "delete"),
}
WISHES = {
    "/v1/resources/get": {"kind": "user"},
    "/v1/resources/create": {"resource": {"kind": "role"}},
    "/v1/resources/remove": {"kind": "role", "name": "x"},
    "/v1/resources/update": {"kind": "remote_cluster", "name": "x", "labels": {}},
}
# What strangers may ask reads 64 KiB, and what hosts ask for themselves; the rest a MiB.
SMALL = [
    "/v1/ca",
    "/v1/join/start",
    "/v1/join/finish",
    "/v1/login/start",
    "/v1/login/finish",
    "/v1/invite/look",
    "/v1/invite/accept",
    "/v1/tokens/look",
    "/v1/trust/finish",
    "/v1/trust/refresh",
    "/v1/trust/passes",
    "/v1/me",
    "/v1/me/cas",
    "/v1/me/nodes",
    "/v1/me/clusters",
    "/v1/host/renew",
    "/v1/auth/keyring",
    "/v1/auth/store",
    "/v1/auth/recordings/piece",
    "/v1/auth/recordings/dropped",
]


@pytest.fixture(scope="module")
def bench() -> Bench:
    """alice, who has the one right that is asked for; bob, who has all others."""
    bench = Bench()
    for path, (resource, verb) in RIGHTS.items():
        name = path.strip("/").replace("/", "-")
        this = Condition(rules=(Rule(resources=(resource,), verbs=(verb,)),))
        every = Condition(rules=(Rule(resources=("*",), verbs=("*",)),))
        for role in (
            Role(name=f"{name}-only", allow=this),
            Role(name=f"{name}-else", allow=every, deny=this),
        ):
            bench.store.write(lambda tx, role=role: tx.add_role(role))
            bench.ask("/v1/users/add", name=f"u-{role.name}", roles=[role.name])
    return bench


def ask(bench: Bench, path: str, which: str, patch: pytest.MonkeyPatch) -> bool:
    """Whether the desk is asked at all."""
    asked: list[str] = []
    reached: Callable[[Any, Any, Any], Any] = lambda d, c, m: asked.append(path) or {}  # noqa: E731
    patch.setitem(ROUTES, path, replace(ROUTES[path], answer=reached))
    role = f"{path.strip('/').replace('/', '-')}-{which}"
    caller = person(f"u-{role}", role)
    answer(bench.desks, path, caller, write(WISHES.get(path, WORDS[path])))
    return bool(asked)


def test_every_route_that_asks_for_a_right_is_in_the_table() -> None:
    assert {path for path, route in ROUTES.items() if route.verb} == set(RIGHTS)


@pytest.mark.parametrize("path", RIGHTS)
def test_one_right_opens_a_route_and_all_others_do_not(
    bench: Bench, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(bench, path, "only", monkeypatch)
    resource, verb = RIGHTS[path]
    with pytest.raises(Denied, match=f"denies {verb} on {resource}$"):
        ask(bench, path, "else", monkeypatch)


def test_no_route_reads_more_than_it_should() -> None:
    assert {path for path, route in ROUTES.items() if route.limit == 65_536} == set(SMALL)
    assert {route.limit for path, route in ROUTES.items() if path not in SMALL} == {1_048_576}


def somebody(bench: Bench, name: str, *rights: tuple[str, str]) -> Caller:
    rules = tuple(Rule(resources=(resource,), verbs=(verb,)) for resource, verb in rights)
    bench.store.write(lambda tx: tx.add_role(Role(name=name, allow=Condition(rules=rules))))
    bench.ask("/v1/users/add", name=name, roles=[name])
    return person(name, name)


def test_links_of_users_are_for_those_who_may_change_users(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, seen = Bench(), []
    invites = bench.desks.invites
    monkeypatch.setattr(invites, "list_tokens", lambda *, signups: seen.append(signups) or {})
    monkeypatch.setattr(
        invites, "remove_token", lambda c, t, *, signups: seen.append(signups) or {}
    )
    tokens = [("token", "list"), ("token", "delete")]
    some = somebody(bench, "some", *tokens, ("user", "list"))
    more = somebody(bench, "more", *tokens, ("user", "update"))
    for caller in (some, more, ROOT):
        bench.ask("/v1/tokens/list", caller)
        bench.ask("/v1/tokens/remove", caller, token="x")
    assert seen == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("path", "words", "desk", "call", "verb"),
    [
        ("/v1/recordings/list", {}, "recordings", "listing", "list"),
        ("/v1/recordings/read", WORDS["/v1/recordings/read"], "recordings", "read", "read"),
        ("/v1/sessions/list", {}, "sessions", "listing", "list"),
    ],
)
def test_sessions_of_all_people_are_for_those_with_that_very_right(
    path: str,
    words: dict[str, Any],
    desk: str,
    call: str,
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, seen = Bench(), []
    monkeypatch.setattr(
        getattr(bench.desks, desk), call, lambda *_, everything: seen.append(everything) or {}
    )
    may = somebody(bench, "may", ("session", verb))
    other = somebody(bench, "other", ("session", {"list": "read", "read": "list"}[verb]))
    bench.ask(path, may, **words)
    bench.ask(path, ROOT, **words)
    bench.ask(path, other, **words)  # of one's own, which needs no right
    assert seen == [True, True, False]


def test_a_listing_says_what_it_lists() -> None:
    bench = Bench()
    for what in ("users", "bots", "tokens", "nodes"):
        assert what in bench.ask(f"/v1/{what}/list")
