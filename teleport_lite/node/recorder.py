"""Sessions on terminals, as the monitor keeps them: which there are, and their recordings.

The worker asks before each (`wire.Session`). Here the session gets its id, and a scribe if it is
recorded; the broker is told to expect it, and starts no terminal that it was not told of. So a
worker that lies can leave out what its own session shows, but not that there is one.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pwd import struct_passwd

from teleport_lite.ambient import Clock, SystemChance
from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.model.user import RecordMode
from teleport_lite.net.ssh_policy import MAX_SESSIONS
from teleport_lite.net.ssh_tap import MAX_WORD, FromTap, ToTap
from teleport_lite.node.confine import confine_worker, no_terminal
from teleport_lite.node.counts import Counts
from teleport_lite.node.family import Family
from teleport_lite.node.file_story import FileStory
from teleport_lite.node.gate import Gate, Welcome
from teleport_lite.node.party import Parlour
from teleport_lite.node.records import Records
from teleport_lite.node.scribe import Begin, FromScribe, Scribe, ToScribe, Written
from teleport_lite.node.settings import Settings
from teleport_lite.node.story import Story
from teleport_lite.node.take import Take
from teleport_lite.node.wire import (
    Expect,
    FromWorker,
    Host,
    Link,
    Reply,
    Session,
    SessionEnded,
    SessionStarted,
    Stop,
    ToBroker,
)
from teleport_lite.proto.codec import read, write

REJECTED, BROKEN = "T1006W", "TSR02W"
_DEAD = "the scribe has ended"
_OURS = "teleport-lite: "
# For scribes to write what they have when the connection is over; then their files are finished
# by who finds them.
_LAST_WORDS, _HURRY = 5.0, 1.0
# Beyond what a broker takes to end a session by force.
_GRACE = 1.0
# Of one connection: a worker that lies may ask as often as it likes.
_MOST_SCRIBES = 100_000
_SCRIBE_MEMORY = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What is known once somebody has moved in."""

    welcome: Welcome
    host: Host
    gate: Gate
    account: struct_passwd | None  # of scribes


