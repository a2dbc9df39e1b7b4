"""The node's front door, in the daemon: accept, count, hand over to the zygote, listen to news.

Never reads a byte of a stranger's. Limits come before a process is forked; after that a
connection is a line (`ssh_line`) on which its monitor tells how far it got.
"""

import asyncio
import errno
import logging
import socket
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.model.source import source_of
from teleport_lite.net.ssh_limits import Limits, Penalties, Startups, Step
from teleport_lite.net.ssh_line import MAX_SAID, FromMonitor, Hello, Outcome, ToMonitor, Wanted
from teleport_lite.net.ssh_lines import Line, Returns, Wish, last_words
from teleport_lite.net.ssh_policy import MAX_JUMPS
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.stream import AgentEvent, LiveSession

# Accepted in one go before the loop gets its turn.
_BATCH = 32
# Sessions of one connection that are listed; a monitor allows fewer.
_MAX_OPEN = 64
# accept(2): errors that say "not now", and would come again at once.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 0.1
_TCP = (socket.AF_INET, socket.AF_INET6)
# A client that is cut off without a word is found after 30 + 3 * 10 s.
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)

_log = logging.getLogger("teleport_lite.ssh")


class Forks(Protocol):
    """The zygote, as seen from here."""

    def fileno(self) -> int: ...

    def hand_over(
        self,
        tcp: socket.socket,
        line: socket.socket,
        *,
        peer: tuple[str, int],
        local: tuple[str, int],
    ) -> None: ...


@dataclass(slots=True)
class Counters:
    """For /metrics. The last two go down again."""

    accepted: int = 0
    logged_in: int = 0
    dropped_startups: int = 0  # MaxStartups, or too many from one source
    dropped_penalty: int = 0
    dropped_full: int = 0  # as many connections as there may be
    accept_errors: int = 0
    connections: int = 0
    without_login: int = 0


@dataclass(frozen=True, slots=True)
class _Arrived:
    sock: socket.socket
    peer: tuple[str, int]
    local: tuple[str, int]


