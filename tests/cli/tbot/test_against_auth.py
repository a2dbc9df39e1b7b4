"""A bot and a real cluster: processes, sockets, files, and OpenSSH's own client."""

import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from tests.flow.cluster import Cluster
from tests.support import eventually, free_port

LOGIN = pwd.getpwuid(os.getuid()).pw_name
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as real:
        yield real


@pytest.fixture(scope="module")
def node(cluster) -> int:
    """A node of the cluster; its port."""
    port = free_port()
    config = cluster.root / "node.yaml"
    config.write_text(
        "version: v3\n"
        f"teleport: {{nodename: web-1, auth_server: '{cluster.address}'}}\n"
        "auth_service: {enabled: no}\n"
        "proxy_service: {enabled: no}\n"
        f"ssh_service: {{listen_addr: '127.0.0.1:{port}', public_addr: '127.0.0.1:{port}'}}\n"
    )
    config.chmod(0o600)
    token = cluster.token("node")
    cluster.start("-c", str(config), f"--token={token}", name="web-1").wait_for("is running")
    told = cluster.root / "web-1" / "knowledge.json"  # who may come in; auth says so a moment later
    eventually(told.exists, what="what auth tells a node")
    return port


def add_bot(cluster: Cluster, name: str) -> dict:
    return cluster.json("bots", "add", name, f"--logins={LOGIN}", "--roles=access")


def tbot(cluster: Cluster, made: dict, place: Path, *words: str):
    return cluster.run(
        "tbot",
        "start",
        "--oneshot",
        f"--token={made['token']}",
        *(f"--ca-pin={pin}" for pin in made["ca_pins"]),
        f"--auth-server={cluster.address}",
        f"--destination-dir={place / 'out'}",
        f"--storage={place / 'storage'}",
        *words,
    )


def serial(place: Path) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-Lf", str(place / "out/key-cert.pub")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return next(line for line in shown.splitlines() if "Serial:" in line)


def test_oneshot_joins_once_and_renews_from_then_on(cluster, tmp_path):
    made = add_bot(cluster, "ci")
    first = tbot(cluster, made, tmp_path)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    before = serial(tmp_path)
    again = tbot(cluster, made, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "WARN" not in again.stderr
    assert serial(tmp_path) != before


def test_a_token_that_was_used_lets_no_second_bot_in(cluster, tmp_path):
    made = add_bot(cluster, "once")
    assert tbot(cluster, made, tmp_path / "a").returncode == 0
    thief = tbot(cluster, made, tmp_path / "b")
    assert (thief.returncode, thief.stdout) == (4, "")
    assert thief.stderr.startswith("ERROR: ")
    assert "token expired or not found" in thief.stderr
    assert not list((tmp_path / "b").rglob("*.*"))


def test_a_wrong_pin_is_refused_and_the_token_keeps(cluster, tmp_path):
    made = add_bot(cluster, "pinned")
    wrong = tbot(cluster, {**made, "ca_pins": ["sha256:" + "0" * 64]}, tmp_path)
    assert wrong.returncode == 4
    assert "the cluster does not have the pinned CA" in wrong.stderr
    assert tbot(cluster, made, tmp_path).returncode == 0


def test_a_node_token_makes_no_bot(cluster, tmp_path):
    made = {"token": cluster.token("node"), "ca_pins": []}
    refused = tbot(cluster, made, tmp_path)
    assert refused.returncode == 4
    assert 'the token does not allow "Bot" role' in refused.stderr
    assert not list(tmp_path.rglob("*.*"))


def test_a_bot_that_was_removed_can_not_renew(cluster, tmp_path):
    made = add_bot(cluster, "gone")
    assert tbot(cluster, made, tmp_path).returncode == 0
    cluster.tctl("bots", "rm", "gone")
    refused = cluster.run(
        "tbot",
        "start",
        "--oneshot",
        f"--auth-server={cluster.address}",
        f"--destination-dir={tmp_path / 'out'}",
        f"--storage={tmp_path / 'storage'}",
    )
    assert refused.returncode == 4
    assert refused.stderr.startswith("ERROR: this bot can not renew: ")


def test_the_identity_file_is_good_for_tctl(cluster, tmp_path):
    """The bot is known; what it may do is for its roles to say."""
    assert tbot(cluster, add_bot(cluster, "admin"), tmp_path).returncode == 0
    done = cluster.run(
        "tctl",
        f"--identity={tmp_path / 'out/identity'}",
        f"--auth-server={cluster.address}",
        "status",
        "--format=json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cluster"] == cluster.name


def test_openssh_gets_into_a_node_with_the_files_and_asks_nothing(cluster, node, tmp_path):
    assert tbot(cluster, add_bot(cluster, "deploy"), tmp_path).returncode == 0
    session = subprocess.run(
        [
            "ssh",
            "-F",
            str(tmp_path / "out/ssh_config"),
            f"-p{node}",
            f"{LOGIN}@127.0.0.1",
            "echo $USER",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (session.returncode, session.stdout) == (0, f"{LOGIN}\n"), session.stderr


def test_a_login_the_bot_does_not_have_is_refused(cluster, node, tmp_path):
    assert tbot(cluster, add_bot(cluster, "narrow"), tmp_path).returncode == 0
    session = subprocess.run(
        ["ssh", "-F", str(tmp_path / "out/ssh_config"), f"-p{node}", "somebody@127.0.0.1", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert session.returncode == 255
    assert "Permission denied" in session.stderr
