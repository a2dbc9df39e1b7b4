"""Who is there: streams of agents, what they report, and what they are told.

What hosts report lives in memory and is flushed in batches; losing the last seconds of it costs
a beat. What a host *is* was written durably when it joined.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from teleport_lite.ambient import Clock
from teleport_lite.auth.jumps import JumpWatch, shift_own
from teleport_lite.auth.live import GRACE as GRACE
from teleport_lite.auth.live import HEARSAY, PROXY_SILENCE, later, news, not_said, proxies_before
from teleport_lite.auth.live import SURELY_ALIVE as SURELY_ALIVE
from teleport_lite.auth.live import Live as Live
from teleport_lite.auth.live import way_to as way_to
from teleport_lite.auth.said import MAX_ADDRESSES as MAX_ADDRESSES
from teleport_lite.auth.said import MAX_TUNNELS as MAX_TUNNELS
from teleport_lite.auth.said import read_beat, session_told, shown_place
from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.model.host import LOCAL, Host, Report
from teleport_lite.proto.stream import Beat, LiveSession, ProxyPlace
from teleport_lite.store.protocols import Store, Tx

log = logging.getLogger("teleport_lite.auth")


class Presence:
    """Streams and reports by host. Safe from several threads.

    With other auth servers on the same store, `auth/sharing.py` keeps it up to date.
    """

    def __init__(self, *, clock: Clock, store: Store) -> None:
        self._clock, self._store = clock, store
        self.me = ""  # UUID of this auth server; "" if there can be no other
        self._guard = threading.Lock()  # guards the six below
        self._live: dict[str, Live] = {}
        self._reports: dict[str, Report] = proxies_before(store.hosts())
        self._dirty: set[str] = set()
        self._urgent: set[str] = set()  # of the dirty ones: what other auth servers wait for
        self._moved: set[str] = set()
        self._awaited = set(self._reports)
        self._grace_ends = clock.monotonic() + GRACE.total_seconds()
        self._jumps = JumpWatch(clock)

    def arrive(self, live: Live) -> Live | None:
        """Register a stream. Returns the other one if this host is connected already.

        One that was silent for long, or is an older one of the same process, is cut instead.
        """
        asked = self.me or live.host_id not in self._reports
        kept = self._store.host(live.host_id) if asked else None
        with self._guard:
            now = self._heeded()
            old = self._freshest(live.host_id, kept[1] if kept else Report())
            other = self._live.get(live.host_id)
            if other and other.boot_id != live.boot_id and self._fresh(other):
                return other
            if self._is_elsewhere(old, now) and old.boot_id != live.boot_id:
                return replace(live, boot_id=old.boot_id, address=f"auth server {old.via}")
            self._live[live.host_id] = live
            self._awaited.discard(live.host_id)
            self._moved.add(live.host_id)  # it may have joined again, under another name
            # Later than any before, so that others know which stream is the newer one.
            live.arrived = max(now, (old.arrived or now) + timedelta(microseconds=1))
            self._note(
                live.host_id,
                self._signed(live, replace(old, version=live.version, last_seen=now, gone=False)),
            )
        if other:
            other.cut("this host has connected anew")
        return None

    def beat(
        self, live: Live, beat: Beat, kinds: frozenset[str], *, is_proxy: bool = False
    ) -> float:
        """Take a heartbeat; returns how many seconds the host's clock is ahead of ours.

        Resources of other than `kinds` are passed over: a later version may announce more. Raises
        Malformed for what people should not find in a listing, and for the place of a proxy from
        a host that is none.
        """
        if beat.proxy is not None and not is_proxy:
            raise Malformed("a host without role Proxy can not be reached as a proxy")
        said = replace(read_beat(beat, kinds), version=live.version)
        with self._guard:
            now = self._heeded()
            skew = beat.time - now.timestamp()
            said = replace(said, last_seen=now, skew=skew)
            if (self._live.get(live.host_id) is live or not self.me) and not live.over:
                live.last_beat = now
                before = self._reports.get(live.host_id, said)
                self._note(live.host_id, self._signed(live, not_said(said, before)))
        return skew

    def tell_sessions(self, live: Live, sessions: Iterable[LiveSession]) -> None:
        """Which are open on a host, for other auth servers; nothing to do while there are none."""
        with self._guard:
            before = self._reports.get(live.host_id)
            if self.me and before is not None and self._live.get(live.host_id) is live:
                told = tuple(session_told(each) for each in sessions)
                self._note(live.host_id, replace(before, sessions=told))

    def leave(self, live: Live, *, said_goodbye: bool) -> None:
        """With other auth servers, they know when this returns: a host that has just ended may
        begin again with one of them."""
        kept, known = None, True
        try:
            kept = self._store.host(live.host_id) if self.me else None
        except Error:  # the database is away, and the stream has ended all the same
            known = False
        with self._guard:
            if self._live.get(live.host_id) is not live:
                return
            del self._live[live.host_id]
            if not (known or said_goodbye):
                return  # it may be with another auth server by now
            before = self._reports.get(live.host_id)
            if kept is not None and kept[1].via not in ("", self.me):
                return  # it is with another auth server by now
            if before is not None and (said_goodbye or self.me):
                gone = said_goodbye or before.gone
                self._note(live.host_id, replace(before, gone=gone, via="", boot_id=""))
        if self.me:
            try:
                self.flush([live.host_id])
            except Error as why:  # it stays to be written
                log.debug("host %s has left, and others do not know: %s", live.host_id, why.message)

    def proxies(self) -> list[ProxyPlace]:
        """The proxies that are alive, by id. One that said goodbye is not, nor a silent one."""
        found: list[ProxyPlace] = []
        for host_id, report in self._alive():
            known = self._store.host(host_id) if report.proxy is not None else None
            if known is not None and report.proxy is not None:
                found.append(shown_place(known[0], report.proxy))
        return found

    def mark(self, host_id: str, *, other_life: str, other_at: datetime) -> None:
        with self._guard:
            if (before := self._reports.get(host_id)) is not None:
                marked = replace(before, other_life=other_life, other_at=other_at)
                self._note(host_id, marked)

    def auths(self) -> dict[str, str]:
        """The auth servers that are alive: where they listen, by UUID. Nobody else than ours is
        told of while there can be no other."""
        return {host_id: report.auth for host_id, report in self._alive() if report.auth}

    def moved(self) -> set[str]:
        """Hosts that came, went, or are reached in another way since this was last asked."""
        with self._guard:
            moved, self._moved = self._moved, set()
        return moved

    def tell_everybody(self) -> None:
        """CAs, roles, locks or proxies have changed."""
        with self._guard:
            streams = list(self._live.values())
        for live in streams:
            live.push()

    def cut(self, host_id: str, why: str, hint: str = "") -> None:
        """End its stream. It counts as gone from now on, not after a silence."""
        with self._guard:
            live = self._live.get(host_id)
            if live:
                live.over = True
            if host_id in self._reports:
                self._note(host_id, replace(self._reports[host_id], gone=True))
        if live and live.refuse:
            live.refuse(Denied(why, hint=hint))
        elif live:
            live.cut(why)

    def send_away(self, why: Error) -> None:
        """End all streams: these hosts are better off elsewhere."""
        for live in self.streams():
            if live.refuse:
                live.refuse(why)

    def renewed(self, host_id: str, rotated: dict[str, str]) -> None:
        """A bot has been here. It has no stream, so this is what is known of it."""
        kept = self._store.host(host_id)
        with self._guard:
            now = self._heeded()
            old = self._reports.get(host_id, kept[1] if kept else Report())
            self._note(host_id, replace(old, last_seen=now, rotated=rotated, gone=False))

    def hosts(self) -> list[tuple[Host, Report]]:
        """Everybody who ever joined, with the freshest report."""
        kept = self._store.hosts()
        with self._guard:
            return [(host, self._freshest(host.id, report)) for host, report in kept]

    def host(self, host_id: str) -> tuple[Host, Report] | None:
        """One of `hosts`; None if it is not part of the cluster."""
        kept = self._store.host(host_id)
        with self._guard:
            return (kept[0], self._freshest(host_id, kept[1])) if kept else None

    def reports(self) -> dict[str, Report]:
        """By host, of those that were heard of since auth started."""
        with self._guard:
            return dict(self._reports)

    def forget(self, host_id: str) -> None:
        with self._guard:
            self._moved.add(host_id)
            self._reports.pop(host_id, None)
            self._dirty.discard(host_id)
            self._urgent.discard(host_id)

    def flush(self, only: Iterable[str] | None = None) -> int:
        """Write what has changed since the last call, or what is known of those, also if another
        call is about to; the daemon calls this every few seconds. What can not be written stays to
        be written. Raises Unavailable."""
        with self._guard:
            wanted = set(self._dirty) if only is None else self._reports.keys() & set(only)
            news = wanted & self._urgent
            self._dirty -= wanted
            self._urgent -= wanted

        def put(tx: Tx) -> None:
            with self._guard:  # as of now: who writes later has not read earlier
                reports = [(each, self._reports.get(each)) for each in sorted(wanted)]
            for host_id, report in reports:
                if report is not None:
                    tx.put_report(host_id, report, news=host_id in news)

        try:
            if wanted:
                self._store.write(put)
        except Error:
            with self._guard:
                self._dirty |= wanted & set(self._reports)
                self._urgent |= news & self._dirty
            raise
        return len(wanted)

    def heed_clock(self) -> None:
        """When the clock is put, what we have seen ourselves goes with it. Called every second."""
        with self._guard:
            self._heeded()

    def _heeded(self) -> datetime:
        """The time. Under the guard: nothing is seen by a new clock before this."""
        if jump := self._jumps.jump():
            for live in self._live.values():
                live.last_beat += jump
            self._dirty |= shift_own(self._reports, me=self.me, by=jump)
        return self._clock.now()

    def retire(self, after: timedelta, *, fence: int = 0) -> list[str]:
        """Remove hosts that nobody has seen for `after`. Returns their UUIDs. With a `fence`, only
        while that is the one of the lease for it.

        Not the auth host itself: where auth runs alone it has no agent that would beat.
        """
        limit = self._clock.now() - after
        old = [
            host.id
            for host, report in self.hosts()
            if max(host.joined_at, report.last_seen or host.joined_at) < limit
            and (host.token_id != LOCAL or self.me not in ("", host.id))
        ]

        def remove(tx: Tx, host_id: str) -> bool:
            back = any(live.host_id == host_id for live in self.streams())
            mine = not fence or tx.holds_lease("retire", fence)
            return mine and not back and tx.remove_host(host_id)

        gone = [each for each in old if self._store.write(partial(remove, host_id=each))]
        for host_id in gone:
            self.cut(host_id, "this host was removed from the cluster")  # it has just come back
            self.forget(host_id)
        return gone

    def connected(self) -> int:
        with self._guard:
            return len(self._live)

    def versions(self) -> dict[str, int]:
        """How many of the connected hosts run which version."""
        with self._guard:
            now = self._clock.now()
            found = [live.version for live in self._live.values()]
            found += [
                each.version for each in self._reports.values() if self._is_elsewhere(each, now)
            ]
            return dict(Counter(found))

    def urgent(self) -> list[str]:
        """Hosts of whom other auth servers should hear now."""
        with self._guard:
            return list(self._urgent)

    def streams(self) -> list[Live]:
        with self._guard:
            return list(self._live.values())

    def report_self(self, host_id: str, report: Report, known: tuple[Host, Report] | None) -> None:
        """Of the auth server itself, where no agent does; `known` is its report of before."""
        now = self._clock.now()
        with self._guard:
            elsewhere = known is not None and self._is_elsewhere(known[1], now)
            if report.gone or not (host_id in self._live or elsewhere):
                self._note(host_id, report)

    def adopt(self, host_id: str, report: Report) -> bool:
        """What another auth server has written of a host. True if it counts: it is news, and the
        host is not connected here, or has gone on to there."""
        with self._guard:
            live, before = self._live.get(host_id), self._reports.get(host_id)
            if before == report or (host_id in self._dirty and live is None):
                return False
            if live is not None:
                if not self._has_moved(live, report):
                    # One that was stopped meanwhile has written over what we had: say it again.
                    self._dirty.add(host_id)
                    self._urgent.add(host_id)
                    return False
                del self._live[host_id]
            if before is None or way_to(before) != way_to(report):
                self._moved.add(host_id)
            self._reports[host_id] = report
            self._dirty.discard(host_id)
            self._urgent.discard(host_id)
        if live is not None:
            live.cut("this host has connected anew")
        return True

    def is_clone(self, live: Live, report: Report) -> bool:
        """Has another process of this host been with another auth server for longer?"""
        with self._guard:
            return (
                self._live.get(live.host_id) is live
                and self._is_elsewhere(report, self._clock.now())
                and report.boot_id != live.boot_id
                and not later(report, live, me=self.me)
            )

    def _has_moved(self, live: Live, report: Report) -> bool:
        if report.via in ("", self.me) or not report.boot_id or not later(report, live, me=self.me):
            return False
        return report.boot_id == live.boot_id or not self._fresh(live)

    def _is_elsewhere(self, report: Report, now: datetime) -> bool:
        """Another auth server has its stream, and has heard of it not long ago."""
        if not self.me or report.via in ("", self.me) or report.gone or report.last_seen is None:
            return False
        if not report.boot_id:  # an auth server that speaks for itself
            return False
        return now - report.last_seen < SURELY_ALIVE

    def _signed(self, live: Live, report: Report) -> Report:
        if not self.me:
            return report
        return replace(report, via=self.me, boot_id=live.boot_id, arrived=live.arrived)

    def _freshest(self, host_id: str, kept: Report) -> Report:
        """What is written is older than what we have heard ourselves, and newer than what we have
        heard of others."""
        ours = not self.me or host_id in self._live or host_id in self._dirty
        return self._reports.get(host_id, kept) if ours else kept

    def _fresh(self, live: Live) -> bool:
        return self._clock.now() - live.last_beat < SURELY_ALIVE

    def _alive(self) -> list[tuple[str, Report]]:
        now = self._clock.now()
        with self._guard:
            return [
                (host_id, report)
                for host_id, report in sorted(self._reports.items())
                if (report.proxy is not None or report.auth)
                and self._is_alive(host_id, report, now)
            ]

    def _is_alive(self, host_id: str, report: Report, now: datetime) -> bool:
        if report.gone or report.last_seen is None:
            return False
        awaited = host_id in self._awaited and self._clock.monotonic() < self._grace_ends
        hearsay = HEARSAY if report.via not in ("", self.me) else timedelta()
        return awaited or now - report.last_seen < PROXY_SILENCE + hearsay

    def _note(self, host_id: str, report: Report) -> None:
        old = self._reports.get(host_id)
        if old is None or way_to(old) != way_to(report):
            self._moved.add(host_id)
        if old is None or news(old) != news(report):
            self._urgent.add(host_id)
        self._reports[host_id] = report
        self._dirty.add(host_id)
