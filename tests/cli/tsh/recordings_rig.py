"""Answers about recordings and sessions, as auth gives them."""

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.auth.tapes import SID, a_tape

UUID = "0f9d2a54-1111-4222-8333-0123456789ab"


def a_recording(**changes: Any) -> dict[str, Any]:
    fields = {
        "sid": SID,
        "kind": "ssh",
        "user": "alice",
        "login": "root",
        "host_id": UUID,
        "host_name": "web-1",
        "command": "",
        "started": "2026-03-02T11:00:00Z",
        "ended": "2026-03-02T11:02:05Z",
        "complete": True,
        "size": 2048,
        "width": 80,
        "height": 24,
    }
    return fields | changes


def a_session(**changes: Any) -> dict[str, Any]:
    fields = {
        "sid": SID,
        "kind": "ssh",
        "user": "alice",
        "login": "root",
        "host_id": UUID,
        "host_name": "web-1",
        "started": "2026-03-02T11:00:00Z",
        "addr": "192.0.2.9",
        "command": "",
        "parties": [],
        "recorded": True,
        "modes": ["observer"],
    }
    return fields | changes


def reading(
    tape: bytes | None = None, *, piece: int = 10**9, **changes: Any
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Answers to /v1/recordings/read: `tape` in pieces of whole lines."""
    tape = a_tape() if tape is None else tape
    lines = tape.splitlines(keepends=True)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        size, end = 0, asked["at"]
        while end < len(lines) and size < piece:
            size, end = size + len(lines[end]), end + 1
        data = base64.b64encode(b"".join(lines[asked["at"] : end])).decode()
        return a_recording(**changes) | {"data": data, "next": end if end < len(lines) else None}

    return answer


def timed(*events: tuple[float, str]) -> bytes:
    header = {"version": 2, "width": 80, "height": 24, "timestamp": 1_772_449_200}
    lines: list[Any] = [header | {"teleport_lite": {"sid": SID, "user": "alice"}}]
    lines += [[at, "o", text] for at, text in events]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def refusal(status: int, code: str, message: str, hint: str = "") -> dict[str, Any]:
    """An answer of the fake proxy that is an error."""
    error = {"code": code, "message": message, "hint": hint, "trace": "t1"}
    return {"error": error, "_status": status}
