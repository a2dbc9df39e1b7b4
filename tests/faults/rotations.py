"""Rotations while auth is killed: at any call of any step, and with hosts that have to follow."""

import random
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.renew import way_of
from teleport_lite.errors import Denied, Error, Malformed, Unauthenticated, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from tests.faults.crowd import Crowd
from tests.faults.hosts import Hosts
from tests.faults.kills import compare
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.sweep import COUNT, KILL, Spot, Trap, spread
from tests.faults.warm import warm_for
from tests.support import eventually

FORWARD = ("init", "update_clients", "update_servers", "standby")
ROLLBACKS = (
    ("init", "rollback", "standby"),
    ("init", "update_clients", "rollback", "standby"),
    ("init", "update_clients", "update_servers", "rollback", "standby"),
)
TYPES = ("host", "user")
# Goals of the plan, in seconds.
CAUGHT_UP, OLD_IS_REFUSED = 30.0, 5.0


def step(auth: Auth, phase: str, *, force: bool = False) -> None:
    auth.ask("/v1/auth/rotate", types=list(TYPES), phase=phase, manual=True, force=force)


def phases(auth: Auth) -> set[str]:
    """Of host and user CA: one, for they go together."""
    found = auth.ask("/v1/auth/rotation")["rotations"]
    return {each["phase"] for each in found if each["type"] in TYPES}


def generations(auth: Auth) -> list[int]:
    """How many CAs there are of each type that is rotated."""
    types = [type for type, _ in auth.cas()]
    return [types.count(each) for each in TYPES]


def steps_killed(run: Run) -> None:
    """Killed at any call of any step: the phase is the one before or the one after, with the CAs
    that belong to it."""
    with warm_for(run) as warm:
        found = _Steps(run, Auth(warm, run.directory("auth")))
        found.auth.start()
        for ahead in (FORWARD, *ROLLBACKS[: run.size(0, 3)]):
            for number, phase in enumerate(ahead):
                before = ahead[number - 1] if number else "standby"
                for spot in found.spots(ahead[:number], before, phase, run.size(1, 0)):
                    found.kill_in(before, phase, spot)
        found.tell()


class _Steps:
    def __init__(self, run: Run, auth: Auth) -> None:
        self._run, self.auth, self._count = run, auth, 0
        self._wrong: list[str] = []
        self._back: list[float] = []

    def spots(self, way: tuple[str, ...], before: str, phase: str, points: int) -> Iterator[Spot]:
        """Calls of one step, each with the cluster in the phase before it. At the end the step is
        taken."""
        self._to(way, before)
        with self._trap(COUNT) as trap:
            step(self.auth, phase)
        seen = trap.seen
        self._run.report.told(f"calls that change files, {before} to {phase}", len(seen))
        for spot in spread(seen, points):
            self._to(way, before)
            yield spot
        if phases(self.auth) != {phase}:
            step(self.auth, phase)

    def kill_in(self, before: str, phase: str, spot: Spot) -> None:
        assert self.auth.daemon is not None
        acknowledged = True
        with self._trap(spot) as trap:
            try:
                step(self.auth, phase)
            except Error:
                acknowledged = False
        if not trap.sprung:
            return  # it took fewer calls than when they were counted
        self._count += 1
        self._run.report.fault("kill -9 in a step of a rotation")
        self.auth.daemon.wait()
        began = time.monotonic()
        self.auth.start()
        self._back.append(time.monotonic() - began)
        now = phases(self.auth)
        name = f"{before} to {phase}, {spot}"
        if now != {phase} and (acknowledged or now != {before}):
            self._wrong.append(f"{name}: {now}, acknowledged: {acknowledged}")
        wanted = [1, 1] if now == {"standby"} else [2, 2]
        if generations(self.auth) != wanted:
            self._wrong.append(f"{name}: {self.auth.cas()} in {now}")
        if self.auth.ask("/v1/audit/verify")["broken_at"] is not None:
            self._wrong.append(f"{name}: the audit trail is broken")

    def _to(self, way: tuple[str, ...], before: str) -> None:
        """Bring it to the phase `before`, from wherever it is."""
        now = phases(self.auth)
        if now == {before}:
            return
        if now != {"standby"}:
            with suppress(Error):
                step(self.auth, "rollback")
            step(self.auth, "standby")
        for each in way:
            step(self.auth, each)

    def _trap(self, spot: Spot) -> Trap:
        assert self.auth.daemon is not None
        journal = self.auth.database.with_name("auth.db-wal")
        return Trap(self.auth.daemon, self.auth.root / "trace", spot, KILL, paths=(journal,))

    def tell(self) -> None:
        report = self._run.report
        report.none("phases in between, or with other CAs", self._wrong, count=self._count)
        report.slowest("start after the kill, the longest", self._back, 5)


