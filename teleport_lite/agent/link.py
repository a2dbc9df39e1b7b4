"""The agent's stream to auth: kept open, beating, learning, renewing (proto/stream.py draws it)."""

import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

from teleport_lite import __version__
from teleport_lite.agent.identity import Identity, trusting
from teleport_lite.agent.join import Keys, identity_of
from teleport_lite.agent.lives import Lives
from teleport_lite.agent.outbox import Outbox
from teleport_lite.agent.probe import cut_off_at, untrusted
from teleport_lite.agent.renew import certificate_refused, renewal, way_of
from teleport_lite.agent.rotation import BEHIND, LEFT_BEHIND, Catching, left_behind
from teleport_lite.agent.servers import Servers, servers_of
from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import KINDS, Error, Malformed, Unavailable
from teleport_lite.net.stream import StreamClient
from teleport_lite.net.tls import client_context
from teleport_lite.proto.codec import MAX_FRAME, read, write
from teleport_lite.proto.stream import (
    PATH,
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
BACKOFF = (0.5, 25.0)  # so that all are back within 30 s
# Seconds. A stream that ends sooner is taken for one that will end again.
STEADY = 5.0
PROBE_TIMEOUT = 5.0
SKEW_WARNING = 30.0
# What is behind failures is looked into each time after so many: once a minute or so.
ASK_WHY = 5
# How long auth may ask us to keep what it can not write now.
LATER = (1.0, 60.0)
# Looks for an answer, of 0.1 s each, when a process stops that still has some.
LAST_TRIES = 20


class Stopping(Protocol):
    """threading.Event, as far as we use it."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...


class Link:
    """Runs in a thread of its own: `run` returns when `stopping` is set."""

    def __init__(
        self,
        *,
        identity: Identity,
        servers: "Sequence[str] | Servers",
        node_name: str,
        clock: Clock,
        chance: Chance,
        report: Callable[[], Beat],
        renew_due: Callable[[], bool],
        on_knowledge: Callable[[Knowledge], None],
        on_identity: Callable[[Identity], None],
        on_state: Callable[[str], None],
        on_routes: Callable[[Routes], None] = lambda _: None,
        on_heard: Callable[[], None] = lambda: None,
        on_trust: Callable[[Identity], None] = lambda _: None,
        lives: Lives | None = None,
        keys: Callable[[], Keys] = Keys.new,
    ) -> None:
        """`servers` are auth or proxies, tried in turn. Callbacks come from the link's thread.

        `on_heard` is told of each word of an auth that has taken us, `on_trust` of an identity
        with the same certificates and other CAs to trust. `keys` are those to renew with.
        """
        self.identity = identity
        self.outbox = Outbox()
        self._servers, self._node_name = servers_of(servers, clock), node_name
        self._clock, self._chance = clock, chance
        self._report, self._renew_due, self._keys = report, renew_due, keys
        self._on_knowledge, self._on_identity, self._on_trust = on_knowledge, on_identity, on_trust
        self._on_state, self._on_routes, self._on_heard = on_state, on_routes, on_heard
        self._lives, self._boot_id = lives or Lives(clock), chance.token(8)
        self._address = ""  # that we are connected to, or were last
        self._client: StreamClient | None = None
        self._pending: Keys | None = None
        self._taught = self._in_vain = False  # auth has taken us on this connection; for nothing
        self._known: Knowledge | None = None  # what it has said on this connection
        self._catching, self._behind = Catching(chance), False
        self._connected_at = self._beat_at = self._heard_at = self._beaten_at = 0.0
        self._not_before = 0.0  # auth can not write until then, and we ask nothing of that kind

    def run(self, stopping: Stopping) -> None:
        failures = 0
        while not stopping.is_set():
            address = self._servers.first()
            self._taught = self._in_vain = False
            try:
                self._connect(address)
                self._stay(stopping)
                failures = 0
            except Error as why:
                failures = 1 if self._served(why) else failures + 1
                self._servers.failed(address)
                self._failed(address, why, failures)
            except Exception:
                failures += 1
                self._servers.failed(address)
                self._on_state("not connected: internal error")
                log.exception("internal error in the stream to auth")
            finally:
                self._hang_up()
            stopping.wait(self._pause(failures))

    def _served(self, why: Error) -> bool:
        """Connected and refused at once is no success: a clone must not hammer auth. Nor must who
        can not read it, or is dropped as soon as it has spoken: the next one will do the same."""
        lasted = self._clock.monotonic() - self._connected_at
        served = self._taught and lasted >= STEADY and not isinstance(why, Malformed)
        self._in_vain = self._taught and not served
        return served

    def _rounds(self, failures: int) -> tuple[int, int]:
        """How often all servers were asked, and how many of them since: then the next is asked
        soon, unless it will not be better."""
        return (failures, 0) if self._in_vain else divmod(failures, len(self._servers))

    def _failed(self, address: str, why: Error, failures: int) -> None:
        """Told the first time, and then seldom. While there are others to ask, they are asked."""
        rounds, rest = self._rounds(failures)
        if rest:
            log.info("%s; the next auth server is asked", why.message)
            self._on_state(f"not connected: {why.message}")
            return
        failures, was_behind = rounds, self._behind
        # The second, too: auth may have said why it ends a stream, and keeps us out from then on.
        # And again: it may have been away itself when we asked.
        if failures == 2 or failures % ASK_WHY == 1 or was_behind:
            why = self._cause(address, why)
            self._behind = why.log == BEHIND
        if failures % 20 == 1 or (self._behind and not was_behind):
            log.warning("%s%s", why.message, f" (try: {why.hint})" if why.hint else "")
        self._on_state(f"not connected: {why.message}")

    def _pause(self, failures: int) -> float:
        if self._behind:
            return self._chance.uniform(*LEFT_BEHIND)
        low, high = BACKOFF
        rounds, _ = self._rounds(failures)
        return self._chance.uniform(0, min(high, low * 2 ** min(rounds, 10)))

    def _cause(self, address: str, why: Error) -> Error:
        """What is behind a connection that ends without a word."""
        if self._taught:
            return why
        behind = left_behind(self.identity, address, timeout=PROBE_TIMEOUT)
        if behind is not None or not isinstance(why, Unavailable):
            return behind or why
        refused = certificate_refused(self.identity, address, timeout=PROBE_TIMEOUT)
        return refused or cut_off_at(address, timeout=PROBE_TIMEOUT) or why

    @property
    def flows(self) -> bool:
        """Would auth take an event now? From any thread."""
        return self._taught and self._client is not None and not self._waits()

    def _waits(self) -> bool:
        return self._clock.monotonic() < self._not_before

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
            way, patience = way_of(me, address), self._servers.patience
            self._client = StreamClient(way, context, PATH, timeout=patience)
        except ssl.SSLError as why:
            raise untrusted(address, why) from why
        self._say(FromAgent(hello=self._hello()))
        self._address = address
        self._heard_at = self._connected_at = self._clock.monotonic()
        self._beat_at, self._pending = 0.0, None
        self._known = None
        self._not_before = 0.0
        self._on_state(f"connected to {address}")
        log.info("connected to auth at %s", address)

    def _hello(self) -> StreamHello:
        life, ago = self._lives.before()
        roles = list(self.identity.roles)
        return StreamHello(
            version=__version__, roles=roles, boot_id=self._boot_id, life=life, heard_ago=ago
        )

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
            due = self._renew_due() or self._catching.due(now)
            if due and self._pending is None and not self._waits():
                self._pending = self._keys()
                request = renewal(self.identity, self._pending, self._node_name)
                self._say(FromAgent(renew=request))
            self._listen(max(0.05, self._next() - self._clock.monotonic()))
        self._send_the_rest()
        self._say(FromAgent(goodbye=Goodbye(reason="shutdown")))
        assert self._client is not None
        self._client.flush()

    def _next(self) -> float:
        if self._waits():
            return min(self._beat_at, self._not_before)
        due = self._catching.at
        return self._beat_at if due is None or self._pending else min(self._beat_at, due)

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
            self._learn(said.knowledge)
        if said.routes is not None:
            self._on_routes(said.routes)
        if said.taken is not None:
            self.outbox.taken(said.taken)
        if said.beat is not None:
            self._compare_clocks(said.beat.time)
        if said.welcome is not None and self._pending is not None:
            self._take(identity_of(said.welcome, self._pending))
        if said.later is not None:
            self._keep_for(said.later)
        if self._taught:
            self._lives.heard()
            self._on_heard()
        if said.refusal is not None:
            self._drop_refused(said.refusal.code)
            kind = KINDS.get(said.refusal.code, Unavailable)
            raise kind(said.refusal.message, hint=said.refusal.hint)

    def _learn(self, known: Knowledge) -> None:
        """CAs of now count from the next connection on, whatever our certificates are."""
        self._taught, self._behind, self._known = True, False, known
        self._servers.worked(self._address)
        self._lives.learnt(known, self._address)
        self._catching.heard(known, self.identity.rotation, self._clock.monotonic())
        trusting_now = trusting(self.identity, known)
        if trusting_now != self.identity:
            self.identity = trusting_now
            self._on_trust(trusting_now)
        self._on_knowledge(known)

    def _take(self, renewed: Identity) -> None:
        """It may have been made before auth said its last word about the CAs."""
        self.identity = trusting(renewed, self._known) if self._known else renewed
        self._pending = None
        self._catching.renewed(renewed.rotation, self._clock.monotonic())
        self._on_identity(self.identity)

    def _keep_for(self, seconds: float) -> None:
        """Auth reads, and can not write: nothing that was sent and not answered was done."""
        low, high = LATER
        self._not_before = self._clock.monotonic() + min(max(seconds, low), high)
        self._pending = None
        self.outbox.send_again()

    def _compare_clocks(self, theirs: float) -> None:
        skew = self._clock.now().timestamp() - theirs
        if abs(skew) > SKEW_WARNING:
            log.warning("the clock of this host is %.0f s off the auth server's", skew)

    def _send_events(self) -> None:
        if lost := self.outbox.count_lost():
            log.warning("%d audit events were dropped, auth was away for too long", lost)
        if not self._waits() and (events := self.outbox.take()):
            self._say(FromAgent(events=events))

    def _send_the_rest(self) -> None:
        """Before the goodbye. What auth does not answer for in time is sent again by the next."""
        for _ in range(LAST_TRIES):
            if not len(self.outbox) or self._waits():
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
