"""What the audit trail keeps: who tried what, and how it ended."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the trail. `code` is the stable number dashboards match (docs/audit.md)."""

    kind: str  # "instance.join"
    code: str  # "TJ002I"
    at: datetime
    outcome: str  # "ok", an error code of errors.py, or "failed"
    facts: dict[str, str] = field(default_factory=dict)
