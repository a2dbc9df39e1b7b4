"""Join tokens: permission to become part of the cluster."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from teleport_lite.secret import Secret

DEFAULT_TTL = timedelta(minutes=30)
# Long-lived tokens leak; a year is what a golden image needs at the most.
MAX_TTL = timedelta(hours=8760)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """What SCRAM (RFC 5802 §3) lets the server keep instead of the token or password.

    Not enough to prove it, but guesses can be tried against the two keys: they do not print.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """What the auth role remembers about a token.

    Admins choose, list and copy the text, so it has to be kept (sealed, see `store/`). It is
    a Secret, so it shows up only where somebody wrote `reveal()`.
    """

    name: str  # slow hash of the text (`proto/join.token_name`); the key it is looked up by
    text: Secret
    roles: tuple[str, ...]
    verifier: Verifier
    expires_at: datetime | None  # None: written in the config file, good until taken out
    once: bool = False  # for bots: exactly one host
    static: bool = False
    bot_name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    created_by: str = ""
    spent_at: datetime | None = None  # when a once-token was used; only the store sets it

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError("a join token without roles lets nobody in")

    @property
    def id(self) -> str:
        """A short name for audit and locks that is no secret: a prefix of the slow hash."""
        return self.name[:16]

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at
