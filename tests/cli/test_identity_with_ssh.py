"""What `tctl auth sign` writes, in the hands of a stock OpenSSH client and server."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.cli import real_auth
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth
from tests.pki.sshd import BINARY, LOGIN, sshd

pytestmark = pytest.mark.skipif(BINARY is None, reason="needs OpenSSH's sshd")
OPTIONS = {
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "LogLevel": "ERROR",
}


def ssh(port: int, identity: Path) -> subprocess.CompletedProcess[str]:
    options = [f"-o{key}={value}" for key, value in OPTIONS.items()]
    where = ["-F", "none", "-p", str(port), "-i", identity, f"{LOGIN}@127.0.0.1"]
    command = ["ssh", *options, *where, "echo", "inside"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("shape", ["file", "openssh"])
def test_ssh_logs_in_with_it(auth: FakeAuth, tctl: Tool, tmp_path: Path, shape: str) -> None:
    real_auth.put_behind(auth, real_auth.desks())
    tctl("users", "add", "alice", "--roles=access", f"--logins={LOGIN}")
    identity, stranger = tmp_path / "alice", tmp_path / "mallory"
    assert tctl("auth", "sign", "--user=alice", f"--format={shape}", f"-o{identity}").code == 0
    trusted = tctl("auth", "export", "--type=user").out.removeprefix("cert-authority ")
    real_auth.put_behind(auth, real_auth.desks())  # another cluster, with another CA
    tctl("users", "add", "mallory", "--roles=access", f"--logins={LOGIN}")
    assert tctl("auth", "sign", "--user=mallory", f"--format={shape}", f"-o{stranger}").code == 0
    with sshd(tmp_path, trusted):
        found = re.search(r"^ListenAddress .*:(\d+)$", (tmp_path / "config").read_text(), re.M)
        assert found
        inside = ssh(int(found[1]), identity)
        assert (inside.returncode, inside.stdout) == (0, "inside\n"), inside.stderr
        assert ssh(int(found[1]), stranger).returncode == 255
