"""Random lives of join tokens on a real database, against a model of a page: whatever is added,
used, removed, expires or is restarted in whatever order, auth and the model say the same."""

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from teleport_lite.auth import tokens as auth_tokens
from teleport_lite.errors import Conflict, Denied, NotFound
from teleport_lite.secret import Secret
from tests.auth.bench import Applicant, Bench, name_of, stranger
from tests.faults.report import Run
from tests.store.makers import open_file

NAMES = st.sampled_from(["first-token-of-them", "second-token-of-them"])
KEYS = st.integers(0, 2)
LIVES = st.sampled_from([1, 5, 30])  # minutes
STEPS = st.sampled_from([1, 59, 60, 299, 300, 599, 600, 1800])  # seconds
REPLAY = timedelta(minutes=10)


@dataclass
class Token:
    once: bool
    expires: datetime
    dies: datetime  # from then on not even its owner may use it again
    owner: str = ""  # key of the host that has used it, if it is for one use


@dataclass
class Model:
    """What has to be true, without a database, a thread or a secret."""

    tokens: dict[str, Token] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)  # UUID by key

    def add(self, name: str, once: bool, expires: datetime, now: datetime) -> bool:
        there = self.tokens.get(name)
        if there is not None and now < there.expires:
            return False
        self.tokens[name] = Token(once, expires, expires)
        return True

    def join(self, name: str, key: str, now: datetime) -> bool:
        token = self.tokens.get(name)
        if token is None or now >= token.dies:
            return False
        if token.once and token.owner not in ("", key):
            return False
        if token.once and not token.owner:
            token.owner, token.dies = key, min(token.dies, now + REPLAY)
        return True

    def remove(self, name: str, now: datetime) -> bool:
        if name not in self.live(now):
            return False
        del self.tokens[name]
        return True

    def live(self, now: datetime) -> set[str]:
        """As they are listed: until they expire, used or not."""
        return {name for name, each in self.tokens.items() if now < each.expires}


class Life(RuleBasedStateMachine):
    """Auth with everything but its network, and three hosts for each token."""

    founded: ClassVar[Path]  # a cluster without tokens: its CAs take time to make
    runs: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    restarts: ClassVar[int] = 0
    lives: ClassVar[int] = 0
    hosts: ClassVar[dict[tuple[str, int], Applicant]] = {}  # keys take time to make

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="tl-history-", dir=_quick_place()))
        shutil.copytree(Life.founded, self.directory, dirs_exist_ok=True)
        self.bench = Bench(store=open_file(self.directory))
        self.model = Model()
        Life.runs += 1

    @property
    def now(self) -> datetime:
        return self.bench.clock.now()

    @rule(name=NAMES, once=st.booleans(), minutes=LIVES)
    def add(self, name: str, once: bool, minutes: int) -> None:
        wanted = self.model.add(name, once, self.now + timedelta(minutes=minutes), self.now)
        try:
            self.bench.token("bot" if once else "node", text=name, ttl=f"{minutes}m")
            made = True
        except Conflict:
            made = False
        assert made == wanted, f"add {name}"

    @rule(name=NAMES, number=KEYS)
    def join(self, name: str, number: int) -> None:
        who = self._host(name, number)
        token = self.model.tokens.get(name)
        who.roles = ("Bot",) if token is not None and token.once else ("Node",)
        key = f"{who.name}, {who.roles}"
        wanted = self.model.join(name, key, self.now)
        Life.steps += 1
        try:
            host_id = self.bench.join(who, stranger(f"10.{Life.steps % 250}.{number}.1")).host_id
        except Denied:
            assert not wanted, f"{key} was refused"
            return
        assert wanted, f"{key} was let in"
        assert self.model.hosts.setdefault(key, host_id) == host_id, "it is another host now"

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        wanted = self.model.remove(name, self.now)
        try:
            self.bench.ask("/v1/tokens/remove", token=name)
            removed = True
        except NotFound:
            removed = False
        assert removed == wanted, f"remove {name}"

    @rule(seconds=STEPS)
    def time_passes(self, seconds: int) -> None:
        self.bench.later(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        self.bench.store.write(lambda tx: tx.sweep(self.now))

    @rule()
    def restart(self) -> None:
        Life.restarts, Life.lives = Life.restarts + 1, Life.lives + 1
        self.bench.store.close()
        self.bench = Bench(
            store=open_file(self.directory), clock=self.bench.clock, seed=f"life-{Life.lives}"
        )

    @invariant()
    def they_agree(self) -> None:
        listed = {each["token"] for each in self.bench.ask("/v1/tokens/list")["tokens"]}
        assert listed == self.model.live(self.now)
        assert set(self.bench.hosts()) <= set(self.model.hosts.values())

    def teardown(self) -> None:
        came = {e.facts["host_id"] for e in self.bench.events("instance.join") if e.outcome == "ok"}
        broken = self.bench.store.verify_trail()[1]
        self.bench.store.close()
        shutil.rmtree(self.directory)
        assert broken is None
        assert came == set(self.model.hosts.values()), "the trail tells of others"

    def _host(self, name: str, number: int) -> Applicant:
        if (name, number) not in Life.hosts:
            Life.hosts[name, number] = Applicant(name, f"{name.partition('-')[0]}-{number}")
        return Life.hosts[name, number]


def name_of_secret(text: Secret) -> str:
    return name_of(text.reveal())


def _quick_place() -> str | None:
    """That kill -9 and power cuts lose nothing is shown elsewhere; here the order counts."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def tokens(run: Run) -> None:
    """Add, join, remove, expire, restart in any order."""
    runs, different = run.size(15, 5000), list[str]()
    Life.runs = Life.restarts = Life.steps = 0
    Life.founded = run.directory("founded")
    Bench(store=open_file(Life.founded)).store.close()
    how = settings(
        max_examples=runs,
        stateful_step_count=20,
        deadline=None,
        phases=(Phase.generate,),  # the history that differs is told as it is
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    slow = auth_tokens.token_name
    # Slow on purpose, and always the same for the same token.
    auth_tokens.token_name = name_of_secret  # type: ignore[attr-defined]
    try:
        run_state_machine_as_test(seed(run.seed)(Life), settings=how)
    except AssertionError as why:
        different.append(" ".join([str(why), *getattr(why, "__notes__", ())]))
    finally:
        auth_tokens.token_name = slow  # type: ignore[attr-defined]
    run.report.fault("restart of auth", Life.restarts)
    run.report.at_least("lives", Life.runs, runs, count=Life.runs)
    run.report.told("joins asked for", Life.steps, count=Life.runs)
    run.report.none("differences from the model", different, count=Life.runs)
