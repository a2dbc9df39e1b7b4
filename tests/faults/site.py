"""A cluster whose daemons are made to suffer, and what is true of it afterwards."""

import os
import socket
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from teleport_lite.net.http import Connection
from tests.faults.warm import Daemon, Warm

CLUSTER = "faults.example.com"

_AUTH = """\
version: v3
teleport:
  nodename: {name}
  data_dir: {data}
  diag_addr: 127.0.0.1:{diag}
{teleport}
auth_service:
  enabled: yes
  cluster_name: {cluster}
  listen_addr: {address}
  public_addr: {address}
{auth}
proxy_service: {{enabled: no}}
ssh_service: {{enabled: no}}
"""


def _two_ports() -> tuple[int, int]:
    """Asked for one after the other they can be the same."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return one.getsockname()[1], two.getsockname()[1]


class Auth:
    """One auth server: its files, its daemon, and questions to it by its socket."""

    def __init__(
        self,
        warm: Warm,
        root: Path,
        *,
        name: str = "auth",
        host: str = "127.0.0.1",
        teleport: str = "",
        auth: str = "",
        env: Mapping[str, str] | None = None,
        inside: str = "",
    ) -> None:
        self._warm, self.root, self.name, self._inside = warm, root, name, inside
        port, self.diag = _two_ports()
        self.address = f"{host}:{port}"
        self.data, self.config, self.log = root / name, root / f"{name}.yaml", root / f"{name}.log"
        self.config.write_text(
            _AUTH.format(
                name=name,
                data=self.data,
                cluster=CLUSTER,
                address=self.address,
                diag=self.diag,
                teleport=teleport,
                auth=auth,
            )
        )
        self.config.chmod(0o600)
        self.env = {
            **os.environ,
            "TELEPORT_LITE_CONFIG": str(root / "none.yaml"),
            "TELEPORT_HOME": str(root / "tsh"),
            **(env or {}),
        }
        self.daemon: Daemon | None = None

    def begin(self, *flags: str, gate: Path | None = None) -> Daemon:
        """Without waiting for it."""
        words = ("start", "-c", str(self.config), *flags)
        self.daemon = self._warm.start(
            *words, log=self.log, env=self.env, gate=gate, inside=self._inside
        )
        return self.daemon

    def start(self, *flags: str) -> Daemon:
        return self.begin(*flags).wait_for()

    @property
    def pid(self) -> int:
        assert self.daemon is not None
        return self.daemon.pid

    def kill(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()

    def stop(self) -> None:
        assert self.daemon is not None
        self.daemon.stop()

    @property
    def database(self) -> Path:
        return self.data / "backend" / "auth.db"

    def ask(self, path: str, timeout: float = 30, **fields: Any) -> Any:
        """As `tctl` does on this host. Raises what auth says."""
        with Connection.unix(self.data / "auth.sock", timeout=timeout) as wire:
            return wire.ask(path, fields)

    def token(self, types: str, **fields: Any) -> str:
        return str(self.ask("/v1/tokens/add", types=types, ttl="1h", **fields)["token"])

    @property
    def pins(self) -> list[str]:
        return list(self.ask("/v1/status")["ca_pins"])

    def hosts(self) -> dict[str, dict[str, Any]]:
        """All that have ever joined, by UUID; auth itself has none of the tokens."""
        found = self.ask("/v1/resources/get", kind="host")["resources"]
        return {
            each["metadata"]["name"]: each for each in found if each["spec"]["token_id"] != "local"
        }

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := self.ask("/v1/audit/list", after=found[-1]["seq"] if found else 0)["events"]:
            found += page
        return [each for each in found if not kinds or each["event"] in kinds]

    def joined(self, role: str = "") -> set[str]:
        """Who has joined, as the trail has it; bots are nowhere else."""
        return {
            each["host_id"]
            for each in self.events("instance.join")
            if each["outcome"] == "ok"
            and role.lower() in (each["roles"].lower().split(",") if role else ("",))
        }

    def cas(self) -> list[tuple[str, str]]:
        """Type and id of every CA in the store: of one that was never rotated, one a type."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as db:
            return sorted(db.execute("SELECT type, id FROM cas").fetchall())

    def troubles(self) -> list[str]:
        """What is wrong with what the store holds, whoever made it so. Auth has to run."""
        found = []
        if self.ask("/v1/audit/verify")["broken_at"] is not None:
            found.append("the audit trail is broken")
        types = [type for type, _ in self.cas()] if self.database.exists() else []
        found += [
            f"{types.count(each)} CAs of type {each}"
            for each in set(types)
            if types.count(each) > 1
        ]
        joined = self.joined() - self.joined("Bot") - self.joined("Auth")
        hosts = set(self.hosts())
        found += [f"host {each} without its event" for each in hosts - joined]
        found += [f"an event without its host {each}" for each in joined - hosts]
        return found
