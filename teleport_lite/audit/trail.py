"""The audit trail: what was tried, by whom, and how it ended.

    with trail.attempt("instance.join", ok="TJ002I", refused="TJ002E", host=name) as entry:
        ...checks that may raise Denied...
        store.write(lambda tx: (tx.put_host(host), entry.commit(tx)))

A consequence and its entry are durable together or not at all; a refusal gets its own entry.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from teleport_lite.ambient import Clock
from teleport_lite.errors import Error
from teleport_lite.model.event import Event


class Recorder(Protocol):
    """What the trail needs of a transaction (`store.protocols.Tx`)."""

    def record(self, event: Event) -> None: ...
    def on_commit(self, call: Callable[[], None]) -> None: ...


class Ledger(Protocol):
    """What the trail needs of a store (`store.protocols.Store`)."""

    def write(self, change: Callable[[Recorder], None]) -> None: ...


@dataclass(slots=True)
class Entry:
    """One attempt under way. Facts may be added until it ends; never put a secret there."""

    kind: str
    ok: str
    clock: Clock
    facts: dict[str, str] = field(default_factory=dict)
    durable: bool = False  # its "ok" event is on disk

    def commit(self, tx: Recorder) -> None:
        """Record success inside the caller's transaction: both become durable, or neither."""
        tx.record(self.event(self.ok, "ok"))
        tx.on_commit(self._landed)

    def event(self, code: str, outcome: str) -> Event:
        now = self.clock.now()
        return Event(kind=self.kind, code=code, at=now, outcome=outcome, facts=dict(self.facts))

    def _landed(self) -> None:
        self.durable = True


class Trail:
    def __init__(self, clock: Clock, store: Ledger) -> None:
        self._clock, self._store = clock, store

    @contextmanager
    def attempt(self, kind: str, *, ok: str, refused: str, **facts: str) -> Iterator[Entry]:
        """Exactly one event for the block, whichever way it ends.

        An Error gives `refused` with the error's code as outcome; any other exception gives
        `refused` with outcome "failed"; a block that ends well gives `ok`, unless
        `Entry.commit` has recorded that already. If a block fails after its success became
        durable, both things happened and both are told.

        Raises what the block raises; Unavailable when success cannot be recorded. When a
        refusal cannot be recorded the refusal stands, and its `log` says so.
        """
        entry = Entry(kind, ok, self._clock, dict(facts))
        try:
            yield entry
        except Error as error:
            entry.facts["reason"] = error.log or error.message
            self._tell_of(entry.event(refused, error.code), error)
            raise
        except BaseException as bug:
            # The type alone: the text of a stranger's exception may hold anything.
            entry.facts["reason"] = f"internal error: {type(bug).__name__}"
            self._tell_of(entry.event(refused, "failed"), bug)
            raise
        if not entry.durable:
            self._write(entry.event(ok, "ok"))

    def note(self, kind: str, code: str, outcome: str = "ok", **facts: str) -> None:
        """One event about something that is over. Raises Unavailable if it cannot be kept."""
        self._write(Event(kind=kind, code=code, at=self._clock.now(), outcome=outcome, facts=facts))

    def _tell_of(self, event: Event, failure: BaseException) -> None:
        try:
            self._write(event)
        except Error as why:
            failure.add_note(f"and the audit trail could not record it: {why.message}")
            if isinstance(failure, Error):
                failure.log = f"{failure.log or failure.message}; not recorded: {why.message}"

    def _write(self, event: Event) -> None:
        self._store.write(lambda tx: tx.record(event))
