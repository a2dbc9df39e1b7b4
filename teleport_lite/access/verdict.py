"""How every decision ends."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowed:
    by: str  # the role that said yes; the audit trail wants its name


@dataclass(frozen=True, slots=True)
class Refused:
    reason: str


Verdict = Allowed | Refused
