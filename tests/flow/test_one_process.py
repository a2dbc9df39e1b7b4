"""`teleport-lite start` with nothing but addresses: auth, proxy and node in one process."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.cluster import Cluster
from tests.support import eventually, free_port

ME = pwd.getpwuid(os.getuid()).pw_name

_CONFIG = """\
version: v3
teleport: {{nodename: auth-1, data_dir: {data}}}
auth_service:
  cluster_name: {name}
  listen_addr: 127.0.0.1:{port}
{extra}
"""
_EXTRA = """\
proxy_service: {{web_listen_addr: "127.0.0.1:{web}", public_addr: "127.0.0.1:{web}"}}
ssh_service: {{listen_addr: "127.0.0.1:{ssh}"}}
"""


@pytest.fixture(scope="module")
def web() -> int:
    return free_port()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, web: int) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("one")
    extra = _EXTRA.format(web=web, ssh=free_port())
    with Cluster(root, name="one.example.com", extra=extra, template=_CONFIG) as cluster:
        eventually(lambda: any(each["address"] for each in cluster.json("nodes", "ls")))
        yield cluster


@pytest.fixture(scope="module")
def ssh_config(cluster: Cluster, web: int) -> Path:
    """All that a client with OpenSSH alone needs: a certificate, and the line about host CAs.
    With it there is a way to the node."""
    root = cluster.root
    cluster.tctl("users", "add", "alice", f"--logins={ME}", "--roles=access")
    cluster.tctl("auth", "sign", "--user=alice", "--format=openssh", f"--out={root / 'alice'}")
    (root / "known_hosts").write_text(cluster.tctl("auth", "export", "--type=host"))
    config = root / "ssh_config"
    config.write_text(
        f"Host *\n UserKnownHostsFile {root / 'known_hosts'}\n GlobalKnownHostsFile none\n"
        f" StrictHostKeyChecking yes\n IdentityFile {root / 'alice'}\n IdentitiesOnly yes\n"
        " BatchMode yes\n"
    )
    jump = ("-J", f"alice@127.0.0.1:{web}")
    words = (*jump, f"{ME}@auth-1.one.example.com", "true")
    # A proxy hears of nodes a second later than `tctl nodes ls`.
    eventually(lambda: ssh(config, *words).returncode == 0, what="a way to the node")
    return config


def ssh(config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = ["ssh", "-F", str(config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_openssh_alone_jumps_through_the_web_port(ssh_config: Path, web: int) -> None:
    jump = ("-J", f"alice@127.0.0.1:{web}")
    words = (*jump, f"{ME}@auth-1.one.example.com", "echo $SSH_TELEPORT_USER")
    assert ssh(ssh_config, *words).stdout == "alice\n"


def test_the_jump_host_says_why_not(ssh_config: Path, web: int) -> None:
    jump = ("-J", f"alice@127.0.0.1:{web}")
    done = ssh(ssh_config, *jump, f"{ME}@nowhere.one.example.com", "true")
    assert done.returncode == 255
    assert "there is no node nowhere.one.example.com that you may reach" in done.stderr
    shell = ssh(ssh_config, "-p", str(web), "alice@127.0.0.1", "true")
    assert shell.returncode == 255
    assert "this is a jump host, it has no shells" in shell.stderr


def test_a_lock_ends_a_session_that_came_through(
    cluster: Cluster, ssh_config: Path, web: int
) -> None:
    words = ("-J", f"alice@127.0.0.1:{web}", f"{ME}@auth-1.one.example.com", "echo in; cat")
    pipe = subprocess.PIPE
    command = ["ssh", "-F", str(ssh_config), *words]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as session:
        assert session.stdout
        assert session.stdout.readline() == b"in\n"
        said = cluster.tctl("lock", "--user=alice")
        assert session.wait(timeout=60) == 255
    try:
        refused = ssh(ssh_config, *words[:3], "true")
        assert refused.returncode == 255
    finally:  # the tests above may come later
        cluster.tctl("rm", f"lock/{said.split(chr(34))[1]}")
    eventually(lambda: ssh(ssh_config, *words[:3], "true").returncode == 0, what="the lock's end")
