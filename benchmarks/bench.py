#!/usr/bin/env python3
"""Figures as ratios to a named peer, measured in the same run.

    .venv/bin/python -m benchmarks.bench [ROW ...] [--rounds N] [--json FILE] [--checkout]

Machines are shared and noisy, so absolute times mean little: every row alternates between us
and its peer and prints the median of the ratios of neighbouring rounds, with their spread.
Needs dist/teleport-lite.pyz (packaging/build.py), sshd, ssh-keygen, openssl and haproxy.
"""

import argparse
import contextlib
import json
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import (
    joins,
    memory,
    passthrough,
    ssh,
    ssh_bulk,
    ssh_echo,
    ssh_idle,
    startup,
    storm,
    through,
    tunnels,
)
from benchmarks.world import World

Row = Callable[[World, int], "list[Figure]"]


@dataclass(frozen=True, slots=True)
class Figure:
    """`ratio` is ours divided by the peer's: below 1 we are faster or smaller."""

    what: str
    peer: str
    ratio: float
    low: float
    high: float
    ours: str
    theirs: str
    budget: str


def figure(
    what: str,
    peer: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    unit: str,
    budget: str,
) -> Figure:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Figure(
        what=what,
        peer=peer,
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        ours=f"{statistics.median(ours):.4g} {unit}",
        theirs=f"{statistics.median(theirs):.4g} {unit}",
        budget=budget,
    )


ROWS: dict[str, Row] = {
    "startup": lambda w, n: startup.rows(w, n, figure),
    "size": lambda w, _: startup.size(w, figure),
    "memory": lambda w, _: memory.rows(w, figure),  # idle, so before the rest
    "ssh": lambda w, n: ssh.rows(w, n, figure),
    "ssh-idle": lambda w, _: ssh_idle.rows(w, figure),
    "ssh-bulk": lambda w, n: ssh_bulk.rows(w, n, figure),
    "ssh-files": lambda w, n: ssh_bulk.files(w, n, figure),
    "ssh-echo": lambda w, n: ssh_echo.rows(w, n, figure),
    "joins": lambda w, n: joins.rows(w, n, figure),
    "through": lambda w, n: through.rows(w, n, figure),
    "passthrough": lambda w, n: passthrough.rows(w, n, figure),
    "tunnels": lambda w, n: tunnels.rows(w, n, figure),
    "storm": lambda w, n: storm.rows(w, n, figure),
}


def show(figures: Sequence[Figure]) -> None:
    head = ("what", "peer", "ratio", "spread", "ours", "peer's", "budget")
    rows = [
        (f.what, f.peer, f"{f.ratio:.3f}", f"{f.low:.2f}-{f.high:.2f}", f.ours, f.theirs, f.budget)
        for f in figures
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    print()
    for row in (head, *rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all if none is given")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--checkout", action="store_true", help="the working tree, not the built file"
    )
    asked = parser.parse_args()
    for name in asked.rows:
        if name not in ROWS:
            parser.error(f"{name} is not one of {', '.join(ROWS)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # thousands of tunnels
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="tl-bench-") as root, contextlib.ExitStack() as stack:
        world = stack.enter_context(World(Path(root), asked.checkout))
        for name in asked.rows or ROWS:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures += ROWS[name](world, asked.rounds)
    show(figures)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
