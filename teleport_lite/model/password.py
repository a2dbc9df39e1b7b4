"""Passwords of people, as far as the cluster knows them: never the password itself."""

from dataclasses import dataclass
from datetime import datetime

from teleport_lite.model.token import Verifier

# NIST SP 800-63B asks for 8 and for room up to 64; Teleport has asked for 12 since version 15.
# 128 characters are a paragraph; more would only be work for us.
MIN_LENGTH, MAX_LENGTH = 12, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretching:
    """Parameters of argon2id (RFC 9106 §3.1) for one person's password."""

    salt: str  # hexadecimal
    time: int
    memory: int  # KiB
    lanes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """What auth keeps to check a proof of it. Not enough to log in, or to make a proof."""

    user: str
    stretch: Stretching
    verifier: Verifier  # of the stretched password; sealed in the store
    set_at: datetime
