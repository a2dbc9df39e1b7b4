"""The agent's stream to auth: kept open, beating, learning, renewing (proto/stream.py draws it)."""

import logging
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Protocol

from teleport_lite import __version__
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import Keys, identity_of
from teleport_lite.agent.probe import cut_off_at, untrusted
from teleport_lite.agent.renew import certificate_refused, renewal, way_of
from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import KINDS, Error, Malformed, Unavailable
from teleport_lite.net.stream import StreamClient
from teleport_lite.net.tls import client_context
from teleport_lite.proto.codec import MAX_FRAME, read, write
from teleport_lite.proto.stream import (
    PATH,
    AgentEvent,
    Beat,
    FromAgent,
    Goodbye,
    Knowledge,
    Routes,
    StreamHello,
    ToAgent,
)

log = logging.getLogger("teleport_lite.agent")

BEAT = (5.0, 15.0)  # seconds, drawn anew for each beat so that a fleet does not march in step
# Auth answers every beat; nothing in twice the longest pause means that nobody is there.
SILENCE = 30.0
# For what changes often: a beat so long after the change, and so long after the last beat.
SOON, SOON_AGAIN = 0.2, 1.0
BACKOFF = (0.5, 30.0)
PROBE_TIMEOUT = 5.0
SKEW_WARNING = 30.0
# Events of some minutes of a busy host; the oldest go first, and how many is said.
MAX_EVENTS = 2000
EVENTS_A_FRAME = 100
# Looks for an answer, of 0.1 s each, when a process stops that still has some.
LAST_TRIES = 20


