"""The sessions that go through this proxy: how many, whose, and their end when a rule says so.

open   limits, then `Reach`; told to the trail whichever way it ends
carry  the bytes, until one side ends or `recheck` finds that it may not go on
retire no new ones; those that are open outlive the process that listens (daemon/outlast.py)
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from teleport_lite.access.verdict import Refused, Verdict
from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied, Error, Unavailable
from teleport_lite.net.relay import relay
from teleport_lite.proto.reach import ReachRequest
from teleport_lite.proto.stream import AgentEvent
from teleport_lite.proxy.access import Caller, Judge
from teleport_lite.proxy.reach import Client, Reached

CONNECTED, REFUSED, DATA = "TSC01I", "TSC01W", "T2006I"
# What people choose may be long; the trail needs no more of it.
_SHOWN = 256
# Refusals of one person that are told in a minute. The rest is counted: what waits for auth is
# bounded, and somebody could push out of it what they would rather not have told.
_REFUSALS = 60
_MINUTE = 60.0
# Sessions looked at before the loop gets its turn.
_BATCH = 200

_log = logging.getLogger("teleport_lite.proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A session costs two sockets, some buffers, and a process for the node."""

    total: int = 10_000
    per_user: int = 1_000
    # Of people of one cluster that we trust: it may call as many of its people in as it likes.
    per_root: int = 2_000


class Reaches(Protocol):
    """`Reach`, as seen from here."""

    async def connect(self, request: ReachRequest, caller: Caller, client: Client) -> Reached: ...


class Session:
    """One connection to a node. `carry` it, or `abandon` it."""

    def __init__(
        self, owner: "Sessions", reached: Reached, caller: Caller, login: str, client: Client
    ) -> None:
        self._owner, self.reached = owner, reached
        self.caller, self.login, self.client = caller, login, client
        self._left: asyncio.Transport | None = None
        self.cut_reason = ""
        self.over = False

    async def carry(self, left: asyncio.Transport, first: bytes = b"") -> None:
        """Move bytes between the caller and the node until it is over. `first` is what the
        caller has said already. Closes both."""
        self._left, right = left, self.reached.transport
        up = down = 0
        try:
            if self.cut_reason:
                return
            if first:
                right.write(first)
            if self.reached.first:
                left.write(self.reached.first)
            moved = await relay(left, right)
            up, down = moved.up, moved.down
        finally:
            self._abort()
            self._owner.ended(self, up + len(first), down + len(self.reached.first))

    def abandon(self) -> None:
        """The caller has gone before a byte was moved. Nothing, when it is over already."""
        if self.over:
            return
        self._abort()
        self._owner.ended(self, 0, 0)

    def cut(self, reason: str) -> None:
        self.cut_reason = self.cut_reason or reason
        self._abort()

    def _abort(self) -> None:
        for transport in filter(None, (self._left, self.reached.transport)):
            # Python 3.11.2 (Debian 12): a TLS transport that has ended raises it.
            with suppress(AttributeError):
                transport.abort()


