"""What PostgreSQL adds: several stores on one database, and databases that are not for us."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
import pytest

from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.rotation import Phase, Rotation
from teleport_lite.model.user import User
from teleport_lite.secret import Secret
from teleport_lite.store import postgres_ear, postgres_schema
from teleport_lite.store.migrations import MIGRATIONS
from teleport_lite.store.postgres import PostgresStore, open_postgres
from teleport_lite.store.postgres_link import Link, Session, translated
from teleport_lite.store.postgres_schema import in_postgres
from teleport_lite.store.watching import TOPICS
from tests.postgres import Postgres
from tests.store.conftest import Slate
from tests.store.makers import MINUTE, T0, a_host, a_keyring, a_token, an_event, an_invite, spend
from tests.support import eventually


def opened(conn_string: str, key: bytes = b"k") -> PostgresStore:
    return open_postgres(Secret(conn_string), a_keyring(key))


@pytest.fixture
def two(slate: Slate) -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """Two auth servers."""
    slate.wipe()
    one, other = opened(slate.conn_string), opened(slate.conn_string)
    yield one, other
    one.close()
    other.close()


def race(count: int, act: Callable[[int], None]) -> None:
    """All at once."""
    starting = threading.Barrier(count)

    def run(number: int) -> None:
        starting.wait(60)
        act(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


# Two stores on one database

Two = tuple[PostgresStore, PostgresStore]


def test_what_one_was_told_is_kept_the_other_reads(two: Two) -> None:
    one, other = two
    for number in range(20):
        one.write(lambda tx, number=number: tx.put_host(a_host(f"h{number}")))
        assert other.host(f"h{number}") is not None
        one, other = other, one


def test_of_200_racers_over_two_stores_for_a_once_token_exactly_one_wins(two: Two) -> None:
    for number in range(3):
        name = f"t{number}"
        two[0].write(lambda tx, name=name: tx.add_token(a_token(name, once=True)))
        won: list[str] = []

        def run(racer: int, name: str = name, won: list[str] = won) -> None:
            if spend(two[racer % 2], name, key=f"key-{racer}"):
                won.append(name)

        race(200, run)
        assert won == [name]


def test_of_racers_over_two_stores_for_a_link_or_a_step_exactly_one_wins(two: Two) -> None:
    def prepare(tx) -> None:
        tx.add_user(User(name="alice", roles=()))
        tx.put_invite(an_invite())

    two[0].write(prepare)
    used, stepped = [], []

    def run(racer: int) -> None:
        store = two[racer % 2]
        step = Rotation(type=CaType.HOST, phase=Phase.INIT)
        if store.write(lambda tx: tx.use_invite("i1", now=T0)):
            used.append(racer)
        if store.write(lambda tx: tx.put_rotation(step, after=0)):
            stepped.append(racer)

    race(40, run)
    assert (len(used), len(stepped)) == (1, 1)


def test_the_trail_of_two_who_write_at_once_holds_and_has_no_gaps(two: Two) -> None:
    def run(racer: int) -> None:
        for number in range(10):

            def change(tx, number: int = number) -> None:
                tx.record(an_event(racer=str(racer), number=str(number)))
                if number % 3 == 2:
                    raise Denied("no")

            with suppress(Denied):
                two[racer % 2].write(change)

    race(12, run)
    for store in two:
        assert store.verify_trail() == (12 * 7, None)
        assert [seq for seq, _ in store.events()] == list(range(1, 12 * 7 + 1))


def test_a_time_that_one_has_seen_counts_for_the_other(two: Two) -> None:
    one, other = two
    one.write(lambda tx: tx.add_token(a_token()))
    one.write(lambda tx: tx.record(an_event(at=T0 + 60 * MINUTE)))
    assert not spend(other)


def test_who_lost_the_lease_writes_no_more(two: Two) -> None:
    one, other = two
    now = T0

    def take(store: PostgresStore, holder: str) -> int:
        return store.write(lambda tx: tx.take_lease("rotate", holder, now=now, until=now + MINUTE))

    def work(store: PostgresStore, fence: int) -> bool:
        def change(tx) -> bool:
            if not tx.holds_lease("rotate", fence):
                return False
            tx.put_host(a_host(f"by-{fence}"))
            return True

        return store.write(change)

    first = take(one, "one")
    assert (take(other, "other"), work(one, first)) == (0, True)
    now = T0 + 2 * MINUTE  # the first one has slept through it
    second = take(other, "other")
    assert second > first
    assert (work(one, first), work(other, second)) == (False, True)
    assert [host.id for host, _ in other.hosts()] == ["by-1", "by-2"]


def test_each_is_told_what_the_other_changes_and_what_it_changes_itself(two: Two) -> None:
    heard: tuple[set[str], set[str]] = (set(), set())
    for store, topics in zip(two, heard, strict=True):
        store.watch(topics.update)
    two[0].write(lambda tx: tx.add_token(a_token()))
    two[1].write(lambda tx: tx.put_host(a_host()))
    for topics in heard:
        eventually(lambda topics=topics: topics == {"tokens", "hosts"}, what=str(topics))


def test_what_changes_while_it_begins_to_listen_is_told(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes together with the answer to LISTEN stands in no socket any more."""
    listen, heard = Session.script, list[frozenset[str]]()

    def script(self: Session, *statements: str) -> list[Any]:
        rows = listen(self, *statements)
        if statements[0].startswith("LISTEN"):
            two[1].write(lambda tx: tx.add_token(a_token()))
            self.raw.execute("SELECT 1")  # with its answer the notification is read
        return rows

    monkeypatch.setattr(Session, "script", script)
    two[0].watch(heard.append)
    eventually(lambda: heard == [frozenset({"tokens"})], what=str(heard))


