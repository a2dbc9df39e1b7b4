"""The auth role's end of the agent stream (proto/stream.py draws it)."""

from collections.abc import Callable
from datetime import UTC, datetime

from teleport_lite.access.decide import locked
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.hosts import Live, Presence
from teleport_lite.auth.knowledge import Teacher
from teleport_lite.auth.renew import RenewDesk
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound
from teleport_lite.model.event import Event
from teleport_lite.proto.codec import MAX_FRAME, read, write
from teleport_lite.proto.stream import (
    AgentEvent,
    Beat,
    BeatReply,
    FromAgent,
    Refusal,
    StreamHello,
    ToAgent,
)
from teleport_lite.store.protocols import Store, Tx

MAX_EVENTS = 200


class StreamDesk:
    """Opens streams for hosts that are who they say."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        trail: Trail,
        presence: Presence,
        teacher: Teacher,
        renewals: RenewDesk,
    ) -> None:
        self.clock, self.store, self.trail = clock, store, trail
        self.presence, self.teacher, self.renewals = presence, teacher, renewals

    def open(self, caller: Caller, send: Callable[[bytes | None], None]) -> "AgentStream":
        """`send` takes a frame, or None to close; it returns at once. Raises NotFound, Denied."""
        if self.store.host(caller.name) is None:
            raise NotFound(
                f"host {caller.name} is not part of this cluster any more",
                hint="join again with a new token: tctl tokens add",
            )
        verdict = locked(self.store.locks(), self.clock.now(), node=caller.name)
        if isinstance(verdict, Refused):
            raise Denied(verdict.reason)
        return AgentStream(self, caller, send)


class AgentStream:
    """One host's stream. `frame` is called for each message, one at a time."""

    def __init__(
        self, desk: StreamDesk, caller: Caller, send: Callable[[bytes | None], None]
    ) -> None:
        self._desk, self._caller, self._send = desk, caller, send
        self._live: Live | None = None
        self._goodbye = False

    def frame(self, raw: bytes) -> None:
        """Raises nothing: what is wrong with a frame is answered on the stream, which then ends."""
        try:
            said = read(FromAgent, raw, limit=MAX_FRAME)
            if said.hello is not None:
                self._hello(said.hello)
            elif self._live is None:
                raise Malformed("the stream must begin with hello")
            elif said.beat is not None:
                self._beat(said.beat, self._live)
            elif said.events is not None:
                self._events(said.events)
            elif said.renew is not None:
                welcome = self._desk.renewals.renew(self._caller, said.renew)
                self._say(ToAgent(welcome=welcome))
            elif said.goodbye is not None:
                self._goodbye = True
                self._send(None)
        except Error as why:
            self.refuse(why)

    def refuse(self, why: Error) -> None:
        refusal = Refusal(code=why.code, message=why.message, hint=why.hint)
        self._say(ToAgent(refusal=refusal))
        self._send(None)

    def closed(self) -> None:
        if self._live is not None:
            self._desk.presence.leave(self._live, said_goodbye=self._goodbye)

    def _hello(self, hello: StreamHello) -> None:
        live = Live(
            host_id=self._caller.name,
            boot_id=hello.boot_id,
            address=self._caller.address,
            version=hello.version[:40],
            push=self._teach,
            cut=lambda why: self.refuse(Denied(why)),
            last_beat=self._desk.clock.now(),
        )
        other = self._desk.presence.arrive(live)
        if other is not None:
            self._desk.trail.note(
                "instance.duplicate",
                "TJ004W",
                outcome="conflict",
                **{"host_id": live.host_id, "addr.remote": live.address, "other": other.address},
            )
            raise Conflict(
                f"host {live.host_id} is connected already, from {other.address}",
                hint="if this machine is a clone, empty its data_dir and join with a new token",
            )
        self._live = live
        self._teach()

    def _beat(self, beat: Beat, live: Live) -> None:
        self._desk.presence.beat(live, beat)
        self._say(ToAgent(beat=BeatReply(time=self._desk.clock.now().timestamp())))

    def _events(self, events: list[AgentEvent]) -> None:
        """Audit events of the host. Who sent them is ours to say."""
        now = self._desk.clock.now()
        kept = [_event(each, self._caller.name, now) for each in events[:MAX_EVENTS]]

        def put(tx: Tx) -> None:
            for event in kept:
                tx.record(event)

        self._desk.store.write(put)

    def _teach(self) -> None:
        self._say(ToAgent(knowledge=self._desk.teacher.lesson()))

    def _say(self, message: ToAgent) -> None:
        self._send(write(message))


def _event(said: AgentEvent, host_id: str, now: datetime) -> Event:
    try:
        at = datetime.fromtimestamp(said.at, UTC)
    except (ValueError, OverflowError, OSError):
        at = now
    return Event(
        kind=said.kind[:64],
        code=said.code[:16],
        at=at,
        outcome=said.outcome[:32],
        facts={**{k[:64]: v[:4096] for k, v in said.facts.items()}, "server_id": host_id},
    )
