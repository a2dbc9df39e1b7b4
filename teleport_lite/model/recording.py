"""A recorded session, as the auth role remembers it. The recording itself is a file."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Who, where and when comes from the host that served the session, and can be no truer
    than that host; `host_id`, sizes, `digest` and `stored_at` are auth's own."""

    sid: str
    host_id: str  # from the certificate of the host that sent it
    host_name: str
    user: str
    login: str
    command: str  # "" is a login shell
    started: datetime
    ended: datetime
    complete: bool  # False: an end or a part is missing
    size: int  # bytes of the asciicast
    stored: int  # bytes on the disk of auth
    events: int
    dropped: int  # lines that were no asciicast and were left out
    width: int  # of the terminal, in characters, as the session began
    height: int
    digest: str  # SHA-256 of what the host has sent, in hex
    stored_at: datetime
    kept_by: str = ""  # UUID of the auth server that has the file; "" from when there was one alone
