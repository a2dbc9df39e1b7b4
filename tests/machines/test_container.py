"""The root file system of the Containerfile, started as an engine would start it: as PID 1."""

import base64
import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines.container import Container, Engine
from tests.machines.images import IMAGES, chosen, image
from tests.machines.machine import refusal
from tests.machines.site import FIRST, Releases
from tests.machines.wires import Street
from tests.packaging.conftest import ROOT
from tests.support import eventually

DOMAIN = "tele.example.com"
HOSTS = f"127.0.0.1 localhost\n10.88.0.10 {DOMAIN}\n"
# Engines wait ten seconds before they kill; nobody shall notice. Beside the rest of the suite all
# takes longer, and what an end must not wait for lasts for minutes.
PATIENCE = 30
_TELE = f"""\
version: v3
teleport:
  nodename: tele
auth_service:
  cluster_name: {DOMAIN}
ssh_service:
  enabled: {{ssh}}
proxy_service:
  public_addr: {DOMAIN}:3080
"""


def encoded(text: str) -> dict[str, str]:
    return {"TELEPORT_CONFIG": base64.b64encode(text.encode()).decode()}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Engine]:
    if why := refusal():
        pytest.skip(f"no containers here: {why}")
    name, root = chosen()[0], tmp_path_factory.mktemp("container")
    releases = Releases(shared, IMAGES[name].python)
    (root / "dist").mkdir()
    (root / "place").mkdir()
    (root / "dist" / "teleport-lite.pyz").symlink_to(releases.program(FIRST))
    engine = Engine(image(name), root, ROOT / "Containerfile", root / "place")
    with contextlib.closing(engine):
        yield engine


@pytest.fixture
def street() -> Iterator[Street]:
    with Street() as street:
        yield street


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def healthy(engine: Engine, container: Container) -> bool:
    return container.run(*engine.image.health).returncode == 0


def zombies(container: Container) -> list[str]:
    said = container.say("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || true")
    return [line for line in said.splitlines() if line.rpartition(")")[2].split()[0] == "Z"]


def test_a_cluster_and_a_node_that_joins_it(
    engine: Engine, street: Street, stack: contextlib.ExitStack
) -> None:
    tele = engine.start(
        "tele", street.cable("10.88.0.10"), env=encoded(_TELE.format(ssh="yes")), hosts=HOSTS
    )
    stack.callback(tele.close)
    tele.waits_for("is running")
    eventually(lambda: healthy(engine, tele), what="a healthy container")
    assert tele.say("cat", "/proc/1/comm") == "tl-init"
    assert tele.say("tctl", "status").startswith("Cluster")
    token = re.search(r"token: (\S+)", tele.say("tctl", "tokens", "add", "--type=node"))
    pin = tele.say("tctl", "status").split()[-1]
    assert token
    # Seed B: "execute the following command within your container ... in the foreground".
    node = engine.start(
        *("node1", street.cable("10.88.0.11"), "start", "--roles=node", f"--token={token[1]}"),
        *(f"--proxy={DOMAIN}:3080", f"--ca-pin={pin}"),
        hosts=HOSTS,
    )
    stack.callback(node.close)
    node.waits_for("reached through 1 proxy")
    assert token[1] not in node.say("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    eventually(lambda: "node1 " in tele.say("tctl", "nodes", "ls"))
    _log_in(tele)
    assert tele.say("ssh", "node1", "hostname; id -u") == "node1\n0"
    # Orphans become children of the container's first process.
    tele.say("ssh", "node1", "(setsid sleep 0.1 >/dev/null 2>&1 &); (setsid sh -c : &)")
    node.say("sh", "-c", "(setsid sleep 0.1 &); (setsid sh -c : &)")
    eventually(lambda: not node.say("sh", "-c", "pgrep -x sleep || true"))
    eventually(lambda: not zombies(node), what="no zombies")
    # `docker stop`, with somebody inside.
    tele.say("sh", "-c", "ssh -f node1 'exec sleep 300' </dev/null >/dev/null 2>&1")
    eventually(lambda: node.say("sh", "-c", "pgrep -x sleep || true"))
    assert node.stop(signal.SIGTERM, within=PATIENCE) == 0
    assert "stopping" in node.log
    assert "Traceback" not in node.log
    assert tele.stop(getattr(signal, engine.image.stop), within=PATIENCE) == 0
    assert "Traceback" not in tele.log


def _log_in(tele: Container) -> None:
    tele.say("tctl", "users", "add", "alice", "--logins=root", "--roles=access")
    tele.say("tctl", "auth", "sign", "--user=alice", "--format=openssh", "--out=/root/alice")
    known = tele.say("tctl", "auth", "export", "--type=host")
    config = (
        f"Host jump\n HostName {DOMAIN}\n Port 3080\n HostKeyAlias tele.{DOMAIN}\n"
        f"Host node1\n HostName node1.{DOMAIN}\n ProxyJump jump\n Port 22\n"
        "Host *\n User root\n IdentityFile /root/alice\n StrictHostKeyChecking yes\n"
        " UserKnownHostsFile /root/known_hosts\n BatchMode yes\n"
    )
    script = 'mkdir -p /root/.ssh; printf "%s\\n" "$1" >/root/known_hosts; '
    script += 'printf "%s\\n" "$2" >/root/.ssh/config'
    tele.say("sh", "-ec", script, "sh", known, config)
    eventually(lambda: tele.run("ssh", "node1", "true").returncode == 0, what="a way to node1")


def test_auth_and_proxy_need_neither_root_nor_a_disk_but_their_volumes(
    engine: Engine, street: Street, stack: contextlib.ExitStack
) -> None:
    tele = engine.start(
        *("rootless", street.cable("10.88.0.10")),
        env=encoded(_TELE.format(ssh="no")),
        user="teleport-lite",
        hosts=HOSTS,
        read_only=True,
    )
    stack.callback(tele.close)
    tele.waits_for("is running")
    eventually(lambda: healthy(engine, tele), what="a healthy container")
    assert tele.say("stat", "-c", "%U", "/proc/1") == "teleport-lite"
    assert tele.run("touch", "/usr/local/lib/teleport-lite/new").returncode == 1
    assert tele.stop(signal.SIGTERM, within=PATIENCE) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bm90OiBh\x7f", "TELEPORT_CONFIG: is not the base64 form of a file"),
        (base64.b64encode(b"versoin: v3\n").decode(), "$TELEPORT_CONFIG:1: "),
        (base64.b64encode(b"version: v3\nauth_service: [\n").decode(), "$TELEPORT_CONFIG:"),
    ],
)
def test_a_bad_configuration_is_one_clear_error(
    engine: Engine, street: Street, stack: contextlib.ExitStack, text: str, said: str
) -> None:
    name = f"bad{abs(hash(text))}"
    container = engine.start(name, street.cable("10.88.0.10"), env={"TELEPORT_CONFIG": text})
    stack.callback(container.close)
    assert container.wait(within=60) == 1
    lines = container.log.splitlines()
    assert lines[0].startswith("ERROR: ")
    assert said in lines[0]
    assert len(lines) <= 2
    assert all(line.startswith("  try: ") for line in lines[1:])


def test_what_the_image_says_of_itself(engine: Engine) -> None:
    said = engine.image
    assert said.volumes == ["/var/lib/teleport-lite", "/etc/teleport-lite"]
    assert {"3022", "3025", "3080"} == set(said.ports)
    assert said.stop == "SIGTERM"
    assert said.entrypoint == ["/usr/local/bin/teleport-lite"]
