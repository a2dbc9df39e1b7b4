"""Sends the recordings of this host to auth, one after the other, for as long as it takes.

What auth has not called durable stays on the disk here (`record_spool.py`); `proto/recording.py`
draws the talk. A recording that auth refuses for good stays too, and is offered again now and then.
"""

import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.link import Stopping
from teleport_lite.agent.probe import untrusted
from teleport_lite.agent.record_spool import RecordSpool, Waiting
from teleport_lite.agent.renew import way_of
from teleport_lite.agent.servers import Servers, servers_of
from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.proto.codec import MAX_JOIN, Message, read, write
from teleport_lite.proto.recording import UploadEnd, UploadState

log = logging.getLogger("teleport_lite.agent")

# How often we look whether a session has ended.
LOOK = 5.0
# The longest is half a minute, so that what an outage has held up is there within a minute of its
# end.
BACKOFF = (1.0, 30.0)
# A refusal may end when somebody has removed what was in its way.
REFUSED_FOR = 3600.0
_REFUSALS = (Denied, Conflict, Malformed)


class Uploads:
    """Runs in a thread of its own: `run` returns when `stopping` is set."""

    def __init__(
        self,
        *,
        data_dir: Path,
        identity: Callable[[], Identity],
        servers: "Sequence[str] | Servers",
        clock: Clock,
        chance: Chance,
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`servers` are auth or proxies, tried in turn. `on_state` hears why recordings wait, and
        "" when they do not."""
        self._spool, self._identity = RecordSpool(data_dir), identity
        self._servers = servers_of(servers, clock)
        self._clock, self._chance = clock, chance
        self._on_state, self._state = on_state, ""
        self._failures = 0
        self._refused: dict[str, float] = {}  # sid: when it may be offered again
        self._wire: Connection | None = None
        self._shown = ""  # our certificate on it: one of a CA that is retired now is refused

    def run(self, stopping: Stopping) -> None:
        while not stopping.is_set():
            stopping.wait(self.once(stopping))

    def give_up(self) -> None:
        """From another thread, after `stopping` was set: do not wait for an answer any more. What
        auth has not called durable is sent by the next daemon."""
        self._spool.let_go()
        if (wire := self._wire) is not None:
            wire.cut()

    def once(self, stopping: Stopping) -> float:
        """Send what there is. Returns after how many seconds to look again."""
        try:
            with self._spool.taken() as ours:
                if ours:
                    self._send_all(stopping)
            self._failures = 0
            self._say("")
        except Error as why:
            self._failures += 1
            self._say(why.message)
        except Exception:
            self._failures += 1
            log.exception("internal error while recordings were sent")
        if not self._failures:
            return LOOK
        low, high = BACKOFF
        most = min(high, low * 2 ** min(self._failures, 10))
        return self._chance.uniform(most / 2, most)

    def _send_all(self, stopping: Stopping) -> None:
        now = self._clock.now().timestamp()
        if orphans := self._spool.finish_orphans(now):
            log.warning(
                "%d recordings were left unfinished by a crash, and are incomplete", orphans
            )
        waiting = self._spool.waiting(now)
        offered = [sid for sid in waiting if self._may_offer(sid)]
        self._refused = {sid: at for sid, at in self._refused.items() if sid in waiting}
        if not offered:
            return
        with self._connected() as wire:
            self._wire = wire
            try:
                for sid in offered:
                    if stopping.is_set():
                        return
                    self._offer(wire, sid, stopping)
            finally:
                self._wire = None

    def _offer(self, wire: Connection, sid: str, stopping: Stopping) -> None:
        """Refusals concern this recording alone, as do files that can not be read. Raises
        Unavailable."""
        try:
            recording = self._spool.open(sid)
        except Error as why:
            self._put_off(sid, why)
            return
        try:
            if self._send(wire, recording, stopping):
                self._spool.remove(sid)
                self._refused.pop(sid, None)
        except _REFUSALS as why:
            if self._identity().tls_cert != self._shown:
                raise Unavailable("the certificate of this host was renewed meanwhile") from why
            self._put_off(sid, why)

    def _put_off(self, sid: str, why: Error) -> None:
        if sid not in self._refused:
            log.warning("recording %s stays on this host: %s", sid, why.message)
        self._refused[sid] = self._clock.monotonic() + REFUSED_FOR

    def _send(self, wire: Connection, recording: Waiting, stopping: Stopping) -> bool:
        """True when auth has it for good; False if we are to stop."""
        state = _asked(wire, "/v1/recordings/begin", recording.begin)
        while not state.durable and state.received < recording.begin.size:
            before = state.received
            for part in recording.parts(before):
                if stopping.is_set():
                    return False
                state = _asked(wire, "/v1/recordings/part", part)
                if state.received != part.at + len(part.data):
                    break  # it has another idea of where to go on
            if state.received <= before:
                raise Unavailable("auth does not take the recording further")
        if not state.durable:
            state = _asked(wire, "/v1/recordings/end", UploadEnd(sid=recording.begin.sid))
        if not state.durable:
            raise Unavailable("auth has not kept the recording")
        return True

    def _connected(self) -> Connection:
        """To the server whose turn it is. Raises Unavailable or Denied."""
        me = self._identity()
        if not len(self._servers):
            raise Unavailable("no auth server is configured")
        address = self._servers.first()
        context = client_context(me.tls_cert, me.tls_private, me.host_cas)
        self._shown = me.tls_cert
        try:
            return Connection.tls(way_of(me, address), context)
        except ssl.SSLError as why:
            self._servers.failed(address)
            raise untrusted(address, why) from why
        except Error:
            self._servers.failed(address)
            raise

    def _may_offer(self, sid: str) -> bool:
        return self._refused.get(sid, 0.0) <= self._clock.monotonic()

    def _say(self, trouble: str) -> None:
        """Once, until it changes."""
        if trouble == self._state:
            return
        self._state = trouble
        if trouble:
            log.warning("recordings wait on this host (%s): %s", self._amount(), trouble)
        self._on_state(trouble)

    def _amount(self) -> str:
        try:
            return f"{self._spool.size() >> 10} KiB"
        except (Error, OSError):
            return "unknown how many"


def _asked(wire: Connection, path: str, message: Message) -> UploadState:
    try:
        answer: Any = wire.ask(path, message)
    except NotFound as why:  # auth has begun anew, or does not know us: not about the recording
        raise Unavailable(why.message, hint=why.hint) from why
    return read(UploadState, write(answer), limit=MAX_JOIN)
