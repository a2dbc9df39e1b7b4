"""Coming into sessions that others have begun: one monitor asks another.

    joiner's monitor --Knock--> data_dir/sessions/<sid>.sock, the session's monitor: who, and how
    joiner's monitor <--Room--- yes, with a descriptor for the joiner's worker, or why not

The other end of that descriptor goes to the tap of the session (`net/ssh_tap.py`). The line
between the monitors stays: when either is gone, so is the party. Both are root, and only root gets
into the directory; the session's monitor decides, by the roles that it knows.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from teleport_lite.access.verdict import Refused, Verdict
from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.model.names import UUID
from teleport_lite.model.user import JoinMode
from teleport_lite.net.ssh_line import check_other_end
from teleport_lite.net.ssh_policy import MAX_SESSIONS
from teleport_lite.net.ssh_tap import MAX_PARTIES, Arrival, ToTap
from teleport_lite.node.gate import Gate, Welcome
from teleport_lite.node.story import Story
from teleport_lite.node.wire import Join, Link, Reply, take
from teleport_lite.pki.keyfile import make_private_dir
from teleport_lite.proto.codec import Message, read, write

PLACE = "sessions"
JOINED, NOT_JOINED, LEFT = "T2001I", "T2001E", "T2003I"
_OURS = "teleport-lite: "
# A monitor has little to do; one that is silent so long is stuck.
_PATIENCE = 10.0
# Seconds until somebody may knock again when no descriptor was left.
_PAUSE = 0.1
_MAX_PACKET = 16 * 1024
_SHOWN = 256

ToSession = Callable[..., bool]
Answer = Callable[..., None]


class Knock(Message, frozen=True):
    user: str
    roles: list[str]
    mode: str
    addr: str


class Room(Message, frozen=True):
    ok: bool
    words: str  # for who has knocked


@dataclass(slots=True, kw_only=True)
class _Party:
    line: Link  # to the joiner's monitor
    number: int
    knock: Knock | None = None  # None: has not said yet


@dataclass(slots=True, kw_only=True)
class _Open:
    """A session of ours that others may come into."""

    door: socket.socket
    to_tap: ToSession
    parties: list[_Party] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Visit:
    """Of ours, to somebody's session. Without `answer`: we are in."""

    line: socket.socket
    until: float
    answer: Answer | None