class Recorder:
    """Nothing happens before `moved_in`."""

    def __init__(self, *, settings: Settings, clock: Clock, family: Family, story: Story) -> None:
        self._settings, self._clock, self._family, self._story = settings, clock, family, story
        self._records = Records(
            settings.data_dir,
            quota=settings.recording_spool_quota,
            floor=settings.recording_free_floor,
        )
        self._takes: dict[str, Take] = {}
        self._number = 0
        self._house: House | None = None
        self._birth: Callable[[], None] | None = None
        self._to_broker: Callable[[ToBroker], None] = lambda _said: None
        self._parlour = Parlour(settings.data_dir, story)
        self._counts = Counts(story)
        self.files = FileStory(story)

    def moved_in(self, house: House, to_broker: Callable[[ToBroker], None]) -> None:
        self._house, self._to_broker = house, to_broker
        self._parlour.moved_in(house.welcome, house.gate, self._story.address)

    # --- the loop

    def wants(self) -> Iterator[int]:
        """Descriptors to read from."""
        for take in self._takes.values():
            if take.scribe is not None:
                yield take.scribe.fileno()
            if take.control is not None:
                yield take.control.fileno()
        yield from self._parlour.wants()

    def ready(self, fd: int) -> None:
        """One of them is readable. Raises Malformed for a tap that talks nonsense."""
        for take in list(self._takes.values()):
            if take.scribe is not None and take.scribe.fileno() == fd:
                self._hear_scribe(take, take.scribe)
                return
            if take.control is not None and take.control.fileno() == fd:
                self._hear_tap(take)
                return
        self._parlour.ready(fd)

    def patience(self) -> float | None:
        """Seconds until `tick` has something to do."""
        waits = [self._parlour.patience(), self._counts.patience(), self.files.patience()]
        waits += [take.patience() for take in self._takes.values()]
        return min((each for each in waits if each is not None), default=None)

    def tick(self) -> None:
        self._parlour.tick()
        self._counts.tick()
        self.files.tick()

    def overdue(self) -> str:
        """Why the connection has to be cut, if it has: the broker, which belongs to the user, was
        to end a session that can not be recorded any more, and the worker still has it."""
        late = any(take.patience() == 0 for take in self._takes.values())
        return "a session that can not be recorded does not end" if late else ""

    def look_again(self) -> None:
        """What is known of roles has changed."""
        self._parlour.look_again()

    def hear(self, link: Link, said: FromWorker) -> bool:
        """Is it for us? Then it is answered, now or later."""
        if said.session is not None:
            reply, sockets = self._session(said.session)
            link.send(reply, *(each.fileno() for each in sockets), wait=False)
            for each in sockets:
                each.close()
            with suppress(OSError):
                self._give_birth()
        elif said.join is not None:
            self._parlour.visit(said.join, lambda reply, *fds: link.send(reply, *fds, wait=False))
        elif said.moved is not None:
            self._counts.moved(said.moved)
        else:
            return False
        return True

    # --- sessions

    def _session(self, asked: Session) -> tuple[Reply, tuple[socket.socket, ...]]:
        """The worker wants a terminal. It gets a line to us and, if it is recorded, one to the
        scribe."""
        assert self._house is not None
        for take in list(self._takes.values()):
            if take.asked.channel == asked.channel and take.started is None:
                self._drop(take)  # it asks again: that shell did not start
        # Those that are over and still being written count once more.
        if len(self._takes) >= 2 * MAX_SESSIONS:
            return Reply(ok=False, reason=f"{_OURS}too many sessions"), ()
        sid = SystemChance().uuid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        strict = self._house.welcome.options.record_session is RecordMode.STRICT
        take = Take(sid=sid, asked=asked, control=ours, strict=strict)
        sockets: tuple[socket.socket, ...] = (theirs,)
        reason = ""
        try:
            if self._house.gate.records_sessions():
                sockets = (theirs, self._prepare_scribe(take, self._house))
                if strict:
                    self._give_birth()
        except (Error, OSError) as why:
            reason = why.message if isinstance(why, Error) else "no scribe starts"
            if strict:
                self._close_scribe(take)
                return self._reject(take, theirs, reason)
        self._takes[sid] = take
        self._to_broker(ToBroker(expect=Expect(channel=asked.channel, sid=sid)))
        if reason:
            self._tell(take, ToTap(say=f"{_OURS}this session is not recorded: {reason}"))
        return Reply(ok=True, reason="strict" if strict else "", data=sid.encode()), sockets

    def is_recorded(self, sid: str) -> bool:
        take = self._takes.get(sid)
        return take is not None and take.scribe is not None

    def started(self, session: SessionStarted) -> None:
        """As the broker tells it, which belongs to the user."""
        self._counts.started(session)
        take, house = self._takes.get(session.sid), self._house
        if take is None or house is None or take.started is not None:
            return
        take.started = session
        now = self._clock.now().timestamp()
        command = session.command or ""
        take.facts = {
            "sid": take.sid,
            "user": house.welcome.visitor.user,
            "login": house.welcome.visitor.login,
            "cluster": house.host.cluster,
            "host_id": house.host.host_id,
            "host_name": os.uname().nodename,
            "command": command,
            "started": now,
        }
        self._parlour.open(take.sid, lambda said, *fds: self._tell(take, said, *fds))
        if take.wanted and take.scribe is None:
            self._trouble(take, _DEAD)
        if take.scribe is not None:
            account = house.welcome.account
            begin = Begin(
                columns=take.asked.columns,
                rows=take.asked.rows,
                term=take.asked.term.decode("ascii", "replace"),
                shell=account.shell if account is not None else "",
                title=command,
                started=now,
                facts=take.facts,
            )
            with suppress(EOFError):  # its end is heard
                take.scribe.send(ToScribe(begin=begin))

    def ended(self, session: SessionEnded, reason: str) -> None:
        """As the broker tells it."""
        self._counts.ended(session, reason)
        take = self._takes.get(session.sid)
        if take is None:
            return
        take.ended = self._clock.now().timestamp()
        self._parlour.close(take.sid)
        if take.scribe is None and take.until is None:
            self._drop(take)

    def close(self, *, hurry: bool) -> None:
        """The connection is over: finish what is open. In a `hurry` there are processes to end."""
        deadline = time.monotonic() + (_HURRY if hurry else _LAST_WORDS)
        self._parlour.close_all()
        self.files.sum()
        self._counts.close()
        for take in list(self._takes.values()):
            while take.scribe is not None and take.started is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([take.scribe], [], [], left)[0]:
                    break
                self._hear_scribe(take, take.scribe)
            self._drop(take)

    # --- helpers

    def _prepare_scribe(self, take: Take, house: House) -> socket.socket:
        """Returns the worker's end of its line; it is born by the next `_give_birth`. Raises
        Unavailable or OSError."""
        if self._number >= _MOST_SCRIBES:
            raise Unavailable("too many terminals on one connection")
        file = self._records.begin(take.sid)
        ours, theirs = Link.pair()
        line, for_worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        most = self._records.most

        def body() -> None:
            no_terminal()
            confine_worker(house.account, memory=_SCRIBE_MEMORY, file=most, outlive=True)
            Scribe(line=line, monitor=theirs, file=file, strict=take.strict).run()

        self._number += 1
        name, keep = f"scribe{self._number}", (line.fileno(), theirs.fileno(), file)

        def birth() -> None:
            try:
                self._family.start(name, body, keep)
            finally:
                line.close()
                theirs.close()

        take.scribe, take.file, take.wanted = ours, file, True
        self._birth = birth
        return for_worker

    def _give_birth(self) -> None:
        """After the worker has its answer, where that may be: a fork takes its time. Where it
        fails the line just ends, which is heard. Raises OSError."""
        birth, self._birth = self._birth, None
        if birth is not None:
            birth()

    def _reject(
        self, take: Take, theirs: socket.socket, reason: str
    ) -> tuple[Reply, tuple[socket.socket, ...]]:
        for end in (take.control, theirs):
            if end is not None:
                end.close()
        reason = f"this session can not be recorded, which the role demands: {reason}"
        self._story.tell("session.rejected", REJECTED, "denied", reason=reason)
        return Reply(ok=False, reason=_OURS + reason), ()

    def _hear_scribe(self, take: Take, scribe: Link) -> None:
        try:
            said = scribe.receive(FromScribe)
        except (EOFError, Malformed):
            self._lost(take)
            return
        if said.room is not None:
            reason = self._records.has_room(said.room)
            answer = ToScribe(none=reason) if reason else ToScribe(room=said.room)
            with suppress(EOFError):
                scribe.send(answer, wait=False)
        elif said.trouble is not None:
            self._trouble(take, said.trouble)
        elif said.done is not None:
            self._finish(take, said.done)

    def _finish(self, take: Take, done: Written) -> None:
        ended = take.ended or self._clock.now().timestamp()
        counts = {"bytes": done.size, "lines": done.lines, "gaps": done.missing}
        facts = {**take.facts, "ended": ended, **counts, "complete": done.whole}
        try:
            self._records.finish(take.sid, facts)
        except OSError as why:
            self._story.note(f"recording {take.sid} is left as it is: {why.strerror}")
        self._close_scribe(take)
        if take.ended is not None and take.until is None:
            self._drop(take)

    def _lost(self, take: Take) -> None:
        """It has been killed, or had a bug; what it has written is there."""
        running = take.started is not None
        self._close_scribe(take)
        if running:
            self._trouble(take, _DEAD)

    def _trouble(self, take: Take, reason: str) -> None:
        mode = RecordMode.STRICT if take.strict else RecordMode.BEST_EFFORT
        self._story.tell(
            "session.recording", BROKEN, "failed", sid=take.sid, reason=reason, mode=mode.value
        )
        self._story.changed(take.sid, recorded=False)
        if take.strict:
            words = f"this session can not be recorded any more, and ends: {reason}"
        else:
            words = f"not all of this session is recorded: {reason}"
        self._tell(take, ToTap(say=_OURS + words))
        if take.strict or take.scribe is None:
            self._tell(take, ToTap(broken=True))
        if take.strict:
            self._to_broker(ToBroker(stop=Stop(sid=take.sid)))
        if take.strict and take.control is not None:
            take.until = time.monotonic() + 2 * self._settings.hang_up_time + _GRACE

    def _hear_tap(self, take: Take) -> None:
        """A tap that closes its line has no more to say; the session may still be written."""
        assert take.control is not None
        try:
            raw = take.control.recv(MAX_WORD + 1)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        if raw:
            self._parlour.left(take.sid, read(FromTap, raw, limit=MAX_WORD).left)
        else:
            take.control.close()
            take.control = take.until = None
            self._parlour.close(take.sid)
            if take.scribe is None or take.started is None:
                self._drop(take)

    def _tell(self, take: Take, said: ToTap, *fds: int) -> bool:
        if take.control is None:
            return False
        try:
            socket.send_fds(take.control, [write(said)], list(fds), socket.MSG_NOSIGNAL)
        except OSError:
            return False  # a worker that is gone, or does not listen
        return True

    def _close_scribe(self, take: Take) -> None:
        if take.scribe is not None:
            take.scribe.close()
        if take.file is not None:
            os.close(take.file)
        take.scribe = take.file = None

    def _drop(self, take: Take) -> None:
        if take.started is None and take.file is not None:
            self._records.discard(take.sid)
        self._close_scribe(take)
        self._parlour.close(take.sid)
        if take.control is not None:
            take.control.close()
        self._takes.pop(take.sid, None)