class Stopping(Protocol):
    """threading.Event, as far as we use it."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...


class Outbox:
    """Audit events on their way to auth, until it has them; bounded. Put from any thread.

    An event may arrive twice, when a connection breaks between auth's trail and its answer.
    """

    def __init__(self) -> None:
        self._guard = Lock()  # guards all below
        self._events: deque[AgentEvent] = deque()
        self._sent: deque[AgentEvent] = deque()
        self._alone = 0  # so many more are sent one at a time
        self._pushed_out = 0  # so many were sent, and dropped before auth has answered
        self.lost = 0
        self.put_ever = self.gone_ever = 0  # gone: auth has them, or they were dropped

    def __len__(self) -> int:
        return len(self._events) + len(self._sent)

    def put(self, event: AgentEvent) -> None:
        with self._guard:
            if len(self) >= MAX_EVENTS:
                self._pushed_out += bool(self._sent)
                (self._sent or self._events).popleft()
                self.lost += 1
                self.gone_ever += 1
            self._events.append(event)
            self.put_ever += 1

    def take(self) -> list[AgentEvent]:
        """The next ones to send. `taken` is told when auth has them, or `send_again`."""
        with self._guard:
            count = min(EVENTS_A_FRAME, len(self._events))
            if self._alone:
                count = min(1 - len(self._sent), count)
            found = [self._events.popleft() for _ in range(count)]
            self._sent.extend(found)
            return found

    def taken(self, count: int) -> None:
        with self._guard:
            gone = min(count, self._pushed_out)  # the oldest
            self._pushed_out -= gone
            for _ in range(min(count - gone, len(self._sent))):
                self._sent.popleft()
                self.gone_ever += 1
                self._alone = max(0, self._alone - 1)

    def count_lost(self) -> int:
        """How many were dropped since this was last asked."""
        with self._guard:
            lost, self.lost = self.lost, 0
            return lost

    def send_again(self) -> None:
        """The connection has ended, and nobody knows what became of those that were sent."""
        with self._guard:
            self._events.extendleft(reversed(self._sent))
            self._sent.clear()
            self._pushed_out = 0

    def refused(self) -> AgentEvent | None:
        """Auth can not read something of what was sent: all of it goes again, one at a time. The
        one that is refused alone is dropped, and returned."""
        with self._guard:
            if len(self._sent) == 1:
                self.gone_ever += 1
                self._alone = max(0, self._alone - 1)
                return self._sent.popleft()
            self._alone = len(self._sent)
            return None

    def all(self) -> list[AgentEvent]:
        with self._guard:
            return [*self._sent, *self._events]


class Link:
    """Runs in a thread of its own: `run` returns when `stopping` is set."""

    def __init__(
        self,
        *,
        identity: Identity,
        servers: Sequence[str],
        node_name: str,
        clock: Clock,
        chance: Chance,
        report: Callable[[], Beat],
        renew_due: Callable[[], bool],
        on_knowledge: Callable[[Knowledge], None],
        on_identity: Callable[[Identity], None],
        on_state: Callable[[str], None],
        on_routes: Callable[[Routes], None] = lambda _: None,
    ) -> None:
        """`servers` are auth or proxies, tried in turn. Callbacks come from the link's thread."""
        self.identity = identity
        self.outbox = Outbox()
        self._servers, self._node_name = list(servers), node_name
        self._clock, self._chance = clock, chance
        self._report, self._renew_due = report, renew_due
        self._on_knowledge, self._on_identity = on_knowledge, on_identity
        self._on_state, self._on_routes = on_state, on_routes
        self._boot_id = chance.token(8)
        self._client: StreamClient | None = None
        self._pending: Keys | None = None
        self._taught = False  # auth has taken us on this connection
        self._beat_at = self._heard_at = self._beaten_at = 0.0

    def run(self, stopping: Stopping) -> None:
        failures = turn = 0
        while not stopping.is_set():
            address = self._servers[turn % len(self._servers)]
            turn += 1
            self._taught = False
            try:
                self._connect(address)
                self._stay(stopping)
                failures = 0
            except Error as why:
                # Connected and refused at once is no success: a clone must not hammer auth.
                failures = 1 if self._taught else failures + 1
                if failures % 20 == 1:
                    why = self._cause(address, why)
                    log.warning("%s%s", why.message, f" (try: {why.hint})" if why.hint else "")
                self._on_state(f"not connected: {why.message}")
            except Exception:
                failures += 1
                self._on_state("not connected: internal error")
                log.exception("internal error in the stream to auth")
            finally:
                self._hang_up()
            low, high = BACKOFF
            stopping.wait(self._chance.uniform(0, min(high, low * 2 ** min(failures, 10))))

    def _cause(self, address: str, why: Error) -> Error:
        """What is behind a connection that ends without a word."""
        if self._taught or not isinstance(why, Unavailable):
            return why
        refused = certificate_refused(self.identity, address, timeout=PROBE_TIMEOUT)
        return refused or cut_off_at(address, timeout=PROBE_TIMEOUT) or why

    def nudge(self) -> None:
        """Something to report has changed: beat now. From any thread."""
        self._beat_at = 0.0
        self.wake()

    def soon(self) -> None:
        """The same for what may change many times a second. From any thread."""
        soon = max(self._clock.monotonic() + SOON, self._beaten_at + SOON_AGAIN)
        self._beat_at = min(self._beat_at, soon)
        self.wake()

    def wake(self) -> None:
        """Look at the outbox, or at whether to stop, now. From any thread."""
        client = self._client
        if client is not None:
            client.wake()

    def _connect(self, address: str) -> None:
        me = self.identity
        context = client_context(me.tls_cert, me.tls_private, me.host_cas)
        try:
            self._client = StreamClient(way_of(me, address), context, PATH)
        except ssl.SSLError as why:
            raise untrusted(address, why) from why
        self._say(
            FromAgent(
                hello=StreamHello(version=__version__, roles=list(me.roles), boot_id=self._boot_id)
            )
        )
        self._heard_at, self._beat_at, self._pending = self._clock.monotonic(), 0.0, None
        self._on_state(f"connected to {address}")
        log.info("connected to auth at %s", address)

    def _stay(self, stopping: Stopping) -> None:
        while not stopping.is_set():
            now = self._clock.monotonic()
            if now - self._heard_at > SILENCE:
                raise Unavailable(f"auth said nothing for {SILENCE:.0f} s")
            if now >= self._beat_at:
                # In this order: a nudge from now on is for what the report may have missed.
                self._beat_at = now + self._chance.uniform(*BEAT)
                self._beaten_at = now
                self._say(FromAgent(beat=self._report()))
            self._send_events()
            if self._renew_due() and self._pending is None:
                self._pending = Keys.new()
                request = renewal(self.identity, self._pending, self._node_name)
                self._say(FromAgent(renew=request))
            self._listen(max(0.05, self._beat_at - self._clock.monotonic()))
        self._send_the_rest()
        self._say(FromAgent(goodbye=Goodbye(reason="shutdown")))
        assert self._client is not None
        self._client.flush()

    def _listen(self, timeout: float) -> None:
        assert self._client is not None
        try:
            frame = self._client.receive(timeout)
        except ssl.SSLError as why:
            raise untrusted("auth", why) from why
        if frame is None:
            return
        self._heard_at = self._clock.monotonic()
        said = read(ToAgent, frame, limit=MAX_FRAME)
        if said.knowledge is not None:
            self._taught = True
            self._on_knowledge(said.knowledge)
        if said.routes is not None:
            self._on_routes(said.routes)
        if said.taken is not None:
            self.outbox.taken(said.taken)
        if said.beat is not None:
            self._compare_clocks(said.beat.time)
        if said.welcome is not None and self._pending is not None:
            self.identity, self._pending = identity_of(said.welcome, self._pending), None
            self._on_identity(self.identity)
        if said.refusal is not None:
            self._drop_refused(said.refusal.code)
            kind = KINDS.get(said.refusal.code, Unavailable)
            raise kind(said.refusal.message, hint=said.refusal.hint)

    def _compare_clocks(self, theirs: float) -> None:
        skew = self._clock.now().timestamp() - theirs
        if abs(skew) > SKEW_WARNING:
            log.warning("the clock of this host is %.0f s off the auth server's", skew)

    def _send_events(self) -> None:
        if lost := self.outbox.count_lost():
            log.warning("%d audit events were dropped, auth was away for too long", lost)
        if events := self.outbox.take():
            self._say(FromAgent(events=events))

    def _send_the_rest(self) -> None:
        """Before the goodbye. What auth does not answer for in time is sent again by the next."""
        for _ in range(LAST_TRIES):
            if not len(self.outbox):
                return
            self._send_events()
            self._listen(0.1)

    def _drop_refused(self, code: str) -> None:
        """Events that auth can not read must not end every connection from here on."""
        if code == Malformed.code and (odd := self.outbox.refused()) is not None:
            log.warning("an audit event %s is not what auth can read, dropped", odd.kind)

    def _say(self, message: FromAgent) -> None:
        assert self._client is not None
        if not self._client.send(write(message)):
            raise Unavailable("auth does not take what we send")

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self.outbox.send_again()
