"""Telling others in this process what has changed, from a thread of the store's own.

Who is told may read the store, so it can not be the thread that writes; and a slow listener
must not hold up a commit. What comes while it is busy is told as one.
"""

import logging
import threading
from collections.abc import Callable

# What `Store.watch` names.
TOPICS = frozenset(
    {"cas", "rotations", "roles", "locks", "users", "hosts", "tokens", "trust", "keyring"}
)

_log = logging.getLogger("teleport_lite.store")
_Call = Callable[[frozenset[str]], None]


class Watchers:
    """Thread-safe. Its thread begins with the first listener and ends with `close`."""

    def __init__(self) -> None:
        self._turn = threading.Condition()  # guards everything below
        self._calls: dict[object, _Call] = {}
        self._pending: set[str] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, call: _Call) -> Callable[[], None]:
        """Have `call` told from now on. Call what is returned to end it."""
        key = object()
        with self._turn:
            self._calls[key] = call
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
                self._thread.start()

        def end() -> None:
            with self._turn:
                self._calls.pop(key, None)

        return end

    def tell(self, topics: frozenset[str] | set[str]) -> None:
        if not topics:
            return
        with self._turn:
            if self._calls:
                self._pending |= topics
                self._turn.notify()

    def close(self) -> None:
        """What is pending is not told any more. May be called twice, and by a listener."""
        with self._turn:
            self._closed = True
            self._turn.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._pending or self._closed)
                if self._closed:
                    return
                topics, self._pending = frozenset(self._pending), set()
                calls = list(self._calls.values())
            for call in calls:
                try:
                    call(topics)
                except Exception:
                    # One listener's mistake may not keep the others from being told.
                    _log.exception("a listener of the store failed")
