"""A proxy asks about a token, for the script with that token in it."""

from typing import Any

import pytest

from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.proto.script import TokenLook
from teleport_lite.secret import Secret
from tests.auth.bench import CLUSTER, PROXY_ID, Bench, the_host

GONE = "this token has expired, was revoked, is not for a node alone, or never was one"


def look(bench: Bench, token: str, source: str = "198.51.100.5") -> Any:
    return bench.ask("/v1/tokens/look", bench.proxy(), token=token, source=source)


def made(bench: Bench, types: str = "node", **words: Any) -> str:
    return str(bench.ask("/v1/tokens/add", types=types, **words)["token"])


def refusal(bench: Bench, token: str, source: str = "198.51.100.5") -> Error:
    with pytest.raises(Error) as why:
        look(bench, token, source)
    return why.value


def test_a_node_token_comes_with_all_that_a_host_needs_and_may_be_asked_for_often() -> None:
    bench = Bench()
    token = made(bench, labels={"env": "prod"})
    for _ in range(30):
        view = look(bench, token)
    assert (view.cluster, view.labels) == (CLUSTER, {"env": "prod"})
    assert view.ca_pins == bench.desks.cas.pins()


def test_a_static_token_will_do() -> None:
    bench = Bench()
    bench.desks.tokens.add_static(("Node",), Secret("static-token-of-a-file"))
    assert look(bench, "static-token-of-a-file").labels == {}


def test_wrong_expired_revoked_locked_and_for_others_are_the_same() -> None:
    bench = Bench()
    bench.ask("/v1/bots/add", name="deploy")
    short, revoked, locked = made(bench, ttl="1m"), made(bench), made(bench)
    bench.ask("/v1/tokens/remove", token=revoked)
    bench.ask("/v1/locks/add", target="join_token", value=locked)
    others = [made(bench, types) for types in ("proxy", "auth", "node,proxy", "app", "bot")]
    static = Secret("static-token-for-two")
    bench.desks.tokens.add_static(("Proxy", "Node"), static)
    bench.later(minutes=1)
    words = (short, revoked, locked, *others, static.reveal(), "x" * 32, "", "\u00fc" * 200)
    for token in words:
        why = refusal(bench, token)
        assert (type(why), why.message, why.hint) == (
            NotFound,
            GONE,
            "tctl tokens add --type=node",
        )
        bench.later(seconds=10)  # or the limit for guessing would speak


def test_guessing_is_limited_by_the_address_that_asks_the_proxy() -> None:
    bench = Bench()
    token = made(bench)
    for number in range(20):
        refusal(bench, f"guess-number-{number:04}", "203.0.113.1")
    why = refusal(bench, token, "203.0.113.1")
    assert (type(why), why.message) == (Unavailable, "too many failed tokens from 203.0.113.1")
    assert look(bench, token, "203.0.113.2")


def test_a_host_that_is_no_proxy_may_not_ask() -> None:
    bench = Bench()
    token = made(bench)
    bench.proxy()
    with pytest.raises(Denied, match="only a host with role Proxy may do this"):
        bench.ask("/v1/tokens/look", the_host(PROXY_ID, "Node"), token=token, source="192.0.2.1")


def test_the_trail_tells_both_ends_and_the_reason_but_never_the_token() -> None:
    bench = Bench()
    token, other = made(bench), made(bench, "proxy")
    look(bench, token, "203.0.113.7\nforged")
    refusal(bench, other)
    refusal(bench, "a-guess-that-is-wrong")
    fine, mistaken, wrong = bench.events("join_token.look")
    assert (fine.code, fine.outcome) == ("TJT02I", "ok")
    assert fine.facts["proxy"] == f"host:{PROXY_ID}"
    assert fine.facts["addr.remote"] == "203.0.113.7\\nforged"
    [listed] = [t for t in bench.ask("/v1/tokens/list")["tokens"] if t["token"] == token]
    assert fine.facts["token_id"] == listed["id"]
    assert (mistaken.code, mistaken.facts["reason"]) == (
        "TJT02W",
        "the token is not for a node alone",
    )
    assert wrong.facts["reason"] == "no such token, or not any more"
    left = bench.trail_text()
    for secret in (token, other, "a-guess-that-is-wrong"):
        assert secret not in left


def test_the_question_prints_as_nothing() -> None:
    assert repr(TokenLook(token="secret-value", source="x")) == "TokenLook(<secret>)"


def test_a_token_that_is_no_text_is_malformed() -> None:
    bench = Bench()
    with pytest.raises(Malformed):
        bench.ask("/v1/tokens/look", bench.proxy(), token=["x"], source="192.0.2.1")


def test_who_asks_without_a_source_is_the_source() -> None:
    bench = Bench()
    for _ in range(20):
        assert isinstance(refusal(bench, "no-such-token", source=""), NotFound)
    assert isinstance(refusal(bench, "no-such-token", source=""), Unavailable)
    assert bench.last_event("join_token.look").facts["addr.remote"] == bench.proxy().address


def test_what_was_looked_at_is_in_the_trail() -> None:
    bench = Bench()
    token = made(bench)
    look(bench, token, source="x" * 100)
    event = bench.last_event("join_token.look")
    assert event.facts["addr.remote"] == "x" * 64
    assert (event.code, event.facts["roles"]) == ("TJT02I", "Node")
    two = made(bench, "node,app")
    assert isinstance(refusal(bench, two), NotFound)
    assert bench.last_event("join_token.look").facts["roles"] == "Node,App"
