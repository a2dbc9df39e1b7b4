"""Join tokens: made, listed, revoked."""

from datetime import timedelta
from typing import Any

import pytest

from teleport_lite.auth.tokens import weakness
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound
from teleport_lite.proto.join import token_name
from teleport_lite.secret import Secret
from teleport_lite.testing.makers import TOKEN
from tests.auth.bench import Applicant, Bench


def add(bench: Bench, types: str = "node", **words: Any) -> dict[str, Any]:
    return bench.ask("/v1/tokens/add", types=types, **words)


def listed(bench: Bench) -> list[dict[str, Any]]:
    return bench.ask("/v1/tokens/list")["tokens"]


def refusal(bench: Bench, path: str, **words: Any) -> Error:
    before = len(bench.store.tokens())
    with pytest.raises(Error) as why:
        bench.ask(path, **words)
    assert len(bench.store.tokens()) == before
    return why.value


# Making them


def test_a_token_that_is_made_up_cannot_be_guessed() -> None:
    bench = Bench()
    one, other = add(bench)["token"], add(bench)["token"]
    assert one != other
    assert len(one) == 32
    assert set(one) <= set("0123456789abcdef")


def test_an_invitation_has_all_that_its_holder_needs() -> None:
    bench = Bench()
    made = add(bench, value=TOKEN)
    assert made == {
        "token": TOKEN,
        "id": token_name(Secret(TOKEN))[:16],
        "roles": ["Node"],
        "expires": "2026-03-02T12:30:00Z",
        "ttl_minutes": 30,
        "uses": "many",
        "ca_pins": bench.desks.cas.pins(),
        "auth_server": "auth.example:3025",
        "proxy_server": "",
        "door": "auth_server",
        "warnings": [],
    }


def test_a_bot_token_is_good_once_and_says_so() -> None:
    assert add(Bench(), "bot")["uses"] == "once"


def test_types_are_taken_in_any_case_and_bring_others_along() -> None:
    bench = Bench()
    assert add(bench, "NODE")["roles"] == ["Node"]
    assert add(bench, "kube")["roles"] == ["Kube", "App", "Discovery"]
    assert add(bench, "node,proxy")["roles"] == ["Node", "Proxy"]


@pytest.mark.parametrize("types", ["", "root", "node,node", "node,bot", "node;id", " "])
def test_types_that_are_none_are_refused(types: str) -> None:
    assert isinstance(refusal(Bench(), "/v1/tokens/add", types=types), Malformed)


@pytest.mark.parametrize(
    "ttl", ["0", "0s", "-5m", "1e9h", "5", "5m5", "5m; id", "8761h", "999ms", "", "1y"]
)
def test_a_life_that_is_none_is_refused(ttl: str) -> None:
    assert "ttl" in refusal(Bench(), "/v1/tokens/add", types="node", ttl=ttl).message


@pytest.mark.parametrize("ttl", ["1s", "1m", "48h", "8760h", "365d"])
def test_a_life_from_a_second_to_a_year_is_fine(ttl: str) -> None:
    assert add(Bench(), ttl=ttl)["token"]


@pytest.mark.parametrize(
    "value",
    ["short12", "x" * 129, "x" * 10_000, "with/slash", "new\nline", "$(id)-$(id)", "'quoted'",
     "nul\x00nul", "\u00fcmlaut-token", "with space", "12345678\n"],
)  # fmt: skip
def test_a_value_that_needs_quoting_is_refused_and_not_repeated(value: str) -> None:
    why = refusal(Bench(), "/v1/tokens/add", types="node", value=value)
    assert why.message == "a token must be 8 to 128 characters of A-Z a-z 0-9 . _ -"
    assert value not in why.hint + why.log


def test_a_short_value_is_taken_with_a_warning() -> None:
    made = add(Bench(), value="secret-value")
    assert made["token"] == "secret-value"
    assert "can be guessed" in made["warnings"][0]
    assert add(Bench(), value="sixteen-letters!"[:-1] + "x")["warnings"] == []


