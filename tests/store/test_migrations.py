"""Schemas: ours, older, newer and foreign."""

import hashlib
import re
import sqlite3
from pathlib import Path

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.rotation import Phase, Rotation
from teleport_lite.model.user import User
from teleport_lite.store.migrations import BREAKS, MIGRATIONS, check_version, migrate
from teleport_lite.store.sqlite import open_sqlite
from tests.store.makers import (
    T0,
    a_host,
    a_keyring,
    a_password,
    a_recording,
    a_token,
    an_invite,
    filled,
)

# What the steps from the fourth on make.
GUESSES = ("guesses",)
CLUSTERS = ("rotations", "trusted", "remotes", "leases", *GUESSES)


def edit(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def made(path: Path) -> Path:
    store = open_sqlite(path, a_keyring())
    store.write(lambda tx: tx.add_token(a_token()))
    store.close()
    return path


def readable_by(schema: object) -> str:
    return f"UPDATE meta SET value = '{schema}' WHERE key = 'readable_by'"


@pytest.mark.parametrize(
    "spoilt", [readable_by(99), readable_by("x"), "DELETE FROM meta WHERE key = 'readable_by'"]
)
def test_a_schema_from_the_future_that_is_not_for_us_is_refused_and_kept(
    path: Path, spoilt: str
) -> None:
    edit(made(path), "PRAGMA user_version = 99", spoilt)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"its schema is 99, .* knows 5$") as refused:
            open_sqlite(path, a_keyring())
        assert "restore the backup" in refused.value.hint
    edit(path, "PRAGMA user_version = 5")
    store = open_sqlite(path, a_keyring())
    assert store.tokens() == [a_token()]
    store.close()


def test_what_a_newer_program_has_added_is_left_alone_until_it_comes_back(path: Path) -> None:
    """An upgrade that is rolled back, and is then tried again."""
    steps = [
        *MIGRATIONS,
        [
            "ALTER TABLE hosts ADD COLUMN rack TEXT NOT NULL DEFAULT ''",
            "CREATE INDEX hosts_by_rack ON hosts (rack)",
            "CREATE TABLE racks (name TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID",
        ],
    ]
    newer = sqlite3.connect(made(path), isolation_level=None)
    migrate(newer, steps)
    newer.execute("INSERT INTO racks VALUES ('r1')")
    newer.close()
    for host in ("web-1", "web-2"):
        store = open_sqlite(path, a_keyring())
        assert store.tokens() == [a_token()]
        store.write(lambda tx, host=host: tx.put_host(a_host(host)))  # type: ignore[misc]  # mypy can not infer a lambda with a default
        assert store.verify_trail()[1] is None
        store.close()
    newer = sqlite3.connect(path, isolation_level=None)
    check_version(newer, "x", steps)
    migrate(newer, steps)
    assert newer.execute("SELECT name, rack FROM hosts ORDER BY name").fetchall() == [
        ("name-of-web-1", ""),
        ("name-of-web-2", ""),
    ]
    assert newer.execute("SELECT name FROM racks").fetchall() == [("r1",)]
    newer.close()


def test_a_ca_of_a_type_that_only_a_newer_program_knows_is_none_of_ours(path: Path) -> None:
    ours = filled(CaKeys)
    store = open_sqlite(path, a_keyring())
    store.write(lambda tx: tx.add_ca(ours))
    store.close()
    columns = f"'later', id, replace(document, '\"{ours.type}\"', '\"later\"'), sealed"
    edit(path, f"INSERT INTO cas (type, id, document, sealed) SELECT {columns} FROM cas")
    store = open_sqlite(path, a_keyring())
    assert store.cas() == [ours]
    store.close()


def test_steps_after_the_first_release_only_add() -> None:
    """Else a failed upgrade could not be rolled back. A step that does more is one of BREAKS."""
    adds = re.compile(r"CREATE (TABLE|INDEX) |ALTER TABLE \w+ ADD COLUMN ")
    for schema, step in enumerate(MIGRATIONS, 1):
        if schema not in BREAKS:
            assert all(adds.match(statement) for statement in step)
            assert not any("NOT NULL" in s and "DEFAULT" not in s for s in step if "COLUMN" in s)


