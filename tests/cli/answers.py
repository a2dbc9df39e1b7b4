"""Answers of the admin API as the auth service gives them."""

from typing import Any

PIN = "sha256:7e12c17c20d9cb504bbcb3f0236be3f446861f1396dcbb44425fe28ec1c108f1"
TOKEN = "abcd123-insecure-do-not-use-this"
UUID = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"


def status(**changes: Any) -> dict[str, Any]:
    cas = [
        {"type": each, "last_rotated": None} for each in ("host", "user", "db", "openssh", "jwt")
    ]
    return {
        "cluster": "tele.example.com",
        "version": "7.1.3",
        "cas": cas,
        "ca_pins": [PIN],
        "time": "2026-11-21T09:00:00Z",
        **changes,
    }


def invitation(*roles: str, **changes: Any) -> dict[str, Any]:
    return {
        "token": TOKEN,
        "id": "0011223344556677",
        "roles": list(roles or ("Node",)),
        "expires": "2026-11-21T09:05:00Z",
        "ttl_minutes": 5,
        "uses": "many",
        "ca_pins": [PIN],
        "auth_server": "192.0.2.0:3025",
        "proxy_server": "",
        "warnings": [],
        **changes,
    }


def token(text: str, *roles: str, **changes: Any) -> dict[str, Any]:
    return {
        "token": text,
        "id": "0011223344556677",
        "roles": list(roles or ("Node",)),
        "labels": {},
        "expires": None,
        "static": False,
        "once": False,
        "bot_name": "",
        "created_by": "admin:root",
        **changes,
    }


def node(**changes: Any) -> dict[str, Any]:
    return {
        "id": UUID,
        "hostname": "turing",
        "address": "10.1.0.5:3022",
        "labels": {"distro": "ubuntu"},
        "version": "0.1.0",
        "state": "online",
        "last_seen": "2026-11-21T09:00:00Z",
        "roles": ["Node"],
        "skew": 0.0,
        **changes,
    }
