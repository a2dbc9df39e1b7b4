"""The server's half of the proof: bounded in number and life, and deaf to nonsense."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from teleport_lite.auth import scram
from teleport_lite.auth.scram import TALK_LIFE, Talks, make_verifier
from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.secret import Secret
from teleport_lite.testing.fakes import FakeChance, FakeClock
from teleport_lite.testing.makers import TOKEN
from tests.auth.bench import OURS, Applicant

VERIFIER = make_verifier(Secret(TOKEN), b"sixteen of bytes")


def talks(find: Callable[[str], scram.Verifier | None] = lambda name: VERIFIER) -> Talks:
    return Talks(FakeClock(), FakeChance(), find)


def a_first() -> str:
    return Applicant().first(0).client_first


almost_first = st.builds(
    lambda flag, name, nonce, more: f"{flag},n={name},r={nonce}{more}",
    st.sampled_from(["p=tls-server-end-point,", "n,", "y,", "p=,", "p=tls-unique,", ""]),
    st.text(),
    st.text(),
    st.sampled_from(["", ",m=x", ",a=b", ",n=twice", ",", ",=", ",x"]),
)


@settings(max_examples=200, deadline=None)
@given(st.text() | almost_first)
@example("p=tls-server-end-point,,n=\ud800,r=a")
@example("p=tls-server-end-point,,n=a\x00,r=a")
@example("p=tls-server-end-point,,n=" + "a" * 60_000 + ",r=a")
@example(",,,,,")
def test_a_stranger_begins_a_talk_or_is_malformed(first: str) -> None:
    with contextlib.suppress(Malformed):
        talks().begin(first, OURS)


almost_final = st.builds(
    lambda c, r, p: f"c={c},r={r},p={p}",
    st.text() | st.just("biws"),
    st.text(),
    st.text() | st.just("AAAA"),
)


@settings(max_examples=200, deadline=None)
@given(st.text() | almost_final)
@example("c=\ud800")
def test_a_stranger_proves_nothing(final: str) -> None:
    open_talks = talks()
    session, _ = open_talks.begin(a_first(), OURS)
    with pytest.raises(Denied, match="the proof does not fit"):
        open_talks.prove(session, final)


@given(st.text())
def test_a_session_that_was_never_opened_is_not_there(session: str) -> None:
    with pytest.raises(Denied, match="not finished in time, or begun elsewhere"):
        talks().prove(session, "")


def test_there_are_only_so_many_talks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "MAX_TALKS", 3)
    clock = FakeClock()
    open_talks = Talks(clock, FakeChance(), lambda name: VERIFIER)
    for _ in range(3):
        open_talks.begin(a_first(), OURS)
    with pytest.raises(Unavailable, match="too many joins at once") as full:
        open_talks.begin(a_first(), OURS)
    assert full.value.hint == "try again in half a minute"
    clock.tick(seconds=TALK_LIFE + 0.1)
    open_talks.begin(a_first(), OURS)


def test_a_talk_that_is_over_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "MAX_TALKS", 1)
    open_talks = talks()
    for _ in range(5):
        session, _ = open_talks.begin(a_first(), OURS)
        with pytest.raises(Denied):
            open_talks.prove(session, "c=x,r=x,p=x")


def test_sessions_cannot_be_mixed_up() -> None:
    open_talks = talks()
    one, other = Applicant(), Applicant()
    first, final = open_talks.begin(one.first(0).client_first, OURS)
    second, _ = open_talks.begin(other.first(0).client_first, OURS)
    proof = one.last(first, final).client_final
    with pytest.raises(Denied, match="the proof does not fit"):
        open_talks.prove(second, proof)
    name, _ = open_talks.prove(first, proof)
    assert len(name) == 64


def test_what_the_store_keeps_is_not_the_token() -> None:
    kept = repr(VERIFIER)
    assert TOKEN not in kept
    assert make_verifier(Secret(TOKEN), b"another sixteen.") != VERIFIER
