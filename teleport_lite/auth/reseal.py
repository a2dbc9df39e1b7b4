"""The keys of the keyring that are in use here, and everything under the first of them."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.record import write_recorded
from teleport_lite.errors import Unavailable
from teleport_lite.store.protocols import Store


class ResealDesk:
    def __init__(self, *, store: Store, trail: Trail, refresh: Callable[[], bool]) -> None:
        """`refresh` has the file of the keyring read again."""
        self._store, self._trail, self._refresh = store, trail, refresh

    def heed(self) -> None:
        """Another auth server has sealed everything anew: whatever this one seals from now on
        under its old key would not be open to anybody once that is taken out."""
        self._refresh()

    def look(self) -> dict[str, Any]:
        """How many rows are sealed under which key, by its id. From here on this auth server seals
        under the first one of its file: whoever asks may be about to take a key out. Raises
        Unavailable."""
        self._refresh()
        with suppress(Unavailable):  # then nothing is being written, either
            # What is being written just now was sealed before: it is waited for, and counted.
            self._store.write(lambda _: None)
        snapshot = self._store.snapshot()
        try:
            return {"rows": dict(snapshot.sealed_under())}
        finally:
            snapshot.close()

    def reseal(self, caller: Caller) -> dict[str, Any]:
        """Raises Unavailable, and then nothing has changed."""
        facts = {"user": caller.label, "addr.remote": caller.address}
        with self._trail.attempt("keyring.reseal", ok="TLB03I", refused="TLB03E", **facts) as entry:
            self._refresh()
            done = write_recorded(self._store, entry, lambda tx: tx.reseal())
        return {"resealed": done} | self.look()
