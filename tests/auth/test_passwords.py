"""Which passwords are good enough, and what is kept of one."""

import threading

import pytest

from teleport_lite.auth import passwords
from teleport_lite.auth.passwords import PasswordBook, check_password
from teleport_lite.auth.scram import Decoys
from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.secret import Secret
from teleport_lite.store.memory import MemoryStore
from teleport_lite.testing.fakes import FakeClock


def cause(text: str, user: str = "alice") -> str:
    """Why it is refused; "" if it is not."""
    try:
        check_password(Secret(text), user)
    except Malformed as why:
        assert text not in f"{why.message} {why.hint} {why.log}" or not text  # noqa: PT017  # it may also pass
        return why.message
    return ""


@pytest.mark.parametrize(
    "text",
    [
        "correct horse staple",
        "alice-in-wonderland",  # more than her name
        "Tr0ub4dor&3-and-so",
        "p\u00e4sswort \u6f22\u5b57 \U0001f600 drei",
        "            x y z 1 2",
        "0f9a8b7c6d5e",
        "x" * 60 + "abcd" + "y" * 64,
        "my dog's name is rex",
    ],
)
def test_these_are_good_enough(text: str) -> None:
    assert cause(text) == ""


@pytest.mark.parametrize("text", ["", "short", "eleven char", "x y" * 43])
def test_too_short_and_too_long_are_refused_with_the_length(text: str) -> None:
    assert cause(text) == (f"the password must have 12 to 128 characters, this one has {len(text)}")


def test_characters_are_counted_not_bytes() -> None:
    assert cause("\u00e4\u00f6\u00fc\u00df\u6f22\u5b57 \u00e9\u00e8 \u00f1!") == ""
    assert "this one has 11" in cause("a\u0308bcdefghijk")  # two keystrokes, one character


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("alice1234567", "alice"),
        ("1234567ALICE", "alice"),
        ("alice-alice-alice", "alice"),
        ("bob.smith!2024", "bob.smith"),
        ("Bob.Smith!2024", "bob.smith"),
        ("alice@example.com", "alice@example.com"),
    ],
)
def test_the_user_name_is_no_password(text: str, user: str) -> None:
    assert cause(text, user) == "the password is little more than the user name"


@pytest.mark.parametrize(
    "text",
    [
        "aaaaaaaaaaaa",
        "abababababab",
        "123456789012",
        "210987654321",
        "abcdefghijkl",
        "qwertyuiopas",
        "1q2w3e4r5t6y",
        "1qaz2wsx3edc",
        "            ",
    ],
)
def test_a_pattern_is_no_password(text: str) -> None:
    assert cause(text) == "the password is a pattern that is easy to guess"


@pytest.mark.parametrize(
    "text",
    [
        "password1234",
        "Password!2026",
        "p@ssw0rd1234",
        "passwordpassword",
        "pass-word-1234",
        "iloveyou2026",
        "Administrator1",
        "teleport12345",
        "letmein!!!123",
        "correcthorsebatterystaple",
    ],
)
def test_the_commonest_are_refused(text: str) -> None:
    assert cause(text) == "the password is one of the commonest"


# What is kept


def a_book() -> PasswordBook:
    return PasswordBook(clock=FakeClock(), store=MemoryStore(), decoys=Decoys(b"key"))


def test_what_is_kept_is_not_the_password_and_shows_nothing_of_it() -> None:
    kept = a_book().make("alice", Secret("correct horse staple"))
    assert "correct horse" not in repr(kept)
    assert kept.stretch.time == 3
    assert a_book().make("bob", Secret("correct horse staple")).verifier != kept.verifier


def test_only_so_many_are_stretched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 64 MiB. Whoever waits too long is told, and holds up nobody."""
    book, inside, go_on = a_book(), threading.Semaphore(0), threading.Event()

    def slow(password: Secret, by: object) -> Secret:
        inside.release()
        assert go_on.wait(30)
        return password

    monkeypatch.setattr(passwords, "stretch", slow)
    monkeypatch.setattr(passwords, "PATIENCE", 0.01)
    good = Secret("correct horse staple")
    threads = [threading.Thread(target=book.make, args=("alice", good)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=30)
    with pytest.raises(Unavailable, match="many passwords are being set just now"):
        book.make("carol", good)
    go_on.set()
    for thread in threads:
        thread.join()
    book.make("carol", good)


def test_a_stretching_that_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    book = a_book()
    monkeypatch.setattr(passwords, "PATIENCE", 0.01)

    def fail(password: Secret, by: object) -> Secret:
        raise Unavailable("no memory")

    monkeypatch.setattr(passwords, "stretch", fail)
    for _ in range(5):
        with pytest.raises(Unavailable, match="no memory"):
            book.make("alice", Secret("correct horse staple"))
