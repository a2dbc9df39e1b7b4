"""The server's half of the proof: bounded in number and life, and deaf to nonsense."""

import contextlib
import hashlib
import hmac

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from teleport_lite.auth import scram
from teleport_lite.auth.scram import TALK_LIFE, Decoys, Talks, make_verifier
from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.secret import Secret
from teleport_lite.testing.fakes import FakeChance, FakeClock
from teleport_lite.testing.makers import TOKEN
from tests.auth.bench import OURS, Applicant, Bench

VERIFIER = make_verifier(Secret(TOKEN), b"sixteen of bytes")


def talks() -> Talks:
    return Talks(FakeClock(), FakeChance(), "join")


def find(name: str) -> scram.Verifier:
    return VERIFIER


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
        talks().begin(first, find, OURS)


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
    session, _ = open_talks.begin(a_first(), find, OURS)
    with pytest.raises(Denied, match="the proof does not fit"):
        open_talks.take(session).prove(final)


@given(st.text())
def test_a_session_that_was_never_opened_is_not_there(session: str) -> None:
    with pytest.raises(Denied, match="not finished in time, or begun elsewhere"):
        talks().take(session)


def test_who_holds_the_most_talks_makes_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "MAX_TALKS", 3)
    open_talks = talks()
    honest, _ = open_talks.begin(a_first(), find, OURS, "192.0.2.1")
    first, _ = open_talks.begin(a_first(), find, OURS, "192.0.2.66")
    second, _ = open_talks.begin(a_first(), find, OURS, "192.0.2.66")
    other, _ = open_talks.begin(a_first(), find, OURS, "192.0.2.2")
    for session in (honest, second, other):
        open_talks.take(session)
    with pytest.raises(Denied, match="not finished in time"):
        open_talks.take(first)


def test_a_talk_that_is_over_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "MAX_TALKS", 1)
    open_talks = talks()
    for _ in range(5):
        session, _ = open_talks.begin(a_first(), find, OURS)
        with pytest.raises(Denied):
            open_talks.take(session).prove("c=x,r=x,p=x")


def test_sessions_cannot_be_mixed_up() -> None:
    open_talks = talks()
    one, other = Applicant(), Applicant()
    first, talk = open_talks.begin(one.first(0).client_first, find, OURS)
    second, _ = open_talks.begin(other.first(0).client_first, find, OURS)
    proof = one.last(first, talk.server_first).client_final
    with pytest.raises(Denied, match="the proof does not fit"):
        open_talks.take(second).prove(proof)
    taken = open_talks.take(first)
    assert len(taken.name) == 64
    assert taken.prove(proof).startswith("v=")


def test_a_talk_is_taken_once() -> None:
    open_talks = talks()
    session, _ = open_talks.begin(a_first(), find, OURS)
    open_talks.take(session)
    with pytest.raises(Denied, match="not finished in time"):
        open_talks.take(session)


def test_one_source_cannot_take_all_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "MAX_OF_SOURCE", 2)
    clock = FakeClock()
    open_talks = Talks(clock, FakeChance(), "login")
    session, _ = open_talks.begin(a_first(), find, OURS, "192.0.2.1")
    open_talks.begin(a_first(), find, OURS, "192.0.2.1")
    with pytest.raises(Unavailable, match="too many logins at once") as full:
        open_talks.begin(a_first(), find, OURS, "192.0.2.1")
    assert full.value.hint == "try again in half a minute"
    open_talks.begin(a_first(), find, OURS, "192.0.2.2")
    open_talks.take(session)
    open_talks.begin(a_first(), find, OURS, "192.0.2.1")
    clock.tick(seconds=TALK_LIFE + 0.1)
    for _ in range(2):
        open_talks.begin(a_first(), find, OURS, "192.0.2.1")


# Decoys


def test_a_name_nobody_has_gets_the_same_answer_every_time_and_its_own() -> None:
    decoys = Decoys(b"key")
    assert decoys.verifier("eve") == Decoys(b"key").verifier("eve")
    others = [decoys.verifier("mallory"), Decoys(b"another").verifier("eve")]
    for other in others:
        assert not {other.salt, other.stored_key} & {
            decoys.verifier("eve").salt,
            decoys.verifier("eve").stored_key,
        }
    assert decoys.salt("eve", "one use") != decoys.salt("eve", "another")
    apart = decoys.apart("token").verifier("eve")
    assert apart == Decoys(b"key").apart("token").verifier("eve")
    assert apart.salt != decoys.verifier("eve").salt


