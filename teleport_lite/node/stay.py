"""The limits that roles set to a visitor's stay: how many connections, how long, and for how long
without a word. Belongs to the monitor."""

from pathlib import Path

from teleport_lite.ambient import Clock
from teleport_lite.model.duration import show_duration
from teleport_lite.node.gate import Welcome
from teleport_lite.node.places import Place, take_place

# poll(2) takes milliseconds in an int; a certificate may be good for ever.
_LONGEST_WAIT = 24 * 3600.0


class Stay:
    """`reason` says why the connection has to end; "" while it may go on."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._data_dir, self._clock = data_dir, clock
        self._welcome: Welcome | None = None
        self._place: Place | None = None
        self.reason = ""

    def begin(self, welcome: Welcome) -> bool:
        """False if there is no place for one more connection of this user; `reason` says why."""
        most = welcome.options.max_connections
        try:
            self._place = take_place(self._data_dir, welcome.visitor.user, most)
        except OSError as why:
            if most:
                self.reason = f"connections can not be counted: {why.strerror}"
        else:
            if self._place is None:
                self.reason = f"too many connections: {most} to a host, says the role"
        if not self.reason:
            self._welcome = welcome
        return not self.reason

    @property
    def idle_seconds(self) -> float:
        """So long nothing may move on any channel; 0 is for ever."""
        if self._welcome is None:
            return 0.0
        return self._welcome.options.client_idle_timeout.total_seconds()

    def was_idle(self) -> None:
        """The worker says so, and has told the client."""
        if self._welcome is not None and self.idle_seconds:
            self.reason = f"idle for {show_duration(self._welcome.options.client_idle_timeout)}"

    def patience(self) -> float | None:
        """Seconds until `look` is worth it."""
        left = self._left()
        return None if left is None else min(max(0.0, left), _LONGEST_WAIT)

    def look(self) -> bool:
        """Has it come to its end?"""
        left = self._left()
        if left is not None and left <= 0 and not self.reason:
            self.reason = "the certificate has expired"
        return bool(self.reason)

    def close(self) -> None:
        if self._place is not None:
            self._place.leave()
            self._place = None

    def _left(self) -> float | None:
        welcome = self._welcome
        if welcome is None or not welcome.options.disconnect_expired_cert:
            return None
        return (welcome.visitor.not_after - self._clock.now()).total_seconds()
