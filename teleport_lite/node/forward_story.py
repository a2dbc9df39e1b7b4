"""What brokers have to tell beside sessions: forwarding, subsystems, limits. As much of it as the
trail shall hold; a client that opens thousands of channels can not fill it."""

from collections import Counter
from typing import Protocol

from teleport_lite.ambient import Clock
from teleport_lite.node.forward_wire import Happened

# Kind, code and outcome. Codes are those of Teleport's audit log; TAF is ours, it has none.
EVENTS = {
    "port": ("port", "T3003I", "ok"),
    "port failed": ("port", "T3003E", "failed"),
    "port ended": ("port", "T3003S", "ok"),
    "agent": ("agent-forward", "TAF00I", "ok"),
    "agent failed": ("agent-forward", "TAF00W", "denied"),
    "x11": ("x11-forward", "T3008I", "ok"),
    "x11 failed": ("x11-forward", "T3008W", "denied"),
    "subsystem": ("subsystem", "T3001I", "ok"),
    "subsystem failed": ("subsystem", "T3001W", "denied"),
    "disconnected": ("client.disconnect", "T3006I", "ok"),
    "session rejected": ("session.rejected", "T1006W", "denied"),
}
_FACTS = frozenset(
    {"direction", "addr", "from", "sent", "received", "reason", "display", "name", "maximum"}
)
# Said by ourselves, never by a broker.
_OURS = "disconnected"
_SHOWN = 256
# A browser behind `ssh -D` opens a hundred connections in its first minute.
BURST = 200
# And then one more event for each of so many seconds.
EVERY = 3.0


class Teller(Protocol):
    def tell(self, kind: str, code: str, outcome: str, **facts: str) -> None: ...


class ForwardStory:
    """Of one connection."""

    def __init__(self, teller: Teller, clock: Clock) -> None:
        self._teller, self._clock = teller, clock
        self._left, self._at = float(BURST), clock.monotonic()
        self._left_out: Counter[str] = Counter()

    def tell(self, happened: Happened) -> None:
        """As the broker tells it, which belongs to the user: nothing here may be odd or long."""
        if happened.what not in EVENTS or happened.what == _OURS:
            return
        if not self._may_tell():
            self._left_out[happened.what] += 1
            return
        facts = {
            name: ascii(value[:_SHOWN])[1:-1][:_SHOWN]
            for name, value in happened.facts.items()
            if name in _FACTS
        }
        self._event(happened.what, facts)

    def rejected(self, reason: str) -> None:
        """One connection too many: it does not even begin."""
        self._event("session rejected", {"reason": reason})

    def close(self, reason: str) -> None:
        """How many of each kind were left out, and `reason` if the end was our idea."""
        for what, count in self._left_out.items():
            self._event(what, {"left_out": str(count)})
        self._left_out.clear()
        if reason:
            self._event("disconnected", {"reason": reason[:_SHOWN]})

    def _may_tell(self) -> bool:
        now = self._clock.monotonic()
        self._left = min(BURST, self._left + (now - self._at) / EVERY)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _event(self, what: str, facts: dict[str, str]) -> None:
        kind, code, outcome = EVENTS[what]
        self._teller.tell(kind, code, outcome, **facts)
