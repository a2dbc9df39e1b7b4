"""Somebody with the file and a SQL shell, but not the keyring, changes the past."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from teleport_lite.model.chain import GENESIS, canonical, link_line
from teleport_lite.store.head import Head, read_head, write_head
from teleport_lite.store.sqlite import open_sqlite
from tests.store.makers import a_keyring, an_event

N = 9


@pytest.fixture
def trail(path: Path) -> Path:
    """Events 1 to 9, and nobody has the file open."""
    store = open_sqlite(path, a_keyring())
    for number in range(1, N + 1):
        store.write(lambda tx, number=number: tx.record(an_event(number=str(number))))
    store.close()
    return path


def tamper(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("DROP TRIGGER events_stay")
    db.execute("DROP TRIGGER events_keep")
    for statement in statements:
        db.execute(statement)
    db.close()


def verdict(path: Path, *, more: int = 0) -> tuple[int, int | None]:
    """What the check says after the auth role has started again and recorded `more` events."""
    store = open_sqlite(path, a_keyring())
    for _ in range(more):
        store.write(lambda tx: tx.record(an_event("later")))
    found = store.verify_trail()
    store.close()
    return found


def test_an_untouched_trail_holds_over_restarts(trail: Path) -> None:
    assert verdict(trail) == (N, None)
    assert verdict(trail, more=2) == (N + 2, None)


@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE events SET line = CAST(replace(line, '4', 'x') AS BLOB) WHERE seq = 4", 4),
        ("UPDATE events SET line = CAST(line || ' ' AS BLOB) WHERE seq = 4", 4),
        ("UPDATE events SET line = CAST(line AS TEXT) WHERE seq = 4", 4),
        (f"UPDATE events SET hash = '{'0' * 64}' WHERE seq = 4", 4),
        ("DELETE FROM events WHERE seq = 4", 4),
        ("DELETE FROM events WHERE seq = 1", 1),
        ("DELETE FROM events WHERE seq < 4", 1),
        ("DELETE FROM events WHERE seq > 6", 7),
        ("DELETE FROM events", 1),
        ("UPDATE events SET seq = seq - 100 WHERE seq = 4", 1),
    ],
)
def test_the_first_bad_event_is_named(
    trail: Path, statement: str, first_bad: int, more: int
) -> None:
    """And it stays named when the trail goes on: the break is not chained over."""
    tamper(trail, statement)
    _, broken_at = verdict(trail, more=more)
    assert broken_at == first_bad


def test_two_events_that_changed_places_are_noticed(trail: Path) -> None:
    tamper(
        trail,
        "UPDATE events SET seq = -1 WHERE seq = 3",
        "UPDATE events SET seq = 3 WHERE seq = 6",
        "UPDATE events SET seq = 6 WHERE seq = -1",
    )
    assert verdict(trail) == (2, 3)


def test_an_end_cut_off_together_with_its_head_record_is_noticed(trail: Path) -> None:
    """Whoever writes a head without the key writes no head."""
    tamper(
        trail,
        "DELETE FROM events WHERE seq > 6",
        "UPDATE trail_head SET seq = 6, hash = (SELECT hash FROM events WHERE seq = 6)",
    )
    assert verdict(trail) == (5, 6)
    assert verdict(trail, more=2) == (6, 7)


def test_an_older_head_record_put_back_is_noticed(path: Path) -> None:
    store = open_sqlite(path, a_keyring())
    store.write(lambda tx: tx.record(an_event()))
    store.close()
    db = sqlite3.connect(path, isolation_level=None)
    old = db.execute("SELECT seq, hash, mac FROM trail_head").fetchone()
    db.close()
    store = open_sqlite(path, a_keyring())
    store.write(lambda tx: (tx.record(an_event()), tx.record(an_event())))
    store.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE trail_head SET seq = ?, hash = ?, mac = ?", old)
    db.close()
    assert verdict(path) == (1, 2)
    assert verdict(path, more=1) == (3, 4)


@pytest.mark.parametrize("statement", ["DELETE FROM trail_head", "UPDATE trail_head SET mac = 'x'"])
def test_a_head_record_that_is_gone_or_garbage_is_noticed(trail: Path, statement: str) -> None:
    tamper(trail, statement)
    assert verdict(trail) == (N - 1, N)
    assert verdict(trail, more=2) == (N, N + 1)


def test_a_trail_erased_with_its_head_record_does_not_pass_for_a_new_one(trail: Path) -> None:
    tamper(trail, "DELETE FROM events", "DELETE FROM trail_head")
    assert verdict(trail) == (0, 1)
    assert verdict(trail, more=2) == (0, 1)


def rechain(path: Path, change: Callable[[int, bytes], bytes], *, head: bool) -> None:
    """A better forger: every hash after the change computed anew, and maybe that of the head."""
    db = sqlite3.connect(path, isolation_level=None)
    before = GENESIS
    for seq, line in db.execute("SELECT seq, line FROM events ORDER BY seq").fetchall():
        forged = change(seq, line)
        before = link_line(before, forged, seq)
        db.execute("UPDATE events SET line = ?, hash = ? WHERE seq = ?", (forged, before, seq))
    if head:
        db.execute("UPDATE trail_head SET hash = ?", (before,))
    db.close()


@pytest.mark.parametrize("head", [True, False])
def test_a_chain_computed_anew_is_noticed_at_its_head(trail: Path, head: bool) -> None:
    def change(seq: int, line: bytes) -> bytes:
        return canonical(an_event("forged")) if seq == 4 else line

    tamper(trail)
    rechain(trail, change, head=head)
    assert verdict(trail)[1] == N
    assert verdict(trail, more=2)[1] == N + 1


def test_an_event_appended_by_somebody_else_is_noticed(trail: Path) -> None:
    db = sqlite3.connect(trail, isolation_level=None)
    [last] = db.execute("SELECT hash FROM events WHERE seq = ?", (N,)).fetchone()
    line = canonical(an_event("forged"))
    row = (N + 1, line, link_line(last, line, N + 1))
    db.execute("INSERT INTO events (seq, line, hash) VALUES (?, ?, ?)", row)
    db.close()
    assert verdict(trail) == (N, N + 1)
    assert verdict(trail, more=1)[1] == N + 2  # chained to nothing, for ever


def test_the_database_itself_lets_nobody_change_an_event_by_accident(trail: Path) -> None:
    db = sqlite3.connect(trail, isolation_level=None)
    for statement in ("DELETE FROM events", "UPDATE events SET hash = ''"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()


def test_a_head_is_believed_under_its_own_key_only(path: Path) -> None:
    open_sqlite(path, a_keyring()).close()
    db = sqlite3.connect(path, isolation_level=None)
    head = Head(7, "a" * 64)
    write_head(db, b"key", head)
    assert read_head(db, b"key") == head
    assert read_head(db, b"another") is None
    db.close()
