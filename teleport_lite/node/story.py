"""What happens on one connection, told to the daemon, which passes it on to the audit trail.

A daemon may end before the connection does. Then events go to the spool, and as soon as there is
another daemon it is told who is here, and the rest.
"""

import socket
from contextlib import suppress
from pathlib import Path

from teleport_lite.ambient import Clock
from teleport_lite.audit.spool import Spool
from teleport_lite.errors import Error, Malformed
from teleport_lite.model.names import UUID
from teleport_lite.net.ssh_line import (
    MAX_SAID,
    FromMonitor,
    Hello,
    Outcome,
    ToMonitor,
    call_daemon,
)
from teleport_lite.node.gate import Admitted
from teleport_lite.node.wire import Moved, SessionEnded, SessionStarted
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.stream import AgentEvent, LiveSession

# Event codes are those of Teleport's audit log, so that its dashboards work (docs/audit.md).
LOGIN_OK, LOGIN_REFUSED = "T3007I", "T3007W"
SESSION_START, SESSION_END = "T2000I", "T2004I"
EXEC_OK, EXEC_FAILED = "T3002I", "T3002E"

# A daemon that is alive reads at once. One that does not for so long is stuck, and its
# sessions shall not be.
_PATIENCE = 1.0
# The trail cuts fields at 4 kB; a longer command is no use to it.
MAX_SHOWN_COMMAND = 4096
# Longer than any login or reason of ours; what strangers choose may be longer.
_SHOWN = 256
# Names of files may be longer.
_LONG = {"path": 1024, "target": 1024}
# Sessions of one connection. Shells may outlive their channels, of which there are ten.
_MOST_OPEN = 1000
# Of those, in one word to the daemon: 24 with long commands are less than MAX_SAID.
_AT_ONCE = 24
# Seconds between looks for another daemon: a restart takes one or two, an absence hours.
_SOON, _LATE = 0.5, 5.0