def test_who_was_not_heard_for_in_time_is_told_everything(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`watch` does not wait for ever for a server that is slow: what is read after it returned
    may be older than what is heard."""
    connect, goes_on, heard = Link.connect, threading.Event(), list[frozenset[str]]()

    def slow(self: Link, purpose: str, **how: Any) -> Session:
        assert purpose != "watch" or goes_on.wait(60)
        return connect(self, purpose, **how)

    monkeypatch.setattr(Link, "connect", slow)
    monkeypatch.setattr(postgres_ear, "_FIRST", 0.0)
    two[0].watch(heard.append)
    two[1].write(lambda tx: tx.add_token(a_token()))
    goes_on.set()
    eventually(lambda: TOPICS in heard, what=str(heard))


def test_a_reader_that_ends_while_the_store_is_closed_leaves_no_connection(
    shared_store: PostgresStore,
) -> None:
    class Idle(list[Session]):
        def append(self, db: Session) -> None:
            shared_store.close()
            super().append(db)
            left.append(db)

    left: list[Session] = []
    shared_store._idle = Idle()
    assert shared_store.tokens() == []
    assert [db.raw.closed for db in left] == [True]


def test_a_store_without_listeners_needs_no_connection_to_listen(
    shared_store: PostgresStore, slate: Slate
) -> None:
    def listening() -> int:
        with psycopg.connect(slate.conn_string) as db:
            found = db.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'teleport-lite watch'"
            ).fetchone()
            assert found is not None
            return int(found[0])

    eventually(lambda: listening() == 0, what="the end of those of other tests")
    shared_store.write(lambda tx: tx.add_token(a_token()))
    assert listening() == 0
    shared_store.watch(lambda topics: None)
    assert listening() == 1
    shared_store.close()
    eventually(lambda: listening() == 0)


def test_two_who_open_an_empty_database_at_once_share_what_one_of_them_makes(
    database: str,
) -> None:
    stores: list[PostgresStore] = []
    race(4, lambda _: stores.append(opened(database)))
    with ExitStack() as closing:
        for store in stores:
            closing.callback(store.close)
        assert len(stores) == 4
        for number, store in enumerate(stores):
            store.write(lambda tx, number=number: tx.record(an_event(number=str(number))))
        assert stores[0].verify_trail() == (4, None)


def test_two_clusters_in_schemas_of_one_database_are_apart(postgres: Postgres) -> None:
    conn_string = postgres.database()
    postgres.execute("CREATE SCHEMA a; CREATE SCHEMA b", conn_string)
    one, other = (opened(f"{conn_string}&options=-csearch_path%3D{name}") for name in "ab")
    heard: set[str] = set()
    other.watch(heard.update)
    one.write(lambda tx: tx.add_token(a_token()))
    assert other.tokens() == []
    other.write(lambda tx: tx.put_host(a_host()))
    eventually(lambda: heard)
    assert heard == {"hosts"}
    one.close()
    other.close()
    postgres.drop(conn_string)


# What is in the way


def refused(conn_string: str, key: bytes = b"k") -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        opened(conn_string, key)
    return caught.value


def test_another_keyring_is_named_as_the_cause_and_nothing_is_touched(slate: Slate) -> None:
    slate.wipe()
    assert "was sealed under another keyring" in refused(slate.conn_string, b"x").message
    opened(slate.conn_string).close()


def test_a_database_of_somebody_else_is_refused(postgres: Postgres, database: str) -> None:
    postgres.execute("CREATE TABLE events (concert text)", database)
    assert "is not a database of teleport-lite" in refused(database).message
    assert postgres.execute("SELECT * FROM events", database) == []


def test_a_schema_from_the_future_is_refused_unless_it_is_readable(
    postgres: Postgres, database: str
) -> None:
    opened(database).close()
    postgres.execute("UPDATE schema_version SET number = 99", database)
    opened(database).close()  # it has only added
    postgres.execute("UPDATE meta SET value = '99' WHERE key = 'readable_by'", database)
    why = refused(database)
    assert "written by a newer version: its schema is 99, this program knows" in why.message
    assert "restore the backup" in why.hint


def test_an_older_schema_is_taken_along(postgres: Postgres, database: str) -> None:
    opened(database).close()
    tables = ("rotations", "trusted", "remotes", "leases", "guesses")
    drops = "; ".join(f"DROP TABLE {name}" for name in tables)
    postgres.execute(f"{drops}; UPDATE schema_version SET number = 3", database)
    store = opened(database)
    assert store.write(lambda tx: tx.put_rotation(Rotation(type=CaType.HOST), after=0))
    store.close()
    assert postgres.execute("SELECT number FROM schema_version", database) == [(len(MIGRATIONS),)]


def test_a_step_that_fails_leaves_the_schema_before_it(postgres: Postgres, database: str) -> None:
    opened(database).close()
    db = Link(Secret(database)).connect("test")
    steps = [*MIGRATIONS, ["CREATE TABLE more (a TEXT)", "CREATE TABLE tokens (a TEXT)"]]
    with pytest.raises(psycopg.errors.DuplicateTable):
        postgres_schema.migrate(db, "x", steps)
    db.close()
    [[version, more]] = postgres.execute(
        "SELECT number, to_regclass('more') FROM schema_version", database
    )
    assert (version, more) == (len(MIGRATIONS), None)
    opened(database).close()


def test_what_a_newer_program_has_added_is_left_alone_while_both_run(
    postgres: Postgres, database: str
) -> None:
    """An upgrade of one auth server after the other."""
    old = opened(database)
    old.write(lambda tx: tx.put_host(a_host("h1")))
    db = Link(Secret(database)).connect("test")
    added = "ALTER TABLE hosts ADD COLUMN rack TEXT NOT NULL DEFAULT ''"
    postgres_schema.migrate(db, "x", [*MIGRATIONS, [added]])
    db.close()
    old.write(lambda tx: tx.put_host(a_host("h2")))
    assert [host.id for host, _ in old.hosts()] == ["h1", "h2"]
    old.close()
    opened(database).close()
    assert postgres.execute("SELECT id, rack FROM hosts", database) == [("h1", ""), ("h2", "")]


def test_a_wrong_password_is_told_and_not_shown(postgres: Postgres, database: str) -> None:
    name = f"guarded_{database.partition('@/')[2].partition('?')[0]}"
    postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'right-one'")
    place = database.replace("keeper@", f"{name}:hidden-one@")
    why = refused(place)
    assert why.message.endswith("the server refuses the user or the password")
    assert "hidden-one" not in why.message + why.hint + why.log
    # With the right one it may do nothing yet.
    why = refused(place.replace("hidden-one", "right-one"))
    assert why.message.endswith("the user may not do that there")
    postgres.execute(f"ALTER DATABASE {name.removeprefix('guarded_')} OWNER TO {name}")
    opened(place.replace("hidden-one", "right-one")).close()


def test_a_database_that_is_not_there_is_told(postgres: Postgres) -> None:
    why = refused(postgres.conn_string("nowhere"))
    assert why.message == (
        f'cannot open database nowhere on {postgres.socket}: database "nowhere" does not exist'
    )


def test_what_is_no_connection_string_is_refused_and_not_shown() -> None:
    for text in ("hidden", "host=x hidden", "postgresql://a:hidden@[::"):
        with pytest.raises(Malformed) as caught:
            Link(Secret(text))
        assert "hidden" not in caught.value.message + caught.value.hint + caught.value.log


@pytest.mark.parametrize(
    ("conn_string", "unverified"),
    [
        ("postgresql://db.example.com/t", True),
        ("postgresql://db.example.com/t?sslmode=require", True),
        ("postgresql://db.example.com/t?sslmode=verify-full", False),
        ("host=/run/postgresql", False),
        ("host=localhost", False),
        ("host=127.0.0.1,::1", False),
        ("host=127.0.0.1,10.0.0.1", True),
        ("dbname=t", False),
    ],
)
def test_a_server_that_anybody_could_pose_as_is_known(conn_string: str, unverified: bool) -> None:
    assert Link(Secret(conn_string)).unverified is unverified


def test_a_server_that_anybody_could_pose_as_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused("host=db.example.com hostaddr=127.0.0.1 port=1 password=hidden")
    assert "add sslmode=verify-full" in caplog.text
    assert "hidden" not in caplog.text


# What a change can and can not do to the others


def test_a_row_too_large_for_an_index_fails_alone(shared_store: PostgresStore) -> None:
    with pytest.raises(psycopg.OperationalError, match="index"):
        shared_store.write(lambda tx: tx.put_host(a_host(ssh_key="".join(map(str, range(9999))))))
    assert shared_store.write(lambda tx: tx.add_meta("still", "writes"))


def test_the_trail_can_not_be_changed_or_emptied(
    shared_store: PostgresStore, postgres: Postgres, slate: Slate
) -> None:
    shared_store.write(lambda tx: tx.record(an_event()))
    for statement in ("UPDATE events SET seq = 2", "DELETE FROM events", "TRUNCATE events"):
        with pytest.raises(psycopg.Error, match="append-only"):
            postgres.execute(statement, slate.conn_string)
    assert shared_store.verify_trail() == (1, None)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        ("DELETE FROM trail_head", (1, 2)),
        ("UPDATE trail_head SET seq = 1", (1, 2)),
        ("UPDATE events SET line = 'x' WHERE seq = 1", (0, 1)),
        ("DELETE FROM events WHERE seq = 2", (1, 2)),
    ],
)
def test_a_trail_that_somebody_has_changed_is_found_out_for_ever(
    shared_store: PostgresStore, postgres: Postgres, slate: Slate, spoil: str, found: object
) -> None:
    for _ in range(2):
        shared_store.write(lambda tx: tx.record(an_event()))
    postgres.execute(f"SET session_replication_role = replica; {spoil}", slate.conn_string)
    assert shared_store.verify_trail() == found
    shared_store.write(lambda tx: tx.record(an_event()))  # goes on, visibly apart
    other = opened(slate.conn_string)
    assert other.verify_trail()[1] is not None
    other.close()


# Words


def test_values_are_named_for_psycopg() -> None:
    said = "SELECT ?, :name2 FROM t WHERE a IN ('', ?)"
    assert translated(said) == "SELECT %s, %(name2)s FROM t WHERE a IN ('', %s)"


def test_tables_are_the_same_in_words_of_postgresql() -> None:
    assert in_postgres("CREATE TABLE t (user TEXT, n INTEGER, b BLOB) WITHOUT ROWID") == (
        'CREATE TABLE t ("user" TEXT COLLATE "C", n BIGINT, b BYTEA)'
    )
    assert in_postgres('CREATE INDEX i ON t ("user")') == 'CREATE INDEX i ON t ("user")'
