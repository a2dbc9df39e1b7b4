"""Hosts join and people log in for half an hour: what it cost at the beginning it costs at the end.

Hosts go as they come, so that there are never more of them: what a host costs is measured by
benchmarks/storm.py. Clients are processes of their own.
"""

import functools
import itertools
import json
import os
import re
import select
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from teleport_lite.client import login as client_login
from teleport_lite.errors import Error
from teleport_lite.secret import Secret
from tests.faults.crowd import Crowd
from tests.faults.people import Visitor, visitor
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.warm import Daemon, warm_for
from tests.support import eventually, free_port

REPO = Path(__file__).parent.parent.parent
# Goals of the plan.
GROWTH, SLACK = 5.0, 2  # percent of what it was after a while; descriptors, threads, tasks
CALM = 5  # looks, a second each, at which nothing has changed
RATE = 6.0  # of each kind a second: 10,800 in thirty minutes
_PROXY = """\
version: v3
teleport:
  nodename: proxy
  data_dir: {root}/proxy
  auth_server: {auth}
  diag_addr: 127.0.0.1:{diag}
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service: {{web_listen_addr: "{address}", public_addr: "{address}"}}
"""


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has of each at one moment."""

    rss: int  # KiB
    fds: int
    threads: int
    tasks: int

    @classmethod
    def of(cls, pid: int, diag: int) -> "Use":
        status = Path(f"/proc/{pid}/status").read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{diag}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return cls(
            rss=int(status.partition("VmRSS:")[2].split()[0]),
            fds=len(os.listdir(f"/proc/{pid}/fd")),
            threads=int(status.partition("Threads:")[2].split()[0]),
            tasks=int(float(re.findall(r"^teleport_lite_tasks (\S+)", text, re.MULTILINE)[0])),
        )


def soak(run: Run) -> None:
    """Half an hour; figures from the third minute on."""
    seconds = run.seconds(8.0, 1800.0)
    settle = min(120.0, seconds / 4)
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("auth"))
        auth.start()
        port, diag = free_port(), free_port()
        address = f"127.0.0.1:{port}"
        config = run.root / "proxy.yaml"
        config.write_text(
            _PROXY.format(root=run.root, auth=auth.address, diag=diag, address=address)
        )
        config.chmod(0o600)
        flags = (f"--token={auth.token('proxy')}", f"--ca-pin={auth.pins[0]}")
        proxy = warm.start("start", "-c", str(config), *flags, log=run.root / "log", env=auth.env)
        proxy.wait_for("connected to auth")
        daemons = {"auth": (auth.daemon, auth.diag), "proxy": (proxy, diag)}
        alice, token = visitor(auth, address, "alice"), auth.token("app")
        _warm_up(run, auth, alice, token)
        empty = _calm(daemons, {})
        began, gone = time.monotonic(), 0
        people = People(alice, run.root / "logins", RATE)
        crowd = Crowd([auth.address], token, run.root / "joins", rate=RATE)
        early: dict[str, Use] = {}
        with people, crowd:
            eventually(lambda: crowd.count() and people.count(), seconds=60, what="both")
            while time.monotonic() < began + seconds:
                gone += _remove(auth, crowd.answered()[gone:])
                if not early and time.monotonic() > began + settle:
                    early = _all(daemons)
                time.sleep(run.size(0.5, 5.0))
        gone += _remove(auth, crowd.answered()[gone:])
        late = _all(daemons)
        early = early or late
        run.report.fault("join", crowd.count())
        run.report.fault("login", people.count())
        calm = _calm(daemons, empty)
        troubles = auth.troubles()
    for name in daemons:
        _tell(run, name, early[name], late[name], empty[name], calm[name], crowd.count())
    run.report.none("logins that were refused", people.refused(), count=people.count())
    lost = [each.refusal for each in crowd.answers() if each.refusal]
    run.report.none("joins that were refused", lost, count=crowd.count())
    # Whoever is gone has left an event and no host.
    odd = [each for each in troubles if "an event without its host" not in each]
    run.report.none("what is wrong in the store", odd, count=gone)


def _warm_up(run: Run, auth: Auth, who: Visitor, token: str) -> None:
    """Threads that answer, and connections that read the store, are made when they are first
    needed, and some are kept."""
    people = People(who, run.root / "first-logins", 0.0)
    with people, Crowd([auth.address], token, run.root / "first-joins", workers=8) as crowd:
        eventually(lambda: people.count() > 5, seconds=120, what="logins")
        time.sleep(run.size(0.5, 10.0))
    _remove(auth, crowd.answered())


def _all(daemons: dict[str, tuple[Daemon | None, int]]) -> dict[str, Use]:
    return {name: Use.of(each.pid, diag) for name, (each, diag) in daemons.items() if each}


def _calm(daemons: dict[str, tuple[Daemon | None, int]], before: dict[str, Use]) -> dict[str, Use]:
    """When everybody has gone: connections that are kept open for a while end first."""
    ends, now, same = time.monotonic() + 90, _all(daemons), 0
    while time.monotonic() < ends and same < CALM:
        time.sleep(1)
        last, now = now, _all(daemons)
        there = all(now[n].fds <= before[n].fds + SLACK for n in before)
        still = all(now[n].fds == last[n].fds for n in now)
        same = same + 1 if there and still else 0
    return now


def _remove(auth: Auth, hosts: list[str]) -> int:
    for each in hosts:
        auth.ask("/v1/resources/remove", kind="host", name=each)
    return len(hosts)


def _tell(run: Run, name: str, early: Use, late: Use, empty: Use, calm: Use, count: int) -> None:
    report = run.report
    grown = (late.rss - early.rss) / early.rss * 100
    report.told(f"{name}: memory after the first minutes", early.rss // 1024, "MiB")
    goal = run.size(50.0, GROWTH)  # a few seconds are the beginning
    report.at_most(f"{name}: memory, grown since then", round(grown, 1), goal, "%", count=count)
    for what in ("fds", "threads", "tasks"):
        more = getattr(calm, what) - getattr(empty, what)
        report.at_most(f"{name}: {what} more than before", more, SLACK, count=count)


class People:
    """Somebody who logs in all the time, in a process of its own. A context manager."""

    def __init__(self, who: Visitor, path: Path, rate: float) -> None:
        self._who, self._path, self._rate = who, path, rate

    def __enter__(self) -> Self:
        words = [self._who.name, self._who.proxy, self._who.pin, str(self._rate)]
        with self._path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.soaks", *words],
                stdin=subprocess.PIPE,
                stdout=log,
                cwd=REPO,
                env={**os.environ, "PYTHONPATH": str(REPO)},
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _told(self) -> list[Any]:
        text = self._path.read_text()
        return [json.loads(line) for line in text.splitlines()[: text.count("\n")]]

    def count(self) -> int:
        return len(self._told())

    def refused(self) -> list[str]:
        return [each for each in self._told() if each]


def _main(name: str, proxy: str, pin: str, rate: str) -> None:
    slow = client_login.stretch

    @functools.cache
    def stretched(password: str, by: Any) -> Secret:
        return slow(Secret(password), by)

    # Slow on purpose, and the person's own time.
    client_login.stretch = lambda text, by: stretched(text.reveal(), by)  # type: ignore[attr-defined]
    who, pause = Visitor(name, proxy, pin), 1 / float(rate) if float(rate) else 0.0
    for _ in itertools.count():
        began = time.monotonic()
        try:
            who.login()
            said = ""
        except Error as why:
            said = why.message
        print(json.dumps(said), flush=True)
        if select.select([sys.stdin], [], [], max(0.0, began + pause - time.monotonic()))[0]:
            return


if __name__ == "__main__":
    _main(*sys.argv[1:])