def hosts_follow(run: Run) -> None:
    """Every host follows through every phase, while auth is killed before, in and after each step,
    hosts are killed in each phase, and others join. Then once more, rolled back."""
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("auth"))
        auth.start()
        hosts = Hosts(warm, auth, run.root / "hosts", run.size(3, 50))
        hosts.start()
        found = _Following(run, auth, hosts)
        crowd = Crowd([auth.address], auth.token("app"), run.root / "joins", workers=2, rate=5)
        with crowd:
            for ahead in run.size((), ROLLBACKS):
                found.go(ahead, rolled_back=True)
            found.go(FORWARD, rolled_back=False)
        compare(run.report, auth, crowd)
        found.tell()


class _Following:
    def __init__(self, run: Run, auth: Auth, hosts: Hosts) -> None:
        self._run, self._auth, self._hosts, self._chance = run, auth, hosts, run.chance
        self._caught_up: list[float] = []
        self._refused: list[float] = []
        self._pins: list[str] = []

    def go(self, ahead: tuple[str, ...], *, rolled_back: bool) -> None:
        before, old, new = self._auth.pins, self._hosts.identity("app-0"), None
        for phase in ahead:
            self._step(phase)
            if phase == "update_clients":
                new = self._hosts.identity("app-0")
        pins = self._auth.pins
        if (pins == before) is not rolled_back:
            self._pins.append(f"{before} before, {pins} after {ahead}")
        gone = new if rolled_back else old  # of the generation that is not trusted any more
        if gone is None:
            return  # rolled back before the new one has signed anything
        now = self._hosts.identity("app-1")
        self._refused.append(_until_refused(gone, now, self._auth.address))

    def _step(self, phase: str) -> None:
        """With a kill at one of three moments, and some hosts that die meanwhile."""
        auth, chance = self._auth, self._chance
        moment = chance.choice(("before", "in", "after"))
        if moment == "before":
            self._kill("before a step")
        if moment == "in":
            self._kill_in(phase)
        if phases(auth) != {phase}:
            self._take(phase)
        since = time.monotonic()
        if moment == "after":
            self._kill("after a step")
            since = time.monotonic()
        for name in chance.sample(sorted(self._hosts.daemons), self._run.size(1, 5)):
            self._hosts.kill(name)
            self._run.report.fault("kill -9 of a host in a phase")
            self._hosts.begin(name)
        eventually(lambda: self._all_there(phase), seconds=90, what=f"all hosts in {phase}")
        self._caught_up.append(time.monotonic() - since)

    def _take(self, phase: str) -> None:
        """Hosts that are away for a moment may come back first."""

        def taken() -> bool:
            try:
                step(self._auth, phase)
            except Unavailable:
                raise
            except Error as why:
                if "have not caught up" in why.message:
                    return False
                raise
            return True

        eventually(taken, what=f"phase {phase}")

    def _kill(self, when: str) -> None:
        self._auth.kill()
        self._run.report.fault(f"kill -9 of auth {when}")
        self._auth.start()

    def _kill_in(self, phase: str) -> None:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(step, self._auth, phase)
            time.sleep(random.uniform(0, 0.02))
            self._kill("in a step")
            with suppress(Error):
                asked.result(timeout=60)

    def _all_there(self, phase: str) -> bool:
        """Everybody is connected, and has taken up the phase."""
        found = self._auth.ask("/v1/auth/rotation")["rotations"]
        waiting = [each["hosts"]["waiting"] for each in found if each["type"] in TYPES]
        return not any(waiting) and len(self._hosts.online()) == len(self._hosts.daemons)

    def tell(self) -> None:
        report, count = self._run.report, len(self._hosts.daemons)
        out = [*self._hosts.ended(), *(set(self._hosts.daemons) - self._hosts.online())]
        report.none("hosts that are locked out", out, count=count)
        report.slowest("all hosts have followed, the longest phase", self._caught_up, CAUGHT_UP)
        report.slowest("the old CA is refused after standby", self._refused, OLD_IS_REFUSED)
        report.none("pins that are not as they should be", self._pins, count=len(self._refused))


def _until_refused(gone: Identity, now: Identity, address: str) -> float:
    """Seconds until auth does not take a certificate of the generation that is gone."""
    since = time.monotonic()
    eventually(lambda: not _taken(gone, now, address), what="the old certificate to be refused")
    took = time.monotonic() - since
    assert _taken(now, now, address), "a certificate of now is refused, too"
    return took


def _taken(shown: Identity, trusting: Identity, address: str) -> bool:
    context = client_context(shown.tls_cert, shown.tls_private, trusting.host_cas)
    try:
        with Connection.tls(way_of(shown, address), context) as wire:
            wire.ask("/v1/host/renew", {})
    except ssl.SSLCertVerificationError:
        raise  # it is auth that is to refuse
    except (ssl.SSLError, Unauthenticated, Denied):
        return False
    except Malformed:  # of a host that is taken, it wants more words
        return True
    except Unavailable as why:
        if "broke" in why.message:  # the end of a handshake that auth does not want
            return False
        raise
    return True