class Story:
    """Our end of the line to the daemon, whichever it is."""

    def __init__(
        self,
        line: socket.socket,
        *,
        clock: Clock,
        peer: tuple[str, int],
        local: tuple[str, int],
        data_dir: Path,
    ) -> None:
        self._line, self._clock, self._data_dir = line, clock, data_dir
        self._line.settimeout(_PATIENCE)
        self._peer, self._local = peer, local
        self._facts = {"addr.remote": _address(peer), "addr.local": _address(local)}
        self._spool = Spool(data_dir, clock)
        self._open: dict[str, SessionStarted] = {}
        self._live: dict[str, LiveSession] = {}
        self._plain_keys: list[str] = []
        self._is_in = False
        self._look_at, self._pause = 0.0, _SOON
        self.heard = True  # somebody is at the other end

    @property
    def address(self) -> str:
        """Where the visitor comes from."""
        return self._facts["addr.remote"]

    def fileno(self) -> int:
        return self._line.fileno()

    def asked_to_recheck(self) -> bool:
        """Read what the daemon says. False, and `heard` is False, if it is gone."""
        try:
            raw = self._line.recv(MAX_SAID)
            if raw:
                return read(ToMonitor, raw, limit=MAX_SAID).recheck
        except (OSError, Malformed):
            pass
        self.unheard()
        return False

    def unheard(self) -> None:
        """The daemon is gone. `patience` says when to look for another one."""
        self.heard, self._pause = False, _SOON
        self._look_at = self._clock.monotonic() + self._pause

    def patience(self) -> float:
        """Seconds until `look_for_daemon` is worth a try."""
        return max(0.0, self._look_at - self._clock.monotonic())

    def look_for_daemon(self) -> bool:
        """Is there another daemon, and does it know now who is here? It has missed what locks and
        roles have said meanwhile, so the caller looks again by itself."""
        if self.patience():
            return False
        self._pause = min(_LATE, 2 * self._pause)
        self._look_at = self._clock.monotonic() + self._pause
        live = list(self._live.values())
        hello = Hello(
            peer=self._peer,
            local=self._local,
            logged_in=self._is_in,
            sessions=live[:_AT_ONCE],
        )
        try:
            line = call_daemon(self._data_dir)
            line.send(write(FromMonitor(hello=hello)), socket.MSG_NOSIGNAL)
        except (OSError, Error):
            return False
        self._line.close()
        self._line, self.heard = line, True
        self._line.settimeout(_PATIENCE)
        for each in live[_AT_ONCE:]:
            if not self._tell(FromMonitor(session=each)):
                break  # it is stuck
        return True

    def note(self, text: str) -> None:
        self._tell(FromMonitor(note=text[:_SHOWN]))

    def refused(self, login: str, reason: str) -> None:
        self._event("auth", LOGIN_REFUSED, "denied", login=login[:_SHOWN], reason=reason[:_SHOWN])

    def plain_key(self, login: str) -> None:
        """Clients offer plain keys on their way to the certificate; that is news only if they
        never get there."""
        self._plain_keys.append(login)

    def nobody_came_in(self, outcome: Outcome) -> None:
        for login in self._plain_keys:
            self.refused(login, "a plain key, and only certificates are accepted")
        self._tell(FromMonitor(outcome=outcome))

    def logged_in(self, welcome: Admitted) -> None:
        visitor = welcome.visitor
        self._facts |= {"user": visitor.user, "login": visitor.login}
        self._is_in = True
        self._tell(FromMonitor(logged_in=True))
        self._event("auth", LOGIN_OK, "ok", by=welcome.by)

    def tell(self, kind: str, code: str, outcome: str, **facts: str) -> None:
        """An event about this connection. `facts` may say otherwise than what is known of it."""
        cut = {key: text[: _LONG.get(key, _SHOWN)] for key, text in facts.items()}
        self._event(kind, code, outcome, **cut)

    def started(self, session: SessionStarted, *, recorded: bool = False) -> bool:
        """As the broker tells it, which belongs to the user: nothing here may be odd or long, nor
        more than there can be. False if it is; then it is not told."""
        if not UUID.fullmatch(session.sid) or len(session.command or "") > MAX_SHOWN_COMMAND:
            return False
        if session.sid in self._open or len(self._open) >= _MOST_OPEN:
            return False
        self._open[session.sid] = session
        facts = _command(session) | {"recorded": "yes" if recorded else "no"}
        self._event("session.start", SESSION_START, "ok", sid=session.sid, **facts)
        self._show(
            LiveSession(
                sid=session.sid,
                user=self._facts.get("user", ""),
                login=self._facts.get("login", ""),
                started=self._clock.now().timestamp(),
                addr=self._facts["addr.remote"],
                command=(session.command or "")[:_SHOWN],
                recorded=recorded,
            )
        )
        return True

    def changed(
        self, sid: str, *, recorded: bool | None = None, parties: list[str] | None = None
    ) -> None:
        """What `tsh sessions` shows of an open session, beside how it began."""
        old = self._live.get(sid)
        if old is not None:
            facts = {name: getattr(old, name) for name in old.__struct_fields__}
            given = {"recorded": recorded, "parties": parties}
            facts |= {name: value for name, value in given.items() if value is not None}
            self._show(LiveSession(**facts))

    def _show(self, session: LiveSession) -> None:
        self._live[session.sid] = session
        self._tell(FromMonitor(session=session))

    def ended(self, ended: SessionEnded, reason: str = "", *, moved: Moved | None = None) -> None:
        session = self._open.pop(ended.sid, None)
        if session is None:
            return  # the broker belongs to the user, who may make it say anything
        facts = {"sid": ended.sid, **_command(session)}
        if ended.code is not None:
            facts["exitCode"] = str(ended.code)
        if ended.signal:
            facts["signal"] = ended.signal[:_SHOWN]
        if reason:
            facts["reason"] = reason[:_SHOWN]
        if moved is not None:
            facts |= {"bytes_up": str(moved.up), "bytes_down": str(moved.down)}
        if session.command is not None:
            worked = ended.code == 0
            code, outcome = (EXEC_OK, "ok") if worked else (EXEC_FAILED, "failed")
            self._event("exec", code, outcome, **facts)
        self._event("session.end", SESSION_END, "ok", **facts)
        del self._live[ended.sid]
        self._tell(FromMonitor(session_over=ended.sid))

    def ended_all(self, reason: str) -> None:
        """Sessions whose end nobody reported."""
        for sid in list(self._open):
            self.ended(SessionEnded(sid=sid, code=None), reason)

    def _event(self, kind: str, code: str, outcome: str, **facts: str) -> None:
        event = AgentEvent(
            kind=kind,
            code=code,
            at=self._clock.now().timestamp(),
            outcome=outcome,
            facts={**self._facts, **facts},
        )
        if not self._tell(FromMonitor(event=event)):
            self._spool.put(event)

    def _tell(self, said: FromMonitor) -> bool:
        """False if nobody takes it: no daemon, or one that is stuck."""
        if self.heard:
            with suppress(OSError):
                self._line.send(write(said), socket.MSG_NOSIGNAL)
                return True
        return False


def _command(session: SessionStarted) -> dict[str, str]:
    return {} if session.command is None else {"command": session.command}


def _address(where: tuple[str, int]) -> str:
    host, port = where
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
