"""Recordings of terminal sessions, written by the monitor: the session's own user can not."""

from collections.abc import Iterator

from teleport_lite.node.wire import SessionEnded, SessionStarted


class Recorder:
    """Nothing is recorded yet."""

    def wants(self) -> Iterator[int]:
        """Descriptors to read from."""
        return iter(())

    def ready(self, fd: int) -> None:
        """One of them is readable."""

    def started(self, session: SessionStarted) -> None:
        """As the broker tells it."""

    def ended(self, session: SessionEnded) -> None:
        """As the broker tells it."""

    def close(self) -> None:
        """The connection is over: finish what is open."""
