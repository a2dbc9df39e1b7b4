"""When a host CA was rotated away, in words for those who still go by it (proto/join.py).

Anybody can claim it: it explains a refusal, and is never a reason to trust.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from teleport_lite.proto.join import Bundle, RetiredPin


def retired(said: Bundle, pins: Iterable[str]) -> RetiredPin | None:
    """The CA with one of these pins, if it is among those that were rotated away."""
    wanted = {pin.lower() for pin in pins}
    return next((each for each in said.retired if each.pin.lower() in wanted), None)


def when(gone: RetiredPin) -> str:
    """What is no moment is no reason to fail."""
    try:
        return f"{datetime.fromtimestamp(gone.at, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "a day unknown"
