"""Two auth servers on one PostgreSQL: one is killed again and again, or stopped, or the database
restarts, while hosts join and others are connected."""

import contextlib
import signal
import time
from collections.abc import Iterator

from tests.faults.crowd import Answer, Crowd
from tests.faults.hosts import Hosts
from tests.faults.kills import compare, compare_once
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.warm import Warm, warm_for
from tests.postgres import Postgres, private
from tests.support import eventually

_STORAGE = """\
  storage:
    type: postgresql
    conn_string: "{conn_string}"
    keyring: {keyring}
"""
STATIC = "static-token-of-auth-servers-0123"
# Goals of the plan, in seconds.
OTHER_SERVES, NO_ERROR_LONGER, BACK = 2.0, 2.0, 10.0


class Pair:
    """Two auth servers and their database."""

    def __init__(self, run: Run, warm: Warm, server: Postgres) -> None:
        self.server, root = server, run.directory("pair")
        database = server.database()
        tokens = root / "tokenfile"
        tokens.write_text(f"{STATIC}\n")
        tokens.chmod(0o600)
        self.auths = [
            Auth(
                warm,
                root,
                name=name,
                teleport=_STORAGE.format(
                    conn_string=database, keyring=root / f"{name}.keyring"
                ).rstrip(),
                auth=f'  tokens: ["auth:{tokens}"]',
            )
            for name in ("auth-1", "auth-2")
        ]
        first, second = self.auths
        first.start()
        joins = (f"--token={tokens}", f"--auth-server={first.address}")
        second.start("--roles=auth", *joins, f"--ca-pin={first.pins[0]}")

    @property
    def addresses(self) -> list[str]:
        return [each.address for each in self.auths]


@contextlib.contextmanager
def pair(run: Run) -> Iterator[tuple[Warm, Pair]]:
    with warm_for(run) as warm:
        if run.postgres is not None:
            yield warm, Pair(run, warm, run.postgres)
            return
        with private(durable=run.full) as server:
            yield warm, Pair(run, warm, server)


def two_auths(run: Run) -> None:
    """One of them is killed every 20 s, under 20 joins a second and races for tokens of one use."""
    every, seconds = run.size(2.0, 20.0), run.seconds(3.0, 300.0)
    rate, hosts = run.size(10.0, 20.0), run.size(2, 10)
    races, served, reconnected = run.size(6, int(2 * seconds)), list[float](), list[float]()
    with pair(run) as (warm, both):
        first, second = both.auths
        fleet = Hosts(warm, first, run.root / "hosts", hosts, both.addresses)
        fleet.start()
        first.ask("/v1/bots/add", name="crowd")
        made = [first.token("bot", bot_name="crowd") for _ in range(races)]
        token = first.token("app")
        crowd = Crowd(both.addresses, token, run.root / "joins", workers=4, rate=rate)
        racers = Crowd(
            both.addresses,
            made,
            run.root / "races",
            workers=2,
            role="Bot",
            rate=races * 2 / seconds,
        )
        with crowd, racers:
            eventually(crowd.count, what="a first join")
            ends, number = time.monotonic() + seconds, 0
            while time.monotonic() < ends:
                victim = both.auths[number % 2]
                number += 1
                before, since = crowd.count(), time.monotonic()
                hung = fleet.connections()
                on_it = [n for n, d in fleet.daemons.items() if _last(d.said()) == victim.address]
                victim.kill()
                run.report.fault("kill -9 of an auth server")
                eventually(lambda before=before: crowd.count() > before, what="joins")  # type: ignore[misc]
                served.append(time.monotonic() - since)
                reconnected += _back(fleet, on_it, hung, since)
                victim.start()
                time.sleep(max(0.0, min(since + every, ends) - time.monotonic()))
            eventually(racers.done, seconds=seconds + 60, what="every race to be decided")
        _judge(run, crowd, first)
        compare_once(run.report, second, racers, len(made))
        run.report.slowest("the other one serves after a kill, the longest", served, OTHER_SERVES)
        run.report.slowest("hosts go on with the other one, the longest", reconnected, BACK)
        run.report.none("hosts that have ended", fleet.ended(), count=hosts)


