"""Between auth and PostgreSQL all packets are dropped, and no connection ends."""

import threading
import time
from collections.abc import Callable

import psycopg

from tests.faults.asking import Asking, tell
from tests.faults.crowd import Crowd
from tests.faults.kills import compare
from tests.faults.links import Space
from tests.faults.relay import enter
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.warm import warm_for
from tests.postgres import OWNER, Postgres, private
from tests.support import eventually

_STORAGE = """\
  storage:
    type: postgresql
    conn_string: "{conn_string}"
    keyring: {keyring}
"""
# A server that says nothing is given up after 11 s; one that did not say whether it has kept a
# change is asked for 10 s more (docs/storage.md).
ANSWERED = 11.0 + 10.0 + 2.0
HEALTHY = 10.0
PORT = 5432  # in a namespace of its own
SILENCE = (f"tcp dport {PORT} drop", f"tcp sport {PORT} drop")


def postgres_cut_off(run: Run) -> None:
    """By TCP, in a network namespace: no yes without a commit, a no in time, and well soon."""
    with Space() as space:
        _inside(space.name, lambda: _cut_off(run, space))


def _inside(name: str, work: Callable[[], None]) -> None:
    """In a thread that has gone into the namespace, as has all that it starts. Raises what `work`
    raises."""
    failed: list[BaseException] = []

    def go() -> None:
        enter(name)
        try:
            work()
        except BaseException as why:
            failed.append(why)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _cut_off(run: Run, space: Space) -> None:
    rounds, seconds = run.size(1, 5), run.size(14.0, 45.0)
    back, ready, asked = list[float](), list[float](), list[Asking]()
    there = "listen_addresses=127.0.0.1"
    with warm_for(run) as warm, private(there, durable=run.full) as server:
        storage = _STORAGE.format(conn_string=_by_tcp(server), keyring=run.root / "auth.keyring")
        root = run.directory("auth")
        auth = Auth(warm, root, teleport=storage.rstrip(), inside=space.name)
        auth.start()
        with Crowd([auth.address], auth.token("app"), run.root / "joins", rate=5) as crowd:
            for number in range(rounds):
                goal = crowd.count() + 5
                eventually(lambda goal=goal: crowd.count() >= goal, what="joins")  # type: ignore[misc]
                with Asking(auth, f"u{number}", run.size(3, 8)) as asking:
                    eventually(lambda asking=asking: asking.told, what="a first answer")  # type: ignore[misc]
                    space.rules(*SILENCE)
                    run.report.fault("silence between auth and PostgreSQL")
                    time.sleep(seconds)
                    space.rules()
                    since, before = time.monotonic(), crowd.count()
                    eventually(lambda: _ready(auth), seconds=120, what="auth to be well")
                    ready.append(time.monotonic() - since)
                    eventually(
                        lambda before=before: crowd.count() > before,  # type: ignore[misc]
                        seconds=120,
                        what="joins again",
                    )
                    back.append(time.monotonic() - since)
                asked.append(asking)
        for asking in asked:
            asking.judge(run.report, ANSWERED)
        compare(run.report, auth, crowd)
    run.report.slowest("auth writes again after it is healed, the longest", ready, HEALTHY)
    run.report.slowest("hosts join again after it is healed, the longest", back, HEALTHY)


def _by_tcp(server: Postgres) -> str:
    """The conn_string of a new database, over loopback."""
    with (server.data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all {OWNER} 127.0.0.1/32 trust\n")
    name = server.database().partition("@/")[2].partition("?")[0]
    server.execute("SELECT pg_reload_conf()")
    found = f"postgresql://{OWNER}@127.0.0.1:{PORT}/{name}"
    eventually(lambda: _answers(found), what="PostgreSQL to take connections by TCP")
    return found


def _answers(conn_string: str) -> bool:
    try:
        psycopg.connect(conn_string, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _ready(auth: Auth) -> bool:
    """It takes a change."""
    return tell(auth, "/v1/tokens/add", types="app", ttl="1h")[0] == 200
