"""A node under a real systemd: installed by one line, watched, restarted, its journal read."""

import json
import re
import signal
from collections.abc import Iterator

import pytest

from tests.machines.machine import Machine
from tests.machines.world import INSTALL, Cluster
from tests.support import eventually

UNIT = "teleport-lite"
DROP_IN = "/run/systemd/system/teleport-lite.service.d/test.conf"


def up(machine: Machine, *, but: str) -> str:
    """The unit is active again, under another PID than `but`."""

    def pid() -> str:
        found = machine.unit(UNIT, "MainPID")
        return found if found not in ("0", but) else ""

    found = eventually(pid, seconds=60, what="a new main process")
    eventually(lambda: machine.unit(UNIT, "ActiveState") == "active", seconds=60)
    return found


def test_the_node_is_listed_and_ssh_gets_in(cluster: Cluster, node: Machine) -> None:
    assert set(cluster.versions()) >= {"tele", "node1"}
    assert cluster.tele.say("ssh", "node1", "hostname; id -un") == "node1\nroot"


def test_systemd_hears_how_it_is(node: Machine) -> None:
    assert node.unit(UNIT, "ActiveState") == "active"
    assert node.unit(UNIT, "Type") == "notify"
    assert node.unit(UNIT, "StatusText")
    assert node.say("systemctl", "is-enabled", UNIT) == "enabled"
    shown = node.say("systemctl", "status", "--no-pager", UNIT)
    assert "Traceback" not in shown


def test_people_are_not_in_the_daemons_sandbox(cluster: Cluster, node: Machine) -> None:
    """The daemon can not write to /usr or gain rights; who logs in can do all that root can."""
    pid = node.unit(UNIT, "MainPID")
    assert "NoNewPrivs:\t1" in node.read(f"/proc/{pid}/status")
    said = cluster.tele.say(
        *("ssh", "node1"),
        "cat /proc/self/cgroup; grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status;"
        " touch /usr/written /root/written && rm /usr/written /root/written && sudo -n id -u",
    )
    own, full = node.read("/proc/1/status"), re.compile(r"CapBnd:\t\w+")
    assert "NoNewPrivs:\t0" in said
    assert full.search(said)[0] == full.search(own)[0]  # type: ignore[index]
    assert f"/{UNIT}.service" not in said
    assert said.splitlines()[-1] == "0"


def test_installing_again_changes_nothing(cluster: Cluster, node: Machine) -> None:
    version = node.say("teleport-lite", "version", "--raw")
    pid, before = node.unit(UNIT, "MainPID"), listed(node)
    said = node.bash(f"{INSTALL} -s v{version} oss", timeout=120)
    assert "nothing changed" in said
    assert listed(node) == before
    assert node.unit(UNIT, "MainPID") == pid


def listed(machine: Machine) -> str:
    """Everything where a program is installed, with times of change."""
    where = ("/etc", "/usr/local", "/var/lib/teleport-lite", "/root")
    known = ("-path", "/var/lib/teleport-lite/*", "-prune", "-o")  # what a daemon goes on writing
    form = ("-printf", "%p %y %m %U %C@\n")
    return "\n".join(sorted(machine.say("find", *where, *known, *form).splitlines()))


def test_reload_and_restart_keep_sessions(cluster: Cluster, node: Machine) -> None:
    """Of the node, and of the proxy that the session passes through."""
    with cluster.session("node1") as session:
        pid = node.unit(UNIT, "MainPID")
        node.say("systemctl", "reload", UNIT)
        session.answers()
        assert node.unit(UNIT, "MainPID") == pid
        node.say("systemctl", "restart", UNIT)
        assert up(node, but=pid) != pid
        session.answers()
        cluster.reaches("node1")
        pid = cluster.tele.unit(UNIT, "MainPID")
        cluster.tele.say("systemctl", "restart", UNIT)
        up(cluster.tele, but=pid)
        session.answers()
        cluster.reaches("node1")
        session.answers()


