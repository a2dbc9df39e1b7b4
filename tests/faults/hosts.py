"""Joined hosts, each a process of its own: the whole agent, without an SSH service."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from teleport_lite.agent import identity as identities
from teleport_lite.agent.identity import Identity
from tests.faults.site import Auth
from tests.faults.warm import Daemon, Warm
from tests.support import eventually

CONNECTED = "connected to auth"


@dataclass
class Hosts:
    """`count` of them, joined at `auth`, who know `servers`."""

    warm: Warm
    auth: Auth
    root: Path
    count: int
    servers: Sequence[str] = ()
    inside: str = ""  # network namespace
    daemons: dict[str, Daemon] = field(default_factory=dict)

    def start(self) -> None:
        self.root.mkdir()
        token, pin = self.auth.token("app"), self.auth.pins[0]
        for number in range(self.count):
            self.begin(f"app-{number}", f"--token={token}", f"--ca-pin={pin}")
        for daemon in self.daemons.values():
            daemon.wait_for(CONNECTED, seconds=120)
        eventually(lambda: len(self.online()) >= self.count, seconds=60, what="all to be listed")

    def begin(self, name: str, *flags: str) -> Daemon:
        servers = self.servers or (self.auth.address,)
        words = ("start", "--roles=app", f"--nodename={name}", f"--data-dir={self.root / name}")
        words += tuple(f"--auth-server={each}" for each in servers)
        self.daemons[name] = self.warm.start(
            *words,
            *flags,
            log=self.root / f"{name}.log",
            env=self.auth.env,
            inside=self.inside,
        )
        return self.daemons[name]

    def kill(self, name: str) -> None:
        self.daemons[name].kill()

    def identity(self, name: str) -> Identity:
        found = identities.load(self.root / name)
        assert found is not None, f"{name} has lost its identity"
        return found

    def online(self, auth: Auth | None = None) -> set[str]:
        """Names of those that this auth server sees."""
        found = (auth or self.auth).hosts().values()
        names = {e["spec"]["hostname"] for e in found if e["status"]["state"] == "online"}
        return names & set(self.daemons)

    def ended(self) -> list[str]:
        return [name for name, daemon in self.daemons.items() if daemon.ended()]

    def connections(self) -> dict[str, int]:
        """How often each has connected."""
        return {name: each.said().count(CONNECTED) for name, each in self.daemons.items()}

    def back(self, before: dict[str, int], since: float, seconds: float = 60) -> list[float]:
        """Seconds from `since` until each has connected anew, in any order."""
        took: dict[str, float] = {}

        def all_are() -> bool:
            now = self.connections()
            for name, count in now.items():
                if name not in took and count > before[name]:
                    took[name] = time.monotonic() - since
            return len(took) == len(self.daemons)

        eventually(all_are, seconds=seconds, what="every host to connect again")
        return list(took.values())
