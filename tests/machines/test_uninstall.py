"""What is left of us on a machine: nothing but what we said."""

import re

from tests.machines.machine import Machine
from tests.machines.site import FIRST
from tests.machines.world import INSTALL, Cluster, World
from tests.support import eventually

# Written by others while the machine runs.
ELSEWHERE = re.compile(
    r"/(proc|sys|dev|tmp|run|mnt)(/|$)|/var/(log|cache/ldconfig|tmp)/|/var/lib/(systemd|private)(/|$)"
    r"|/var/log/|/etc/(machine-id|\.updated)|/var/\.updated|/root/\."
)
# The user who owns the data of auth and proxy. Somebody else with the same number would own it.
ACCOUNT = {"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"}
ACCOUNT |= {f"{each}-" for each in ACCOUNT} | {"/etc/.pwd.lock"}


def snapshot(machine: Machine) -> dict[str, str]:
    """Every file but what others write: kind, mode, owner, size or target."""
    form = ("-printf", "%p\t%y %m %U:%G %s %l\n")
    kinds = ("find", "/", "-xdev", "-type", "d", "-printf", "%p\t%y %m %U:%G\n", "-o", *form)
    rows = (line.split("\t") for line in machine.say(*kinds).splitlines())
    return {path: facts for path, facts in rows if not ELSEWHERE.match(path)}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def ours(machine: Machine) -> list[str]:
    """Processes."""
    said = machine.say("ps", "-eo", "args").splitlines()
    return [each for each in said if "teleport" in each]


def test_uninstalling_leaves_what_it_says(world: World, cluster: Cluster) -> None:
    with world.machine("node3") as node:
        before = snapshot(node)
        cluster.add(node)
        with cluster.session("node3"):
            pass  # sessions leave traces, too
        said = node.bash(f"{INSTALL} -s -- --uninstall", timeout=120)
        assert not node.run("which", "teleport-lite", "tctl", "tsh", "tbot").stdout
        kinds = "--type=service,socket,timer"
        assert "teleport-lite" not in node.say("systemctl", "list-units", "--all", kinds)
        assert "teleport-lite" not in node.say("systemctl", "list-unit-files", "--no-legend")
        eventually(lambda: not ours(node), what="the last of our processes to end")
        left = changed(before, snapshot(node)) - ACCOUNT
        kept = {"/etc/teleport-lite.yaml", "/etc/teleport-lite", "/var/lib/teleport-lite"}
        assert left >= {"/etc/teleport-lite.yaml", "/var/lib/teleport-lite"}
        assert not {each for each in left if not any(f"{each}/".startswith(f"{k}/") for k in kept)}
        for each in ("/etc/teleport-lite.yaml", "/var/lib/teleport-lite"):
            assert each in said
        # Back, with what was kept: no token, and it is the same host.
        node.bash(f"{INSTALL} -s {FIRST}", timeout=120)
        node.say("systemctl", "enable", "--now", "teleport-lite")
        cluster.reaches("node3")
        said = node.bash(f"{INSTALL} -s -- --uninstall --purge", timeout=120)
        left = changed(before, snapshot(node))
        assert left <= ACCOUNT
        assert "/etc/passwd" not in left or "user teleport-lite" in said