def test_the_same_value_twice_is_refused_and_recorded() -> None:
    bench = Bench()
    add(bench, value=TOKEN)
    why = refusal(bench, "/v1/tokens/add", types="node", value=TOKEN)
    assert isinstance(why, Conflict)
    assert why.message == (
        "failed to create token (a token ...cdef already exists), please use another name"
    )
    assert bench.events("join_token.create")[-1].code == "TJT00W"
    assert [token.text for token in bench.store.tokens()] == [Secret(TOKEN)]


def test_the_value_of_a_static_token_is_taken() -> None:
    bench = Bench()
    bench.desks.tokens.add_static(("Node",), Secret(TOKEN))
    why = refusal(bench, "/v1/tokens/add", types="node", value=TOKEN)
    assert isinstance(why, Conflict)


def test_a_value_is_free_again_once_its_token_has_expired() -> None:
    bench = Bench()
    add(bench, value=TOKEN, ttl="1m")
    bench.later(minutes=1)
    add(bench, value=TOKEN)


@pytest.mark.parametrize(
    ("types", "bot_name"), [("node", "deploy"), ("bot", "../x"), ("bot", "nobody")]
)
def test_a_bot_name_is_for_a_bot_that_exists(types: str, bot_name: str) -> None:
    bench = Bench()
    bench.ask("/v1/bots/add", name="deploy")
    assert isinstance(
        refusal(bench, "/v1/tokens/add", types=types, bot_name=bot_name), Malformed | NotFound
    )
    assert add(bench, "bot", bot_name="deploy")["uses"] == "once"


def test_labels_have_to_be_labels() -> None:
    why = refusal(Bench(), "/v1/tokens/add", types="node", labels={"a b": "c"})
    assert "label key" in why.message
    assert add(Bench(), labels={"env": "prod"})


# Listing them


def test_they_are_listed_by_what_ends_first_and_static_ones_last() -> None:
    bench = Bench()
    bench.desks.tokens.add_static(("Node",), Secret("static-token-of-config"))
    for value, ttl in ("token-one", "2h"), ("token-two", "1h"), ("token-three", "3h"):
        add(bench, value=value, ttl=ttl)
    assert [each["token"] for each in listed(bench)] == [
        "token-two",
        "token-one",
        "token-three",
        "static-token-of-config",
    ]
    assert listed(bench)[-1]["expires"] is None
    assert listed(bench)[-1]["static"] is True


def test_what_has_expired_is_not_listed() -> None:
    bench = Bench()
    add(bench, ttl="1m")
    bench.later(minutes=1)
    assert listed(bench) == []


def test_a_listing_says_who_made_it_and_what_for() -> None:
    bench = Bench()
    add(bench, value=TOKEN, labels={"env": "prod"})
    [each] = listed(bench)
    assert (each["created_by"], each["labels"]) == ("admin:root", {"env": "prod"})
    assert (each["once"], each["roles"]) == (False, ["Node"])


# Removing them


def test_a_token_is_removed_by_its_value_or_a_beginning_of_it() -> None:
    bench = Bench()
    add(bench, value="alpha-token-1")
    add(bench, value="beta-token-1")
    assert bench.ask("/v1/tokens/remove", token="alpha") == {"token": "alpha-token-1"}
    assert bench.ask("/v1/tokens/remove", token="beta-token-1") == {"token": "beta-token-1"}
    assert listed(bench) == []
    assert [event.code for event in bench.events("join_token.delete")] == ["TJT01I", "TJT01I"]
    with pytest.raises(Denied):
        bench.join(Applicant("alpha-token-1"))


def test_a_beginning_that_several_have_removes_none() -> None:
    bench = Bench()
    add(bench, value="alpha-token-1")
    add(bench, value="alpha-token-2")
    why = refusal(bench, "/v1/tokens/remove", token="alpha")
    assert why.message == "2 tokens begin like this"


def test_a_value_that_begins_another_means_itself() -> None:
    bench = Bench()
    add(bench, value="alpha-token")
    add(bench, value="alpha-token-2")
    bench.ask("/v1/tokens/remove", token="alpha-token")
    assert [each["token"] for each in listed(bench)] == ["alpha-token-2"]


