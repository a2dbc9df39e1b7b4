"""What hosts have said of themselves is written every five seconds: auth is killed there, or the
disk fails. Nothing that was written is lost or goes back, and every host is seen again."""

import json
import sqlite3
import time
from contextlib import closing

from teleport_lite.errors import Unavailable
from tests.faults.crashes import ERRORS, TRACEBACK
from tests.faults.hosts import Hosts
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.sweep import COUNT, KILL, Spot, Trap, spread
from tests.faults.warm import warm_for
from tests.support import eventually

# Goals, in seconds: of a start, of writing again, of everybody's way back.
START, WRITES, SEEN = 5.0, 5.0, 30.0


def heartbeats(run: Run) -> None:
    """Each call of a flush, with a kill and with two errors."""
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("auth"))
        auth.start()
        hosts = Hosts(warm, auth, run.root / "hosts", run.size(2, 8))
        hosts.start()
        found = _Flushes(run, auth, hosts)
        seen = found.look()
        run.report.told("calls of a flush that change files", len(seen))
        for spot in spread(seen, run.size(1, 0)):
            for fault in (KILL, *ERRORS):
                found.break_at(spot, fault)
        found.tell()


class _Flushes:
    def __init__(self, run: Run, auth: Auth, hosts: Hosts) -> None:
        self._run, self._auth, self._hosts, self._count = run, auth, hosts, 0
        self._wrong: list[str] = []
        self._start: list[float] = []
        self._writes: list[float] = []
        self._seen: list[float] = []

    def _trap(self, spot: Spot, fault: str) -> Trap:
        assert self._auth.daemon is not None
        journal = self._auth.database.with_name("auth.db-wal")
        trace = self._auth.root / "trace"
        return Trap(self._auth.daemon, trace, spot, fault, paths=(journal,))

    def look(self) -> list[Spot]:
        """Calls of one flush: nobody else changes anything while everybody is only there."""
        before = self._written()
        with self._trap(COUNT, "") as trap:
            eventually(lambda: self._written() != before, what="a flush")
            time.sleep(0.5)  # until it has ended
        return trap.seen

    def break_at(self, spot: Spot, fault: str) -> None:
        auth, name = self._auth, f"{spot}, {fault}"
        assert auth.daemon is not None
        before = self._written()
        with self._trap(spot, fault) as trap:
            eventually(lambda: trap.sprung, seconds=60, what=f"{name} in a flush")
        self._count += 1
        self._run.report.fault(f"{'kill -9' if fault == KILL else fault} in a flush")
        since = time.monotonic()
        if fault == KILL:
            auth.daemon.wait()
            auth.start()
            self._start.append(time.monotonic() - since)
        else:
            eventually(self._takes_changes, seconds=60, what="auth to write again")
            self._writes.append(time.monotonic() - since)
        eventually(lambda: self._all_seen_since(before), seconds=120, what="every host to be seen")
        self._seen.append(time.monotonic() - since)
        self._wrong += [f"{name}: {each}" for each in auth.troubles()]

    def _takes_changes(self) -> bool:
        try:
            self._auth.token("app")
        except Unavailable:
            return False
        return True

    def _all_seen_since(self, before: dict[str, str]) -> bool:
        """In the database, which auth reads when it starts; never earlier than it was."""
        now = self._written()
        back = [each for each in before if now.get(each, "") < before[each]]
        self._wrong += [f"{each} was seen {before[each]}, is {now.get(each)}" for each in back]
        everybody = len(self._hosts.online()) == len(self._hosts.daemons)
        return bool(back) or (everybody and all(now[each] > before[each] for each in before))

    def _written(self) -> dict[str, str]:
        """When hosts were last seen, by UUID; auth itself is no host that beats."""
        with closing(sqlite3.connect(f"file:{self._auth.database}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT host_id, document FROM reports").fetchall()
        ours = set(self._auth.hosts())
        return {id: json.loads(text)["last_seen"] for id, text in rows if id in ours}

    def tell(self) -> None:
        report, said = self._run.report, ""
        report.none("what is wrong, or was forgotten", self._wrong, count=self._count)
        report.slowest("start after the kill, the longest", self._start, START)
        report.slowest("auth writes again after an error, the longest", self._writes, WRITES)
        report.slowest("every host is seen, and that is written, the longest", self._seen, SEEN)
        if self._auth.daemon is not None:
            said = self._auth.daemon.said()
        report.none("tracebacks in the log", [TRACEBACK] * said.count(TRACEBACK), count=self._count)
