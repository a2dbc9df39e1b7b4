"""Two proxies behind a balancer that sends everybody round and round: one dies, and comes back."""

import time

from tests.faults.report import Run
from tests.netlab.lab import NODES, refusal
from tests.netlab.world import BALANCER, CLUSTER, World

# Goals of the plan, in seconds.
BOTH, DEAD = 15.0, 5.0
PROXIES, IN_TURN = ("proxy1", "proxy2"), tuple(NODES)


def two_proxies(run: Run) -> None:
    """In a small internet of network namespaces, with nodes that can only dial out, and nothing to
    be reached from outside but the balancer (tests/netlab). Needs the built file."""
    if why := refusal():
        raise SystemExit(f"no network namespaces here: {why}")
    rounds, seconds = run.size(1, 6), run.size(6.0, 20.0)
    both, refused, early, late = list[float](), list[str](), list[bool](), 0
    with World(run.directory("lab"), algorithm="roundrobin") as world:
        world.lab.only_the_balancer()
        world.balancer(*PROXIES)
        for name in PROXIES:
            world.proxy(name)
        token, pin = world.token("node"), world.pin
        for name in NODES:
            world.node(name, f"--proxy={BALANCER}", f"--token={token}", f"--ca-pin={pin}")
        both.append(_until_both(world))
        world.add_user("alice", "--logins=root", "--roles=access")
        for number in range(rounds):
            victim = PROXIES[number % 2]
            world.end(victim, kill=True)
            run.report.fault("kill -9 of one of two proxies")
            died = time.monotonic()
            while time.monotonic() < died + DEAD + seconds:
                node = IN_TURN[(late + len(early)) % len(IN_TURN)]
                began = time.monotonic()
                done = world.ssh(f"root@{node}.{CLUSTER}", "true")
                if began <= died + DEAD:
                    early.append(done.returncode != 0)
                    continue
                late += 1
                if done.returncode:
                    refused.append(f"{began - died:.1f} s: {done.stderr.strip()[-200:]}")
            world.proxy(victim)
            both.append(_until_both(world))
    run.report.slowest("every node has a tunnel to both, the longest", both, BOTH)
    run.report.none("new connections that failed 5 s after it died", refused, count=late)
    run.report.told("failed before that", sum(early), count=len(early))


def _until_both(world: World) -> float:
    """Seconds until auth lists every node with both."""
    began = time.monotonic()
    world.wait_for_tunnels(*PROXIES)
    return time.monotonic() - began
