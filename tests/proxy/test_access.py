"""What a proxy decides by itself, with roles and locks as auth last told them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from teleport_lite.access.verdict import Allowed, Refused
from teleport_lite.agent.roots import roles_here
from teleport_lite.errors import Denied
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.user import Condition, Role
from teleport_lite.pki.verify import Peer
from teleport_lite.proto.resource import lock_doc
from teleport_lite.proto.stream import RootWord
from teleport_lite.proxy.access import Caller, Judge
from teleport_lite.testing.fakes import FakeClock
from tests.proxy.rig import ALICE, BOB, a_judge, a_lock, host_id, knowledge, route

PROD = route(1, labels={"env": "prod"})
DEV = route(2, labels={"env": "dev"})
BOT = Caller(user="ci", roles=("access",), traits={"logins": ("root",)}, bot_id="run-1")


def test_roles_decide_who_reaches_what() -> None:
    judge = a_judge()
    assert judge.may_reach(ALICE, PROD) == Allowed(by="access")
    assert judge.may_reach(BOB, PROD, "root") == Allowed(by="prod")
    assert isinstance(judge.may_reach(BOB, PROD, "alice"), Refused)
    assert isinstance(judge.may_reach(BOB, DEV), Refused)
    assert judge.may_see(BOB, PROD)
    assert not judge.may_see(BOB, DEV)


def test_a_role_that_is_gone_allows_nothing() -> None:
    ghost = Caller(user="carol", roles=("was-here",), traits={"logins": ("root",)})
    assert a_judge().may_reach(ghost, PROD) == Refused("no role allows any login here")


@pytest.mark.parametrize(
    ("target", "value", "caller", "login"),
    [
        (Target.USER, "alice", ALICE, ""),
        (Target.ROLE, "access", ALICE, ""),
        (Target.LOGIN, "root", ALICE, "root"),
        (Target.NODE, host_id(1), ALICE, ""),
        (Target.BOT, "run-1", BOT, ""),
    ],
)
def test_a_lock_on_any_of_them_refuses(
    target: Target, value: str, caller: Caller, login: str
) -> None:
    judge = a_judge(a_lock(target, value))
    verdict = judge.may_reach(caller, PROD, login)
    assert isinstance(verdict, Refused)
    assert f"{value} is locked" in verdict.reason
    refused_at_once = target in (Target.USER, Target.ROLE, Target.BOT)
    assert isinstance(judge.welcome(caller), Refused) is refused_at_once
    assert a_judge().may_reach(caller, PROD, login) == Allowed(by="access")


def test_a_lock_ends_when_it_says_so() -> None:
    clock = FakeClock()
    judge = Judge(clock)
    lock = a_lock(Target.USER, "alice")
    ends = clock.now() + timedelta(minutes=5)
    docs = knowledge(lock).locks
    docs[0]["spec"]["expires"] = ends.astimezone(UTC).isoformat()
    judge.learn(knowledge(locks=docs))
    assert isinstance(judge.may_reach(ALICE, PROD), Refused)
    clock.tick(minutes=6)
    assert judge.may_reach(ALICE, PROD) == Allowed(by="access")


def test_nobody_is_let_through_before_a_word_from_auth() -> None:
    judge = Judge(FakeClock())
    nothing = Refused("this proxy has heard nothing from auth yet")
    assert judge.welcome(ALICE) == nothing
    assert judge.may_reach(ALICE, PROD) == nothing
    assert not judge.may_see(ALICE, PROD)


def test_a_lock_that_can_not_be_read_refuses_everybody() -> None:
    broken = {"kind": "lock", "metadata": {"name": "x"}, "spec": {"target": {"planet": "mars"}}}
    judge = Judge(FakeClock(), knowledge(locks=[broken]))
    for caller in (ALICE, BOB):
        assert isinstance(judge.welcome(caller), Refused)
        assert not judge.may_see(caller, PROD)
    judge.learn(knowledge())
    assert judge.may_reach(ALICE, PROD) == Allowed(by="access")


def test_a_role_that_can_not_be_read_refuses_those_who_have_it() -> None:
    docs = [*knowledge().roles, {"kind": "role", "metadata": {"name": "odd"}, "spec": {"alow": 1}}]
    judge = Judge(FakeClock(), msgspec.structs.replace(knowledge(), roles=docs))
    odd = Caller(user="carol", roles=("access", "odd"), traits={"logins": ("root",)})
    verdict = judge.may_reach(odd, PROD)
    assert isinstance(verdict, Refused)
    assert verdict.reason.startswith("role odd can not be read")
    assert judge.may_reach(ALICE, PROD) == Allowed(by="access")


def test_a_certificate_without_traits_is_judged_by_labels() -> None:
    """X.509 certificates name roles only; which logins those mean the node finds out."""
    peer = Peer(
        kind="user",
        cluster="test.example",
        name="alice",
        roles=("access",),
        not_after=datetime.max.replace(tzinfo=UTC),
        bot_id="",
    )
    caller = Caller.of(peer)
    assert caller == Caller(user="alice", roles=("access",))
    assert a_judge().may_reach(caller, PROD) == Allowed(by="access")
    judge = Judge(FakeClock(), knowledge(roles=(Role(name="access", allow=Condition()),)))
    assert isinstance(judge.may_reach(caller, PROD), Refused)


# People of a cluster that ours trusts


def from_root(*roles: str, user: str = "alice") -> Caller:
    not_after = datetime.now(UTC)
    peer = Peer(kind="user", cluster="root.test", name=user, roles=roles, not_after=not_after)
    return Caller.from_root(peer)


def judge_with_root(*locks: Lock, **root: Any) -> Judge:
    words = {
        "cluster": "root.test",
        "user_cas": [],
        "ssh_user_cas": [],
        "role_map": [{"remote": "dev", "local": ["prod"]}],
    } | root
    return Judge(FakeClock(), knowledge(*locks, roots=[RootWord(**words)]))


def test_what_a_root_tells_of_costs_little_for_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand locks are read once, and looked through once a second for the same person."""
    looked = []
    monkeypatch.setattr(
        "teleport_lite.proxy.access.roles_here",
        lambda *words, **more: looked.append(words) or roles_here(*words, **more),
    )
    locks = [lock_doc(a_lock(Target.USER, f"mallory-{number}")) for number in range(1000)]
    judge = judge_with_root(locks=locks)
    caller = from_root("dev")
    assert all(judge.may_see(caller, PROD) for _ in range(1000))
    assert len(looked) == 1
    assert not judge.may_see(from_root("nothing"), PROD)
    assert not judge.may_see(from_root("dev", user="mallory-7"), PROD)
    assert judge.may_see(caller, PROD)
    clock = judge._clock
    assert isinstance(clock, FakeClock)
    clock.tick(seconds=1)
    assert judge.may_see(caller, PROD)
    assert len(looked) == 5
    judge.learn(knowledge(roots=[]))
    assert not judge.may_see(caller, PROD)