def test_what_the_store_keeps_is_not_the_token() -> None:
    kept = repr(VERIFIER)
    assert TOKEN not in kept
    assert make_verifier(Secret(TOKEN), b"another sixteen.") != VERIFIER


def test_a_verifier_is_made_with_the_salt_and_the_rounds_we_say() -> None:
    assert (VERIFIER.salt, VERIFIER.iterations) == (b"sixteen of bytes", 4096)
    plain = hashlib.pbkdf2_hmac("sha256", TOKEN.encode(), VERIFIER.salt, 4096)
    client_key = hmac.digest(plain, b"Client Key", "sha256")  # RFC 5802 §3
    assert VERIFIER.stored_key == hashlib.sha256(client_key).digest()
    assert VERIFIER.server_key == hmac.digest(plain, b"Server Key", "sha256")


def test_a_session_cannot_be_guessed() -> None:
    session, _ = talks().begin(a_first(), find, OURS)
    assert len(session) == 32  # 16 bytes


def test_the_greediest_makes_room_whatever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "MAX_TALKS", 4)
    for greedy, others in (("192.0.2.1", "198.51.100.9"), ("198.51.100.9", "192.0.2.1")):
        desk = talks()
        first, _ = desk.begin(a_first(), find, OURS, greedy)
        second, _ = desk.begin(a_first(), find, OURS, greedy)
        modest = [
            desk.begin(a_first(), find, OURS, source)[0] for source in (others, "203.0.113.5")
        ]
        third, _ = desk.begin(a_first(), find, OURS, greedy)
        with pytest.raises(Denied):
            desk.take(first)
        for session in (second, third, *modest):
            assert desk.take(session)


def test_the_oldest_talks_are_forgotten_first() -> None:
    clock = FakeClock()
    desk = Talks(clock, FakeChance(), "join")
    old, _ = desk.begin(a_first(), find, OURS)
    clock.tick(seconds=TALK_LIFE - 1)
    new, _ = desk.begin(a_first(), find, OURS)
    clock.tick(seconds=2)
    last, _ = desk.begin(a_first(), find, OURS)
    with pytest.raises(Denied):
        desk.take(old)
    assert desk.take(new)
    assert desk.take(last)


def test_a_talk_that_is_over_makes_room_for_one_of_its_source_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scram, "MAX_OF_SOURCE", 3)
    desk = talks()
    sessions = [desk.begin(a_first(), find, OURS, "192.0.2.1")[0] for _ in range(3)]
    desk.take(sessions[0])
    desk.begin(a_first(), find, OURS, "192.0.2.1")
    with pytest.raises(Unavailable):
        desk.begin(a_first(), find, OURS, "192.0.2.1")


def test_sources_whose_talks_are_over_are_not_remembered() -> None:
    desk = talks()
    sessions = [desk.begin(a_first(), find, OURS, f"192.0.2.{n}")[0] for n in range(4)]
    for session in (*sessions, *[desk.begin(a_first(), find, OURS, "192.0.2.1")[0]]):
        desk.take(session)
    assert not desk._by_source


def test_decoys_are_alike_for_every_auth_server_of_every_version() -> None:
    """Two that answer differently for a name that nobody has would tell that nobody has it."""
    found = Decoys(b"k" * 32).verifier("n")
    assert found.salt.hex() == "0ca1e01d6ee31463aeb700d17894a283"
    assert found.stored_key.hex()[:16] == "55145bab089280c6"
    assert found.server_key.hex()[:16] == "56b0cf96f037cffc"
    assert Decoys(b"k" * 32).apart("join").salt("n", "x").hex()[:16] == "82e4166061422888"


def test_a_decoy_has_as_much_salt_and_as_many_rounds_as_a_token() -> None:
    bench = Bench()
    bench.token()
    [token] = bench.desks.tokens.live()
    decoy = Decoys(b"k" * 32).verifier("n")
    assert len(token.verifier.salt) == len(decoy.salt) == 16
    assert token.verifier.iterations == decoy.iterations
    assert len(token.verifier.stored_key) == len(decoy.stored_key)
