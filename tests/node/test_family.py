"""Whatever a visitor leaves behind goes with them, and a monitor remembers none of it."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest

from teleport_lite.node.confine import adopt_orphans
from teleport_lite.node.family import Family
from teleport_lite.node.processes import fork_child, kill_descendants
from tests.support import eventually

# A thousand process ids a second and no more: a system has 32,768, and others test beside us.
# It ends by itself, should nobody else end it.
COMET = """
use POSIX; my $end = time + 20;
while (time < $end) { exit if fork; setsid; select(undef, undef, undef, 0.001) }
"""


def as_a_monitor(body: Callable[[Family], None]) -> int:
    """In a process of its own, with children of its own. Returns how it ended."""

    def run() -> None:
        adopt_orphans()
        body(Family("test"))

    pid = fork_child("monitor", run, ())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(shutil.which("perl") is None, reason="needs something that forks fast")
def test_who_forks_faster_than_proc_can_be_read_is_found() -> None:
    """A crowd of others makes it slow to read."""
    crowd = [subprocess.Popen(["sleep", "100"]) for _ in range(200)]

    def body(family: Family) -> None:
        for _ in range(2):
            subprocess.run(["perl", "-e", COMET], check=True)
        assert kill_descendants()
        family.sweep()
        assert not kill_descendants()

    try:
        assert as_a_monitor(body) == 0
    finally:
        for each in crowd:
            each.kill()
        for each in crowd:
            each.wait()


def test_only_children_of_its_own_are_remembered() -> None:
    """A visitor can have any number of daemons, and they all end up with the monitor."""

    def body(family: Family) -> None:
        family.start("broker", lambda: None, ())
        for _ in range(10):
            subprocess.run(["sh", "-c", "sleep 0.01 & :"], check=True)
        time.sleep(0.2)
        eventually(lambda: family.wait("broker", 0.1) and not kill_descendants())
        assert len(family._statuses) == 1

    assert as_a_monitor(body) == 0