@pytest.mark.parametrize("value", ["nosuch", "", TOKEN + "x", "*"])
def test_a_token_that_is_not_there_cannot_be_removed(value: str) -> None:
    bench = Bench()
    add(bench, value=TOKEN)
    why = refusal(bench, "/v1/tokens/remove", token=value)
    assert isinstance(why, NotFound)
    assert why.hint == "tctl tokens ls"


def test_a_static_token_is_removed_in_the_config_file() -> None:
    bench = Bench()
    bench.desks.tokens.add_static(("Node",), Secret(TOKEN))
    why = refusal(bench, "/v1/tokens/remove", token=TOKEN)
    assert isinstance(why, Conflict)
    assert "written in the config file" in why.message
    assert TOKEN not in why.message


def test_removing_it_a_moment_too_late_says_so() -> None:
    bench = Bench()
    add(bench, value=TOKEN)
    live = bench.desks.tokens.live()
    bench.ask("/v1/tokens/remove", token=TOKEN)
    bench.desks.tokens.live = lambda: live  # type: ignore[method-assign]  # read before
    assert "a moment ago" in refusal(bench, "/v1/tokens/remove", token=TOKEN).message
    assert bench.events("join_token.delete")[-1].code == "TJT01W"


# What is left behind


def test_making_and_removing_leave_events_without_the_value() -> None:
    bench = Bench()
    add(bench, value=TOKEN)
    bench.ask("/v1/tokens/remove", token=TOKEN)
    made, removed = bench.events("join_token.create")[0], bench.events("join_token.delete")[0]
    assert made.facts == removed.facts
    assert made.facts["user"] == "admin:root"
    assert TOKEN not in bench.trail_text()


def test_a_static_token_that_is_weak_can_be_told() -> None:
    bench = Bench()
    assert weakness(bench.desks.tokens.add_static(("Node",), Secret("secret-value")))
    assert not weakness(bench.desks.tokens.add_static(("Node",), Secret(TOKEN)))


def test_the_clock_put_back_does_not_revive_a_token() -> None:
    bench = Bench()
    add(bench, value=TOKEN, ttl="30m")
    bench.later(minutes=31)
    with pytest.raises(Denied):
        bench.join()
    bench.clock.set(bench.clock.now() - timedelta(hours=1))
    with pytest.raises(Denied):
        bench.join()


def test_a_static_token_is_never_one_for_a_bot() -> None:
    """It would be good once, and then stand in the file for ever."""
    bench = Bench()
    with pytest.raises(Malformed, match="can not be a static one"):
        bench.desks.tokens.add_static(("Bot",), Secret(TOKEN))
    assert bench.desks.tokens.live() == []


def test_a_token_is_named_by_its_value_or_its_id() -> None:
    bench = Bench()
    add(bench, value="some-other-token-1")
    add(bench, value=TOKEN)
    wanted = token_name(Secret(TOKEN))[:16]
    assert bench.desks.tokens.id_of(TOKEN) == bench.desks.tokens.id_of(wanted) == wanted
    for word in (TOKEN[:-1], wanted[:-1], "", "nosuch"):
        with pytest.raises(NotFound, match="join token not found"):
            bench.desks.tokens.id_of(word)


def test_sixteen_characters_are_not_weak() -> None:
    bench = Bench()
    for text, weak in (("a" * 15, True), ("a" * 16, False)):
        token = bench.desks.tokens.add_static(("Node",), Secret(text))
        assert bool(weakness(token)) is weak
        assert token.labels == {}


def test_who_has_made_a_token_for_what_is_in_the_trail() -> None:
    bench = Bench()
    add(bench, "node,app", value=TOKEN)
    event = bench.last_event("join_token.create")
    assert (event.code, event.outcome) == ("TJT00I", "ok")
    assert event.facts == {
        "token_id": token_name(Secret(TOKEN))[:16],
        "roles": "Node,App",
        "user": "admin:root",
        "addr.remote": "local",
        "join_method": "token",
    }
