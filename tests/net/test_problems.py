"""Our errors on the wire, both ways."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite import errors
from teleport_lite.net.problems import MAX_TEXT, STATUS, as_error, plain, problem

ERRORS = list(errors.KINDS.values())


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(ERRORS)
    assert len(set(STATUS.values())) == len(ERRORS)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_comes_out_as_it_went_in(kind: type[errors.Error]) -> None:
    status, body = problem(kind("no", hint="ask", log="for us"), "trace-1")
    assert status == STATUS[kind]
    assert "for us" not in str(body)
    again = as_error(status, body, "auth:3025")
    assert type(again) is kind
    assert (again.message, again.hint, again.log) == ("no", "ask", "")


def test_a_bug_shows_its_trace_and_nothing_else() -> None:
    status, body = problem(ZeroDivisionError("secret"), "trace-1")
    assert (status, body["error"]["message"]) == (500, "internal error")
    assert "secret" not in str(body)
    again = as_error(status, body, "auth:3025")
    assert isinstance(again, errors.Unavailable)
    assert again.message == "auth:3025 failed: internal error"
    assert again.hint == "look for trace-1 in its log"


@pytest.mark.parametrize(
    "body", [None, [], "x", 1, {}, {"error": None}, {"error": []}, {"error": "denied"}]
)
def test_a_refusal_without_our_words_is_told_by_its_status(body: Any) -> None:
    why = as_error(418, body, "auth:3025")
    assert isinstance(why, errors.Unavailable)
    assert why.message == "auth:3025 answered 418 without saying why"


def test_a_refusal_without_a_message_still_says_something() -> None:
    why = as_error(403, {"error": {"code": "denied"}}, "auth:3025")
    assert why.message == "auth:3025 answered 403"


@given(
    st.dictionaries(st.sampled_from(["code", "message", "hint", "trace"]), st.text() | st.none())
)
def test_words_of_a_server_are_safe_for_a_terminal(said: dict[str, str | None]) -> None:
    why = as_error(400, {"error": said}, "auth:3025")
    for text in (why.message, why.hint):
        assert all(char.isprintable() or char in "\n\t" for char in text)
        assert len(text) <= MAX_TEXT + 100


def test_plain_text_is_short_and_without_escapes() -> None:
    assert plain("a\x1b[2Jb\x07\u202e") == "a [2Jb  "
    assert plain("a\nb\tc") == "a\nb\tc"
    assert len(plain("x" * 99_999)) == MAX_TEXT