class Parlour:
    """Nothing happens before `moved_in`."""

    def __init__(self, data_dir: Path, story: Story) -> None:
        self.place, self._story = data_dir / PLACE, story
        self._open: dict[str, _Open] = {}
        self._visits: list[_Visit] = []
        self._numbers = 0
        self._deaf_until = 0.0
        self._welcome: Welcome | None = None

    def moved_in(self, welcome: Welcome, gate: Gate, addr: str) -> None:
        self._welcome, self._gate, self._addr = welcome, gate, addr

    # --- the loop

    def wants(self) -> Iterator[int]:
        """Descriptors to read from."""
        deaf = time.monotonic() < self._deaf_until
        for room in self._open.values():
            if not deaf:
                yield room.door.fileno()
            yield from (party.line.fileno() for party in room.parties)
        yield from (visit.line.fileno() for visit in self._visits)

    def ready(self, fd: int) -> None:
        for sid, room in self._open.items():
            if room.door.fileno() == fd:
                self._let_knock(room)
                return
            for party in list(room.parties):
                if party.line.fileno() == fd:
                    self._hear_party(sid, room, party)
                    return
        for visit in list(self._visits):
            if visit.line.fileno() == fd:
                self._hear_room(visit)

    def patience(self) -> float | None:
        """Seconds until `tick` has something to do."""
        waiting = [visit.until for visit in self._visits if visit.answer is not None]
        if self._open and time.monotonic() < self._deaf_until:
            waiting.append(self._deaf_until)
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def tick(self) -> None:
        for visit in list(self._visits):
            if visit.answer is not None and time.monotonic() >= visit.until:
                self._over(visit, "the session does not answer")

    # --- our sessions

    def open(self, sid: str, to_tap: ToSession) -> None:
        """Others may come from now on; who can not be let in is told so, not we."""
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            make_private_dir(self.place)
            with suppress(FileNotFoundError):
                self._path(sid).unlink()
            with _Short(self.place) as short:
                door.bind(str(short / self._path(sid).name))
            self._path(sid).chmod(0o600)
            door.listen(MAX_PARTIES)
            door.setblocking(False)
        except (OSError, Error) as why:
            door.close()
            self._story.note(f"session {sid} can not be joined: {why}")
            return
        self._open[sid] = _Open(door=door, to_tap=to_tap)

    def left(self, sid: str, number: int) -> None:
        """The tap says so."""
        room = self._open.get(sid)
        for party in list(room.parties) if room else ():
            if room is not None and party.number == number:
                self._leave(sid, room, party)

    def look_again(self) -> None:
        """Roles have changed: who may not be here any more goes."""
        for sid, room in self._open.items():
            for party in list(room.parties):
                if party.knock is not None and isinstance(self._may(party.knock), Refused):
                    room.to_tap(ToTap(leave=party.number))
                    self._leave(sid, room, party)

    def close(self, sid: str) -> None:
        room = self._open.pop(sid, None)
        if room is None:
            return
        with suppress(OSError):
            self._path(sid).unlink()
        room.door.close()
        for party in list(room.parties):
            self._leave(sid, room, party)

    def close_all(self) -> None:
        for sid in list(self._open):
            self.close(sid)
        for visit in self._visits:
            visit.line.close()
        self._visits.clear()

    def _let_knock(self, room: _Open) -> None:
        try:
            sock, _ = room.door.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptor is left, and the door would be found open again at once
            self._deaf_until = time.monotonic() + _PAUSE
            return
        try:
            check_other_end(sock)
        except Denied:
            sock.close()
            return
        if len(room.parties) >= 2 * MAX_PARTIES:
            sock.close()
            return
        self._numbers += 1
        sock.setblocking(False)
        room.parties.append(_Party(line=Link(sock), number=self._numbers))

    def _hear_party(self, sid: str, room: _Open, party: _Party) -> None:
        """A knock; after it there is only its end."""
        try:
            knock = party.line.receive(Knock)
            if party.knock is not None:
                raise EOFError
        except (EOFError, Malformed):
            room.to_tap(ToTap(leave=party.number))
            self._leave(sid, room, party)
            return
        verdict = self._may(knock)
        inside = sum(each.knock is not None for each in room.parties)
        if isinstance(verdict, Refused):
            reason = verdict.reason
        elif inside >= MAX_PARTIES:
            reason = "too many have joined this session already"
        else:
            reason = self._let_in(sid, room, party, knock)
        if reason:
            self._tell(sid, knock, "session.join", NOT_JOINED, "denied", reason=reason)
            room.parties.remove(party)
            with suppress(EOFError):
                party.line.send(Room(ok=False, words=reason), wait=False)
            party.line.close()

    def _let_in(self, sid: str, room: _Open, party: _Party, knock: Knock) -> str:
        """ "" or why not."""
        assert self._welcome is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        types = knock.mode == JoinMode.PEER
        how = "leave with ~." if types else "leave with ^C"
        words = f"joined session of {self._welcome.visitor.user} as {knock.mode}, {how}"
        with ours, theirs:
            arrival = Arrival(number=party.number, types=types)
            if not room.to_tap(ToTap(party=arrival), ours.fileno()):
                return "the session does not answer"
            try:
                party.line.send(Room(ok=True, words=words), theirs.fileno(), wait=False)
            except EOFError:
                room.to_tap(ToTap(leave=party.number))
                return "gone again"
        party.knock = knock
        room.to_tap(ToTap(say=f"{_OURS}{knock.user} has joined as {knock.mode}"))
        self._tell(sid, knock, "session.join", JOINED, "ok")
        self._show(sid, room)
        return ""

    def _leave(self, sid: str, room: _Open, party: _Party) -> None:
        room.parties.remove(party)
        party.line.close()
        if party.knock is not None:
            room.to_tap(ToTap(say=f"{_OURS}{party.knock.user} has left"))
            self._tell(sid, party.knock, "session.leave", LEFT, "ok")
            self._show(sid, room)

    def _show(self, sid: str, room: _Open) -> None:
        users = [each.knock.user for each in room.parties if each.knock is not None]
        self._story.changed(sid, parties=users)

    def _tell(
        self, sid: str, knock: Knock, kind: str, code: str, outcome: str, **more: str
    ) -> None:
        """`user` is who comes and goes; whose session it is stands beside it."""
        assert self._welcome is not None
        facts = {"user": knock.user[:_SHOWN], "addr.remote": knock.addr[:_SHOWN]}
        owner = self._welcome.visitor.user
        self._story.tell(
            kind, code, outcome, sid=sid, mode=knock.mode, owner=owner, **facts, **more
        )

    def _may(self, knock: Knock) -> Verdict:
        assert self._welcome is not None
        try:
            mode = JoinMode(knock.mode)
        except ValueError:
            return Refused("sessions are joined as observer or peer")
        try:
            return self._gate.may_join(
                knock.user, knock.roles, mode=mode, owner=self._welcome.visitor
            )
        except Error as why:
            return Refused(why.message)

    # --- our visits to others

    def visit(self, asked: Join, answer: Answer) -> None:
        """`answer` is called once, now or later, with a reply for the worker and a descriptor."""
        welcome = self._welcome
        if welcome is None or not UUID.fullmatch(asked.sid):
            answer(Reply(ok=False, reason=f"{_OURS}no such session"))
            return
        visitor = welcome.visitor
        if welcome.force_command is not None:
            answer(Reply(ok=False, reason=f"{_OURS}who is given a command joins no sessions"))
            return
        if len(self._visits) >= MAX_SESSIONS:  # each takes a channel; a worker may lie about that
            answer(Reply(ok=False, reason=f"{_OURS}too many sessions"))
            return
        knock = Knock(
            user=visitor.user, roles=list(visitor.roles), mode=asked.mode[:16], addr=self._addr
        )
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.setblocking(False)
        visit = _Visit(line=line, until=time.monotonic() + _PATIENCE, answer=answer)
        self._visits.append(visit)
        try:
            with _Short(self.place) as short:
                line.connect(str(short / self._path(asked.sid).name))
            check_other_end(line)
            line.send(write(knock), socket.MSG_NOSIGNAL)
        except (OSError, Error):
            self._over(visit, "no such session, or it is over")

    def _hear_room(self, visit: _Visit) -> None:
        try:
            raw, fds = take(visit.line, _MAX_PACKET, 1)
            room = read(Room, raw, limit=_MAX_PACKET) if raw else None
        except (OSError, Malformed):
            room, fds = None, []
        if room is None or visit.answer is None:
            self._over(visit, "the session is over")
            return
        answer, visit.answer = visit.answer, None
        answer(Reply(ok=room.ok and bool(fds), reason=_OURS + room.words), *fds)
        for fd in fds:
            os.close(fd)
        if not room.ok:
            self._over(visit, "")

    def _over(self, visit: _Visit, reason: str) -> None:
        self._visits.remove(visit)
        visit.line.close()
        if visit.answer is not None:
            visit.answer(Reply(ok=False, reason=_OURS + reason))

    def _path(self, sid: str) -> Path:
        return self.place / f"{sid}.sock"


def sweep(data_dir: Path) -> None:
    """Doors of monitors that were killed: nobody listens there."""
    place = data_dir / PLACE
    for path in place.glob("*.sock") if place.is_dir() else ():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe, suppress(OSError):
            probe.setblocking(False)
            try:
                with _Short(place) as short:
                    probe.connect(str(short / path.name))
            except ConnectionRefusedError:
                path.unlink()


class _Short:
    """A directory under a name that fits into the address of a socket (unix(7))."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> Path:
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return Path(f"/proc/self/fd/{self._fd}")

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
