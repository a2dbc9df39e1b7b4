"""A crash, or a failing disk, at every single call: first start, joins, tokens, users, a host's
identity."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from teleport_lite.agent import identity as identities
from teleport_lite.agent.join import JoinRequest, Keys, join
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Conflict, Error, NotFound, Unavailable
from teleport_lite.secret import Secret
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.sweep import COUNT, KILL, Spot, Trap, spread
from tests.faults.warm import Daemon, Warm, warm_for
from tests.support import eventually

ERRORS = ("error=EIO", "error=ENOSPC")
# Seconds. What comes last is not the same each time, and a log that fails can not tell of a start.
PATIENCE = 15.0
TRACEBACK = "Traceback (most recent call last)"


def first_start(run: Run) -> None:
    """Killed at any call of its first start, auth starts again: one set of CAs, never two."""
    with warm_for(run) as warm:
        found = Starts(run, warm)
        for spot in found.spots(points=run.size(1, 0)):
            auth = found.fresh()
            daemon = found.broken(auth, *spot, KILL)
            daemon.kill()
            run.report.fault("kill -9 in a first start")
            began = time.monotonic()
            auth.start()
            found.back.append(time.monotonic() - began)
            found.judge(auth)
        found.tell()
        run.report.slowest("start after the kill, the longest", found.back, 5)


def first_start_errors(run: Run) -> None:
    """The disk fails at any call of a first start: told in a line, and the next one works."""
    with warm_for(run) as warm:
        found, loud = Starts(run, warm), []
        for number, spot in enumerate(found.spots(points=run.size(2, 0))):
            auth = found.fresh()
            daemon = found.broken(auth, *spot, ERRORS[number % 2])
            run.report.fault(ERRORS[number % 2])
            daemon.stop()
            if TRACEBACK in daemon.said():
                loud.append(f"{spot}: {daemon.said()[-300:]}")
            auth.start()
            found.judge(auth)
        found.tell()
        run.report.none("tracebacks that somebody is shown", loud, count=found.count)


class Starts:
    """First starts of auth, each in a directory of its own."""

    def __init__(self, run: Run, warm: Warm) -> None:
        self._run, self._warm, self.count = run, warm, 0
        self._wrong: list[str] = []
        self._unsprung: list[str] = []
        self._left = 0
        self.back: list[float] = []

    def fresh(self) -> Auth:
        self.count += 1
        return Auth(self._warm, self._run.directory(f"start-{self.count}"))

    def spots(self, points: int) -> Iterator[tuple[Spot, bool]]:
        """And is it one of the calls that write the journal, which another thread does?"""
        for journal in (False, True):
            auth = self.fresh()
            self.broken(auth, COUNT, journal, "").stop()
            seen = self._seen
            what = "the store's thread" if journal else "the main thread"
            self._run.report.told(f"calls of {what} that change files", len(seen))
            for spot in spread(seen, (points + 1) // 2):
                yield spot, journal

    def broken(self, auth: Auth, spot: Spot, journal: bool, fault: str) -> Daemon:
        """Started with a trap, until it runs or has ended."""
        gate = auth.root / "gate"
        daemon = auth.begin(gate=gate)
        paths = (auth.database.with_name("auth.db-wal"),) if journal else ()
        with Trap(daemon, auth.root / "trace", spot, fault, paths=paths) as trap:
            gate.touch()
            ends = time.monotonic() + (PATIENCE if spot.nth else 120)
            while time.monotonic() < ends and not daemon.ended():
                if "is running" in daemon.said() and (trap.sprung or not spot.nth):
                    break
                time.sleep(0.01)
        self._seen = trap.seen
        if spot.nth and not trap.sprung:
            self._unsprung.append(f"{spot}")
        return daemon

    def judge(self, auth: Auth) -> None:
        wrong = list(auth.troubles())
        if len(auth.cas()) != len({type for type, _ in auth.cas()}):
            wrong.append(f"CAs: {auth.cas()}")
        auth.token("app")
        created = len(auth.events("cluster.create"))
        if created != 1:
            wrong.append(f"{created} times the creation of the cluster in the trail")
        auth.kill()
        self._left += sum(1 for each in auth.root.rglob(".*.tmp"))
        self._wrong += [f"{auth.root.name}: {each}" for each in wrong]
        shutil.rmtree(auth.root)

    def tell(self) -> None:
        report = self._run.report
        report.none("what is wrong after the next start", self._wrong, count=self.count)
        # The last of what the store writes is not the same each time.
        report.told("calls that did not come again", len(self._unsprung), count=self.count)
        # Private ones, with keys in them that are in no use.
        report.told("temporary files that stay", self._left, count=self.count)


# --- single changes to the store


@dataclass(frozen=True, slots=True)
class Change:
    """`make` returns when it is acknowledged; `there` says what a checker finds afterwards."""

    name: str
    make: Callable[[Auth, str], object]
    there: Callable[[Auth, str], bool]
    before: Callable[[Auth, str], object] = lambda auth, name: None


def _joins(auth: Auth, name: str) -> object:
    request = JoinRequest(
        servers=(auth.address,),
        token=Secret(_JOIN_TOKEN),
        pins=(),
        roles=("App",),
        node_name=name,
        clock=SystemClock(),
        say=lambda _: None,
        keeper=_Keeper,
    )
    return join(request).host_id


class _Keys:
    """One key pair for all: a host that asks again is the same host."""

    def __init__(self) -> None:
        self._keys = Keys.new()

    def take(self) -> Keys:
        return self._keys

    def keep(self, keys: Keys) -> None:
        del keys

    def drop(self) -> None:
        self._keys = Keys.new()


_Keeper = _Keys()
_JOIN_TOKEN = "f" * 32


def _tokens(auth: Auth) -> set[str]:
    return {each["token"] for each in auth.ask("/v1/tokens/list")["tokens"]}


def _token_of(name: str) -> str:
    return name.ljust(32, "x")


def _add_token(auth: Auth, name: str) -> object:
    return auth.token("app", value=_token_of(name))


CHANGES = (
    Change(
        "join",
        _joins,
        lambda auth, name: any(each["spec"]["hostname"] == name for each in auth.hosts().values()),
        lambda auth, name: _JOIN_TOKEN in _tokens(auth) or auth.token("app", value=_JOIN_TOKEN),
    ),
    Change("token add", _add_token, lambda auth, name: _token_of(name) in _tokens(auth)),
    Change(
        "token rm",
        lambda auth, name: auth.ask("/v1/tokens/remove", token=_token_of(name)),
        lambda auth, name: _token_of(name) not in _tokens(auth),
        _add_token,
    ),
    Change(
        "user add",
        lambda auth, name: auth.ask("/v1/users/add", name=name, roles=["access"]),
        lambda auth, name: name in {each["name"] for each in auth.ask("/v1/users/list")["users"]},
    ),
)


def changes_killed(run: Run) -> None:
    """Killed at any call of a change: what was acknowledged is there, the rest is whole or not."""
    with warm_for(run) as warm:
        found = _Changes(run, warm)
        found.auth.start()
        for change in CHANGES:
            for spot, name in found.spots(change, points=run.size(1, 0)):
                change.before(found.auth, name)
                acknowledged = found.make(change, name, spot, KILL)
                found.auth.daemon and found.auth.daemon.wait()
                run.report.fault(f"kill -9 in {change.name}")
                began = time.monotonic()
                found.auth.start()
                found.back.append(time.monotonic() - began)
                found.judge(change, name, acknowledged)
        found.tell()
        run.report.slowest("start after the kill, the longest", found.back, 5)


def changes_failed(run: Run) -> None:
    """EIO and ENOSPC at any call of a change: refused, auth goes on, and it can be repeated."""
    with warm_for(run) as warm:
        found = _Changes(run, warm)
        found.auth.start()
        for change in CHANGES[: run.size(2, len(CHANGES))]:
            for spot, name in found.spots(change, points=run.size(1, 0)):
                for fault in ERRORS:
                    this = f"{name}{fault[-1].lower()}"
                    found.await_writable()
                    change.before(found.auth, this)
                    acknowledged = found.make(change, this, spot, fault)
                    run.report.fault(f"{fault} in {change.name}")
                    found.await_writable()
                    found.judge(change, this, acknowledged)
                    found.repeat(change, this)
        found.tell()
        run.report.slowest("auth takes changes again after an error, the longest", found.back, 5)
        said = found.auth.daemon.said() if found.auth.daemon else ""
        run.report.none(
            "tracebacks in the log", [TRACEBACK] * said.count(TRACEBACK), count=found.count
        )


class _Changes:
    def __init__(self, run: Run, warm: Warm) -> None:
        self.auth, self._run, self.count = Auth(warm, run.directory("auth")), run, 0
        self._wrong: list[str] = []
        self._lost: list[str] = []
        self._acknowledged = 0
        self.back: list[float] = []

    def spots(self, change: Change, points: int) -> Iterator[tuple[Spot, str]]:
        """Looked at without a fault, then each. Looked at more than once: somebody else may write
        to the journal just then."""
        prefix = change.name.replace(" ", "-")
        looks = []
        for name in (f"{prefix}-{letter}" for letter in "abc"):
            change.before(self.auth, name)
            self.make(change, name, COUNT, "")
            looks.append(self._seen)
        seen = min(looks, key=len)
        self._run.report.told(f"calls that change files, {change.name}", len(seen))
        for number, spot in enumerate(spread(seen, points)):
            name = f"{prefix}-{number}"
            yield spot, name

    def make(self, change: Change, name: str, spot: Spot, fault: str) -> bool:
        assert self.auth.daemon is not None
        journal, trace = self.auth.database.with_name("auth.db-wal"), self.auth.root / "trace"
        self.count += 1
        acknowledged = True
        with Trap(self.auth.daemon, trace, spot, fault, paths=(journal,)) as trap:
            try:
                change.make(self.auth, name)
            except Error:
                acknowledged = False
        self._seen = trap.seen
        if spot.nth and not trap.sprung:
            self._wrong.append(f"{name}: the trap was not sprung")
        self._acknowledged += acknowledged
        return acknowledged

    def await_writable(self) -> None:
        """After an error auth is read-only, until a trial has shown that all is well."""
        began = time.monotonic()

        def writes() -> bool:
            try:
                self.auth.token("app")
            except Unavailable:
                return False
            return True

        eventually(writes, what="auth to take changes again")
        self.back.append(time.monotonic() - began)

    def judge(self, change: Change, name: str, acknowledged: bool) -> None:
        if acknowledged and not change.there(self.auth, name):
            self._lost.append(name)
        self._wrong += [f"{name}: {each}" for each in self.auth.troubles()]

    def repeat(self, change: Change, name: str) -> None:
        """Without the fault it works, unless it is done already."""
        try:
            change.make(self.auth, name)
        except (Conflict, NotFound):
            pass
        except Error as why:
            self._wrong.append(f"{name}, again: {why.message}")
        if not change.there(self.auth, name):
            self._wrong.append(f"{name}: not there after it was repeated")

    def tell(self) -> None:
        report = self._run.report
        report.told("changes that were acknowledged all the same", self._acknowledged)
        report.none("acknowledged changes that are lost", self._lost, count=self.count)
        report.none("what is wrong in the store", self._wrong, count=self.count)


# --- a host that writes its identity


def identity(run: Run) -> None:
    """A host is killed at any call of its first start: the same command makes it a member, once."""
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("auth"))
        auth.start()
        hosts = _Hosts(run, warm, auth)
        seen = hosts.try_once(COUNT)
        run.report.told("calls that change files", len(seen))
        for spot in spread(seen, run.size(3, 0)):
            hosts.try_once(spot)
        run.report.none("identities that are neither old nor new", hosts.torn, count=hosts.count)
        run.report.none("hosts that did not come", hosts.missing, count=hosts.count)
        # One more than those who have come would have used a token that was spent for them.
        run.report.none("hosts that joined twice", hosts.twice, count=hosts.count)


class _Hosts:
    def __init__(self, run: Run, warm: Warm, auth: Auth) -> None:
        self._run, self._warm, self._auth, self.count = run, warm, auth, 0
        self.torn: list[str] = []
        self.missing: list[str] = []
        self.twice: list[str] = []

    def try_once(self, spot: Spot) -> list[Spot]:
        name = f"host-{self.count}"
        self.count += 1
        root, gate = self._run.root, self._run.root / f"{name}.gate"
        words = self._words(name)
        daemon = self._warm.start(*words, log=root / f"{name}.log", env=self._auth.env, gate=gate)
        with Trap(daemon, root / f"{name}.trace", spot) as trap:
            gate.touch()
            while not daemon.ended() and "connected to auth" not in daemon.said():
                time.sleep(0.01)
        if spot.nth:
            daemon.kill()  # if it was after it was connected
            self._run.report.fault("kill -9 of a joining host")
            self._look(name)
            again = self._warm.start(*words, log=root / f"{name}.log", env=self._auth.env)
            again.wait_for("connected to auth")
            again.stop()
        daemon.stop()
        here = identities.load(root / name)
        named = [id for id, each in self._auth.hosts().items() if each["spec"]["hostname"] == name]
        if here is None or here.host_id not in named:
            self.missing.append(name)
        if len(named) > 1:
            self.twice.append(f"{name}: {named}")
        return trap.seen

    def _words(self, name: str) -> list[str]:
        return [
            "start",
            "--roles=app",
            f"--nodename={name}",
            f"--data-dir={self._run.root / name}",
            f"--auth-server={self._auth.address}",
            f"--token={self._auth.token('app')}",
            f"--ca-pin={self._auth.pins[0]}",
        ]

    def _look(self, name: str) -> None:
        """What the kill has left behind: nothing, or an identity that can be used."""
        try:
            identities.load(self._run.root / name)
        except Error as why:
            self.torn.append(f"{name}: {why.message}")
