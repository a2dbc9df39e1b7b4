"""Coming into a session that somebody else has begun."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from teleport_lite.model.lock import Target
from teleport_lite.model.user import Condition, JoinRule, Role
from teleport_lite.node.party import PLACE, Parlour, sweep
from teleport_lite.node.wire import Join, Reply
from tests.node.house import ME, ROLE, House, Visitor, running
from tests.node.test_recording import Screen
from tests.support import eventually

WATCHER = Role(
    name="watcher",
    allow=Condition(
        join_sessions=(
            JoinRule(name="look", roles=("access",), kinds=("ssh",), modes=("observer",)),
        )
    ),
)
HELPER = Role(
    name="helper",
    allow=Condition(
        join_sessions=(JoinRule(name="help", roles=("access",), kinds=("ssh",), modes=("peer",)),)
    ),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running(tmp_path_factory.mktemp("shared")) as house:
        house.roles = [ROLE, WATCHER, HELPER]
        house.save_knowledge()
        yield house


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    with running(tmp_path) as house:
        house.roles = [ROLE, WATCHER, HELPER]
        house.save_knowledge()
        yield house


def visitor(house: House, name: str, *roles: str) -> Visitor:
    return house.visitor(house.cluster.user(name, roles=("access", *roles), logins=(ME,)))


class Talk:
    """Alice's session: what is typed there comes back."""

    def __init__(self, house: House, marker: str, then: str = "cat") -> None:
        command = f"echo {marker}; stty -echo; {then}"
        self.house, self.screen = house, Screen(visitor(house, "alice"), command)
        self.screen.until(marker.encode())
        self.sid = house.event("T2000I", command=command)["facts"]["sid"]
        eventually((house.data_dir / PLACE / f"{self.sid}.sock").exists)

    def join(self, who: Visitor, mode: str) -> Screen:
        set_env = f"-oSetEnv=TELEPORT_SESSION={self.sid} TELEPORT_JOIN_MODE={mode}"
        return Screen(who, "join@teleport-lite", options=("-tt", "-s", set_env))

    def end(self) -> None:
        self.screen.type(b"\x04")
        self.screen.end()


@pytest.fixture
def talk(shared: House, request: pytest.FixtureRequest) -> Iterator[Talk]:
    talk = Talk(shared, f"marker-{request.node.name}")
    yield talk
    talk.end()


def test_an_observer_sees_and_does_not_type(shared: House, talk: Talk) -> None:
    bob = talk.join(visitor(shared, "bob", "watcher"), "observer")
    bob.until(b"joined session of alice as observer")
    talk.screen.until(b"bob has joined as observer")
    bob.until(b"their screen has 80 columns and 24 rows")
    bob.type(b"never\n")
    talk.screen.type(b"hello\n")
    bob.until(b"hello")
    talk.screen.until(b"hello")
    assert b"never" not in talk.screen.seen
    joined = shared.event("T2001I", sid=talk.sid)["facts"]
    assert (joined["user"], joined["owner"], joined["mode"]) == ("bob", "alice", "observer")
    assert joined["addr.remote"] != joined["addr.local"]
    # ^C leaves, and does not reach the session.
    bob.type(b"\x03")
    assert bob.end() == 0
    talk.screen.until(b"bob has left")
    shared.event("T2003I", sid=talk.sid, user="bob")
    talk.screen.type(b"still\n")
    talk.screen.until(b"still")


def test_a_peer_types_and_leaves_by_the_escape(shared: House, talk: Talk) -> None:
    bob = talk.join(visitor(shared, "bob", "helper"), "peer")
    bob.until(b"joined session of alice as peer")
    bob.type(b"from bob\n")
    talk.screen.until(b"from bob")
    bob.until(b"from bob")
    bob.type(b"\r~.")
    bob.end()
    talk.screen.until(b"bob has left")
    talk.screen.type(b"still\n")
    talk.screen.until(b"still")


def test_a_peers_size_is_not_the_sessions(shared: House, talk: Talk) -> None:
    bob = talk.join(visitor(shared, "bob", "watcher"), "observer")
    bob.until(b"80 columns")
    bob.resize(20, 10)
    talk.screen.resize(101, 31)
    bob.until(b"their screen has 101 columns and 31 rows")
    bob.type(b"\x03")
    bob.end()


@pytest.mark.parametrize(
    ("roles", "mode", "reason"),
    [
        ((), "observer", "no role allows joining this session as observer"),
        (("watcher",), "peer", "no role allows joining this session as peer"),
        (("watcher",), "moderator", "sessions are joined as observer or peer"),
    ],
    ids=["no-role", "wrong-mode", "odd-mode"],
)
def test_who_may_not_join_is_told_why(
    shared: House, talk: Talk, roles: tuple[str, ...], mode: str, reason: str
) -> None:
    bob = talk.join(visitor(shared, "bob", *roles), mode)
    bob.until(reason.encode())
    assert bob.end() != 0
    denied = shared.event("T2001E", sid=talk.sid, reason=reason)
    assert (denied["outcome"], denied["facts"]["user"]) == ("denied", "bob")
    assert b"bob" not in talk.screen.seen


def test_ones_own_session_needs_no_rule(shared: House, talk: Talk) -> None:
    again = talk.join(visitor(shared, "alice"), "peer")
    again.until(b"joined session of alice as peer")
    again.type(b"me again\n")
    talk.screen.until(b"me again")
    again.type(b"\r~.")
    again.end()


