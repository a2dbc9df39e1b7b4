"""A node on loopback with a cluster on paper behind it, and real OpenSSH in front."""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from teleport_lite.agent import identity, knowledge
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.user import Condition, Role
from teleport_lite.pki.authority import Signed
from teleport_lite.proto.resource import lock_doc, role_doc
from teleport_lite.proto.stream import Knowledge
from teleport_lite.testing.certs import PaperCluster, Papers
from tests.support import eventually

REPO = Path(__file__).parent.parent.parent
ME = pwd.getpwuid(os.getuid()).pw_name
ROLE = Role(
    name="access",
    allow=Condition(logins=("{{internal.logins}}",), node_labels={"*": ("*",)}),
)


class House:
    """`directory` holds everything; `start` runs the daemon, `ssh` the client."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory, self.changes = directory, changes
        # Where a worker, being nobody, may not look, and a login user need not.
        self.data_dir = directory / "data"
        self.cluster = PaperCluster()
        self.host: Papers = self.cluster.host("node1", extra=("127.0.0.1", "localhost"))
        self.roles: list[Role] = [ROLE]
        self.locks: list[Lock] = []
        self.labels = {"env": "test"}
        self._keys = 0
        self.events_file = directory / "events"
        self.events_file.touch()
        self.python = [sys.executable]
        self.popen: dict[str, Any] = {}
        self.clients: list[subprocess.Popen[bytes]] = []
        self.save_identity()
        self.save_knowledge()

    # --- what the node knows

    def save_identity(self) -> None:
        identity.save(
            self.data_dir,
            identity.Identity(
                cluster=self.cluster.name,
                host_id=self.host.id,
                roles=("Node",),
                ssh_private=self.host.ssh_private,
                ssh_public=self.host.ssh_public,
                tls_private=self.host.tls_private,
                ssh_cert=self.host.ssh_cert,
                tls_cert=self.host.tls_cert,
                host_cas=tuple(self.cluster.host_cas),
                ssh_host_cas=(self.cluster.host_ca.public.ssh_key,),
                ssh_user_cas=(self.cluster.user_ca.public.ssh_key,),
                user_cas=tuple(self.cluster.user_cas),
            ),
        )

    def save_knowledge(self, **changes: Any) -> None:
        known = {
            "cluster": self.cluster.name,
            "serial": 1,
            "host_cas": self.cluster.host_cas,
            "ssh_host_cas": [self.cluster.host_ca.public.ssh_key],
            "ssh_user_cas": [self.cluster.user_ca.public.ssh_key],
            "user_cas": self.cluster.user_cas,
            "roles": [role_doc(role) for role in self.roles],
            "locks": [lock_doc(lock) for lock in self.locks],
        } | changes
        knowledge.save(self.data_dir, Knowledge(**known))
        knowledge.save_labels(self.data_dir, self.labels)

    def lock(self, target: Target, value: str) -> None:
        now = datetime.now(UTC)
        self.locks.append(
            Lock(id=f"lock-{len(self.locks)}", target=target, value=value, created_at=now)
        )
        self.save_knowledge()

    def unlock_all(self) -> None:
        self.locks.clear()
        self.save_knowledge()

    # --- the daemon

    def start(self) -> None:
        words = [str(self.data_dir), str(self.events_file), json.dumps(self.changes)]
        with (self.directory / "stderr").open("ab") as errors:
            self.daemon = subprocess.Popen(
                [*self.python, "-m", "tests.node.daemon_child", *words],
                **{"cwd": REPO, **self.popen},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        said = self.hear()
        self.port, self.zygote = said["port"], said["zygote"]
        host_ca = self.cluster.host_ca.public.ssh_key
        self.known_hosts = self.directory / "known_hosts"
        self.known_hosts.write_text(f"@cert-authority * {host_ca}\n")

    def hear(self) -> dict[str, Any]:
        assert self.daemon.stdout
        line = self.daemon.stdout.readline()
        assert line, (self.directory / "stderr").read_text()
        return dict(json.loads(line))

    def tell(self, word: str) -> None:
        assert self.daemon.stdin
        self.daemon.stdin.write(word.encode() + b"\n")
        self.daemon.stdin.flush()

    def counters(self) -> dict[str, int]:
        self.tell("counters")
        return self.hear()

    def stop(self) -> None:
        """And nothing of it may be left."""
        for client in self.clients:
            if client.poll() is None:
                client.kill()
                client.wait()
            for pipe in (client.stdin, client.stdout, client.stderr):
                if pipe:
                    pipe.close()
        if self.daemon.poll() is None:
            self.tell("quit")
            self.daemon.wait(60)
        for pipe in (self.daemon.stdin, self.daemon.stdout):
            assert pipe
            pipe.close()
        eventually(lambda: not self.processes(), what=f"leftovers to end: {self.processes()}")

    def processes(self) -> dict[int, str]:
        """Ours that still run: they carry our data directory in their arguments."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.daemon.pid:
                try:
                    words = (entry / "cmdline").read_bytes()
                    name = (entry / "comm").read_text().strip()
                except OSError:
                    continue
                if os.fsencode(self.data_dir) in words:
                    found[int(entry.name)] = name
        return found

    def named(self, name: str) -> list[int]:
        return [pid for pid, each in self.processes().items() if each == name]

    def one(self, name: str, *, besides: Collection[int] = ()) -> int:
        """The only one of that name. A process takes its name a moment after it was forked, and a
        program that it starts after that has it until it is there."""

        def only() -> int:
            found = set(self.named(name)) - set(besides)
            return found.pop() if len(found) == 1 else 0

        return eventually(only, what=f"one {name}")

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.events_file.read_text().splitlines()]

    def event(self, code: str, **facts: str) -> dict[str, Any]:
        """The newest event of that code with those facts, as soon as it is there."""

        def newest() -> dict[str, Any] | None:
            for event in reversed(self.events()):
                if event["code"] == code and facts.items() <= event["facts"].items():
                    return event
            return None

        return eventually(newest, what=f"event {code} {facts}, have {self.events()}")

    # --- the client

    def visitor(self, papers: Papers | None = None, *, cert: str | None = None) -> "Visitor":
        papers = papers or self.cluster.user(logins=(ME,))
        if cert is not None:
            papers = replace(papers, ssh_cert=cert)
        self._keys += 1
        key = self.directory / f"key-{self._keys}"
        key.touch(mode=0o600)
        key.write_text(papers.ssh_private.reveal())
        if papers.ssh_cert:
            Path(f"{key}-cert.pub").write_text(papers.ssh_cert + "\n")
        return Visitor(self, key)

    def ssh(self, *words: str, login: str = ME, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return self.visitor(self.cluster.user(logins=(login,))).ssh(*words, login=login, **more)


class Visitor:
    """Somebody with a key and a certificate."""

    def __init__(self, house: House, key: Path) -> None:
        self.house, self.key = house, key

    def command(self, *words: str, login: str = ME, options: Sequence[str] = ()) -> list[str]:
        fixed = {
            "IdentitiesOnly": "yes",
            "IdentityFile": str(self.key),
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.house.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "PreferredAuthentications": "publickey",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        flags = [f"-o{name}={value}" for name, value in fixed.items()]
        target = [f"{login}@127.0.0.1", "-p", str(self.house.port)]
        # Of an option given twice ssh takes the first.
        return ["ssh", "-F", "none", *options, *flags, *target, *words]

    def ssh(
        self, *words: str, login: str = ME, options: Sequence[str] = (), **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        more = {"input": b"", "timeout": 60} | more
        command = self.command(*words, login=login, options=options)
        return subprocess.run(command, capture_output=True, **more)

    def start(self, *words: str, **more: Any) -> subprocess.Popen[bytes]:
        options, login = more.pop("options", ()), more.pop("login", ME)
        pipe = subprocess.PIPE
        more = {"stdin": pipe, "stdout": pipe, "stderr": pipe} | more
        client = subprocess.Popen(self.command(*words, login=login, options=options), **more)
        self.house.clients.append(client)
        return client

    @contextmanager
    def master(self, control: Path, *options: str, **more: Any) -> Iterator[list[str]]:
        """A connection for others to share, and the options with which they do.

        It is told to end in its own protocol: a signal is missed by OpenSSH (9.2, for one) in the
        moment before it waits.
        """
        process = self.start("-N", options=["-M", "-S", str(control), *options], **more)
        # Without the second, ssh would connect by itself when it is refused.
        shared = ["-S", str(control), "-oProxyCommand=false"]
        try:
            eventually(control.exists, what="the control socket")
            yield shared
        finally:
            self.ssh(options=[*shared, "-O", "exit"])
            process.communicate(timeout=30)


@contextmanager
def running(directory: Path, **changes: Any) -> Iterator[House]:
    house = House(directory, **changes)
    house.start()
    try:
        yield house
    finally:
        house.stop()


def later(minutes: float) -> timedelta:
    return timedelta(minutes=minutes)


__all__ = ["ME", "House", "Signed", "Visitor", "running"]
