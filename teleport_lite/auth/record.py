"""A change and its line in the audit trail, in one transaction; and that line as it is shown."""

from collections.abc import Callable
from typing import Any, TypeVar

from teleport_lite.audit.trail import Entry
from teleport_lite.model.event import Event
from teleport_lite.proto.resource import moment
from teleport_lite.store.protocols import Store, Tx

T = TypeVar("T")


def write_recorded(store: Store, entry: Entry, change: Callable[[Tx], T]) -> T:
    """Run `change` and record `entry` as done; a change that answers False is not recorded."""

    def both(tx: Tx) -> T:
        answer = change(tx)
        if answer is not False:
            entry.commit(tx)
        return answer

    return store.write(both)


def event_doc(seq: int, event: Event) -> dict[str, Any]:
    doc = {
        "seq": seq,
        "event": event.kind,
        "code": event.code,
        "time": moment(event.at),
        "outcome": event.outcome,
    }
    # Hosts choose the facts of what they tell; none of them may pass for one of the five above.
    return doc | {f"fact.{key}" if key in doc else key: fact for key, fact in event.facts.items()}