class SshListener:
    """Runs in the event loop it is started in; `close` stops listening and lets the rest be."""

    def __init__(
        self,
        *,
        sockets: Sequence[socket.socket],
        zygote: Forks,
        on_event: Callable[[AgentEvent], None],
        clock: Clock,
        chance: Chance,
        on_lost: Callable[[], None] = lambda: None,
        on_wish: Callable[[Wish], None] | None = None,
        limits: Limits | None = None,
        returns: Path | None = None,
    ) -> None:
        """`sockets` listen already; there may be none, when connections come by `take` only.
        `returns` is the data directory, where monitors of an earlier daemon come back to us.
        `on_lost` is called once if the zygote has ended: no connection can be served any more,
        and only a new daemon can start a new one. `on_wish` is for jump hosts: what those who
        have logged in want to get to."""
        self._sockets = list(sockets)
        self._zygote, self._on_event, self._on_lost = zygote, on_event, on_lost
        self._on_wish = on_wish
        self._clock, self._chance = clock, chance
        self._limits = limits = limits or Limits()
        self._held: Counter[str] = Counter()  # connections by source
        self._shared: frozenset[str] = frozenset()
        self._startups, self._penalties = Startups(limits), Penalties(limits)
        self._queues: defaultdict[str, deque[_Arrived]] = defaultdict(deque)
        self._lines: dict[int, Line] = {}
        self._data_dir = returns
        self._returns: Returns | None = None
        self._said: dict[str, float] = {}
        self._paused: list[asyncio.TimerHandle] = []
        self._closed = False
        self.counters = Counters()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for sock in self._sockets:
            sock.setblocking(False)
            self._loop.add_reader(sock, self._accept, sock)
        self._loop.add_reader(self._zygote.fileno(), self._lost)
        if self._data_dir is not None:
            try:
                self._returns = Returns(self._data_dir, self._back)
            except OSError as why:  # they go on, and look again at the locks by themselves
                _log.warning("sessions of earlier daemons can not come back: %s", why.strerror)

    def sessions(self) -> list[LiveSession]:
        """Those that are open now on connections of ours, the oldest first. From any thread."""
        lines = list(self._lines.values())
        found = [each for line in lines for each in list(line.sessions.values())]
        return sorted(found, key=lambda session: session.started)

    def take(self, sock: socket.socket, *, peer: tuple[str, int], local: tuple[str, int]) -> None:
        """A connection that arrived elsewhere: at another port, or down a tunnel as one end of
        a socketpair. Ours from here on; the limits are those of accepted ones, counted for
        `peer`, which is the client as whoever took it in has seen it. After `start` only."""
        self.counters.accepted += 1
        if self._closed:
            sock.close()
            return
        self._admit(sock, _plain(peer), _plain(local))

    def share(self, addresses: Iterable[str]) -> None:
        """Our proxies' addresses: many people come from there, whom the proxy has let through.
        They are not to pay for each other; the limits for everybody together are theirs, too."""
        self._shared = frozenset(source_of(address) for address in addresses)

    def recheck(self) -> None:
        """Locks or roles have changed: let every monitor look again."""
        said = write(ToMonitor(recheck=True))
        for line in self._lines.values():
            try:
                line.sock.send(said, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                continue  # ended, or has not read the last one yet, which is as good

    def retire(self) -> None:
        """Take no more connections. Those that wait to be accepted are; what is open goes on."""
        if self._closed:
            return
        for sock in self._sockets:
            while self._accept(sock):
                pass
        self._closed = True
        for handle in self._paused:
            handle.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        if self._returns is not None:
            self._hear_last(self._returns.close())
        self._loop.remove_reader(self._zygote.fileno())
        for queue in self._queues.values():
            for arrived in queue:
                arrived.sock.close()
        self._queues.clear()

    async def close(self) -> None:
        """Connections go on; what they report from now on is for the next daemon."""
        self.retire()
        for fd, line in self._lines.items():
            self._loop.remove_reader(fd)
            self._hear_last(last_words(line.sock))
        self._lines.clear()

    def _hear_last(self, words: list[bytes]) -> None:
        """Of what is only heard when we close: events must not be lost."""
        for raw in words:
            with suppress(Malformed):
                if (event := read(FromMonitor, raw, limit=MAX_SAID).event) is not None:
                    self._on_event(event)

    # --- arrivals

    def _accept(self, listening: socket.socket) -> bool:
        """True if there may be more."""
        for _ in range(_BATCH):
            try:
                sock, address = listening.accept()
            except BlockingIOError:
                return False
            except OSError as why:
                self.counters.accept_errors += 1
                if why.errno in _EXHAUSTED:
                    self._pause(listening, why)
                    return False
                continue  # the client has given up meanwhile
            self._arrive(sock, address)
        return True

    def _pause(self, listening: socket.socket, why: OSError) -> None:
        """The backlog keeps; asking again at once would only burn the processor."""
        self._say("can not accept SSH connections: %s", why.strerror)
        self._loop.remove_reader(listening)
        resume = (listening, self._accept, listening)
        self._paused = [handle for handle in self._paused if handle.when() > self._loop.time()]
        self._paused.append(self._loop.call_later(_PAUSE, self._loop.add_reader, *resume))

    def _arrive(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self.counters.accepted += 1
        try:
            local = sock.getsockname()
        except OSError:
            sock.close()  # reset before we got to it
            return
        self._admit(sock, _plain(address), _plain(local))

    def _admit(self, sock: socket.socket, peer: tuple[str, int], local: tuple[str, int]) -> None:
        try:
            for option in KEEPALIVE if sock.family in _TCP else ():
                sock.setsockopt(*option)
        except OSError:
            sock.close()
            return
        arrived, source = _Arrived(sock, peer, local), source_of(peer[0])
        shared = source in self._shared
        if not shared and self._penalties.refuses(source, self._clock.monotonic()):
            self.counters.dropped_penalty += 1
            self._say("SSH connections from %s are refused for a while", source)
            sock.close()
            return
        if self._full(source):
            self.counters.dropped_full += 1
            self._say("too many SSH connections, dropped one from %s", source)
            sock.close()
            return
        step = self._startups.arrive(source, self._dice(), shared=shared)
        self._take(source, arrived, step)

    def _full(self, source: str) -> bool:
        limits, most = self._limits, self._limits.connections_per_source
        of_source = source not in self._shared and self._held[source] >= most
        return of_source or len(self._lines) >= limits.connections

    def _take(self, source: str, arrived: _Arrived, step: Step) -> None:
        if step is Step.WAIT:
            self._queues[source].append(arrived)
            return
        with arrived.sock:
            if step is Step.DROP:
                self.counters.dropped_startups += 1
                self._say("too many SSH connections without a login, dropped one from %s", source)
            elif not self._hand_over(source, arrived):
                self._next(source)

    def _hand_over(self, source: str, arrived: _Arrived) -> bool:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as why:
            self.counters.accept_errors += 1
            self._say("can not serve SSH connections: %s", why.strerror)
            return False
        with theirs:
            try:
                self._zygote.hand_over(arrived.sock, theirs, peer=arrived.peer, local=arrived.local)
            except Unavailable as why:
                ours.close()
                self._say("%s", why.message)
                return False
        ours.setblocking(False)
        self._keep(Line(source, arrived.peer, ours))
        return True

    def _keep(self, line: Line) -> None:
        self._held[line.source] += 1
        self._lines[line.sock.fileno()] = line
        self._loop.add_reader(line.sock, self._hear, line.sock.fileno())
        self._count()

    def _back(self, sock: socket.socket, hello: Hello) -> None:
        """The monitor of a connection that an earlier daemon took in. It counts, and it can not
        be turned away; its start was the other daemon's to limit."""
        line = Line(source_of(hello.peer[0]), hello.peer, sock, waits_for_login=False)
        line.sessions = {each.sid: each for each in hello.sessions}
        self._keep(line)

    def _dice(self) -> float:
        return self._chance.uniform(0, 100)

    # --- news

    def _hear(self, fd: int) -> None:
        line = self._lines[fd]
        try:
            raw = line.sock.recv(MAX_SAID)
            said = read(FromMonitor, raw, limit=MAX_SAID) if raw else None
        except BlockingIOError:
            return
        except (OSError, Malformed):
            said = None
        if said is None:
            self._over(fd, line)
        elif said.event is not None:
            self._on_event(said.event)
        elif said.note is not None:
            self._pass_on(line, ascii(said.note)[1:-1])
        elif said.logged_in:
            self.counters.logged_in += 1
            self._has_logged_in(line)
        elif said.outcome is not None:
            self._penalties.punish(line.source, said.outcome, self._clock.monotonic())
        elif said.wanted is not None:
            self._wish(fd, line, said.wanted)
        elif said.session is not None and len(line.sessions) < _MAX_OPEN:
            line.sessions[said.session.sid] = said.session
        elif said.session_over is not None:
            line.sessions.pop(said.session_over, None)

    def _wish(self, fd: int, line: Line, wanted: Wanted) -> None:
        """A monitor keeps to these limits; what does not is none of ours."""
        if self._on_wish is None or line.waits_for_login or line.wishes >= MAX_JUMPS:
            self._over(fd, line)
            return
        self._on_wish(Wish(line, wanted))

    def _has_logged_in(self, line: Line) -> None:
        if line.waits_for_login:
            line.waits_for_login = False
            self._next(line.source)
        self._count()

    def _over(self, fd: int, line: Line) -> None:
        self._loop.remove_reader(fd)
        del self._lines[fd]
        line.sock.close()
        self._held[line.source] -= 1
        if not self._held[line.source]:
            del self._held[line.source]
        self._has_logged_in(line)

    def _next(self, source: str) -> None:
        """A place is free: for the next one of the same source that waits, if there is any."""
        self._startups.leave(source)
        step = Step.DROP
        while step is Step.DROP and (queue := self._queues.get(source)):
            arrived = queue.popleft()
            step = self._startups.start_waiting(source, self._dice())
            self._take(source, arrived, step)
        if not self._queues.get(source):
            self._queues.pop(source, None)

    def _count(self) -> None:
        self.counters.connections = len(self._lines)
        self.counters.without_login = self._startups.started

    def _lost(self) -> None:
        self._loop.remove_reader(self._zygote.fileno())
        for sock in self._sockets:
            self._loop.remove_reader(sock)
        self._on_lost()

    def _pass_on(self, line: Line, note: str) -> None:
        """Who has not logged in can make us say things, but not too often."""
        if line.waits_for_login:
            self._say("from %s: %s", line.source, note)
        else:
            _log.info("from %s: %s", line.source, note)

    def _say(self, text: str, *values: object) -> None:
        """One line a second of each kind: strangers must not fill our disk."""
        now = self._clock.monotonic()
        if now - self._said.get(text, -1.0) >= 1.0:
            self._said[text] = now
            _log.warning(text, *values)


def _plain(address: tuple[str, int]) -> tuple[str, int]:
    """Host and port. An IPv4 client of a dual-stack socket is an IPv4 client."""
    host, port = address[:2]
    return host.removeprefix("::ffff:") if "." in host else host, port


__all__ = ["Counters", "Forks", "Limits", "Outcome", "SshListener", "Wish"]