@pytest.mark.parametrize(
    "sid", ["", "../../identity", "00000000-0000-4000-8000-000000000000"], ids=str
)
def test_a_session_that_does_not_exist(shared: House, sid: str) -> None:
    options = ("-tt", "-s", f"-oSetEnv=TELEPORT_SESSION={sid}")
    bob = Screen(visitor(shared, "bob", "watcher"), "join@teleport-lite", options=options)
    bob.until(b"no such session")
    assert bob.end() != 0


def test_the_end_of_the_session_is_the_end_for_all(shared: House) -> None:
    talk = Talk(shared, "marker-end")
    bob = talk.join(visitor(shared, "bob", "watcher"), "observer")
    bob.until(b"joined session")
    talk.end()
    bob.until(b"the session is over")
    assert bob.end() == 0
    socket_of = shared.data_dir / PLACE / f"{talk.sid}.sock"
    eventually(lambda: not socket_of.exists(), what="the door to go")
    shared.event("T2003I", sid=talk.sid, user="bob")


def test_who_does_not_look_is_dropped_and_the_session_goes_on(shared: House) -> None:
    # Until all windows and buffers on the way are full.
    flood = "read x; yes $(printf %01000d 0) & read y; kill $!; echo flooded; cat"
    talk = Talk(shared, "marker-slow", flood)
    bob = talk.join(visitor(shared, "bob", "watcher"), "observer")
    bob.until(b"joined session")
    os.kill(bob.client.pid, signal.SIGSTOP)
    talk.screen.type(b"\n")
    talk.screen.until(b"bob has left")
    talk.screen.type(b"\n")
    talk.screen.until(b"flooded")
    os.kill(bob.client.pid, signal.SIGCONT)
    bob.end()
    talk.end()


def test_a_lock_on_the_session_cuts_who_has_joined(own: House) -> None:
    talk = Talk(own, "marker-cut")
    bob = talk.join(visitor(own, "bob", "watcher"), "observer")
    bob.until(b"joined session")
    own.lock(Target.USER, "alice")
    own.tell("recheck")
    bob.until(b"the session is over")
    bob.end()
    talk.screen.end()
    own.event("T2003I", sid=talk.sid, user="bob")


def test_a_lock_on_who_has_joined_cuts_them_alone(own: House) -> None:
    talk = Talk(own, "marker-cut-peer")
    bob = talk.join(visitor(own, "bob", "helper"), "peer")
    bob.until(b"joined session")
    own.lock(Target.USER, "bob")
    own.tell("recheck")
    bob.end()
    talk.screen.until(b"bob has left")
    talk.screen.type(b"still\n")
    talk.screen.until(b"still")
    talk.end()


def test_a_role_that_is_taken_away_ends_the_visit(own: House) -> None:
    talk = Talk(own, "marker-role")
    bob = talk.join(visitor(own, "bob", "watcher"), "observer")
    bob.until(b"joined session")
    own.roles = [ROLE]
    own.save_knowledge()
    own.tell("recheck")
    bob.until(b"the session is over for you")
    bob.end()
    talk.screen.until(b"bob has left")
    talk.end()


def test_nobody_else_gets_near_the_doors(own: House) -> None:
    talk = Talk(own, "marker-modes")
    place = own.data_dir / PLACE
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / f"{talk.sid}.sock").stat().st_mode & 0o777 == 0o600
    monitor = own.one("tl-ssh-monitor")
    os.kill(monitor, signal.SIGKILL)
    talk.screen.end()
    # It is left behind, until somebody looks.
    assert (place / f"{talk.sid}.sock").exists()

    def swept() -> bool:
        sweep(own.data_dir)
        return not (place / f"{talk.sid}.sock").exists()

    eventually(swept)


def test_the_daemon_knows_who_is_in(own: House) -> None:
    talk = Talk(own, "marker-known")
    bob = talk.join(visitor(own, "bob", "watcher"), "observer")
    bob.until(b"joined session")

    def known() -> bool:
        own.tell("parties")
        return own.hear() == {talk.sid: {"parties": ["bob"], "recorded": True}}

    eventually(known)
    bob.type(b"\x03")
    bob.end()
    talk.end()


def test_a_worker_that_lies_visits_no_more_sessions_than_there_are_channels() -> None:
    """Each visit is a descriptor of the monitor's, which needs some to end the connection."""
    # A socket's name has 107 bytes at most (unix(7)); that of this test has many of them.
    with tempfile.TemporaryDirectory() as directory:
        visit_often(Path(directory))


def visit_often(tmp_path: Path) -> None:
    parlour = Parlour(tmp_path, cast(Any, None))
    welcome = SimpleNamespace(
        force_command=None, visitor=SimpleNamespace(user="mallory", roles=("access",))
    )
    parlour.moved_in(cast(Any, welcome), cast(Any, None), "192.0.2.7:4000")
    sid = "00000000-0000-4000-8000-000000000001"
    (tmp_path / PLACE).mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(str(tmp_path / PLACE / f"{sid}.sock"))
        door.listen(100)
        answers: list[Reply] = []
        for _ in range(12):
            parlour.visit(Join(channel=0, sid=sid, mode="peer"), answers.append)
        assert len(list(parlour.wants())) == 10
        assert [answer.reason for answer in answers] == ["teleport-lite: too many sessions"] * 2
        parlour.close_all()
