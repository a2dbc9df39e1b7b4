#!/usr/bin/env python3
"""Faults made on purpose, in real processes, and what has become of the cluster.

    .venv/bin/python -m benchmarks.faults [SCENARIO ...] [--list] [--minutes N] [--small]

Every scenario makes faults, counts them, and compares what clients were answered with what is
there afterwards (tests/faults). Without names all of them run, one after the other. Some need root:
network namespaces, a loop device, SSH sessions. `docs/faults.md` has the table as last measured.
"""

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import fleets
from tests.faults import (
    auths,
    balancers,
    crashes,
    disks,
    floods,
    flushes,
    history,
    kills,
    links,
    outages,
    partitions,
    power,
    replies,
    rotations,
    soaks,
    stops,
    upgrades,
)
from tests.faults.report import Report, Run, Scenario

INSIDE = "TELEPORT_LITE_FAULTS"

SCENARIOS: dict[str, Scenario] = {
    "joins": kills.joins_under_kill,
    "once": kills.once_under_kill,
    "race": kills.race,
    "lost-replies": replies.lost_replies,
    "expiry": replies.expiry,
    "revocation": replies.revocation,
    "history": history.tokens,
    "stopped": kills.stopped,
    "stopped-proxy": stops.proxy,
    "stopped-worker": stops.worker,
    "first-start": crashes.first_start,
    "first-start-errors": crashes.first_start_errors,
    "changes": crashes.changes_killed,
    "changes-errors": crashes.changes_failed,
    "heartbeats": flushes.heartbeats,
    "upgrade": upgrades.killed,
    "upgrade-errors": upgrades.failed,
    "identity": crashes.identity,
    "rotation-steps": rotations.steps_killed,
    "rotation-hosts": rotations.hosts_follow,
    "power": power.power_cuts,
    "bit-flips": links.bit_flips,
    "slow-link": links.slow_link,
    "half-open": links.half_open,
    "auths": auths.two_auths,
    "race-auths": auths.race,
    "postgres": auths.postgres_restarts,
    "cut-off": partitions.postgres_cut_off,
    "lease": auths.stopped_past_its_lease,
    "two-proxies": balancers.two_proxies,
    "disk-full": disks.disk_full,
    "locked": disks.locked,
    "floods": floods.floods,
    "outage": outages.auth_away,
    "soak": soaks.soak,
    "storm-200": lambda run: fleets.storm(run, run.size(20, 200), fleets.TUNNELS),
    "storm-1000": lambda run: fleets.storm(run, run.size(20, 1000), fleets.BACK),
    "restart-300": fleets.hosts_restart,
    "little-memory": fleets.little_memory,
}

# Minutes in full, about, on two processors that nobody else uses.
MINUTES = {
    "joins": 10,
    "once": 5,
    "race": 5,
    "lost-replies": 6,
    "expiry": 1,
    "revocation": 2,
    "history": 12,
    "stopped": 4,
    "stopped-proxy": 7,
    "stopped-worker": 7,
    "first-start": 5,
    "first-start-errors": 6,
    "changes": 2,
    "changes-errors": 4,
    "heartbeats": 4,
    "upgrade": 8,
    "upgrade-errors": 10,
    "identity": 2,
    "rotation-steps": 12,
    "rotation-hosts": 20,
    "power": 15,
    "bit-flips": 6,
    "slow-link": 12,
    "half-open": 6,
    "auths": 6,
    "race-auths": 6,
    "postgres": 5,
    "cut-off": 7,
    "lease": 3,
    "two-proxies": 6,
    "disk-full": 8,
    "locked": 3,
    "floods": 12,
    "outage": 13,
    "soak": 33,
    "storm-200": 4,
    "storm-1000": 8,
    "restart-300": 6,
    "little-memory": 6,
}


def run(name: str, *, full: bool, minutes: float, seed: int) -> Report:
    """A scenario that breaks off has missed all its goals."""
    report = Report(name)
    about = f", about {MINUTES[name]} minutes" if full and not minutes else ""
    print(f"{name}{about} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tl-faults-") as root:
        asked = Run(root=Path(root), report=report, full=full, minutes=minutes, seed=seed)
        try:
            SCENARIOS[name](asked)
        except (Exception, SystemExit) as why:
            traceback.print_exc()
            report.none("broke off", [f"{type(why).__name__}: {why}"], count=1)
    report.told("took", round(time.monotonic() - began, 1), "s")
    return report


def show(reports: Sequence[Report]) -> None:
    """As a table of docs/faults.md."""
    print("\n| scenario | what | goal | N | figure | reached |\n|---|---|---|---|---|---|")
    for report in reports:
        faults = ", ".join(f"{count} x {kind}" for kind, count in report.faults.items())
        print(f"| {report.scenario} | faults: {faults or 'none'} | >= 1 | | | {_yes(faults)} |")
        for each in report.figures:
            value = f"{each.value:.4g} {each.unit}".strip()
            reached = _yes(each.reached) if each.goal else ""
            print(f"| | {each.what} | {each.goal} | {each.count} | {value} | {reached} |")
            for example in each.examples:
                print(f"| | for example: {example!a} | | | | |")


def _yes(reached: object) -> str:
    return "yes" if reached else "**no**"


def _without_start_up_files() -> None:
    """Sessions log in as whoever runs this, and would wait for what is in root's .bashrc."""
    if os.geteuid() or os.environ.get(INSIDE) or not (Path.home() / ".bashrc").exists():
        return
    script = 'mount --bind /dev/null "$HOME/.bashrc" && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m"]
    os.environ[INSIDE] = "yes"
    os.execvp("unshare", [*words, "benchmarks.faults", *sys.argv[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; else all")
    words = "how long a load is kept up by auths, little-memory, outage, slow-link, soak"
    parser.add_argument("--minutes", type=float, default=0, help=words)
    parser.add_argument("--list", action="store_true", help="all of them, and about how long")
    parser.add_argument("--small", action="store_true", help="as the tests do it")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.list:
        for name, about in MINUTES.items():
            print(f"{name:<20} {about:3} minutes")
        print(f"{'all':<20} {sum(MINUTES.values()):3} minutes")
        return 0
    for name in asked.scenarios:
        if name not in SCENARIOS:
            parser.error(f"{name} is not one of {', '.join(SCENARIOS)}")
    _without_start_up_files()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.getLogger("teleport_lite").addHandler(logging.NullHandler())
    reports = [
        run(name, full=not asked.small, minutes=asked.minutes, seed=asked.seed)
        for name in asked.scenarios or SCENARIOS
    ]
    show(reports)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(each) for each in reports], indent=1) + "\n")
    return any(each.missed for each in reports)


if __name__ == "__main__":
    sys.exit(main())
