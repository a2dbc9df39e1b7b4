"""Which life of the cluster our store is, and whether another one goes on beside it.

A backup that was restored while the old auth server still runs makes two clusters with the same
CAs. Hosts believe either. They say, when they come, which life has told them last and how long
ago: if that was another one, after ours had begun, then both were alive. Nobody is kept out for it.
"""

import logging
from datetime import timedelta
from typing import Any

from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.hosts import Presence
from teleport_lite.errors import Error
from teleport_lite.model.life import Life, is_word, number_of
from teleport_lite.proto.resource import moment
from teleport_lite.proto.stream import StreamHello
from teleport_lite.store.documents import from_text, to_text
from teleport_lite.store.protocols import Store

log = logging.getLogger("teleport_lite.auth")

LIFE = "life"
# The restore and the last words of the old auth server may be by two clocks.
MARGIN = timedelta(minutes=1)
# How long it is shown, and for so long the same host is not told of again.
SHOWN = timedelta(days=1)


def born(before: str, clock: Clock, chance: Chance) -> Life:
    """The life of a store that is made now from one of the life `before`; "": nobody knows."""
    return Life(id=chance.token(8), number=number_of(before) + 1, began=clock.now())


def kept(life: Life) -> tuple[str, str]:
    """As a row of `meta`."""
    return LIFE, to_text(life)


def read_kept(text: str | None) -> str:
    """The word for what stands in `meta`; "" for a store from before lives were counted."""
    return from_text(Life, text).word if text else ""


def life_of(store: Store, clock: Clock, chance: Chance) -> Life:
    """Of this store; it gets one if it has none."""
    text = store.meta(LIFE)
    if text is None:
        fresh = to_text(Life(id=chance.token(8), number=1, began=clock.now()))
        store.write(lambda tx: tx.add_meta(LIFE, fresh))
        text = store.meta(LIFE) or fresh
    return from_text(Life, text)


class LifeDesk:
    def __init__(self, *, clock: Clock, trail: Trail, presence: Presence, life: Life) -> None:
        self._clock, self._trail, self._presence = clock, trail, presence
        self.life = life

    def came(self, caller: Caller, hello: StreamHello) -> None:
        """A host has come that was told by some life, ours or another. Never raises Error."""
        if not is_word(hello.life) or hello.life == self.life.word:
            return
        now = self._clock.now()
        ago = timedelta(seconds=min(max(hello.heard_ago, 0.0), 1e9))
        if now - ago <= self.life.began + MARGIN:
            return  # before ours began: it is the one that ours was made from
        before = self._presence.reports().get(caller.name)
        new = before is None or before.other_life != hello.life or self._old(before.other_at)
        self._presence.mark(caller.name, other_life=hello.life, other_at=now - ago)
        if new:
            self._tell(caller, hello.life, moment(now - ago) or "")

    def warning(self) -> dict[str, Any] | None:
        """What `tctl status` shows."""
        found = [
            report
            for _, report in self._presence.hosts()
            if report.other_life not in ("", self.life.word) and not self._old(report.other_at)
        ]
        if not found:
            return None
        return {
            "hosts": len(found),
            "lives": sorted({report.other_life for report in found}),
            "last": moment(max(each.other_at for each in found if each.other_at is not None)),
        }

    def _old(self, at: Any) -> bool:
        return at is None or self._clock.now() - at > SHOWN

    def _tell(self, caller: Caller, life: str, heard: str) -> None:
        log.warning(
            "host %s was told by life %s of this cluster at %s, and this is life %s: the auth "
            "server of another copy of the store runs; stop it (docs/backup.md)",
            caller.name,
            life,
            heard,
            self.life.word,
        )
        try:
            self._trail.note(
                "cluster.life",
                "TLC02W",
                outcome="conflict",
                **{
                    "host_id": caller.name,
                    "addr.remote": caller.address,
                    "life": self.life.word,
                    "other": life,
                    "heard": heard,
                },
            )
        except Error as why:
            log.warning("and the audit trail could not record it: %s", why.message)
