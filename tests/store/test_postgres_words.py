"""Text that PostgreSQL does not take, and connection strings that would show a password."""

from contextlib import suppress

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.model.user import User
from teleport_lite.secret import Secret
from teleport_lite.store.postgres import PostgresStore
from teleport_lite.store.postgres_link import Link
from tests.store.makers import an_event
from tests.store.test_postgres import race


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_name_that_cannot_be_stored_is_refused_and_concerns_nobody_else(
    shared_store: PostgresStore, text: str
) -> None:
    for read in (shared_store.user, shared_store.token, shared_store.host, shared_store.meta):
        with pytest.raises(Malformed, match="can not be kept"):
            read(text)

    def change(tx) -> None:
        tx.add_user(User(name="half", roles=()))
        with suppress(Malformed):
            tx.remove_user(text)
        tx.put_user(User(name=text, roles=()))

    with pytest.raises(Malformed, match="can not be kept"):
        shared_store.write(change)
    assert shared_store.health.trouble == ""
    assert shared_store.users() == []
    shared_store.write(lambda tx: tx.record(an_event(text=text)))  # in a document, it is escaped
    assert shared_store.events()[0][1].facts["text"] == text
    assert shared_store.verify_trail() == (1, None)


def test_a_change_that_the_database_refuses_fails_alone(shared_store: PostgresStore) -> None:
    endings: list[object] = [None] * 6

    def run(number: int) -> None:
        name = "nul\0" if number % 2 else f"fine{number}"
        try:
            endings[number] = shared_store.write(lambda tx: tx.add_meta(name, "x"))
        except Malformed:
            endings[number] = "refused"

    race(6, run)
    assert endings == [True, "refused"] * 3
    assert shared_store.health.trouble == ""


@pytest.mark.parametrize(
    "conn_string",
    [
        "postgresql://tele:hun@ter2@db.example.com/teleport",
        "postgresql://tele:hun/ter2@db.example.com/teleport",
        "postgresql://tele:12/ter2@db.example.com/teleport",
        "postgresql://db.example.com:hunter2/teleport",
        "host=db.example.com port=hunter2",
    ],
)
def test_a_password_that_was_not_escaped_is_not_shown_as_something_else(conn_string: str) -> None:
    with pytest.raises(Malformed, match="a part of the password") as refused:
        Link(Secret(conn_string))
    assert "%40" in refused.value.hint
    assert "ter2" not in refused.value.message + refused.value.hint + refused.value.log


@pytest.mark.parametrize(
    "conn_string",
    [
        "postgresql://tele:hun%40ter2@one,two:5433/teleport",
        "postgresql://tele@/teleport?host=@abstract",
        "postgresql://tele@/teleport?host=/run/a@b",
        "postgresql://one:5432,two:5433/teleport",
    ],
)
def test_what_only_looks_like_it_is_taken(conn_string: str) -> None:
    assert Link(Secret(conn_string)).where.startswith("teleport on ")