@pytest.fixture
def impatient(node: Machine) -> Iterator[None]:
    """Half a minute and five seconds are for real machines. A daemon that is well says so twice in
    that time, on however crowded a machine."""
    node.write(DROP_IN, "[Service]\nWatchdogSec=6\nRestartSec=100ms\n")
    node.say("systemctl", "daemon-reload")
    yield
    (node.root / DROP_IN[1:]).unlink()
    node.say("systemctl", "daemon-reload")


@pytest.mark.usefixtures("impatient")
def test_a_daemon_that_hangs_is_replaced(cluster: Cluster, node: Machine) -> None:
    pid = node.unit(UNIT, "MainPID")
    node.say("systemctl", "restart", UNIT)  # it reads how often to say that it lives
    pid = up(node, but=pid)
    cluster.reaches("node1")
    node.say("kill", f"-{signal.SIGSTOP:d}", pid)
    up(node, but=pid)
    eventually(lambda: "Watchdog timeout" in node.journal("-u", UNIT), what="it in the journal")
    cluster.reaches("node1")


@pytest.mark.usefixtures("impatient")
def test_a_daemon_that_is_killed_is_replaced(cluster: Cluster, node: Machine) -> None:
    pid = node.unit(UNIT, "MainPID")
    node.say("kill", f"-{signal.SIGKILL:d}", pid)
    up(node, but=pid)
    cluster.reaches("node1")


def test_the_journal_reads_well(cluster: Cluster, node: Machine) -> None:
    """No time twice, no traceback, no marks of formats, and levels that journalctl -p knows."""
    for machine in (cluster.tele, node):
        said = machine.journal("-u", UNIT, "--output=json")
        lines = [json.loads(line) for line in said.splitlines()]
        ours = [each for each in lines if each.get("SYSLOG_IDENTIFIER") == UNIT]
        assert len(ours) > 4
        for each in ours:
            text = each["MESSAGE"]
            assert not re.match(r"<\d>|\W*\d{4}-\d\d-\d\d|\d\d:\d\d", text), text
            assert "Traceback" not in text
            assert "\x1b" not in text
            level = next((value for word, value in LEVELS.items() if word in text), "")
            assert not level or each["PRIORITY"] == level, each
        assert any(each["PRIORITY"] == "6" for each in ours)
    assert "WARN" in node.journal("-u", UNIT, "--priority=warning")
    assert "is running" not in node.journal("-u", UNIT, "--priority=warning")


LEVELS = {"DEBUG [": "7", "INFO [": "6", "WARN [": "4", "ERROR [": "3"}


def test_no_token_is_in_the_journal(cluster: Cluster, node: Machine) -> None:
    used = cluster.token()
    assert used not in cluster.tele.journal()
    told = json.loads(cluster.tele.say("tctl", "tokens", "ls", "--format=json"))
    said = cluster.tele.journal() + node.journal()
    assert told
    assert not [each for each in told if each["token"] in said]


@pytest.mark.parametrize(
    ("role", "most"),
    [("auth", 2.0), ("proxy", 2.0), ("auth-proxy", 2.0), ("node", 3.0), ("", 3.0)],
)
def test_units_are_sandboxed(node: Machine, role: str, most: float) -> None:
    """What systemd itself thinks of them: 0 can do nothing, 10 can do everything."""
    unit = f"{UNIT}-{role}.service" if role else f"{UNIT}.service"
    said = node.say("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
    found = re.search(r"level for \S+: (\d+\.\d)", said)
    assert found
    assert float(found[1]) <= most


def test_units_are_as_systemd_wants_them(node: Machine) -> None:
    """A word it does not know it only warns about, and leaves a door open."""
    units = [
        f"/etc/systemd/system/{each}"
        for each in node.bash("cd /etc/systemd/system && ls -d teleport-lite*.*").split()
    ]
    assert len(units) > 6
    done = node.run("systemd-analyze", "verify", *(each for each in units if "@" not in each))
    assert (done.stderr, done.returncode) == ("", 0)
