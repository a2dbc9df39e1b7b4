"""kill -9, and a process that is stopped, under a load of joins."""

import signal
import time

from tests.faults.crowd import Crowd
from tests.faults.report import Report, Run
from tests.faults.site import Auth
from tests.faults.warm import warm_for
from tests.support import eventually


def joins_under_kill(run: Run) -> None:
    """Auth is killed at any moment; every join that was answered is there afterwards."""
    kills, chance = run.size(5, 1000), run.chance
    back: list[float] = []
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("kill"))
        auth.start()
        before = auth.cas()
        with Crowd([auth.address], auth.token("app"), run.root / "joins") as crowd:
            eventually(crowd.count, what="a first join")
            for _ in range(kills):
                goal = crowd.count() + chance.randint(1, 12)
                eventually(lambda goal=goal: crowd.count() >= goal, what="joins")  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.05))
                auth.kill()
                run.report.fault("kill -9 of auth")
                began = time.monotonic()
                auth.start()
                back.append(time.monotonic() - began)
        compare(run.report, auth, crowd)
        run.report.none("CAs made anew", set(auth.cas()) ^ set(before), count=kills)
        run.report.slowest("start after a kill, the longest", back, 5)


def once_under_kill(run: Run) -> None:
    """Tokens for one use, raced for while auth is killed: none is used twice."""
    kills, tokens = run.size(2, 200), run.size(9, 1500)
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("once"))
        auth.start()
        auth.ask("/v1/bots/add", name="crowd")
        made = [auth.token("bot", bot_name="crowd") for _ in range(tokens)]
        path = run.root / "races"
        with Crowd([auth.address], made, path, workers=4, role="Bot") as crowd:
            for number in range(kills):
                share = len(made) * (number + 1) // (kills + 1)
                eventually(
                    lambda share=share: crowd.count() >= share * 2 or crowd.done(),  # type: ignore[misc]
                    seconds=60,
                    what=f"{share} tokens to be raced for",
                )
                auth.kill()
                run.report.fault("kill -9 of auth")
                auth.start()
            eventually(crowd.done, seconds=120, what="every token to be decided")
        compare_once(run.report, auth, crowd, len(made))


def race(run: Run) -> None:
    """Many hosts at once for tokens of one use, one token after the other: each has one winner."""
    racers, tokens = run.size(20, 200), run.size(2, 50)
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("race"))
        auth.start()
        auth.ask("/v1/bots/add", name="crowd")
        made = [auth.token("bot", bot_name="crowd") for _ in range(tokens)]
        path = run.root / "races"
        with Crowd([auth.address], made, path, workers=racers, role="Bot") as crowd:
            run.report.fault(f"race of {racers}", tokens)
            eventually(crowd.done, seconds=1800, what="every token to be decided")
        compare_once(run.report, auth, crowd, tokens)


def compare(report: Report, auth: Auth, crowd: Crowd) -> None:
    """What the crowd was answered, and what is there."""
    answers = crowd.answers()
    joined = [each.host_id for each in answers if each.host_id]
    refused = [each.refusal for each in answers if each.refusal]
    report.none("answered joins that are lost", set(joined) - set(auth.hosts()), count=len(joined))
    report.none("joins refused that should pass", refused, count=len(answers))
    twice = {each for each in joined if joined.count(each) > 1} if len(joined) < 5000 else set()
    report.none("hosts answered twice", twice, count=len(joined))
    report.none("what is wrong in the store", auth.troubles(), count=len(joined))


def compare_once(report: Report, auth: Auth, crowd: Crowd, tokens: int) -> None:
    answers = crowd.answers()
    winners: dict[int, set[str]] = {}
    for each in answers:
        if each.host_id:
            winners.setdefault(each.token, set()).add(each.host_id)
    twice = [number for number, hosts in winners.items() if len(hosts) > 1]
    hosts = set().union(*winners.values()) if winners else set()
    report.none("tokens for one use that were used twice", twice, count=tokens)
    report.none("answered joins that are lost", hosts - auth.joined("Bot"), count=len(hosts))
    # All have asked until they were answered, so somebody has won each.
    report.none("tokens that nobody has won", set(range(tokens)) - set(winners), count=len(answers))
    report.none("what is wrong in the store", auth.troubles(), count=len(hosts))


def stopped(run: Run) -> None:
    """SIGSTOP of auth for some seconds: who waits is served when it goes on; nothing is lost."""
    turns, seconds = run.size(1, 20), run.size(1.0, 5.0)
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("stop"))
        auth.start()
        with Crowd([auth.address], auth.token("app"), run.root / "stops") as crowd:
            back: list[float] = []
            for _ in range(turns):
                goal = crowd.count() + 5
                eventually(lambda goal=goal: crowd.count() >= goal, what="joins")  # type: ignore[misc]
                auth.daemon and auth.daemon.signal(signal.SIGSTOP)
                run.report.fault("SIGSTOP of auth")
                time.sleep(seconds)
                count, began = crowd.count(), time.monotonic()
                auth.daemon and auth.daemon.signal(signal.SIGCONT)
                eventually(lambda count=count: crowd.count() > count, what="joins again")  # type: ignore[misc]
                back.append(time.monotonic() - began)
        compare(run.report, auth, crowd)
        run.report.slowest("first join after SIGCONT, the longest", back, 2)
