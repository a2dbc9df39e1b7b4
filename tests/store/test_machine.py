"""Tokens, users and their links in both stores, side by side, under whatever comes to

hypothesis' mind.
"""

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from teleport_lite.errors import Denied
from teleport_lite.model.user import User
from teleport_lite.store.memory import MemoryStore
from tests.store.makers import MINUTE, T0, a_password, a_token, an_event, an_invite, open_file

NAMES = st.sampled_from(["t1", "t2", "t3"])
KEYS = st.sampled_from(["k1", "k2", ""])
PEOPLE = st.sampled_from(["alice", "bob"])
LINKS = st.sampled_from(["a1", "a2", "b1", "b2"])  # of alice, of bob
ROLES = st.sampled_from([("Node",), ("App",), ("Node", "App"), ()])
# Half of the steps around the lifetimes below; forwards and back.
TIMES = st.integers(min_value=0, max_value=60).map(lambda minutes: T0 + minutes * MINUTE)
LIVES = st.sampled_from([None, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE])


class TwoStores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.file, self.memory = open_file(self.directory), MemoryStore()

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

    @rule(at=TIMES)
    def sweep(self, at: Any) -> None:
        self.both(lambda tx: tx.sweep(at))

    @rule(at=TIMES)
    def record(self, at: Any) -> None:
        self.both(lambda tx: tx.record(an_event(at=at)))

    @rule()
    def restart(self) -> None:
        self.file.close()
        self.file = open_file(self.directory)

    @invariant()
    def they_agree(self) -> None:
        assert self.file.tokens() == self.memory.tokens()
        assert self.file.invites() == self.memory.invites()
        assert self.file.with_password() == self.memory.with_password()
        for user in ("alice", "bob"):
            assert self.file.password(user) == self.memory.password(user)
            assert self.file.login_sources(user) == self.memory.login_sources(user)
        assert self.file.events() == self.memory.events()
        assert self.file.verify_trail() == self.memory.verify_trail()

    def teardown(self) -> None:
        self.file.close()
        shutil.rmtree(self.directory)


TestTwoStores = TwoStores.TestCase
TestTwoStores.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=timedelta(seconds=20)
)
