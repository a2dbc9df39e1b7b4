"""Tokens, users, their links and leases in a database and in memory, side by side, under whatever
comes to hypothesis' mind.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from teleport_lite.errors import Denied
from teleport_lite.model.user import User
from teleport_lite.secret import Secret
from teleport_lite.store.memory import MemoryStore
from teleport_lite.store.postgres import open_postgres
from teleport_lite.store.protocols import Store
from tests.store.conftest import Slate
from tests.store.makers import (
    MINUTE,
    T0,
    a_keyring,
    a_password,
    a_token,
    an_event,
    an_invite,
    open_file,
)

NAMES = st.sampled_from(["t1", "t2", "t3"])
KEYS = st.sampled_from(["k1", "k2", ""])
PEOPLE = st.sampled_from(["alice", "bob"])
LINKS = st.sampled_from(["a1", "a2", "b1", "b2"])  # of alice, of bob
ROLES = st.sampled_from([("Node",), ("App",), ("Node", "App"), ()])
# Half of the steps around the lifetimes below; forwards and back.
TIMES = st.integers(min_value=0, max_value=60).map(lambda minutes: T0 + minutes * MINUTE)
LIVES = st.sampled_from([None, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE])


class TwoStores(RuleBasedStateMachine):
    """A file, and a store that forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.prepare()
        self.file, self.memory = self.opened(), MemoryStore()

    def prepare(self) -> None:
        self.directory = Path(tempfile.mkdtemp())

    def opened(self) -> Store:
        return open_file(self.directory)

    def tidy(self) -> None:
        shutil.rmtree(self.directory)

    def both(self, change: Any) -> None:
        assert self.outcome(self.file, change) == self.outcome(self.memory, change)

    def outcome(self, store: Any, change: Any) -> Any:
        try:
            return store.write(change)
        except Denied:
            return "denied"

    @rule(
        name=NAMES,
        once=st.booleans(),
        life=LIVES,
        created=TIMES,
        dated=st.booleans(),
        roles=st.sampled_from([("Node",), ("Node", "App")]),
    )
    def add(self, name: str, once: bool, life: Any, created: Any, dated: bool, roles: Any) -> None:
        token = a_token(
            name,
            once=once,
            roles=roles,
            expires_at=None if life is None else created + life,
            created_at=created if dated else None,
        )
        self.both(lambda tx: tx.add_token(token))

    @rule(name=NAMES, key=KEYS, roles=ROLES, at=TIMES, fail=st.booleans())
    def spend(self, name: str, key: str, roles: Any, at: Any, fail: bool) -> None:
        def change(tx: Any) -> bool:
            spent = bool(tx.spend_token(name, roles=roles, key=key, now=at))
            tx.record(an_event(at=at, spent=str(spent)))
            if fail:
                raise Denied("no")
            return spent

        self.both(change)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.both(lambda tx: tx.remove_token(name))

    @rule(user=PEOPLE)
    def add_user(self, user: str) -> None:
        self.both(lambda tx: tx.add_user(User(name=user, roles=())))

    @rule(user=PEOPLE)
    def remove_user(self, user: str) -> None:
        self.both(lambda tx: tx.remove_user(user))

    @rule(link=LINKS, until=TIMES)
    def invite(self, link: str, until: Any) -> None:
        user = "alice" if link.startswith("a") else "bob"
        self.both(lambda tx: tx.put_invite(an_invite(link, user, expires_at=until)))

    @rule(link=LINKS, at=TIMES, fail=st.booleans())
    def use_invite(self, link: str, at: Any, fail: bool) -> None:
        user = "alice" if link.startswith("a") else "bob"

        def change(tx: Any) -> bool:
            used = tx.use_invite(link, now=at) and tx.put_password(a_password(user, set_at=at))
            if fail:
                raise Denied("no")
            return bool(used)

        self.both(change)

    @rule(user=PEOPLE, source=NAMES, at=TIMES)
    def note_login(self, user: str, source: str, at: Any) -> None:
        self.both(lambda tx: tx.note_login(user, source, at))

    @rule(holder=NAMES, at=TIMES, life=st.sampled_from([MINUTE, 10 * MINUTE]))
    def take_lease(self, holder: str, at: Any, life: Any) -> None:
        self.both(lambda tx: tx.take_lease("job", holder, now=at, until=at + life))

    @rule(fence=st.integers(min_value=1, max_value=4), drop=st.booleans())
    def use_lease(self, fence: int, drop: bool) -> None:
        self.both(lambda tx: tx.holds_lease("job", fence))
        if drop:
            self.both(lambda tx: tx.drop_lease("job", fence))

    @rule(at=TIMES)
    def sweep(self, at: Any) -> None:
        self.both(lambda tx: tx.sweep(at))

    @rule(at=TIMES)
    def record(self, at: Any) -> None:
        self.both(lambda tx: tx.record(an_event(at=at)))

    @rule()
    def restart(self) -> None:
        self.file.close()
        self.file = self.opened()

    @invariant()
    def they_agree(self) -> None:
        assert self.file.tokens() == self.memory.tokens()
        assert self.file.invites() == self.memory.invites()
        assert self.file.with_password() == self.memory.with_password()
        for user in ("alice", "bob"):
            assert self.file.password(user) == self.memory.password(user)
            assert self.file.login_sources(user) == self.memory.login_sources(user)
        assert self.file.lease("job") == self.memory.lease("job")
        assert self.file.events() == self.memory.events()
        assert self.file.verify_trail() == self.memory.verify_trail()

    def teardown(self) -> None:
        self.file.close()
        self.tidy()


class InPostgres(TwoStores):
    """A database, and a store that forgets."""

    slate: ClassVar[Slate]

    def prepare(self) -> None:
        self.slate.wipe()

    def opened(self) -> Store:
        return open_postgres(Secret(self.slate.conn_string), a_keyring())

    def tidy(self) -> None:
        """Wiped for the next one."""


@pytest.fixture
def slate_for_machine(slate: Slate) -> None:
    InPostgres.slate = slate


TestTwoStores = TwoStores.TestCase
TestInPostgres = pytest.mark.usefixtures("slate_for_machine")(InPostgres.TestCase)
TestInPostgres.settings = settings(max_examples=3, stateful_step_count=25)
TestTwoStores.settings = settings(max_examples=40, stateful_step_count=30)
