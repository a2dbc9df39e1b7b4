"""Lengths of time as people write them: 90s, 5m, 1h30m, 7d (Go's syntax plus d)."""

import re
from datetime import timedelta

from teleport_lite.errors import Malformed

_PART = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_CENTURIES = 1e11  # a clock further off is not told exactly; timedelta could not hold it
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str, what: str = "duration") -> timedelta:
    """Raises Malformed for anything but one or more number-unit pairs: "5" and "5m5" are errors."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Malformed(f"{what} {text[:32]!a} is not a length of time, like 30m, 12h or 1h30m")
    try:
        return timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise Malformed(f"{what} {text[:32]!a} is too long") from None


def show_duration(span: timedelta) -> str:
    """As Go prints it, whole seconds: 2m8s, 1h0m0s, 36s."""
    total = max(0, round(span.total_seconds()))
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def show_skew(seconds: float) -> str:
    """How far two clocks are apart, whole seconds: 1 day, 0:10:00. Any number a stranger sends."""
    return str(timedelta(seconds=round(min(abs(seconds), _CENTURIES))))
