"""Sessions that are open on the nodes now, as their beats tell; in memory alone, unless there are
several auth servers (auth/sharing.py)."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from teleport_lite.access.join import may_join
from teleport_lite.access.verdict import Allowed, Refused
from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.errors import Conflict, Denied, Malformed, NotFound
from teleport_lite.model.names import UUID, checked
from teleport_lite.model.user import JoinMode, Role
from teleport_lite.proto.recording import SessionJoin
from teleport_lite.proto.resource import moment
from teleport_lite.proto.stream import MAX_SESSIONS, LiveSession
from teleport_lite.store.protocols import Store

# Beats come every 5 to 15 s; a host that is silent for longer may have lost its sessions.
SILENCE = 60.0
# Of the last sessions of a host that are over we know whose they are: no other host may send
# their recordings, or say that they go on there.
MAX_OVER = MAX_SESSIONS
MAX_PARTIES = 32
EXAMPLE = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"

Doc = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """A session, and the host that told of it."""

    host_id: str
    session: LiveSession


class SessionDesk:
    """Safe from several threads."""

    def __init__(self, *, clock: Clock, store: Store, trail: Trail) -> None:
        self._clock, self._store, self._trail = clock, store, trail
        self._guard = threading.Lock()  # guards the three below
        self._live: dict[str, tuple[float, dict[str, Seen]]] = {}  # by host: when told, by sid
        self._over: dict[str, OrderedDict[str, None]] = {}  # by host: ids
        self._hosts: dict[str, str] = {}  # of all sessions in the two above, by sid

    def beat(self, host_id: str, said: Sequence[LiveSession]) -> list[LiveSession]:
        """What a host tells now; returns what counts of it. What it says of itself that can not be
        is cut or left out, and so are sessions that another host has told of before: nobody is led
        to the wrong one."""
        return self.hear(host_id, said, 0.0)

    def hear(self, host_id: str, said: Sequence[LiveSession], ago: float) -> list[LiveSession]:
        """The same, for what it has told another auth server `ago` seconds ago."""
        now = self._clock.now()
        read = [_read(each, now) for each in said[:MAX_SESSIONS]]
        with self._guard:
            fresh = {
                each.sid: Seen(host_id, each)
                for each in read
                if each is not None and self._hosts.get(each.sid, host_id) == host_id
            }
            _, before = self._live.get(host_id, (0.0, {}))
            self._end(host_id, [sid for sid in before if sid not in fresh], fresh)
            self._hosts.update(dict.fromkeys(fresh, host_id))
            if fresh:
                self._live[host_id] = self._clock.monotonic() - ago, fresh
            else:
                self._live.pop(host_id, None)
            return [each.session for each in fresh.values()]

    def _end(self, host_id: str, ended: Sequence[str], fresh: Iterable[str]) -> None:
        """A host that makes up sessions pushes out its own, and those of no other host."""
        over = self._over.setdefault(host_id, OrderedDict())
        over.update(dict.fromkeys(ended))
        for sid in fresh:  # what was over may have been left out by mistake
            over.pop(sid, None)
        while len(over) > MAX_OVER:
            del self._hosts[over.popitem(last=False)[0]]
        if not over:
            del self._over[host_id]

    def live(self, sid: str) -> Seen | None:
        return next((each for each in self._all() if each.session.sid == sid), None)

    def known(self, sid: str) -> str | None:
        """The host of one that is open, or was not long ago."""
        with self._guard:
            return self._hosts.get(sid)

    def listing(self, caller: Caller, roles: Sequence[Role], *, everything: bool) -> Doc:
        """The latest first: all of them, or those that are the caller's own or may be joined.

        `modes` says how the caller may join each.
        """
        # Thousands of sessions are of some users on some hosts.
        modes_with = cache(lambda owner: self._modes(caller, roles, owner))
        name_of = cache(self._host_name)
        found = []
        for each in self._all():
            modes = modes_with(each.session.user)
            if everything or modes or each.session.user == caller.name:
                found.append(_doc(each, name_of(each.host_id)) | {"modes": list(modes)})
        found.sort(key=lambda doc: (doc["started"], doc["sid"]), reverse=True)
        return {"sessions": found}

    def join(self, caller: Caller, roles: Sequence[Role], asked: SessionJoin) -> Doc:
        """Where the session is, for somebody who may join it; the node decides again.

        Raises NotFound, Conflict for one that is over, Denied, Malformed.
        """
        if caller.kind is Kind.ADMIN:
            raise Denied("the socket is nobody who could join", hint="tsh join SID")
        checked(UUID, asked.sid, "session id", example=EXAMPLE)
        if asked.mode not in [each.value for each in JoinMode]:
            raise Malformed(f"mode must be one of {', '.join(JoinMode)}")
        seen = self.live(asked.sid)
        if seen is None and self.known(asked.sid) is not None:
            raise Conflict(f"session {asked.sid} is over", hint=f"tsh play {asked.sid}")
        if seen is None:
            raise NotFound(f"session {asked.sid} is not open", hint="tsh sessions ls")
        verdict = self._may_join(caller, roles, seen.session.user, JoinMode(asked.mode))
        if isinstance(verdict, Refused):
            self._trail.note(
                "session.join",
                "T2001E",
                outcome=Denied.code,
                **{
                    "sid": asked.sid,
                    "mode": asked.mode,
                    "user": caller.label,
                    "addr.remote": caller.address,
                    "owner": seen.session.user,
                    "server_id": seen.host_id,
                    "reason": verdict.reason,
                },
            )
            raise Denied(verdict.reason, hint="tctl get roles, for join_sessions")
        return _doc(seen, self._host_name(seen.host_id)) | {"mode": asked.mode}

    def _all(self) -> list[Seen]:
        since = self._clock.monotonic() - SILENCE
        with self._guard:
            return [
                each
                for told, sessions in self._live.values()
                if told >= since
                for each in sessions.values()
            ]

    def _modes(self, caller: Caller, roles: Sequence[Role], owner: str) -> list[str]:
        if caller.kind is Kind.ADMIN:
            return []
        verdicts = {mode: self._may_join(caller, roles, owner, mode) for mode in JoinMode}
        return [mode.value for mode, verdict in verdicts.items() if isinstance(verdict, Allowed)]

    def _may_join(
        self, caller: Caller, roles: Sequence[Role], owner: str, mode: JoinMode
    ) -> Allowed | Refused:
        known = self._store.user(owner)
        return may_join(
            roles,
            joiner=caller.name,
            owner=owner,
            owner_roles=known.roles if known else (),
            mode=mode,
        )

    def _host_name(self, host_id: str) -> str:
        host = self._store.host(host_id)
        return host[0].name if host else ""


def _doc(seen: Seen, host_name: str) -> Doc:
    said = seen.session
    return {
        "sid": said.sid,
        "kind": "ssh",
        "user": said.user,
        "login": said.login,
        "host_id": seen.host_id,
        "host_name": host_name,
        "started": moment(datetime.fromtimestamp(said.started, UTC)),
        "addr": said.addr,
        "command": said.command,
        "parties": list(said.parties),
        "recorded": said.recorded,
    }


def _read(said: LiveSession, now: datetime) -> LiveSession | None:
    """Bounded, and not from the future. None for what is no session of ours."""
    if not UUID.fullmatch(said.sid) or not math.isfinite(said.started):
        return None
    return LiveSession(
        sid=said.sid,
        user=said.user[:128],
        login=said.login[:64],
        started=min(max(said.started, 0.0), now.timestamp()),
        addr=said.addr[:128],
        command=said.command[:1024],
        parties=[each[:128] for each in said.parties[:MAX_PARTIES]],
        recorded=said.recorded,
    )
