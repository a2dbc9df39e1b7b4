"""A fault at every call that changes a file: strace ends the process there, or has the call fail.

    with Trap(auth.daemon, trace) as trap:          # what does it call?
        ...
    for spot in trap.seen:
        with Trap(auth.daemon, trace, spot, "error=EIO") as trap:
            ...
        trap.sprung

strace counts for each thread, and each kind of call, by itself. So a start is swept in its main
thread, and what goes through the store in the one thread that writes its journal.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.faults.warm import Daemon
from tests.support import eventually

CALLS = (
    "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
    "truncate,ftruncate,mkdir,mkdirat,rmdir,fchmod,chmod"
)
KILL = "signal=KILL"


class Spot(NamedTuple):
    """The `nth` time that `call` is called, from 1."""

    call: str
    nth: int


COUNT = Spot("", 0)  # no fault: only look


class Trap:
    """strace attached to a daemon. A context manager."""

    def __init__(
        self,
        daemon: Daemon,
        trace: Path,
        spot: Spot = COUNT,
        fault: str = KILL,
        *,
        paths: tuple[Path, ...] = (),
    ) -> None:
        """`paths`: in all threads, and only calls on these files."""
        self._trace, self._pid, self._kills = trace, daemon.pid, fault == KILL
        self._words = ["strace", "-p", str(daemon.pid), "-o", str(trace), "-e", f"trace={CALLS}"]
        if paths:
            self._words += ["-f", *(f"-P{each}" for each in paths)]
        if spot.nth:
            self._words += ["-e", f"inject={spot.call}:{fault}:when={spot.nth}"]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr
        said = self._process.stderr.readline()
        assert "attached" in said, said
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        eventually(lambda: self._process.poll() is not None or self._dead(), what="strace to end")
        try:
            self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            # It can wait for ever for the last thread of what it has killed.
            self._process.kill()
            self._process.wait()
        assert self._process.stderr
        self._process.stderr.close()

    @property
    def seen(self) -> list[Spot]:
        """In the order they came."""
        said = self._trace.read_text(errors="replace")
        calls, found = Counter[str](), []
        for call in re.findall(r"^(?:\d+ +)?([a-z0-9_]+)\(", said, re.MULTILINE):
            calls[call] += 1
            found.append(Spot(call, calls[call]))
        return found

    @property
    def sprung(self) -> bool:
        """Who kills is killed itself at times before it has written that down."""
        said = self._trace.read_text()
        killed = "killed by SIGKILL" in said or (self._kills and self._dead())
        return "(INJECTED)" in said or killed

    def _dead(self) -> bool:
        """Nobody else kills it meanwhile."""
        try:
            stat = Path(f"/proc/{self._pid}/stat").read_text()
        except OSError:
            return True
        return stat.rpartition(")")[2].split()[0] in ("Z", "X")


def spread(spots: Sequence[Spot], points: int) -> list[Spot]:
    """`points` of them, as far from each other as can be; all of them if `points` is 0."""
    if not points or points >= len(spots):
        return list(spots)
    step = len(spots) / points
    return [spots[int(step / 2 + step * each)] for each in range(points)]