def test_a_visitor_has_the_roles_of_the_map() -> None:
    judge = judge_with_root()
    assert from_root("dev").user == "alice@root.test"
    assert judge.may_reach(from_root("dev"), PROD, "root") == Allowed(by="prod")
    assert isinstance(judge.may_reach(from_root("dev"), DEV, "root"), Refused)
    # "access" is a role of ours, too, and not what theirs of that name is worth.
    for caller in (from_root("access"), from_root()):
        assert isinstance(judge.welcome(caller), Refused)
        assert not judge.may_see(caller, PROD)


@pytest.mark.parametrize(
    ("target", "value", "refused"),
    [
        (Target.USER, "alice@root.test", True),
        (Target.ROLE, "prod", True),
        (Target.USER, "alice", False),
        (Target.ROLE, "dev", False),
    ],
)
def test_locks_are_about_what_visitors_are_called_here(
    target: Target, value: str, refused: bool
) -> None:
    judge = judge_with_root(a_lock(target, value))
    assert isinstance(judge.welcome(from_root("dev")), Refused) is refused


def test_locks_of_the_root_are_about_what_they_are_called_there() -> None:
    locks = [lock_doc(a_lock(Target.USER, "alice"))]
    judge = judge_with_root(locks=locks)
    assert isinstance(judge.welcome(from_root("dev")), Refused)
    assert judge.welcome(from_root("dev", user="bob")) == Allowed(by="no lock")
    assert judge.welcome(ALICE) == Allowed(by="no lock")


def test_visitors_leave_with_the_trust() -> None:
    judge = judge_with_root()
    judge.learn(knowledge())
    assert judge.welcome(from_root("dev")) == Refused("cluster root.test is not trusted here")


def test_a_name_that_no_lock_fits_is_nobody_s() -> None:
    with pytest.raises(Denied, match="longer than 128"):
        from_root("dev", user="a" * 128)
