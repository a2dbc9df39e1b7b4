"""What is measured, and its peers: the built file with a cluster of its own, an sshd, clients."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

REPO = Path(__file__).parent.parent
PYZ = REPO / "dist" / "teleport-lite.pyz"
SCRIPTS = Path(sys.executable).parent
CLUSTER = "bench.example.com"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class World:
    """Started once for all rows. Everything lives under `root` and ends with the context."""

    def __init__(self, root: Path, checkout: bool = False) -> None:
        """`checkout`: what is in the working tree, rather than the file built from it."""
        self.root, self.checkout = root, checkout
        self.program = root / "program"
        self.bin = root / "bin"
        self.bin.mkdir()
        self.env = {
            **os.environ,
            "TELEPORT_LITE_CONFIG": str(root / "none.yaml"),
            "TELEPORT_LITE_ROOT": str(self.program),
            "TELEPORT_HOME": str(root / "tsh"),
        }
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)
        # The interpreter itself, not a version manager's shim around it: that costs 70 ms.
        self.python = os.path.realpath(sys.executable)
        self.env["TELEPORT_LITE_PYTHON"] = self.python
        for name in ("teleport-lite", "tctl", "tsh", "tbot"):
            (self.bin / name).symlink_to(SCRIPTS / name if checkout else PYZ)
        self._running: list[subprocess.Popen[bytes]] = []
        self._made_account = ""
        self.auth_port, self.node_port, self.sshd_port = free_port(), free_port(), free_port()
        self.ports = {"node": self.node_port, "sshd": self.sshd_port}

    def __enter__(self) -> Self:
        if not self.checkout and not PYZ.exists():
            raise SystemExit("dist/teleport-lite.pyz is missing: python3 packaging/build.py")
        subprocess.run([self.bin / "teleport-lite", "--version"], env=self.env, check=True)
        self._write_configs()
        self.auth = self.daemon("start", "-c", str(self.root / "auth.yaml"))
        wait_for_port(self.auth_port)
        token = self.tctl("tokens", "add", "--type=node", "--format=text").strip()
        pin = self.pin = self.tctl("status").rsplit(None, 1)[-1]
        words = ("start", "-c", str(self.root / "node.yaml"), f"--token={token}", f"--ca-pin={pin}")
        self.node = self.daemon(*words)
        wait_for_port(self.node_port)
        self._credentials()
        self._start_sshd()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            process.wait(timeout=20)
        if self._made_account:
            subprocess.run(["userdel", "--force", self._made_account], check=False)

    def tctl(self, *words: str) -> str:
        command = [str(self.bin / "tctl"), "-c", str(self.root / "auth.yaml"), *words]
        return subprocess.run(
            command, env=self.env, check=True, capture_output=True, text=True
        ).stdout

    def daemon(self, *words: str) -> "subprocess.Popen[bytes]":
        return self.run([str(self.bin / "teleport-lite"), *words], "daemons.log")

    def run(self, command: Sequence[str], log_name: str) -> "subprocess.Popen[bytes]":
        """A process that ends with the world."""
        with (self.root / log_name).open("ab") as log:
            process = subprocess.Popen(
                command, cwd=REPO, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def ssh(self, where: str, *words: str) -> Sequence[str]:
        """The same client with the same options for every server, by their names in `ports`."""
        port = self.ports[where]
        # fmt: off
        return [
            "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", f"UserKnownHostsFile={self.root / 'known_hosts'}",
            "-o", f"HostKeyAlias=bench.{CLUSTER}", "-o", "IdentitiesOnly=yes",
            "-o", "Ciphers=aes128-gcm@openssh.com",
            "-o", "KexAlgorithms=curve25519-sha256@libssh.org",
            "-i", str(self.root / "alice"), "-p", str(port), f"{self.login}@127.0.0.1", *words,
        ]
        # fmt: on

    def _write_configs(self) -> None:
        auth = f"""\
version: v3
teleport: {{nodename: auth, data_dir: {self.root / "auth"}}}
auth_service: {{cluster_name: {CLUSTER}, listen_addr: "127.0.0.1:{self.auth_port}"}}
proxy_service: {{enabled: no}}
ssh_service: {{enabled: no}}
"""
        node = f"""\
version: v3
teleport:
  nodename: bench
  data_dir: {self.root / "node"}
  auth_server: 127.0.0.1:{self.auth_port}
auth_service: {{enabled: no}}
proxy_service: {{enabled: no}}
ssh_service: {{listen_addr: "127.0.0.1:{self.node_port}"}}
"""
        for name, text in (("auth", auth), ("node", node)):
            path = self.root / f"{name}.yaml"
            path.write_text(text)
            path.chmod(0o600)

    def _account(self) -> str:
        """Who logs in: somebody without start-up files, so that those are not measured."""
        if os.geteuid() != 0:
            return subprocess.check_output(["id", "-un"], text=True).strip()
        name = f"tlbench{os.getpid()}"
        # "*" is no password; "!", the default, is a locked account, which sshd refuses.
        words = ["useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh"]
        subprocess.run([*words, "--password", "*", name], check=True)
        self._made_account = name
        return name

    def _credentials(self) -> None:
        self.login = self._account()
        self.tctl("users", "add", "alice", f"--logins={self.login}", "--roles=access")
        out = f"--out={self.root / 'alice'}"
        self.tctl("auth", "sign", "--user=alice", "--format=openssh", out)
        (self.root / "known_hosts").write_text(self.tctl("auth", "export", "--type=host"))

    def _start_sshd(self) -> None:
        """OpenSSH's sshd on certificates of the same two CAs."""
        key = self.root / "sshd_key"
        out = f"--out={key}"
        self.tctl("auth", "sign", f"--host=bench.{CLUSTER}", "--format=openssh", out)
        user_ca = self.tctl("auth", "export", "--type=user").split(None, 1)[1]
        (self.root / "user_ca.pub").write_text(user_ca)
        config = self.root / "sshd_config"
        config.write_text(
            f"""\
Port {self.sshd_port}
ListenAddress 127.0.0.1
HostKey {key}
HostCertificate {key}-cert.pub
TrustedUserCAKeys {self.root / "user_ca.pub"}
PidFile none
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
MaxStartups 100
Subsystem sftp /usr/lib/openssh/sftp-server
"""
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self.sshd = self.run(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], "sshd.log")
        wait_for_port(self.sshd_port)