def race(run: Run) -> None:
    """For tokens of one use, half of the hosts at one auth server, half at the other."""
    racers, tokens = run.size(20, 200), run.size(2, 50)
    with pair(run) as (_, both):
        first = both.auths[0]
        first.ask("/v1/bots/add", name="crowd")
        made = [first.token("bot", bot_name="crowd") for _ in range(tokens)]
        path = run.root / "races"
        with Crowd(both.addresses, made, path, workers=racers, role="Bot") as crowd:
            run.report.fault(f"race of {racers} at two auth servers", tokens)
            eventually(crowd.done, seconds=1800, what="every token to be decided")
        compare_once(run.report, both.auths[1], crowd, tokens)


def _last(said: str) -> str:
    """Where a host is connected."""
    lines = [line for line in said.splitlines() if "connected to auth at " in line]
    return lines[-1].rpartition(" ")[2] if lines else ""


def _back(fleet: Hosts, names: list[str], before: dict[str, int], since: float) -> list[float]:
    took = []
    for name in names:
        eventually(
            lambda name=name: fleet.connections()[name] > before[name],  # type: ignore[misc]
            seconds=60,
            what=f"{name} to connect to the other one",
        )
        took.append(time.monotonic() - since)
    return took


def _judge(run: Run, crowd: Crowd, auth: Auth) -> None:
    answers = crowd.answers()
    compare(run.report, auth, crowd)
    troubled = [each for each in answers if each.trouble]
    longest = max((each.trouble for each in troubled), default=0.0)
    run.report.at_most(
        "an error that a client sees, the longest",
        round(longest, 2),
        NO_ERROR_LONGER,
        "s",
        count=len(answers),
    )
    # A host asks the other one by itself, and what it would be told is time that it waits.
    waits = sorted(max(each.took, each.trouble) for each in answers)
    run.report.at_most(
        "a join as the host waits, the longest",
        round(waits[-1] if waits else 0.0, 2),
        NO_ERROR_LONGER,
        "s",
        count=len(answers),
    )
    run.report.told("the same, median", round(waits[len(waits) // 2], 3) if waits else 0.0, "s")
    run.report.told("joins that met an error first", len(troubled), count=len(answers))
    run.report.told("joins a second", _rate(answers), count=len(answers))


def _rate(answers: list[Answer]) -> float:
    if len(answers) < 2:
        return 0.0
    return len(answers) / (max(each.at for each in answers) - min(each.at for each in answers))


def postgres_restarts(run: Run) -> None:
    """The database restarts, is killed or hangs under joins: nothing is lost, and all is well
    soon."""
    hows = run.size((signal.SIGINT, signal.SIGKILL), (signal.SIGINT, signal.SIGKILL) * 10)
    back: list[float] = []
    # Killed, it may lose what it has told of, unless it writes through.
    with warm_for(run) as warm, private(durable=True) as server:
        both = Pair(run, warm, server)
        first = both.auths[0]
        with Crowd(both.addresses, first.token("app"), run.root / "joins", rate=10) as crowd:
            for how in hows:
                goal = crowd.count() + 3
                eventually(lambda goal=goal: crowd.count() >= goal, what="joins")  # type: ignore[misc]
                server.restart(how)
                run.report.fault(f"PostgreSQL ended by {how.name}")
                before, since = crowd.count(), time.monotonic()
                eventually(lambda before=before: crowd.count() > before + 2, what="joins")  # type: ignore[misc]
                back.append(time.monotonic() - since)
        compare(run.report, first, crowd)
        run.report.slowest("joins again after the database is back, the longest", back, 10)


def stopped_past_its_lease(run: Run) -> None:
    """One auth server stands still for longer than its leases: it does no job twice."""
    seconds = run.size(3.0, 90.0)
    with pair(run) as (_, both):
        first, second = both.auths
        with Crowd([second.address], first.token("app"), run.root / "joins", rate=5) as crowd:
            eventually(crowd.count, what="a join")
            assert first.daemon is not None
            first.daemon.signal(signal.SIGSTOP)
            run.report.fault("SIGSTOP of an auth server")
            before, since = crowd.count(), time.monotonic()
            eventually(lambda: crowd.count() > before, what="joins at the other one")
            served = time.monotonic() - since
            time.sleep(seconds)
            first.daemon.signal(signal.SIGCONT)
            eventually(lambda: first.ask("/v1/status"), what="the one that stood still")
        compare(run.report, first, crowd)
        run.report.slowest("the other one serves meanwhile", [served], OTHER_SERVES)
