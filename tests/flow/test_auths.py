"""Two auth servers on one PostgreSQL: who joins at one is known at the other, and one may die."""

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from teleport_lite.agent.join import JoinRequest, join
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Error
from teleport_lite.secret import Secret
from tests.faults.report import BESIDE
from tests.flow.auths import Auths
from tests.postgres import Postgres
from tests.support import eventually

# Goals of the fault plan: others serve within two seconds, hosts are back within ten. That is for a
# machine that does nothing else, where `benchmarks.faults` measures it.
NO_ERROR_LONGER, BACK_WITHIN = 2.0 * BESIDE, 10.0 * BESIDE


@pytest.fixture(scope="module")
def auths(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Auths]:
    database = postgres.database()
    with Auths(tmp_path_factory.mktemp("auths"), database) as running:
        yield running
    postgres.drop(database)


def test_the_second_one_has_joined_with_a_token_and_has_the_keyring(auths: Auths) -> None:
    eventually(lambda: auths.states() == {"auth-1": "online", "auth-2": "online"})
    first, second = (auths.root / f"{name}.keyring" for name in ("auth", "auth-2"))
    assert first.read_bytes() == second.read_bytes()
    assert second.stat().st_mode & 0o777 == 0o600
    [event] = auths.events("cluster.keyring")
    eventually(lambda: AUTH_LINES.search(auths.tctl("status")))
    [known] = [each for each in auths.json("get", "auth_servers") if "auth-2" in str(each)]
    assert event["host_id"] == known["metadata"]["name"]


AUTH_LINES = re.compile(
    r"^Auth server +auth-1 127\.0\.0\.1:\d+ online\nAuth server +auth-2 127\.0\.0\.1:\d+ online$",
    re.MULTILINE,
)


def test_what_is_done_at_one_holds_at_the_other(auths: Auths) -> None:
    token = auths.token("node")
    assert token in [each["token"] for each in auths.ask_second("tokens", "ls")]
    wish = wanted(auths, token, "web-1", auths.second_address)
    join(wish)
    auths.run("tctl", "-c", str(auths.second_config), "tokens", "rm", token)
    with pytest.raises(Error, match="token expired or not found"):
        join(wanted(auths, token, "web-2", auths.address))


def test_a_third_one_without_keyring_and_token_is_told_what_to_do(auths: Auths) -> None:
    config = auths.configure("auth-3", auths.second_port)
    done = auths.run("start", "-c", str(config), "--roles=auth")
    assert done.returncode != 0
    assert "belongs to a cluster whose keyring is not on this host" in done.stderr
    assert "--token=TOKEN --auth-server" in done.stderr
    assert not (auths.root / "auth-3.keyring").exists()


def wanted(auths: Auths, token: str, name: str, *servers: str) -> JoinRequest:
    return JoinRequest(
        servers=servers,
        token=Secret(token),
        pins=(auths.pin,),
        roles=("Node",),
        node_name=name,
        clock=SystemClock(),
        say=lambda _: None,
    )


@dataclass
class Joiner:
    """Joins hosts, one after the other, and remembers what was answered."""

    auths: Auths
    token: str
    pin: str
    name: str
    joined: list[str] = field(default_factory=list)
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)

    def run(self, over: threading.Event) -> None:
        servers = (self.auths.address, self.auths.second_address)
        if self.name.endswith("1"):
            servers = servers[::-1]
        while not over.is_set():
            name = f"{self.name}-{len(self.joined)}"
            self.join(
                JoinRequest(
                    servers=servers,
                    token=Secret(self.token),
                    pins=(self.pin,),
                    roles=("Node",),
                    node_name=name,
                    clock=SystemClock(),
                    say=lambda _: None,
                )
            )

    def join(self, wish: JoinRequest) -> None:
        """As somebody who tries until it works."""
        begun = time.monotonic()
        while True:
            try:
                self.joined.append(join(wish).host_id)
                break
            except Error as why:
                self.failures.append(why.message)
                time.sleep(0.1)
        self.slowest = max(self.slowest, time.monotonic() - begun)


def test_one_is_killed_under_joins_and_nothing_that_was_answered_is_lost(auths: Auths) -> None:
    token, pin = auths.token("node,app"), auths.pin
    flags = (f"--token={token}", f"--auth-server={auths.address}", f"--ca-pin={pin}")
    node = auths.start("--roles=app", *flags, name="agent-1")
    node.wait_for(f"connected to auth at {auths.address}")
    told = auths.root / "agent-1" / "knowledge.json"
    eventually(lambda: told.exists() and auths.second_address in told.read_text(), what="the other")
    joiners = [Joiner(auths, token, pin, f"racer{number}") for number in range(2)]
    over = threading.Event()
    threads = [threading.Thread(target=each.run, args=(over,), daemon=True) for each in joiners]
    for thread in threads:
        thread.start()
    eventually(lambda: all(len(each.joined) >= 5 for each in joiners), what="joins")
    killed_at = time.monotonic()
    auths.auth.process.kill()
    before = [len(each.joined) for each in joiners]
    node.wait_for(f"connected to auth at {auths.second_address}")
    back = time.monotonic() - killed_at
    eventually(
        lambda: all(len(each.joined) >= had + 5 for each, had in zip(joiners, before, strict=True)),
        what="joins at the other one",
    )
    auths.start_auth()
    over.set()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    known = {each["metadata"]["name"] for each in auths.ask_second("get", "hosts")}
    answered = [host for each in joiners for host in each.joined]
    assert len(set(answered)) == len(answered) >= 20
    assert set(answered) <= known
    assert max(each.slowest for each in joiners) < NO_ERROR_LONGER
    assert back < BACK_WITHIN
    eventually(lambda: auths.states()["auth-1"] == "online")
    assert auths.ask_second("audit", "verify")["broken_at"] is None
