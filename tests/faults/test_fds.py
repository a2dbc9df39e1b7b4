"""Descriptors run out: every accept loop waits, nobody spins, and it is over when they are back.

The figures are those of B42: a limit of 128, less than 20 % of a processor, a line a second, well
again within five seconds.
"""

import itertools
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import pytest

from teleport_lite.errors import Error
from teleport_lite.net.http import Connection
from tests.faults.report import BESIDE
from tests.faults.warm import Daemon, Warm
from tests.support import eventually, free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a node needs root")

LIMIT, FREE = 128, 3
LOOKED_AT = 3.0  # seconds
CONFIG = """\
version: v3
teleport:
  nodename: all-in-one
  data_dir: {root}/data
  diag_addr: 127.0.0.1:{diag}
  log: {{severity: INFO}}
auth_service:
  enabled: yes
  cluster_name: fds.example.com
  listen_addr: 127.0.0.1:{auth}
proxy_service:
  enabled: yes
  web_listen_addr: 127.0.0.1:{web}
  listen_addr: 127.0.0.1:{ssh}
ssh_service:
  enabled: yes
  listen_addr: 127.0.0.1:{node}
"""
NAMES = ("auth", "web", "ssh", "node", "diag")


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in NAMES}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fds")


@pytest.fixture(scope="module")
def daemon(root: Path, ports: dict[str, int]) -> Iterator[Daemon]:
    config = root / "all.yaml"
    config.write_text(CONFIG.format(root=root, **ports))
    config.chmod(0o600)
    with Warm() as warm:
        running = warm.start(
            "start", "-c", str(config), log=root / "log", env={**os.environ, "HOME": str(root)}
        )
        running.wait_for()
        yield running
        running.stop()


def descriptors(pid: int) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


def tight(pid: int, free: int) -> Iterator[int]:
    """A limit that leaves so many numbers. Those of a port of its own come first at 128."""
    taken = descriptors(pid)
    for number in itertools.count():
        free -= number not in taken
        if not free:
            yield number + 1


def cpu(pid: int) -> float:
    """Seconds that all threads of a process have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answers(root: Path) -> bool:
    try:
        with Connection.unix(root / "data" / "auth.sock", timeout=2) as wire:
            return bool(wire.ask("/v1/status", {}))
    except Error:
        return False


def flood_all(flood: ExitStack, ports: dict[str, int]) -> None:
    """More than the limit on every port; what is not accepted waits in its backlog."""
    for port in ports.values():
        for _ in range(40):
            wire = flood.enter_context(socket.socket())
            wire.setblocking(False)
            wire.connect_ex(("127.0.0.1", port))


def test_a_flood_on_every_port_costs_no_processor_and_is_over_when_it_is_over(
    daemon: Daemon, root: Path, ports: dict[str, int]
) -> None:
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    limit = next(tight(daemon.pid, FREE))
    assert limit <= LIMIT
    with ExitStack() as flood:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            flood_all(flood, ports)
            eventually(lambda: "can not accept" in daemon.said(), what="the limit to be met")
            said, used, began = daemon.said().count("\n"), cpu(daemon.pid), monotonic()
            sleep(LOOKED_AT)
            took = monotonic() - began
            share = (cpu(daemon.pid) - used) / took
            lines = daemon.said().count("\n") - said
        finally:
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
    ended = monotonic()
    assert share < 0.2, f"{share:.0%} of a processor"
    # Each of the loops says it once a second at the most.
    assert lines <= (took + 1) * len(NAMES), daemon.said()[-2000:]
    eventually(lambda: answers(root), what="an answer")
    assert monotonic() - ended <= 5 * BESIDE
    for name in ("auth", "web", "ssh", "node", "diag"):
        with socket.create_connection(("127.0.0.1", ports[name]), timeout=30):
            pass
    assert "Traceback" not in daemon.said()
