"""What administrators ask of auth: one message per question, one path each (docs/protocol.md)."""

from typing import Any

from teleport_lite.proto.codec import Message


class Nothing(Message, frozen=True):
    """A question that needs no words."""


class TokenAdd(Message, frozen=True):
    types: str
    value: str = ""
    ttl: str = "30m"
    labels: dict[str, str] = {}
    bot_name: str = ""


class TokenRemove(Message, frozen=True):
    token: str


class ResourceGet(Message, frozen=True):
    kind: str
    name: str = ""


class ResourceCreate(Message, frozen=True):
    resource: dict[str, Any]
    force: bool = False


class ResourceRemove(Message, frozen=True):
    kind: str
    name: str


class ResourceUpdate(Message, frozen=True):
    """Of what documents do not make: the labels of a remote_cluster, all of them."""

    kind: str
    name: str
    labels: dict[str, str]


class UserAdd(Message, frozen=True):
    name: str
    roles: list[str]
    logins: list[str] = []
    ttl: str = ""  # of the invite link; "" is an hour


class UserReset(Message, frozen=True):
    """A link for a new password."""

    name: str
    ttl: str = ""  # "" is eight hours


class UserUpdate(Message, frozen=True):
    name: str
    roles: list[str] | None = None
    logins: list[str] | None = None


class Named(Message, frozen=True):
    name: str


class BotAdd(Message, frozen=True):
    name: str
    roles: list[str] = []
    logins: list[str] = []
    ttl: str = "1h"


class SignUser(Message, frozen=True):
    user: str
    ssh_key: str
    tls_csr: str
    ttl: str = "12h"


class SignHost(Message, frozen=True):
    names: list[str]
    ssh_key: str
    tls_csr: str
    ttl: str = "720h"


class Export(Message, frozen=True):
    type: str


class RotateCa(Message, frozen=True):
    """Begin a rotation, or take it a step further; of several types in one go."""

    types: list[str]  # of model/authority.py, or "all"
    phase: str = ""  # of model/rotation.py; "" begins one
    manual: bool = False  # steps are taken by hand from now on
    grace_period: str = "48h"  # how long an automatic one takes; 0s: at once, without an overlap
    force: bool = False  # standby although hosts that are online are behind


class EventList(Message, frozen=True):
    after: int = 0
    limit: int = 1000


class LockAdd(Message, frozen=True):
    target: str
    value: str
    message: str = ""
    ttl: str = ""