@pytest.mark.parametrize("pragma", ["user_version = 0", "application_id = 0"])
def test_a_database_of_somebody_else_is_refused(path: Path, pragma: str) -> None:
    edit(made(path), f"PRAGMA {pragma}")
    with pytest.raises(Unavailable, match="is not a database of teleport-lite"):
        open_sqlite(path, a_keyring())


def test_another_keyring_is_named_as_the_cause(path: Path) -> None:
    made(path)
    with pytest.raises(Unavailable, match="sealed under another keyring"):
        open_sqlite(path, a_keyring(b"x"))
    store = open_sqlite(path, a_keyring())
    assert store.tokens() == [a_token()]
    store.close()


def test_an_older_schema_is_taken_along_step_by_step(path: Path) -> None:
    db = sqlite3.connect(made(path), isolation_level=None)
    steps = [*MIGRATIONS, ["CREATE TABLE more (a)"], ["INSERT INTO more VALUES (7)"]]
    migrate(db, steps)
    assert db.execute("SELECT a FROM more").fetchall() == [(7,)]
    assert db.execute("PRAGMA user_version").fetchone() == (7,)
    check_version(db, "x", steps)
    migrate(db, steps)
    assert db.execute("SELECT count(*) FROM more").fetchone() == (1,)
    db.close()


def test_a_database_from_before_passwords_gets_room_for_them(path: Path) -> None:
    store = open_sqlite(path, a_keyring())
    store.write(lambda tx: tx.add_user(User(name="alice", roles=("access",))))
    store.close()
    tables = ("login_sources", "invites", "passwords", "recordings", *CLUSTERS)
    edit(path, *(f"DROP TABLE {table}" for table in tables), "PRAGMA user_version = 1")
    store = open_sqlite(path, a_keyring())
    assert store.user("alice") == User(name="alice", roles=("access",))
    assert store.write(lambda tx: tx.put_password(a_password()) and tx.put_invite(an_invite()))
    assert store.with_password() == {"alice"}
    store.close()


def test_a_database_from_before_recordings_gets_room_for_them(path: Path) -> None:
    tables = ("recordings", *CLUSTERS)
    edit(made(path), *(f"DROP TABLE {table}" for table in tables), "PRAGMA user_version = 2")
    store = open_sqlite(path, a_keyring())
    assert store.write(lambda tx: tx.add_recording(a_recording()))
    assert store.recordings() == [a_recording()]
    assert store.tokens() == [a_token()]
    store.close()


def test_a_database_from_before_rotations_gets_room_for_them(path: Path) -> None:
    edit(made(path), *(f"DROP TABLE {table}" for table in CLUSTERS), "PRAGMA user_version = 3")
    store = open_sqlite(path, a_keyring())
    begun = Rotation(type=CaType.HOST, serial=1, phase=Phase.INIT)
    assert store.write(lambda tx: tx.put_rotation(begun, after=0))
    assert store.rotation(CaType.HOST) == begun
    assert store.tokens() == [a_token()]
    store.close()


def test_a_database_from_before_guesses_were_kept_gets_room_for_them(path: Path) -> None:
    edit(made(path), *(f"DROP TABLE {table}" for table in GUESSES), "PRAGMA user_version = 4")
    store = open_sqlite(path, a_keyring())
    assert store.write(lambda tx: tx.count_guess("n", "", stranger=False, now=T0)) == 1
    assert store.tokens() == [a_token()]
    store.close()


def test_a_step_that_fails_leaves_the_schema_before_it(path: Path) -> None:
    db = sqlite3.connect(made(path), isolation_level=None)
    steps = [*MIGRATIONS, ["CREATE TABLE more (a)", "CREATE TABLE tokens (a)"]]
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(db, steps)
    assert db.execute("SELECT name FROM sqlite_schema WHERE name = 'more'").fetchall() == []
    assert db.execute("PRAGMA user_version").fetchone() == (5,)
    db.close()


def test_released_steps_have_not_changed() -> None:
    """Databases out there were made by these very words. Add a step, never edit one."""
    digests = [hashlib.sha256("\n".join(step).encode()).hexdigest()[:16] for step in MIGRATIONS]
    assert digests == [
        "2ef26775c9ffb5fb",
        "6f6fcdd5819d60ae",
        "026c1cba8e2a642b",
        "983cba013f494660",
        "f9281d61fcbc99b4",
    ]
