"""Who is asking. Comes from the connection, never from the words on it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from teleport_lite.model.authority import CaType


class Kind(StrEnum):
    ANYONE = "anyone"  # TLS without a client certificate
    ADMIN = "admin"  # the unix socket, as root or as the service's own user
    HOST = "host"
    BOT = "bot"
    USER = "user"
    LEAF = "leaf"  # the auth server of a cluster that trusts us
    REMOTE = "remote"  # somebody from a cluster that we trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    kind: Kind
    name: str  # host UUID, user name, or who holds the socket
    address: str  # where the connection comes from; "local" for the socket
    roles: tuple[str, ...] = ()  # as the certificate has them
    bot_instance: str = ""
    cluster: str = ""  # where somebody REMOTE is from; `name` ends in it, `roles` are those there
    until: datetime | None = None  # end of the certificate; None without one
    ca: str = ""  # id of the CA that has issued the certificate of a host, or of a bot
    # DER of the certificate our side of the connection showed: the channel binding of a join.
    our_certificate: bytes = b""

    @property
    def ca_type(self) -> CaType:
        """Of `ca`."""
        return CaType.USER if self.kind in (Kind.BOT, Kind.USER) else CaType.HOST

    @property
    def label(self) -> str:
        """How the audit trail names them."""
        return f"{self.kind.value}:{self.name}" if self.name else self.kind.value
