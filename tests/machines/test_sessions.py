"""Sessions under a real systemd: not in the daemon's unit, and ended only when that is meant."""

from tests.machines.machine import Machine
from tests.machines.world import Cluster
from tests.support import eventually

UNIT, INSTANCES = "teleport-lite", "teleport-lite-sessions@*"
STUBBORN = "trap '' TERM HUP INT; echo up; while :; do sleep 1; done"


def instances(node: Machine) -> set[str]:
    words = ("systemctl", "list-units", "--all", "--plain", "--no-legend", INSTANCES)
    return {line.split()[0] for line in node.say(*words).splitlines()}


def test_each_daemon_has_a_unit_that_lasts_as_long_as_its_sessions(
    cluster: Cluster, node: Machine
) -> None:
    node.say("systemctl", "restart", UNIT)
    cluster.reaches(node.name)
    [first] = eventually(lambda: found if len(found := instances(node)) == 1 else None)
    with cluster.session(node.name) as session:
        assert node.say("systemctl", "is-active", first) == "active"
        node.say("systemctl", "stop", UNIT)
        session.answers()
        assert instances(node) == {first}
        node.say("systemctl", "start", UNIT)
        cluster.reaches(node.name)
        session.answers()
        assert first in instances(node)
        assert len(instances(node)) == 2
        assert not node.say("systemctl", "list-units", "--failed", "--no-legend")
    eventually(lambda: first not in instances(node), what="the unit of the first daemon to go")


def test_nobody_delays_a_shutdown_and_everybody_is_told(cluster: Cluster, node: Machine) -> None:
    """Stopping the units is what a shutdown does."""
    with cluster.tele.going("ssh", node.name, STUBBORN) as client:
        assert client.stdout
        assert client.stdout.readline() == b"up\n"
        units = instances(node)
        node.say("systemctl", "stop", INSTANCES)
        assert b"this host ends its sessions" in client.stdout.read()
    # Systemd has not had to end them its own way.
    assert units
    assert not [unit for unit in units if "timed out" in node.journal("-u", unit)]
    eventually(lambda: not node.run("pgrep", "-f", "trap '' TERM HUP").stdout, what="their end")
    cluster.reaches(node.name)  # the daemon has come back by itself
