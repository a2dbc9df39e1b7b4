"""A process stands still (SIGSTOP): a proxy, the SSH worker of a session. Others are served, peers
notice, and it is well soon after it goes on.

That systemd ends a daemon that stands still is shown in tests/machines. One that says nothing is
the worse case: nobody starts it anew.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.faults.outages import Talk, World
from tests.faults.report import Run
from tests.faults.warm import warm_for
from tests.support import eventually

# Goals of the plan, in seconds.
NOTICED, BACK, NEXT = 30.0, 15.0, 2.0


def proxy(run: Run) -> None:
    """Who does not need it goes on; nodes and auth notice; tunnels are back when it is."""
    rounds, seconds = run.size(1, 5), run.size(16.0, 60.0)
    noticed, back, refused, asked = list[float](), list[float](), list[str](), 0
    lost: list[str] = []
    with warm_for(run) as warm, ExitStack() as stack:
        world = World(run, warm, direct=1, tunnels=run.size(1, 3), hosts=run.size(1, 5))
        still, nodes = world.daemons[0], world.daemons[2:]
        direct = [Talk(world.command("direct-0", "cat")) for _ in range(run.size(1, 5))]
        for talk in direct:
            stack.callback(talk.close)
            talk.ask()
        for _ in range(rounds):
            heard = [len(node.said()) for node in nodes]
            still.signal(signal.SIGSTOP)
            run.report.fault("SIGSTOP of a proxy")
            since, took = time.monotonic(), dict[int, float]()
            while time.monotonic() < since + seconds or len(took) < len(nodes):
                asked += 1
                if not world.comes_in("direct-0"):
                    refused.append("direct-0")
                world.auth.token("app")
                lost += _silent(direct)
                for number, node in enumerate(nodes):
                    if "has ended" in node.said()[heard[number] :]:
                        took.setdefault(number, time.monotonic() - since)
                assert time.monotonic() < since + seconds + 120, "nodes have not noticed"
                time.sleep(0.2)
            noticed += took.values()
            still.signal(signal.SIGCONT)
            since = time.monotonic()
            for number in range(len(nodes)):
                way = f"tunnel-{number}"
                eventually(lambda way=way: world.comes_in(way), seconds=120, what=way)  # type: ignore[misc]
            back.append(time.monotonic() - since)
        troubles = world.auth.troubles()
    run.report.none("sessions straight to a node that were refused", refused, count=asked)
    run.report.none("open sessions straight to a node that were lost", lost, count=len(direct))
    run.report.slowest("nodes notice, the longest", noticed, NOTICED)
    run.report.slowest("every way is back after SIGCONT, the longest", back, BACK)
    run.report.none("what is wrong in the store", troubles, count=rounds)


def worker(run: Run) -> None:
    """The process that speaks SSH for one session: nobody else is concerned, and it goes on."""
    rounds, seconds = run.size(1, 10), run.size(3.0, 30.0)
    back, refused, lost, asked = list[float](), list[str](), list[str](), 0
    with warm_for(run) as warm, ExitStack() as stack:
        world = World(run, warm, direct=1, tunnels=0, hosts=1)
        node = world.daemons[1]
        others = [Talk(world.command("direct-0", "cat")) for _ in range(run.size(1, 5))]
        for talk in others:
            stack.callback(talk.close)
            talk.ask()
        for _ in range(rounds):
            before = _workers(node.pid)
            talk = Talk(world.command("direct-0", "cat"))
            stack.callback(talk.close)
            talk.ask()
            [pid] = _workers(node.pid) - before
            _stop(pid, signal.SIGSTOP)
            run.report.fault("SIGSTOP of an SSH worker")
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                asked += 1
                if not world.comes_in("direct-0"):
                    refused.append("direct-0")
                lost += _silent(others)
            _stop(pid, signal.SIGCONT)
            back.append(talk.ask())
            talk.close()
        told = len(world.auth.events("session.start"))
    run.report.none("sessions of others that were refused", refused, count=asked)
    run.report.none("open sessions of others that were lost", lost, count=len(others))
    run.report.slowest("it answers after SIGCONT, the longest", back, NEXT)
    run.report.told("sessions in the trail", told)


def _silent(talks: Sequence[Talk]) -> list[str]:
    found = []
    for number, talk in enumerate(talks):
        try:
            talk.ask()
        except OSError:
            found.append(f"session {number}")
    return found


def _stop(pid: int, number: int) -> None:
    """By its own number, of a process that the node of this scenario has forked."""
    os.kill(pid, number)


def _workers(top: int) -> set[int]:
    """Processes below `top` that speak SSH for somebody."""
    parents, names = dict[int, int](), dict[int, str]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        names[int(entry.name)] = stat[stat.index("(") + 1 : stat.rindex(")")]
        parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])

    def below(pid: int) -> bool:
        while pid and pid != top:
            pid = parents.get(pid, 0)
        return pid == top

    return {pid for pid, name in names.items() if "worker" in name and below(pid)}
