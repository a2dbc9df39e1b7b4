"""A disk that is full, again and again, under joins: auth reads on, writes nothing, recovers. And
a database that somebody else holds."""

import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from teleport_lite.errors import Error
from tests.faults.asking import Asking
from tests.faults.crowd import Crowd
from tests.faults.kills import compare
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.warm import warm_for
from tests.support import eventually

SIZE = "20m"
PIECE = 64 * 1024
# Goals of the plan, in seconds.
ANSWERED, AGAIN = 5.0, 5.0
_HOLD = """\
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    where.mkdir()
    words = ("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(where))
    subprocess.run(words, check=True)
    try:
        yield where
    finally:
        eventually(lambda: not subprocess.run(["umount", str(where)]).returncode, what="umount")


def disk_full(run: Run) -> None:
    rounds, told, back = run.size(1, 30), list[float](), list[float]()
    unread, left = list[str](), list[str]()
    with small_disk(run.root / "disk") as disk, warm_for(run) as warm:
        auth = Auth(warm, disk)
        auth.start()
        with Crowd([auth.address], auth.token("app"), run.root / "joins", rate=10) as crowd:
            for _ in range(rounds):
                goal = crowd.count() + 5
                eventually(lambda goal=goal: crowd.count() >= goal, what="joins")  # type: ignore[misc]
                _fill(disk / "filler")
                run.report.fault("disk full")
                since = time.monotonic()
                eventually(lambda: "full" in _ready(auth)[1], what="/readyz to tell")
                told.append(time.monotonic() - since)
                before = crowd.count()
                time.sleep(run.size(1.0, 5.0))
                unread += _reads(auth)
                if (more := crowd.count() - before) > 1:
                    left.append(f"{more} joins answered on a full disk")
                (disk / "filler").unlink()
                since = time.monotonic()
                before = crowd.count()
                eventually(lambda before=before: crowd.count() > before, what="joins again")  # type: ignore[misc]
                eventually(lambda: _ready(auth)[0] == 200, what="/readyz to be well")
                back.append(time.monotonic() - since)
        compare(run.report, auth, crowd)
        left += [str(each) for each in disk.rglob(".*.tmp")]
        run.report.slowest("/readyz tells, the longest", told, 15)
        run.report.slowest("all is well after space is there again, the longest", back, 5)
        run.report.none("reads that failed meanwhile", unread, count=rounds)
        run.report.none("partial files, answers that could not be kept", left, count=rounds)
        lines = auth.daemon.said().count("full") if auth.daemon else 0
        run.report.told("lines in the log about it", lines, count=rounds)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * PIECE)
        except OSError:
            return


def _ready(auth: Auth) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{auth.diag}/readyz", timeout=10) as answer:
            return answer.status, json.dumps(json.load(answer))
    except urllib.error.HTTPError as why:
        with why:
            return why.code, why.read().decode()


def _reads(auth: Auth) -> list[str]:
    failed = []
    for path in ("/v1/status", "/v1/tokens/list", "/v1/nodes/list"):
        try:
            auth.ask(path)
        except Error as why:
            failed.append(f"{path}: {why.message}")
    return failed


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Another process, a shell of somebody or a backup, has the database for itself."""
    words = [sys.executable, "-c", _HOLD, str(database)]
    other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin
    assert other.stdout
    try:
        assert other.stdout.readline() == b"held\n"
        yield
    finally:
        other.stdin.close()
        other.wait(timeout=30)
        other.stdout.close()


def locked(run: Run) -> None:
    """Who wants to change something waits for some seconds, and is told when to come again."""
    rounds, seconds = run.size(1, 3), run.size(6.0, 30.0)
    back, unread, asked = list[float](), list[str](), 0
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("auth"))
        auth.start()
        with Crowd([auth.address], auth.token("app"), run.root / "joins", rate=10) as crowd:
            for number in range(rounds):
                goal = crowd.count() + 5
                eventually(lambda goal=goal: crowd.count() >= goal, what="joins")  # type: ignore[misc]
                with Asking(auth, f"u{number}", run.size(4, 16)) as asking, held(auth.database):
                    run.report.fault("database locked by another process")
                    time.sleep(seconds)
                    unread += _reads(auth)
                    let_go = time.monotonic()
                before = crowd.count()
                eventually(lambda before=before: crowd.count() > before, what="joins again")  # type: ignore[misc]
                back.append(time.monotonic() - let_go)
                asked += asking.judge(run.report, ANSWERED)
        compare(run.report, auth, crowd)
        run.report.slowest("changes are taken again, the longest", back, AGAIN)
        run.report.none("reads that failed meanwhile", unread, count=rounds)
        with closing(sqlite3.connect(auth.database)) as db:
            whole = db.execute("PRAGMA integrity_check").fetchone()
        run.report.none("damage", [each for each in whole if each != "ok"], count=rounds)
