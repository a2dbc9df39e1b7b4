"""Certificate authorities: which exist, and what may be known about them without a key."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from teleport_lite.secret import Secret


class CaType(StrEnum):
    """In the order `tctl status` lists them. Each is rotated by itself."""

    HOST = "host"
    USER = "user"
    DB = "db"
    OPENSSH = "openssh"
    JWT = "jwt"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedCa:
    """The public half: what others need to check a signature."""

    type: CaType
    ssh_key: str = (
        ""  # OpenSSH public key line without comment; "" when it signs no SSH certificates
    )
    tls_cert: str = ""  # PEM; "" when it signs no X.509 certificates
    jwt_key: str = ""  # PEM SubjectPublicKeyInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CaKeys:
    """One generation of a CA with its private keys. Leaves the auth process only sealed."""

    type: CaType
    id: str
    public: TrustedCa
    ssh_private: Secret | None = None  # OpenSSH private key, PEM
    tls_private: Secret | None = None  # PKCS#8 PEM
    jwt_private: Secret | None = None
    created_at: datetime
    active: bool = True  # False: still trusted, signs nothing
    last_rotated: datetime | None = None
