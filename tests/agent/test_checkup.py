"""The questions of a join, asked without spending anything."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from teleport_lite.agent.checkup import Finding, check_up
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import join
from teleport_lite.errors import Malformed
from teleport_lite.secret import Secret
from teleport_lite.testing.makers import TOKEN
from tests.agent.rig import Auth, Hijacker, an_identity, off_by
from tests.support import free_port


def findings(auth: Auth, **changes: Any) -> dict[str, Finding]:
    words: dict[str, Any] = {
        "servers": (auth.address,),
        "pins": (auth.pin,),
        "token": lambda: Secret(TOKEN),
        "identity": lambda: None,
        "clock": auth.bench.clock,
    }
    return {each.what: each for each in check_up(**(words | changes))}


def test_a_host_that_can_join_is_told_so_and_nothing_is_spent(auth: Auth) -> None:
    auth.bench.token("bot")
    before = len(auth.bench.events())
    found = findings(auth)
    assert {each.state for each in found.values()} == {"ok"}
    assert "test.example" in found[f"auth server {auth.address}"].words
    assert len(auth.bench.events()) == before
    join(auth.wish(roles=("Bot",)))


def damaged() -> Identity:
    raise Malformed("identity.json is damaged", hint="move it aside")


def unreadable() -> Secret:
    raise Malformed("token file /etc/token is empty")


CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no pin": ({"pins": ()}, "CA pin", "warn", "none was given"),
    "wrong pin": ({"pins": ("sha256:" + "0" * 64,)}, "CA pin", "bad", "does not have the pinned"),
    "no servers": ({"servers": ()}, "auth server", "bad", "none is configured"),
    "token": ({"token": unreadable}, "token", "bad", "is empty"),
    "no token": ({"token": None}, "token", "ok", "only a host that has not joined"),
    "identity": ({"identity": damaged}, "identity", "bad", "is damaged"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_and_the_rest_is_still_asked(auth: Auth, case: str) -> None:
    changes, what, state, words = CASES[case]
    found = findings(auth, **changes)
    assert found[what].state == state
    assert words in found[what].words
    assert {"identity", "token"} <= set(found)


def test_a_server_that_is_away_is_told_apart_from_one_that_answers(auth: Auth) -> None:
    away = f"127.0.0.1:{free_port()}"
    found = findings(auth, servers=(away, auth.address))
    assert found[f"auth server {away}"].state == "bad"
    assert found[f"auth server {auth.address}"].state == "ok"


@pytest.mark.parametrize(("seconds", "state"), [(10, "ok"), (60, "warn"), (600, "bad")])
def test_a_clock_is_told_before_it_hurts(auth: Auth, seconds: int, state: str) -> None:
    found = findings(auth, clock=off_by(auth.bench.clock, seconds=seconds))
    assert found["clock"].state == state


def test_a_host_that_has_joined_is_asked_whether_it_still_belongs(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    belongs: Callable[[], Identity] = lambda: me  # noqa: E731  # it stands for a function
    assert findings(auth, identity=belongs)["membership"].state == "ok"
    assert me.host_id in findings(auth, identity=belongs)["identity"].words
    auth.bench.ask("/v1/resources/remove", kind="node", name=me.host_id)
    gone = findings(auth, identity=belongs)["membership"]
    assert (gone.state, "any more" in gone.words) == ("bad", True)
    stray = an_identity()
    assert findings(auth, identity=lambda: stray)["membership"].state == "bad"


def test_a_key_that_does_not_fit_is_a_finding_too(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    torn = replace(me, tls_private=an_identity().tls_private)
    assert "do not fit" in findings(auth, identity=lambda: torn)["membership"].words


def test_words_of_a_stranger_do_not_reach_the_terminal_as_they_are(auth: Auth) -> None:
    class Painter(Hijacker):
        def _bundle(self) -> bytes:
            return super()._bundle().replace(b"test.example", b"\\u001b[2Jowned")

    with Painter(auth, relays=False) as painter:
        found = findings(auth, servers=(painter.address,), pins=())
    assert all(each.words.isprintable() for each in found.values())


def test_a_finding_is_a_line_of_a_listing() -> None:
    assert Finding("clock", "ok", "fine").as_dict() == {
        "check": "clock",
        "state": "ok",
        "message": "fine",
        "hint": "",
    }
