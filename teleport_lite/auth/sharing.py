"""Several auth servers on one store: what each hears of hosts, and where they stand together.

Each writes what its own hosts report, and reads what the others have written: who is connected
where, which proxies and auth servers are alive, which sessions are open. News goes out within a
second and is read as soon as the store tells of it; the rest is written every five seconds.

A host has one stream. The newer one of the same process counts; of another process the older one
does, for as long as it beats: the other is a cloned machine.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from teleport_lite.access.decide import locked
from teleport_lite.access.verdict import Refused
from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.hosts import Live, Presence
from teleport_lite.auth.said import session_of
from teleport_lite.auth.sessions import SessionDesk
from teleport_lite.errors import NotFound
from teleport_lite.model.host import Host, Report, presence
from teleport_lite.proto.resource import moment
from teleport_lite.store.protocols import Store

log = logging.getLogger("teleport_lite.auth")

# What the store does not tell of, like a clock that goes on, is looked at so often.
LOOK_EVERY = 5.0
# Reading everybody's reports may take a twentieth of the time.
SHARE = 20.0
REMOVED = "this host was removed from the cluster"
DUPLICATE = "instance.duplicate"
# Seconds. Tokens die by the clock that is ahead, and hosts look offline by it.
SKEW = 5.0


class Sharing:
    """Idle until `serve_as`: there may be no other auth server. `tick` is for one thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        trail: Trail,
        presence: Presence,
        sessions: SessionDesk,
        version: str,
        changed: Callable[[], None],
    ) -> None:
        """`changed`: roles, CAs or whatever else every agent is told may be others now."""
        self._clock, self._store, self._trail = clock, store, trail
        self._presence, self._sessions = presence, sessions
        self._version, self._changed = version, changed
        self._me = self._address = ""
        self._rotated: dict[str, str] | None = None
        self._stale = True
        self._ahead: set[str] = set()  # auth servers whose clocks are
        self._look_at = self._free_at = self._tell_at = 0.0
        self.many = 1  # auth servers that are alive, as of the last tick

    @property
    def me(self) -> str:
        """UUID of this auth server."""
        return self._me

    def place(self, host_id: str) -> tuple[str, str]:
        """Name and address of an auth server, for messages and to dial. Raises NotFound."""
        for host, report in self.servers():
            if host.id == host_id:
                return host.name, report.auth
        raise NotFound(f"there is no auth server {host_id} any more", hint="tctl get auth_servers")

    @property
    def on(self) -> bool:
        return bool(self._presence.me)

    def serve_as(self, host_id: str, address: str, *, shared: bool = True) -> None:
        """This auth server is `host_id` and listens at `address`. `shared`: there may be others."""
        self._me, self._address = host_id, address
        if shared:
            self._presence.me = host_id
            self._tell_self(gone=False)

    def caught_up(self, marks: dict[str, str]) -> None:
        """With rotations, of an auth server that has no agent to say so."""
        self._rotated, self._tell_at = marks, 0.0

    def tick(self) -> None:
        """Tell and hear what is new. Raises Unavailable."""
        if not self.on:
            return
        self.many = max(1, len(self._presence.auths()))
        now = self._clock.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + LOOK_EVERY
            self._tell_self(gone=False)
        if urgent := self._presence.urgent():
            self._presence.flush(urgent)
        missed = now >= self._look_at  # whatever the store may not have told of
        if missed:
            self._changed()
            self._cut_locked()
        if missed or (self._stale and now >= self._free_at):
            begun = self._clock.monotonic()
            self._look()
            done = self._clock.monotonic()
            self._free_at = done + SHARE * (done - begun)
            self._look_at = max(done + LOOK_EVERY, self._free_at)

    def heed(self, topics: frozenset[str]) -> None:
        """The store says that these have changed, by whomever. Not from the store's thread."""
        if "hosts" in topics:
            self._stale = True
        if topics & {"cas", "rotations", "roles", "locks", "trust"}:
            self._changed()
        if "locks" in topics:
            self._cut_locked()

    def end(self) -> None:
        """Others need not find out that this auth server is gone. Raises Unavailable."""
        if self.on:
            self._tell_self(gone=True)
            self._presence.flush()

    def servers(self) -> list[tuple[Host, Report]]:
        """Every auth server that the cluster knows, this one too if it is the only one."""
        if self.on:
            return [(host, report) for host, report in self._presence.hosts() if report.auth]
        known = self._presence.host(self._me)
        return [(known[0], self._of_self(known[1], gone=False))] if known else []

    def places(self) -> tuple[list[str], list[str]]:
        """Where the auth servers, and the proxies, that are alive are reached."""
        proxies = {name for place in self._presence.proxies() for name in place.public}
        return sorted(self._presence.auths().values()), sorted(proxies)

    def listing(self) -> list[dict[str, str | None]]:
        """The same, as `tctl status` is told."""
        now = self._clock.now()
        return [
            {
                "id": host.id,
                "hostname": host.name,
                "address": report.auth,
                "version": report.version,
                "state": presence(report, now).value,
                "last_seen": moment(report.last_seen),
            }
            for host, report in self.servers()
        ]

    def _tell_self(self, *, gone: bool) -> None:
        """Where an agent of this process has a stream, that tells more."""
        known = self._presence.host(self._me)
        report = self._of_self(known[1] if known else Report(), gone=gone)
        self._presence.report_self(
            self._me, replace(report, via=self._me, boot_id="", sessions=()), known
        )

    def _of_self(self, before: Report, *, gone: bool) -> Report:
        now = self._clock.now()
        return replace(
            before,
            version=self._version,
            last_seen=now,
            auth=self._address,
            gone=gone,
            rotated=before.rotated if self._rotated is None else self._rotated,
        )

    def _look(self) -> None:
        self._stale = False
        kept = self._store.hosts()
        streams = {live.host_id: live for live in self._presence.streams()}
        for host, report in kept:
            if report.via == self._presence.me:
                continue  # our own words
            if report.auth:
                self._compare_clocks(host, report)
            live = streams.get(host.id)
            if live is not None and self._presence.is_clone(live, report):
                self._cut_clone(live, report)
            if self._presence.adopt(host.id, report):
                seen = report.last_seen
                ago = (self._clock.now() - seen).total_seconds() if seen else 0.0
                self._sessions.hear(host.id, [session_of(each) for each in report.sessions], ago)
        self._forget_removed({host.id for host, _ in kept})

    def _compare_clocks(self, host: Host, report: Report) -> None:
        """What another one has written is not from the future. Who is behind says so, once."""
        if report.via != host.id or report.last_seen is None:
            return  # somebody else's word, by somebody else's clock
        ahead = (report.last_seen - self._clock.now()).total_seconds()
        if ahead < SKEW:
            self._ahead.discard(host.id)
        elif host.id not in self._ahead:
            self._ahead.add(host.id)
            log.warning(
                "the clock of auth server %s is %.0f s ahead of ours; have both follow NTP",
                host.name,
                ahead,
            )

    def _forget_removed(self, kept: set[str]) -> None:
        for host_id in self._presence.reports().keys() - kept:
            if self._store.host(host_id) is None:  # and not: joined since
                self._presence.cut(host_id, REMOVED)
                self._presence.forget(host_id)

    def _cut_locked(self) -> None:
        locks, now = self._store.locks(), self._clock.now()
        for live in self._presence.streams():
            verdict = locked(locks, now, node=live.host_id)
            if isinstance(verdict, Refused):
                self._presence.cut(live.host_id, verdict.reason)

    def _cut_clone(self, live: Live, report: Report) -> None:
        self._trail.note(
            DUPLICATE,
            "TJ004W",
            outcome="conflict",
            **{
                "host_id": live.host_id,
                "addr.remote": live.address,
                "other": f"auth server {report.via}",
            },
        )
        live.cut(f"host {live.host_id} is connected already, to auth server {report.via}")
