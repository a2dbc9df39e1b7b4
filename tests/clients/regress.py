"""OpenSSH's own test scripts, as Debian's openssh-tests brings them, against our node.

The scripts are not changed. They are told to use

* an `sshd` that passes connections on to the node (`standin.py` when it is to listen, the scripts'
  own netcat when it is to speak on its standard input and output),
* an `ssh` that adds a key with a certificate and the CA of hosts, and that answers `ssh -Q` with
  what the node offers, too,
* an `sftp-server` that is behind the node, where they would start one beside the client.

Two scripts at once would fight for ports (3301 and so on), so every lane has a network of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from teleport_lite.model.user import Options
from tests.node.house import ME, REPO, ROLE, House

SCRIPTS = Path("/usr/lib/openssh/regress")
POLICY = REPO / "tests" / "node" / "ssh-audit-policy"
TOOLS = ("netcat", "modpipe", "mkdtemp")
FORWARDING = Options(forward_agent=True)
PORT = 4242  # and the two above it; nobody else is in our network
# What the scripts ask `ssh -Q` for, and where the node's policy says it.
QUERIES = {
    "kex": "key exchanges",
    "cipher": "ciphers",
    "cipher-auth": "ciphers",
    "mac": "macs",
    "key-plain": "host keys",
}

SSH = """\
#!/bin/sh
asked=
for word; do
  [ "$asked" = next ] && asked=$word && break
  [ "$word" = -Q ] && asked=next
done
[ -n "$asked" ] && [ -f "{here}/offered/$asked" ] && exec cat "{here}/offered/$asked"
exec ssh -i {key} -o CertificateFile={key}-cert.pub {trust} "$@"
"""
SSHD = """\
#!/bin/sh
config=
for word; do
  case $word in
    -T) exec /usr/sbin/sshd "$@" ;;
    -t) exit 0 ;;
    -i) exec {here}/netcat -N 127.0.0.1 {port} ;;
  esac
  [ "$config" = next ] && config=$word
  [ "$word" = -f ] && config=next
