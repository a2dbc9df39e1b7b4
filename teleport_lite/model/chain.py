"""The audit trail as a chain: each event carries a hash over itself and the one before it.

    hash(n) = SHA-256( hash(n-1) "\\n" n "\\n" canonical(event n) ),   hash(0) = 64 zeros

So an event that is edited, removed or moved breaks the chain at its place. What a chain alone
cannot show is a missing end; the store keeps the number and hash of the last event for that.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from teleport_lite.model.event import Event

GENESIS = "0" * 64
# A fact is a name, an address, a reason. Strangers choose some of them, so they get a limit.
MAX_FIELD = 4096
_CUT = "[cut]"


def canonical(event: Event) -> bytes:
    """One JSON line in ASCII, the same for the same event for ever: stored hashes depend on it.

    Control characters are escaped, so that a line stays a line and a terminal is safe. Texts
    over MAX_FIELD bytes of UTF-8 are cut and say so.
    """
    fields = {
        "code": _short(event.code),
        "event": _short(event.kind),
        "facts": {_short(name): _short(str(fact)) for name, fact in event.facts.items()},
        "outcome": _short(event.outcome),
        "time": _stamp(event.at),
    }
    line = json.dumps(fields, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return line.replace("\x7f", "\\u007f").encode("ascii")  # the one control json leaves alone


def link(previous_hash: str, event: Event, seq: int) -> str:
    """The hash of event number `seq`, 64 lower-case hex digits."""
    return link_line(previous_hash, canonical(event), seq)


def link_line(previous_hash: str, line: bytes, seq: int) -> str:
    """As `link`, for a line that is canonical already."""
    return hashlib.sha256(b"%s\n%d\n%s" % (previous_hash.encode("ascii"), seq, line)).hexdigest()


def read_line(line: bytes) -> Event:
    """The event in a canonical line. Raises ValueError for anything else."""
    try:
        fields: dict[str, Any] = json.loads(line)
        return Event(
            kind=fields["event"],
            code=fields["code"],
            at=datetime.fromisoformat(fields["time"]),
            outcome=fields["outcome"],
            facts=dict(fields["facts"]),
        )
    except (KeyError, TypeError, RecursionError) as why:
        raise ValueError("not an event of the trail") from why


def _short(text: str) -> str:
    if len(text) <= MAX_FIELD // 4:  # the common case: no character takes more than four bytes
        return text
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) <= MAX_FIELD:
        return text
    return raw[: MAX_FIELD - len(_CUT)].decode("utf-8", "ignore") + _CUT


def _stamp(at: datetime) -> str:
    """RFC 3339 in UTC, always with six digits of a second."""
    if at.tzinfo is None:
        raise TypeError("an event needs a time with a zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
