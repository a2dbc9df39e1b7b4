"""Random lives of a cluster that is rotated, against what must hold at any moment.

`RUNS=2000 pytest tests/auth/test_rotation_walks.py` takes longer and goes further.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from teleport_lite.auth.phases import FROM, NEW_SIGNS
from teleport_lite.errors import Conflict, Denied
from teleport_lite.model.authority import CaType
from teleport_lite.model.rotation import Phase
from teleport_lite.pki.pin import issuer_pin, pin_of
from tests.auth.bench import Bench
from tests.auth.fleet import Member

HOSTS = st.integers(0, 1)


class Life(RuleBasedStateMachine):
    """Two hosts, of which one may sleep for long; auth restarts when it likes."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.members = [Member(self.bench, f"web-{number}").come() for number in range(2)]
        self.lives = 0
        self.made = {keys.id for keys in self.bench.store.cas(CaType.HOST)}
        self.begun = 0

    @rule(phase=st.sampled_from(Phase), force=st.booleans())
    def step(self, phase: Phase, force: bool) -> None:
        before = self.bench.store.rotation(CaType.HOST)
        online = self.bench.desks.rotation.progress(CaType.HOST).waiting
        try:
            self.bench.ask(
                "/v1/auth/rotate", types=["host"], phase=phase.value, manual=True, force=force
            )
        except Conflict:
            legal = before.phase in FROM[phase]
            assert not legal or (phase is Phase.STANDBY and online and not force)
            assert self.bench.store.rotation(CaType.HOST) == before
            return
        assert before.phase in FROM[phase]
        self.begun += phase is Phase.INIT
        after = self.bench.store.rotation(CaType.HOST)
        assert (after.phase, after.serial) == (phase, before.serial + 1)

    @rule(number=HOSTS)
    def follow(self, number: int) -> None:
        member = self.members[number]
        if not member.gone():
            member.follow()

    @rule(number=HOSTS)
    def come(self, number: int) -> None:
        """With whatever it has; who has missed the end joins again, and is the same."""
        member = self.members[number]
        try:
            member.come()
        except Denied:
            trusted = {keys.public.tls_cert for keys in self.bench.store.cas(CaType.HOST)}
            assert self._issuer(member) not in trusted
            self._rejoin(member)
            member.come()

    @rule(hours=st.integers(0, 30))
    def time_passes(self, hours: int) -> None:
        self.bench.later(hours=hours)
        self.bench.desks.rotation.tick()

    @rule()
    def auth_dies(self) -> None:
        self.lives += 1
        self.bench = Bench(
            store=self.bench.store, clock=self.bench.clock, seed=f"life-{self.lives}"
        )
        for member in self.members:
            member.bench = self.bench
            member.heard.append(None)

    @invariant()
    def what_always_holds(self) -> None:
        if not hasattr(self, "bench"):
            return
        rotation, cas = self.bench.store.rotation(CaType.HOST), self.bench.store.cas(CaType.HOST)
        running = rotation.phase is not Phase.STANDBY
        assert len(cas) == (2 if running else 1)
        [active] = [keys.id for keys in cas if keys.active]
        if running:
            signs = rotation.new_ca if rotation.phase in NEW_SIGNS else rotation.old_ca
            assert active == signs
        self.made |= {keys.id for keys in cas}
        assert len(self.made) == 1 + self.begun, "each rotation makes one key pair"
        assert set(self.bench.desks.cas.pins()) == {pin_of(keys.public.tls_cert) for keys in cas}
        assert not {each.id for each in rotation.retired} & {keys.id for keys in cas}
        for member in self.members:  # who is connected after standby could come again
            caught_up = member.welcome.rotation == rotation.mark
            if not running and caught_up and not member.gone():
                assert self._issuer(member) == cas[0].public.tls_cert

    def _issuer(self, member: Member) -> str:
        return next((ca for ca in member.welcome.host_cas if issued(member, ca)), "")

    def _rejoin(self, member: Member) -> None:
        member.who.text = self.bench.token(text=f"again-{self.lives}-{len(self.bench.events())}")
        member.who.host_id = before = member.id
        member.welcome = self.bench.join(member.who)
        assert member.id == before


def issued(member: Member, ca: str) -> bool:
    return bool(issuer_pin(member.welcome.tls_cert, [ca]))


Life.TestCase.settings = settings(
    max_examples=int(os.environ.get("RUNS", "12")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLife = Life.TestCase
