"""A database of an older version is brought up to date, and auth is killed there, or the disk
fails: the next start finishes it, and nothing is lost."""

import shutil
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from teleport_lite.store.migrations import MIGRATIONS, migrate
from tests.faults.crashes import ERRORS, TRACEBACK, Starts
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.sweep import KILL
from tests.faults.warm import Warm, warm_for

# What is not the same in every version of a database.
_OF_A_SCHEMA = "readable_by"
# Of these tables no row may be missing afterwards, and none may be new.
_KEPT = {"tokens": "name", "hosts": "id", "users": "name", "cas": "id", "keys": "name"}


def killed(run: Run) -> None:
    """At any call of the first start with a database of each older version."""
    with warm_for(run) as warm:
        for found in _each_version(run, warm):
            for spot in found.spots(points=run.size(2, 0)):
                auth = found.fresh()
                found.broken(auth, *spot, KILL).kill()
                run.report.fault("kill -9 in an upgrade")
                began = time.monotonic()
                auth.start()
                found.back.append(time.monotonic() - began)
                found.judge(auth)
            found.tell()
            run.report.slowest("start after the kill, the longest", found.back, 5)


def failed(run: Run) -> None:
    """EIO and ENOSPC there: told in a line, and the next start works."""
    with warm_for(run) as warm:
        for found in _each_version(run, warm):
            loud = []
            for number, spot in enumerate(found.spots(points=run.size(2, 0))):
                auth = found.fresh()
                daemon = found.broken(auth, *spot, ERRORS[number % 2])
                run.report.fault(f"{ERRORS[number % 2]} in an upgrade")
                daemon.stop()
                if TRACEBACK in daemon.said():
                    loud.append(f"{spot}: {daemon.said()[-300:]}")
                auth.start()
                found.judge(auth)
            found.tell()
            run.report.none("tracebacks that somebody is shown", loud, count=found.count)


def _each_version(run: Run, warm: Warm) -> "Iterable[_Upgrades]":
    """Of the release before this one, and of the first."""
    for level in run.size((len(MIGRATIONS) - 1,), (len(MIGRATIONS) - 1, 1)):
        run.report.told("schema before", level, count=len(MIGRATIONS))
        yield _Upgrades(run, warm, level)


class _Upgrades(Starts):
    """First starts with a database of schema `level`."""

    def __init__(self, run: Run, warm: Warm, level: int) -> None:
        super().__init__(run, warm)
        self._level = level
        self._old = run.root / f"of-{level}"
        made = Auth(warm, run.directory(f"made-{level}"))
        made.start()
        for number in range(5):
            made.token("node", value=f"token-{number}".ljust(32, "x"))
            made.ask("/v1/users/add", name=f"user-{number}", roles=["access"])
        made.stop()
        self._old.mkdir()
        for each in (made.data, made.data.with_suffix(".keyring")):
            each.rename(self._old / each.name)
        database = self._old / made.database.relative_to(made.root)
        _make_older(database, level)
        self._before = _rows(database)

    def fresh(self) -> Auth:
        self.count += 1
        root = self._run.root / f"of-{self._level}-{self.count}"
        shutil.copytree(self._old, root)
        return Auth(self._warm, root)

    def judge(self, auth: Auth) -> None:
        wrong = list(auth.troubles())
        auth.token("app", value="afterwards".ljust(32, "x"))
        auth.ask("/v1/tokens/remove", token="afterwards".ljust(32, "x"))
        for table, rows in _rows(auth.database).items():
            if rows != self._before[table]:
                wrong.append(f"{table}: {self._before[table]} before, {rows} now")
        auth.kill()
        with closing(sqlite3.connect(auth.database)) as db:
            [version] = db.execute("PRAGMA user_version").fetchone()
            [whole] = db.execute("PRAGMA integrity_check").fetchone()
        if (version, whole) != (len(MIGRATIONS), "ok"):
            wrong.append(f"schema {version}, {whole}")
        self._left += sum(1 for each in auth.root.rglob(".*.tmp"))
        self._wrong += [f"{auth.root.name}: {each}" for each in wrong]
        shutil.rmtree(auth.root)


def _make_older(path: Path, level: int) -> None:
    """The same rows, in the tables that there were."""
    fresh = path.with_name("older.db")
    with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
        migrate(db, MIGRATIONS[:level])
        db.execute("ATTACH ? AS now", (str(path),))
        tables = "SELECT name FROM main.sqlite_schema WHERE type = 'table'"
        for [table] in db.execute(tables).fetchall():
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            where = f"WHERE key <> '{_OF_A_SCHEMA}'" if table == "meta" else ""
            db.execute(
                f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table} {where}"
            )
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    fresh.chmod(0o600)
    fresh.rename(path)


def _rows(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            table: [row[0] for row in db.execute(f"SELECT {key} FROM {table} ORDER BY {key}")]
            for table, key in _KEPT.items()
        }
