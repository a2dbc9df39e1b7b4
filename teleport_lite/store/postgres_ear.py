"""What other auth servers change: LISTEN, on a connection of its own."""

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

from teleport_lite.errors import Unavailable
from teleport_lite.store.postgres_link import Link, Session
from teleport_lite.store.watching import TOPICS

# Seconds from one attempt to connect to the next; the last for as long as it takes.
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
# Whoever asks to be told waits so long for the first connection, not longer.
_FIRST = 5.0


class Ear:
    """Thread-safe. Its thread and connection begin with `start` and end with `close`."""

    def __init__(
        self, link: Link, *, writer: str, channel: str, told: Callable[[frozenset[str]], None]
    ) -> None:
        """`told` is not told of what `writer` has changed, it knows."""
        self._link, self._writer, self._channel, self._told = link, writer, channel, told
        self._guard = threading.Lock()  # guards _thread and _closed
        self._thread: threading.Thread | None = None
        self._closed = False
        self._hears = threading.Event()  # has connected once, or has failed to
        self._missed = False  # somebody went on without being heard for
        self._wake, self._woken = socket.socketpair()

    def start(self) -> None:
        """Once it returns, changes are heard; or the database is away, and everything is told when
        it is back."""
        with self._guard:
            if self._closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="store-listen", daemon=True)
                self._thread.start()
        if not self._hears.wait(_FIRST):
            self._missed = True

    def close(self) -> None:
        with self._guard:
            first, self._closed = not self._closed, True
            thread = self._thread
        if not first:
            return
        self._wake.close()
        if thread is not None:
            thread.join()
        self._woken.close()

    def _run(self) -> None:
        failures = 0
        while not self._closed:
            try:
                db = self._link.connect("watch")
            except Unavailable:
                self._missed = True
                self._hears.set()
                self._pause(_PAUSES[min(failures, len(_PAUSES) - 1)])
                failures += 1
                continue
            with suppress(psycopg.Error):
                db.script(f'LISTEN "{self._channel}"')
                self._hears.set()
                if self._missed:
                    self._told(TOPICS)
                failures = 0
                self._listen(db)
            self._missed = True
            db.close()

    def _listen(self, db: Session) -> None:
        """Until it is closed; raises psycopg.Error when the connection is lost."""
        waiting = select.poll()  # select() takes no number past 1023, and agents have many
        for file in (db.raw.fileno(), self._woken.fileno()):
            waiting.register(file, select.POLLIN)
        while True:
            # First of all: what has come with the answer to LISTEN wakes nobody any more.
            heard: set[str] = set()
            for note in db.raw.notifies(timeout=0):
                writer, _, topics = note.payload.partition(" ")
                if writer != self._writer:
                    heard.update(topics.split(","))
            self._told(frozenset(heard & TOPICS))
            if self._woken.fileno() in dict(waiting.poll()):
                return

    def _pause(self, seconds: float) -> None:
        waiting = select.poll()
        waiting.register(self._woken.fileno(), select.POLLIN)
        waiting.poll(seconds * 1000)
