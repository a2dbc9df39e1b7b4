"""Tokens at their ends: the reply that never came, the second they expire, the second they are
taken back."""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from teleport_lite.agent import join as agent_join
from teleport_lite.agent.join import JoinRequest, Keys, join
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Denied, Error
from teleport_lite.proto.join import token_name
from teleport_lite.secret import Secret
from tests.auth.bench import Applicant, Bench, stranger
from tests.faults.auths import pair
from tests.faults.crowd import Kept
from tests.faults.relay import Relay
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.warm import warm_for

# A reply is on its way for so long, in seconds, and auth is killed meanwhile.
ON_ITS_WAY = 0.15
SPENT = "SELECT count(*) FROM tokens WHERE spent_at IS NOT NULL"
# Goals of the plan, in seconds.
REVOKED = 1.0


def lost_replies(run: Run) -> None:
    """Auth is killed when a token for one use is spent, and nobody has the reply yet."""
    rounds = run.size(1, 100)
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("auth"))
        auth.start()
        auth.ask("/v1/bots/add", name="crowd")
        with Relay(auth.address) as relay:
            found = _Replies(run, auth, relay)
            number = 0
            while found.count < rounds and number < 3 * rounds:
                found.lose(number)
                number += 1
        run.report.told("replies that were faster than the kill", number - found.count)
        run.report.none("hosts that got no certificate", found.refused, count=found.count)
        run.report.none("hosts that are another one now", found.others, count=found.count)
        run.report.none("strangers who were let in", found.strangers, count=found.asked)
        run.report.none("what is wrong in the store", auth.troubles(), count=found.count)


class _Replies:
    def __init__(self, run: Run, auth: Auth, relay: Relay) -> None:
        self._run, self._auth, self._relay = run, auth, relay
        self.count = self.asked = self._spent = 0
        self.refused: list[str] = []
        self.others: list[str] = []
        self.strangers: list[str] = []

    def lose(self, number: int) -> None:
        auth, name, keys = self._auth, f"host-{number}", Kept(Keys.new())
        before = auth.joined("Bot")
        token = auth.token("bot", bot_name="crowd")
        self._relay.delay = ON_ITS_WAY
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self._join, name, token, keys, self._relay.address)
            self._await_spent(answer)
            auth.kill()
            self._relay.cut()
            auth.start()
            if answer.exception(timeout=60) is None:
                return
        self.count += 1
        self._run.report.fault("kill -9 between a token and its reply")
        [recorded] = auth.joined("Bot") - before or {"none"}
        # A stranger is now before the host, now after it.
        if number % 2:
            self._stranger(name, token)
        try:
            now = self._join(name, token, keys, auth.address)
            again = self._join(name, token, keys, auth.address)
        except Error as why:
            self.refused.append(f"{name}: {why.message}")
        else:
            if {now, again} != {recorded}:
                self.others.append(f"{name}: {recorded}, then {now}, then {again}")
        self._stranger(name, token)

    def _await_spent(self, answer: "Future[str]") -> None:
        wanted = self._spent + 1
        with closing(sqlite3.connect(f"file:{self._auth.database}?mode=ro", uri=True)) as db:
            while self._spent < wanted and not answer.done():
                [self._spent] = db.execute(SPENT).fetchone()
                time.sleep(0.002)

    def _stranger(self, name: str, token: str) -> None:
        """With the token, and keys of its own."""
        self.asked += 1
        try:
            self.strangers.append(self._join(name, token, Kept(Keys.new()), self._auth.address))
        except Denied:
            return

    def _join(self, name: str, token: str, keys: Kept, server: str) -> str:
        return _join(name, token, keys, server, "Bot")


def _join(name: str, token: str, keys: Kept, server: str, role: str) -> str:
    request = JoinRequest(
        servers=(server,),
        token=Secret(token),
        pins=(),
        roles=(role,),
        node_name=name,
        clock=SystemClock(),
        say=lambda _: None,
        keeper=keys,
    )
    return join(request).host_id


def expiry(run: Run) -> None:
    """A second before the end everybody comes in, a second after it nobody does."""
    hosts, bench = run.size(10, 1000), Bench()
    bench.token("node", ttl="30m")
    early, late = ([Applicant(name=f"{when}-{n}") for n in range(hosts)] for when in ("a", "b"))
    bench.later(minutes=29, seconds=59)
    refused = [who.name for who in early if not _comes(lambda who=who: bench.join(who))]  # type: ignore[misc]
    # Half of those who are late had begun in time.
    begun = {
        who.name: bench.begin(who, stranger(f"10.0.{n % 250}.{n // 250}"))
        for n, who in enumerate(late[::2])
    }
    bench.later(seconds=2)
    run.report.fault("the end of a token passed", 1)
    taken = []
    for number, who in enumerate(late):
        caller = stranger(f"10.1.{number % 250}.{number // 250}")
        last = begun.get(who.name)
        came = _comes(
            (lambda who=who, last=last: bench.finish(who, last))  # type: ignore[misc]
            if last is not None
            else (lambda who=who, caller=caller: bench.join(who, caller))  # type: ignore[misc]
        )
        if came:
            taken.append(who.name)
    run.report.none("refused a second before the end", refused, count=hosts)
    run.report.none("let in a second after the end", taken, count=hosts)
    wrong = set(bench.hosts()) ^ {
        e.facts["host_id"] for e in bench.events("instance.join") if e.outcome == "ok"
    }
    run.report.none("hosts and trail that differ", wrong, count=hosts)


def _comes(how: Callable[[], object]) -> bool:
    try:
        how()
    except Denied:
        return False
    return True


def revocation(run: Run) -> None:
    """A token is taken back at one auth server, while hosts join with it at the other."""
    rounds, took, late = run.size(2, 50), list[float](), list[str]()
    slow = agent_join.token_name
    try:
        with pair(run) as (_, both):
            for number in range(rounds):
                here, there = both.auths[number % 2], both.auths[1 - number % 2]
                token = here.token("app")
                name = token_name(Secret(token))
                # The slow hash is the host's own time.
                agent_join.token_name = lambda _, name=name: name  # type: ignore[attr-defined]
                _join(f"app-{number}", token, Kept(Keys.new()), there.address, "App")
                here.ask("/v1/tokens/remove", token=token)
                since = time.monotonic()
                run.report.fault("token taken back at the other auth server")
                while True:
                    began = time.monotonic()
                    try:
                        _join(f"late-{number}", token, Kept(Keys.new()), there.address, "App")
                    except Denied:
                        break
                    late.append(f"{began - since:.2f} s")
                    assert began - since < 60, "a token that was taken back works for ever"
                took.append(began - since)
            troubles = both.auths[0].troubles()
    finally:
        agent_join.token_name = slow  # type: ignore[attr-defined]
    run.report.slowest("refused at the other one, the longest", took, REVOKED)
    run.report.told("joins meanwhile", len(late), count=rounds)
    run.report.none("what is wrong in the store", troubles, count=rounds)
