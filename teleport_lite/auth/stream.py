"""The auth role's end of the agent stream (proto/stream.py draws it)."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from teleport_lite.access.decide import locked
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.hosts import Live, Presence
from teleport_lite.auth.knowledge import Teacher
from teleport_lite.auth.renew import RenewDesk
from teleport_lite.auth.rotation import RotationDesk
from teleport_lite.auth.routes import Board
from teleport_lite.auth.sessions import SessionDesk
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.event import Event
from teleport_lite.model.system_role import AUTH, NODE, PROXY, RoleBook
from teleport_lite.proto.codec import MAX_FRAME, read, write
from teleport_lite.proto.join import Renew
from teleport_lite.proto.skew import check_host
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

log = logging.getLogger("teleport_lite.auth")

# Seconds until a host asks again for what we can not write now: the disk is full, or the database
# is away.
LATER = 5.0
# Agents send at most 100 at once; a host that sends more is not one of ours.
MAX_EVENTS = 200
# Of leaf clusters, in a beat of a proxy.
MAX_LEAVES = 4096
# What a host may tell.
HOST_EVENTS = re.compile(
    r"auth|exec|port|scp|sftp|subsystem|(x11|agent)-forward|client\.disconnect|"
    r"session\.(?!upload$)[a-z.]{1,40}"
)
# Told by auth itself, and by nobody else.
OUR_EVENTS = re.compile(
    r"(backup|bot|cert|cert_authority|cluster|host|instance|join_token|keyring|lock|recording|"
    r"reset_password_token|resource|role|user)\..*|session\.upload"
)
# What a host of a later version may tell: it is kept, under a name of ours.
_LATER = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
LATER_KIND, LATER_CODE = "host.event", "THE00I"


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
        book: RoleBook,
        board: Board,
        sessions: SessionDesk,
        rotation: RotationDesk,
        version: str,
        door: Callable[[], str],
        seen: Callable[[list[str]], None] = lambda _: None,
        came: Callable[[Caller, StreamHello], None] = lambda *_: None,
    ) -> None:
        """`version` is ours; `door` says where hosts find a proxy, "" if there is none. `seen` is
        told which leaf clusters have a tunnel to a proxy, `came` of a host that was let in."""
        self.came = came
        self.version, self.door, self.rotation, self.seen = version, door, rotation, seen
        self._too_far: dict[str, str] = {}  # hosts, and which version they have
        self.clock, self.store, self.trail = clock, store, trail
        self.presence, self.teacher, self.renewals = presence, teacher, renewals
        self.board, self.sessions = board, sessions
        self._announces = {role.name: role.announces for role in book if role.announces}

    def open(self, caller: Caller, send: Callable[[bytes | None], None]) -> "AgentStream":
        """`send` takes a frame, or None to close; it returns at once. Raises NotFound, Denied."""
        self.check(caller)
        return AgentStream(self, caller, send)

    def check(self, caller: Caller) -> None:
        """Is this host still one of ours? Raises NotFound or Denied."""
        if self.store.host(caller.name) is None:
            raise NotFound(
                f"host {caller.name} is not part of this cluster any more",
                hint="join again with a new token: tctl tokens add",
            )
        verdict = locked(self.store.locks(), self.clock.now(), node=caller.name)
        if isinstance(verdict, Refused):
            raise Denied(verdict.reason)
        self.rotation.check(caller)

    def check_version(self, caller: Caller, version: str) -> None:
        """Raises Denied. It is logged once for each host and version: it will come again."""
        try:
            check_host(version, ours=self.version, proxy=self.door())
        except Denied as why:
            if self._too_far.get(caller.name) != version:
                self._too_far[caller.name] = version
                log.warning("host %s at %s: %s", caller.name, caller.address, why.message)
            raise

    def kinds(self, caller: Caller) -> frozenset[str]:
        """What a host with these roles may show."""
        return frozenset(self._announces[role] for role in caller.roles if role in self._announces)


class AgentStream:
    """One host's stream. `frame` is called for each message, one at a time."""

    def __init__(
        self, desk: StreamDesk, caller: Caller, send: Callable[[bytes | None], None]
    ) -> None:
        self._desk, self._caller, self._send = desk, caller, send
        self._live: Live | None = None
        self._goodbye = self._over = self._closed = False
        self._teaching = Lock()  # held while it is taught: the lesson that is sent last is the last
        self._unfollow: Callable[[], None] | None = None

    def frame(self, raw: bytes) -> None:
        """What is wrong with a frame is answered on the stream, which then ends."""
        if self._over:
            return
        try:
            self._check_certificate()
            said = read(FromAgent, raw, limit=MAX_FRAME)
            if said.hello is not None:
                self._hello(said.hello)
            elif self._live is None:
                raise Malformed("the stream must begin with hello")
            elif said.beat is not None:
                self._beat(said.beat, self._live)
            elif said.events is not None:
                self._or_later(self._events, said.events)
            elif said.renew is not None:
                self._or_later(self._renew, said.renew)
            elif said.goodbye is not None:
                self._goodbye = True
                self._end()
        except Error as why:
            self.refuse(why)
        finally:
            if self._closed:  # meanwhile: what was begun here has to end, too
                self._leave()

    def _or_later(self, do: Callable[[Any], None], said: object) -> None:
        """What can not be written now is no reason to end the stream: beats, locks and routes go
        on, and a thousand hosts must not come back at once."""
        try:
            do(said)
        except Unavailable as why:
            log.debug("host %s is asked to wait: %s", self._caller.name, why.message)
            self._say(ToAgent(later=LATER))

    def _renew(self, said: Renew) -> None:
        """From then on this stream is as good as one that was opened with what it was given."""
        assert self._live is not None
        caller = replace(self._caller, ca=self._live.ca)
        welcome = self._desk.renewals.renew(caller, said)
        self._live.ca = self._desk.rotation.signer_of(welcome.tls_cert)
        self._say(ToAgent(welcome=welcome))

    def refuse(self, why: Error) -> None:
        refusal = Refusal(code=why.code, message=why.message, hint=why.hint)
        self._say(ToAgent(refusal=refusal))
        self._end()

    def closed(self) -> None:
        self._closed = True
        self._leave()

    def _leave(self) -> None:
        if self._unfollow is not None:
            self._unfollow()
        if self._live is not None:
            self._desk.presence.leave(self._live, said_goodbye=self._goodbye)

    def _check_certificate(self) -> None:
        """A stream outlives the certificate it was opened with; renewed hosts just come back."""
        if self._caller.until is not None and self._desk.clock.now() >= self._caller.until:
            raise Denied("the certificate of this connection has expired", hint="connect again")

    def _hello(self, hello: StreamHello) -> None:
        if self._live is not None:
            raise Malformed("the stream has begun already")
        version = "".join(char for char in hello.version[:40] if char.isprintable())
        self._desk.check_version(self._caller, version)
        live = Live(
            host_id=self._caller.name,
            boot_id=hello.boot_id[:64],
            address=self._caller.address,
            version=version,
            push=self._teach,
            cut=lambda why: self.refuse(Denied(why)),
            last_beat=self._desk.clock.now(),
            ca=self._caller.ca,
            refuse=self.refuse,
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
        self._desk.check(self._caller)  # what changed since the stream was opened cut nobody
        self._desk.came(self._caller, hello)
        self._teach()
        if PROXY in self._caller.roles:
            self._unfollow = self._desk.board.follow(
                lambda routes: self._say(ToAgent(routes=routes))
            )

    def _beat(self, beat: Beat, live: Live) -> None:
        kinds, is_proxy = self._desk.kinds(self._caller), PROXY in self._caller.roles
        if beat.auth and AUTH not in self._caller.roles:
            raise Malformed("a host without role Auth can not be reached as an auth server")
        if not self._desk.rotation.signs_now(live):
            beat.rotated.pop(CaType.HOST, None)
        self._desk.presence.beat(live, beat, kinds, is_proxy=is_proxy)
        if is_proxy and beat.leaves:
            self._desk.seen(beat.leaves[:MAX_LEAVES])
        if NODE in self._caller.roles:
            known = self._desk.sessions.beat(self._caller.name, beat.sessions)
            self._desk.presence.tell_sessions(live, known)
        self._say(ToAgent(beat=BeatReply(time=self._desk.clock.now().timestamp())))

    def _events(self, events: list[AgentEvent]) -> None:
        """Audit events of the host. Who sent them is ours to say."""
        if len(events) > MAX_EVENTS:
            raise Malformed(f"{len(events)} events in a frame, the most is {MAX_EVENTS}")
        now = self._desk.clock.now()
        kept = [_event(each, self._caller.name, now) for each in events]

        def put(tx: Tx) -> None:
            for event in kept:
                tx.record(event)

        self._desk.store.write(put)
        self._say(ToAgent(taken=len(kept)))

    def _teach(self) -> None:
        with self._teaching:
            self._say(ToAgent(knowledge=self._desk.teacher.lesson()))

    def _say(self, message: ToAgent) -> None:
        if not self._over:
            self._send(write(message))

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._send(None)


def _event(said: AgentEvent, host_id: str, now: datetime) -> Event:
    """Late is fine, auth may have been away. From the future is not: the store takes the times
    of events for the time it is, and tokens would be dead before their hour."""
    known = HOST_EVENTS.fullmatch(said.kind) is not None
    if not known and (OUR_EVENTS.fullmatch(said.kind) or not _LATER.fullmatch(said.kind)):
        raise Malformed(f"a host can not tell of {said.kind[:40]!a}")
    try:
        at = min(datetime.fromtimestamp(said.at, UTC), now)
    except (ValueError, OverflowError, OSError):
        at = now
    facts = {**{k[:64]: v[:4096] for k, v in said.facts.items()}, "server_id": host_id}
    if not known:
        facts |= {"kind": said.kind, "kind_code": said.code[:16]}
    return Event(
        kind=said.kind if known else LATER_KIND,
        code=said.code[:16] if known else LATER_CODE,
        at=at,
        outcome=said.outcome[:32],
        facts=facts,
    )