class _Refusals:
    """How many of each person were told since when, and how many were not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._told: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def tell(self, user: str) -> int | None:
        """None: not this one. Else how many before it were not told."""
        now = self._clock.monotonic()
        if now - self._since >= _MINUTE:
            self._since = now
            self._told.clear()
        if self._told[user] >= _REFUSALS:
            self._left_out[user] += 1
            return None
        self._told[user] += 1
        return self._left_out.pop(user, 0)


class Sessions:
    """All of them. `recheck` after every change of locks, roles or nodes."""

    def __init__(
        self,
        *,
        reach: Reaches,
        judge: Judge,
        clock: Clock,
        on_event: Callable[[AgentEvent], None],
        limits: Limits | None = None,
    ) -> None:
        self._reach, self._judge, self._clock, self._on_event = reach, judge, clock, on_event
        self._limits = limits or Limits()
        self._open: set[Session] = set()
        # By user; also while the node is being dialled.
        self._taken: Counter[str] = Counter()
        self._from: Counter[str] = Counter()  # by the cluster they come from, if it is not ours
        self._checking: asyncio.Task[None] | None = None
        self._asked_again = self._retired = False
        self._refusals = _Refusals(clock)
        self.opened = self.refused = self.bytes_up = self.bytes_down = 0  # for /metrics

    def __len__(self) -> int:
        return len(self._open)

    async def open(self, request: ReachRequest, caller: Caller, client: Client) -> Session:
        """Raises what `Reach.connect` raises, and Unavailable when there are too many."""
        try:
            if self._retired:
                raise Unavailable("this proxy starts anew", hint="try again in a few seconds")
            self._take(caller)
            try:
                reached = await self._reach.connect(request, caller, client)
                session = Session(self, reached, caller, request.login, client)
                self._check_still(session)
            except BaseException:
                self._release(caller)
                raise
        except Error as why:
            self.refused += 1
            self._tell_refused(request, caller, client, why)
            raise
        self._open.add(session)
        self.opened += 1
        self._tell(session, "session.connect", CONNECTED, by=reached.by)
        return session

    def ended(self, session: Session, up: int, down: int) -> None:
        """From the session itself, once."""
        if session.over:
            return
        session.over = True
        self._open.discard(session)
        self._release(session.caller)
        self.bytes_up, self.bytes_down = self.bytes_up + up, self.bytes_down + down
        facts = {"bytes_up": str(up), "bytes_down": str(down)}
        if session.cut_reason:
            facts["reason"] = session.cut_reason[:_SHOWN]
        self._tell(session, "session.data", DATA, **facts)

    def recheck(self) -> None:
        """Locks or roles have changed: sessions that are allowed no more are cut, in a moment."""
        if self._checking is not None and not self._checking.done():
            self._asked_again = True
            return
        loop = asyncio.get_running_loop()
        self._checking = loop.create_task(self._check_all(), name="recheck sessions")

    def retire(self) -> None:
        """No new ones. Those that are open go on."""
        self._retired = True

    async def close(self) -> None:
        """Cut them all."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        for session in list(self._open):
            session.cut("the proxy stops")

    async def _check_all(self) -> None:
        """In batches: there may be thousands, and everybody else is waiting."""
        self._asked_again = True
        while self._asked_again:
            self._asked_again = False
            for number, session in enumerate(list(self._open), start=1):
                verdict = self._verdict(session)
                if isinstance(verdict, Refused):
                    _log.info("session of %s is cut: %s", session.caller.user, verdict.reason)
                    session.cut(verdict.reason)
                if number % _BATCH == 0:
                    await asyncio.sleep(0)

    def _check_still(self, session: Session) -> None:
        """What was decided before the node was dialled may not hold any more, and `recheck` has not
        seen this one. Raises Denied."""
        verdict = self._verdict(session)
        if isinstance(verdict, Refused):
            session.cut(verdict.reason)
            raise Denied(verdict.reason, hint="tsh ls")

    def _verdict(self, session: Session) -> Verdict:
        """About a node of a leaf only the leaf knows; locks of ours hold all the same."""
        if session.reached.leaf:
            return self._judge.welcome(session.caller)
        return self._judge.may_reach(session.caller, session.reached.route, session.login)

    def _take(self, caller: Caller) -> None:
        user, root = caller.user, caller.cluster
        if self._taken.total() >= self._limits.total:
            raise Unavailable("this proxy has as many sessions as it may have")
        if self._taken[user] >= self._limits.per_user:
            raise Unavailable(f"{user} has {self._taken[user]} sessions, no more are possible")
        if root and self._from[root] >= self._limits.per_root:
            raise Unavailable(f"cluster {root} has as many sessions as it may have")
        for counter, name in ((self._taken, user), (self._from, root)):
            counter[name] += 1

    def _release(self, caller: Caller) -> None:
        for counter, name in ((self._taken, caller.user), (self._from, caller.cluster)):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]

    # --- the trail

    def _tell(self, session: Session, kind: str, code: str, **facts: str) -> None:
        route = session.reached.route
        known = {
            # `server_id` is ours: auth puts it there, as with all events.
            "node_id": route.id,
            "node_name": route.name,
            "node_addr": route.address,
            "via": session.reached.via,
            "cluster": session.reached.leaf,
            "login": session.login,
        }
        known = {name: value for name, value in known.items() if value}
        self._event(kind, code, "ok", session.caller, session.client, {**known, **facts})

    def _tell_refused(
        self, request: ReachRequest, caller: Caller, client: Client, why: Error
    ) -> None:
        left_out = self._refusals.tell(caller.user)
        if left_out is None:
            return
        facts = {
            "node_name": ascii(request.host)[1:-1][:_SHOWN],
            "reason": (why.log or why.message)[:_SHOWN],
        }
        if request.proof:
            facts["cluster"] = ascii(request.cluster)[1:-1][:_SHOWN]
        if request.login:
            facts["login"] = ascii(request.login)[1:-1][:_SHOWN]
        if request.port:
            facts["port"] = str(request.port)
        if left_out:
            facts["left_out"] = str(left_out)
        self._event("session.connect", REFUSED, why.code, caller, client, facts)

    def _event(
        self,
        kind: str,
        code: str,
        outcome: str,
        caller: Caller,
        client: Client,
        facts: dict[str, str],
    ) -> None:
        host, port = client
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        at = self._clock.now().timestamp()
        facts = {"user": caller.user, "addr.remote": where, **facts}
        self._on_event(AgentEvent(kind=kind, code=code, at=at, outcome=outcome, facts=facts))
