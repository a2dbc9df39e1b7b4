"""A change and its line in the audit trail, in one transaction."""

from collections.abc import Callable
from typing import TypeVar

from teleport_lite.audit.trail import Entry
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
