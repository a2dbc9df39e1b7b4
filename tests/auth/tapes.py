"""Recordings to send, and a cluster that keeps them."""

import base64
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.desks import Keeping
from teleport_lite.model.host import Host
from teleport_lite.proto.recording import MAX_PART
from teleport_lite.store.protocols import Store
from teleport_lite.testing.fakes import T0
from tests.auth.bench import Bench, the_host

SID = "c52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
WEB, DB = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f", "d62527f9-b260-41d0-bb5a-e23b0cfe0f8f"
MIB = 1024 * 1024


def sid(number: int) -> str:
    return f"{number:08x}-b260-41d0-bb5a-e23b0cfe0f8f"


def a_tape(*said: str, width: int = 80, height: int = 24) -> bytes:
    """An asciicast; a second between what is said."""
    header: dict[str, Any] = {"version": 2, "width": width, "height": height}
    lines = [header, *([at, "o", text] for at, text in enumerate(said or ("$ ", "exit\r\n")))]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def facts(**changes: Any) -> dict[str, Any]:
    now = T0.timestamp()
    fields = {"user": "alice", "login": "root", "started": now - 60, "ended": now, "complete": True}
    return fields | {"command": ""} | changes


def person(name: str, *roles: str) -> Caller:
    return Caller(kind=Kind.USER, name=name, address="192.0.2.7", roles=roles)


class Archive(Bench):
    """Two nodes, web-1 and db-1, and three people: alice, who works, ed and audra, who look."""

    def __init__(
        self,
        directory: Path,
        *,
        quota: int = 100 * MIB,
        retention: timedelta = timedelta(days=90),
        store: Store | None = None,
    ) -> None:
        keeping = Keeping(directory=directory / "records", quota=quota, retention=retention)
        super().__init__(keeping=keeping, store=store)
        self.records = keeping.directory
        for host_id, name in ((WEB, "web-1"), (DB, "db-1")):
            host = Host(
                id=host_id,
                name=name,
                roles=("Node",),
                joined_at=self.clock.now(),
                token_id="t",
                ssh_key=f"key of {host_id}",
                tls_key="PEM",
            )
            self.store.write(lambda tx, host=host: tx.put_host(host))
        if self.store.user("alice") is None:
            for name, role in (("alice", "access"), ("ed", "editor"), ("audra", "auditor")):
                self.ask("/v1/users/add", name=name, roles=[role])
        self.alice, self.ed = person("alice", "access"), person("ed", "editor")
        self.audra = person("audra", "auditor")
        self.web, self.db = the_host(WEB, "Node"), the_host(DB, "Node")

    def begin(
        self, tape: bytes, sid: str = SID, caller: Caller | None = None, **said: Any
    ) -> dict[str, Any]:
        asked = {"sid": sid, "size": len(tape), "digest": digest(tape), "facts": facts(**said)}
        return plain(self.ask("/v1/recordings/begin", caller or self.web, **asked))

    def part(
        self, data: bytes, at: int = 0, sid: str = SID, caller: Caller | None = None, **changes: Any
    ) -> dict[str, Any]:
        asked = {"sid": sid, "at": at, "data": b64(data), "digest": digest(data)} | changes
        return plain(self.ask("/v1/recordings/part", caller or self.web, **asked))

    def end(self, sid: str = SID, caller: Caller | None = None) -> dict[str, Any]:
        return plain(self.ask("/v1/recordings/end", caller or self.web, sid=sid))

    def send(
        self, tape: bytes, sid: str = SID, caller: Caller | None = None, **said: Any
    ) -> dict[str, Any]:
        """All of it, as an agent does."""
        state = self.begin(tape, sid, caller, **said)
        at = state["received"]
        while at < len(tape) and not state["durable"]:
            end = tape.rfind(b"\n", at, at + MAX_PART) + 1
            at = self.part(tape[at:end], at, sid, caller)["received"]
        return self.end(sid, caller)

    def play(self, sid: str = SID, caller: Caller | None = None) -> bytes:
        """All of it, as a player reads it."""
        at, found = 0, b""
        while at is not None:
            piece = self.ask("/v1/recordings/read", caller or self.alice, sid=sid, at=at)
            found, at = found + base64.b64decode(piece["data"]), piece["next"]
        return found

    def sids(self, caller: Caller | None = None, **filters: Any) -> list[str]:
        asked = self.ask("/v1/recordings/list", caller or self.audra, **filters)
        return [each["sid"] for each in asked["recordings"]]

    def told(self, kind: str) -> list[Any]:
        return [event for _, event in self.store.events() if event.kind == kind]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.records.iterdir())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def plain(state: Any) -> dict[str, Any]:
    return {"received": state.received, "durable": state.durable}
