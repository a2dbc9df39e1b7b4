"""From one version to the next under running sessions, and back from one that does not start."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines.machine import Machine
from tests.machines.site import BASE, BROKEN, FIRST, SECOND, Releases
from tests.machines.world import INSTALL, Cluster, World
from tests.support import eventually

UNIT = "teleport-lite"
LIB = "/usr/local/lib/teleport-lite"


@pytest.fixture(scope="module")
def node(world: World, cluster: Cluster) -> Iterator[Machine]:
    """A node of its own: others are of the version that the cluster had."""
    with world.machine("node2") as node:
        cluster.add(node)
        yield node


def version(machine: Machine) -> str:
    return machine.say("teleport-lite", "version", "--raw")


def test_an_upgrade_keeps_sessions_and_a_broken_one_is_taken_back(
    world: World, cluster: Cluster, node: Machine, releases: Releases
) -> None:
    tele = cluster.tele
    assert (version(tele), version(node)) == (FIRST, FIRST)
    assert node.run("teleport-lite", "upgrade", "--check").returncode == 0
    with cluster.session("node2") as session:
        # The proxy first, by its operator: nodes then have where to get the same from.
        releases.offer(world.www, SECOND)
        assert f"switched {LIB}/current to {SECOND}" in tele.bash(f"{INSTALL} -s -- --upgrade")
        assert version(tele) == SECOND
        session.answers()
        cluster.reaches("node2")
        # A node that looks: there is something, it does nothing.
        done = node.run("teleport-lite", "upgrade", "--check")
        assert (done.returncode, version(node)) == (10, FIRST)
        assert SECOND in done.stdout
        # It takes it: from its own proxy, not from where it was installed from.
        shutil.rmtree(world.www / SECOND)
        pid = node.unit(UNIT, "MainPID")
        node.say("teleport-lite", "upgrade", timeout=120)
        assert version(node) == SECOND
        assert node.unit(UNIT, "MainPID") != pid
        session.answers()
        eventually(lambda: cluster.versions().get("node2") == SECOND, what="it in nodes ls")
        cluster.reaches("node2")
        # One that does not start: back, and it is not tried again by itself.
        releases.offer(world.www, BROKEN)
        words = ("teleport-lite", "upgrade", f"--base={BASE}", f"--version={BROKEN}")
        done = node.run(*words, timeout=120)
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        assert version(node) == SECOND
        assert node.unit(UNIT, "ActiveState") == "active"
        assert node.read(f"{LIB}/failed").split()[0] == BROKEN
        session.answers()
        cluster.reaches("node2")
    places = {each.name for each in Path(node.root / LIB[1:]).iterdir()}
    assert {SECOND, FIRST, "current"} <= places


def test_what_nobody_has_signed_is_refused(world: World, node: Machine) -> None:
    """Somebody who may write to the server has put another program there, and right digests."""
    place, before = world.www / "9.0.9", version(node)
    shutil.copytree(world.www / FIRST, place)
    for file in place.iterdir():
        text = file.read_bytes().replace(FIRST.encode(), b"9.0.9")
        file.unlink()
        (place / file.name.replace(FIRST, "9.0.9")).write_bytes(text)
    try:
        pid = node.unit(UNIT, "MainPID")
        words = ("teleport-lite", "upgrade", f"--base={BASE}", "--version=9.0.9")
        done = node.run(*words, timeout=120)
        assert done.returncode == 4, done
        assert "sign" in done.stderr
        done = node.run("bash", "-c", f"{INSTALL} -s 9.0.9")
        assert done.returncode == 1
        assert "signature" in done.stderr
        assert version(node) == before
        assert node.unit(UNIT, "MainPID") == pid
        assert not (node.root / LIB[1:] / "9.0.9").exists()
    finally:
        shutil.rmtree(place)


def test_the_timer_is_there_and_off(node: Machine) -> None:
    """Nobody's hosts begin to change themselves unless somebody says so."""
    timer = "teleport-lite-upgrade.timer"
    assert node.run("systemctl", "is-enabled", timer).stdout.strip() == "disabled"
    node.say("systemctl", "enable", "--now", timer)
    try:
        said = json.loads(node.say("systemctl", "list-timers", timer, "--output=json"))
        assert [each["unit"] for each in said] == [timer]
        node.say("systemctl", "start", "teleport-lite-upgrade.service", timeout=120)
        assert node.unit("teleport-lite-upgrade.service", "Result") == "success"
    finally:
        node.say("systemctl", "disable", "--now", timer)
