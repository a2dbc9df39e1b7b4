"""What happens on one connection, told to the daemon, which passes it on to the audit trail."""

import socket

from teleport_lite.ambient import Clock
from teleport_lite.errors import Malformed
from teleport_lite.model.names import UUID
from teleport_lite.net.ssh_line import MAX_SAID, FromMonitor, Outcome, ToMonitor
from teleport_lite.node.gate import Admitted
from teleport_lite.node.wire import SessionEnded, SessionStarted
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.stream import AgentEvent

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


class Story:
    """Our end of the line to the daemon. After its end is gone, everything told is lost."""

    def __init__(
        self, line: socket.socket, *, clock: Clock, peer: tuple[str, int], local: tuple[str, int]
    ) -> None:
        self._line, self._clock = line, clock
        self._line.settimeout(_PATIENCE)
        self._facts = {"addr.remote": _address(peer), "addr.local": _address(local)}
        self._open: dict[str, SessionStarted] = {}
        self._plain_keys: list[str] = []
        self.heard = True  # somebody is at the other end

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
        self.heard = False
        return False

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
        self._tell(FromMonitor(logged_in=True))
        self._event("auth", LOGIN_OK, "ok", by=welcome.by)

    def started(self, session: SessionStarted) -> None:
        """As the broker tells it, which belongs to the user: nothing here may be odd or long."""
        if not UUID.fullmatch(session.sid) or len(session.command or "") > MAX_SHOWN_COMMAND:
            return
        self._open[session.sid] = session
        self._event("session.start", SESSION_START, "ok", sid=session.sid, **_command(session))

    def ended(self, ended: SessionEnded, reason: str = "") -> None:
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
        if session.command is not None:
            worked = ended.code == 0
            code, outcome = (EXEC_OK, "ok") if worked else (EXEC_FAILED, "failed")
            self._event("exec", code, outcome, **facts)
        self._event("session.end", SESSION_END, "ok", **facts)

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
        self._tell(FromMonitor(event=event))

    def _tell(self, said: FromMonitor) -> None:
        try:
            self._line.send(write(said), socket.MSG_NOSIGNAL)
        except OSError:
            return  # `heard` changes when its end is read; a stuck daemon misses this one


def _command(session: SessionStarted) -> dict[str, str]:
    return {} if session.command is None else {"command": session.command}


def _address(where: tuple[str, int]) -> str:
    host, port = where
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