done
exec {python} {standin} "$config" {port}
"""
SFTP_SERVER = """\
#!/bin/sh
node="{here}/ssh -F none -o BatchMode=yes -o HostKeyAlias=localhost -p {port} 127.0.0.1"
[ $# = 0 ] && exec $node -s sftp
exec $node "exec /usr/lib/openssh/sftp-server $*"
"""
# Every script copies this file about, 480 KB of it. One does so five bytes at a time.
SMALL_DATA = (
    """\
#!/bin/sh
exec ssh-agent "$@"
"""
    + "# as much again\n" * 1300
)
SMALL = ("sftp",)
# They are about learning keys of hosts, which nobody does who knows their CA.
WITHOUT_CA = ("knownhosts", "knownhosts-command")
TELNET = """\
#!/bin/sh
exec {here}/netcat -N "$@"
"""


@contextmanager
def network(name: str) -> Iterator[list[str]]:
    """Words that run what follows in a network of its own. Without root there is none."""
    if os.getuid() != 0:
        yield []
        return
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


class Lane:
    """A node, and a place from which scripts are run against it, one after the other."""

    def __init__(self, directory: Path, inside: list[str], **changes: Any) -> None:
        self.inside = inside
        # The scripts send variables of such names, and let nothing else through.
        settings = {"accept_env": ["_XXX_TEST", "_XXX_TEST_*"], **changes.pop("settings", {})}
        self.house = House(directory, settings=settings, **changes)
        self.house.roles = [replace(ROLE, options=FORWARDING)]
        self.house.save_knowledge()
        self.house.host = self.house.cluster.host(
            "node1", host_id=self.house.host.id, extra=("localhost", "localhost-with-alias")
        )
        self.house.save_identity()
        self.house.python = [*inside, sys.executable]
        self.house.start()

    def close(self) -> None:
        self.house.stop()

    def start(self, script: str) -> "Running":
        """Half of it is names of files with sockets in them, which have to be short."""
        here = Path(tempfile.mkdtemp(prefix="tlr-"))
        self._furnish(here, script)
        env = {
            **os.environ,
            "PATH": f"{here}/bin:{os.environ['PATH']}:/usr/sbin",
            "TMPDIR": str(here),
            "BUILDDIR": str(SCRIPTS),
            "TEST_SHELL": "sh",
            "TEST_SSH_PORT": str(PORT),
            "TEST_SSH_SSH": f"{here}/ssh",
            "TEST_SSH_SSHD": f"{here}/sshd",
            "TEST_SSH_SFTPSERVER": f"{here}/sftp-server",
            "TEST_SSH_UNSAFE_PERMISSIONS": "1",
        }
        if script in SMALL:
            env["TEST_SSH_SSHAGENT"] = f"{here}/small-agent"
        words = ["sh", str(SCRIPTS / "test-exec.sh"), str(here), str(SCRIPTS / f"{script}.sh")]
        with (here / "output").open("wb") as output:
            process = subprocess.Popen(
                [*self.inside, *words],
                cwd=here,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return Running(script, here, process)

    def _furnish(self, here: Path, script: str) -> None:
        for tool in TOOLS:
            (here / tool).symlink_to(SCRIPTS / tool)
        visitor = self.house.visitor(self.house.cluster.user(logins=(ME,), options=FORWARDING))
        # The key of the known_hosts that the scripts write: as a host without a certificate.
        # They use it as one of the user's keys, too, which the node does not take.
        (here / "ssh-ed25519").touch(mode=0o600)
        (here / "ssh-ed25519").write_text(self.house.host.ssh_private.reveal())
        (here / "ssh-ed25519.pub").write_text(self.house.host.ssh_public + "\n")
        trust = f"-o GlobalKnownHostsFile={self.house.known_hosts}"
        facts = {
            "here": here,
            "key": visitor.key,
            "trust": "" if script in WITHOUT_CA else trust,
            "port": self.house.port,
            "python": sys.executable,
            "standin": Path(__file__).parent / "standin.py",
        }
        (here / "bin").mkdir()
        for name, text in {
            "ssh": SSH,
            "sshd": SSHD,
            "sftp-server": SFTP_SERVER,
            "bin/telnet": TELNET,
            "small-agent": SMALL_DATA,
        }.items():
            (here / name).write_text(text.format(**facts))
            (here / name).chmod(0o755)
        (here / "offered").mkdir()
        for query, names in offered().items():
            (here / "offered" / query).write_text("".join(f"{name}\n" for name in names))


class Running:
    """A script that has been started."""

    def __init__(self, script: str, here: Path, process: "subprocess.Popen[bytes]") -> None:
        self.script, self.here, self.process = script, here, process

    def output(self, seconds: float) -> str:
        """All that it said, when it has ended; with its logs, if it failed."""
        self.process.wait(seconds)
        said = (self.here / "output").read_text(errors="replace")
        if self.process.returncode:
            for log in ("failed-regress.log", "failed-ssh.log"):
                if (self.here / log).exists():
                    said += f"\n--- {log}\n" + (self.here / log).read_text(errors="replace")[-3000:]
        return said

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        with suppress(OSError):  # it has gone with the script
            os.kill(int((self.here / "pidfile").read_text()), 15)
        shutil.rmtree(self.here, ignore_errors=True)


def offered() -> dict[str, list[str]]:
    """What both this ssh and the node know."""
    policy = {}
    for line in POLICY.read_text().splitlines():
        name, equals, values = line.partition(" = ")
        if equals:
            policy[name] = values.split(", ")
    found = {}
    for query, name in QUERIES.items():
        ours = subprocess.check_output(["ssh", "-Q", query], text=True).split()
        found[query] = [each for each in ours if each in policy[name]]
        assert found[query], query
    return found
