"""Locks: a person, host, role, login or token that is refused everywhere, within seconds."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Target(StrEnum):
    USER = "user"
    ROLE = "role"
    LOGIN = "login"
    NODE = "node"
    BOT = "bot_instance_id"
    TOKEN = "join_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    id: str
    target: Target
    value: str
    message: str = ""
    created_at: datetime
    created_by: str = ""
    expires_at: datetime | None = None

    def in_force(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at
