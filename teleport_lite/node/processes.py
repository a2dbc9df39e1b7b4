"""Processes: starting one of ours, and finding those that came after it."""

import os
import signal
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from teleport_lite.net.journal import complain
from teleport_lite.node.confine import default_signals, keep_only, name

# sysexits.h EX_SOFTWARE: an exception nobody expected.
BUG = 70


def fork_child(title: str, body: Callable[[], None], keep: Iterable[int]) -> int:
    """Run `body` in a child with no descriptors but `keep` and the standard three.

    Returns the process id; the child never returns, it exits with 0 or BUG. Only for
    processes without threads: a lock that another thread holds would stay locked for ever.
    """
    pid = os.fork()
    if pid:
        return pid
    code = BUG
    try:
        default_signals()
        name(title)
        keep_only(keep)
        body()
        code = 0
    except BaseException:  # nothing may climb into the parent's frames
        complain(traceback.format_exc())
    finally:
        os._exit(code)


def signal_session(sid: int, number: int) -> None:
    """All processes of the session `sid` that we may signal.

    Also those in the background, which job control puts into groups of their own.
    """
    for pid, (_, session) in _relations().items():
        if session == sid:
            _kill(pid, number)


def kill_descendants(top: int = 0) -> bool:
    """All processes below `top`, which is this one if it is not given, where `adopt_orphans`
    keeps even daemons in sight.

    Was there any? Those that fork faster than we look take another round.
    """
    parents = _parents()
    below = [pid for pid in parents if _is_below(pid, parents, top or os.getpid())]
    for pid in below:
        _kill(pid, signal.SIGKILL)
    return bool(below)


def kill_children() -> bool:
    """Those directly below this process, at once. Was there any?

    Who forks and exits, again and again, is gone before all of /proc has been looked at; but each
    time it comes to us (`adopt_orphans`), and this takes some microseconds only.
    """
    try:
        found = Path(f"/proc/self/task/{os.getpid()}/children").read_bytes().split()
    except OSError:
        return False  # a kernel without CONFIG_PROC_CHILDREN
    for pid in found:
        _kill(int(pid), signal.SIGKILL)
    return bool(found)


def is_below_us(pid: int) -> bool:
    """Did this process start it, or one that it has started?"""
    return _is_below(pid, _parents(), os.getpid())


def somebody_runs_as(uid: int) -> bool:
    """Any process of that user's, whoever started it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text(errors="replace")
            except OSError:
                continue  # it has ended meanwhile
            # proc(5): real, effective, saved and of file systems. One that has ended and waits
            # for its parent uses nothing.
            fields = dict(line.partition(":")[::2] for line in status.splitlines())
            if str(uid) in fields["Uid"].split() and not fields["State"].strip().startswith("Z"):
                return True
    return False


def _parents() -> dict[int, int]:
    return {pid: parent for pid, (parent, _) in _relations().items()}


def _is_below(pid: int, parents: dict[int, int], top: int) -> bool:
    seen = 0
    while pid in parents and seen < len(parents):
        pid, seen = parents[pid], seen + 1
        if pid == top:
            return True
    return False


def _relations() -> dict[int, tuple[int, int]]:
    """Process id -> parent and session, as far as /proc shows them to us."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_bytes()
            except OSError:
                continue  # it has ended meanwhile
            # proc(5): the name in parentheses may hold anything, so count from the last one:
            # state, parent, group, session.
            fields = stat.rpartition(b")")[2].split()
            found[int(entry.name)] = int(fields[1]), int(fields[3])
    return found


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return  # it has ended meanwhile, or is not ours to signal
