"""Sessions that are open now: who is told of them, who may join."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.auth import sessions
from teleport_lite.errors import Conflict, Denied, Malformed, NotFound
from teleport_lite.model.user import Condition, JoinRule, Role, Rule
from teleport_lite.proto.stream import MAX_SESSIONS, Beat, FromAgent, LiveSession, StreamHello
from teleport_lite.testing.fakes import T0
from tests.auth.bench import ROOT, the_host
from tests.auth.tapes import DB, SID, WEB, Archive, person, sid
from tests.auth.test_stream import Wire


def a_session(**changes: Any) -> LiveSession:
    fields: dict[str, Any] = {
        "sid": SID,
        "user": "alice",
        "login": "root",
        "started": T0.timestamp() - 5,
        "addr": "192.0.2.9",
        "command": "",
        "recorded": True,
    }
    return LiveSession(**(fields | changes))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made = Archive(tmp_path)
    rule = JoinRule(name="help", roles=("access",), kinds=("ssh",), modes=("observer",))
    helper = Role(name="helper", allow=Condition(join_sessions=(rule,)))
    made.store.write(lambda tx: tx.add_role(helper))
    made.ask("/v1/users/add", name="bob", roles=["helper"])
    made.ask("/v1/users/add", name="carol", roles=["access"])
    made.desks.sessions.beat(WEB, [a_session()])
    return made


BOB, CAROL = person("bob", "helper"), person("carol", "access")


def listed(archive: Archive, caller: Any) -> list[dict[str, Any]]:
    found = archive.ask("/v1/sessions/list", caller)["sessions"]
    assert isinstance(found, list)
    return found


def test_a_session_is_shown_with_its_host(archive: Archive) -> None:
    [shown] = listed(archive, archive.audra)
    assert shown == {
        "sid": SID,
        "kind": "ssh",
        "user": "alice",
        "login": "root",
        "host_id": WEB,
        "host_name": "web-1",
        "started": "2026-03-02T11:59:55Z",
        "addr": "192.0.2.9",
        "command": "",
        "parties": [],
        "recorded": True,
        "modes": [],
    }


def test_everybody_sees_her_own_and_what_she_may_join(archive: Archive) -> None:
    archive.desks.sessions.beat(DB, [a_session(sid=sid(1), user="ed")])

    def seen(caller: Any) -> list[tuple[str, list[str]]]:
        return sorted((each["sid"], each["modes"]) for each in listed(archive, caller))

    assert seen(archive.alice) == [(SID, ["observer", "peer"])]
    assert seen(BOB) == [(SID, ["observer"])]
    assert seen(CAROL) == []
    assert seen(archive.audra) == [(sid(1), []), (SID, [])]
    assert seen(archive.ed) == [(sid(1), ["observer", "peer"]), (SID, [])]
    assert seen(ROOT) == [(sid(1), []), (SID, [])]


def test_the_latest_is_first(archive: Archive) -> None:
    late = a_session(sid=sid(1), started=T0.timestamp())
    archive.desks.sessions.beat(WEB, [a_session(), late])
    assert [each["sid"] for each in listed(archive, archive.alice)] == [sid(1), SID]


def test_a_host_that_is_silent_has_no_sessions(archive: Archive) -> None:
    archive.clock.tick(seconds=sessions.SILENCE + 1)
    assert listed(archive, archive.alice) == []


def test_what_a_beat_leaves_out_is_over(archive: Archive) -> None:
    archive.desks.sessions.beat(WEB, [a_session(sid=sid(1))])
    assert [each["sid"] for each in listed(archive, archive.alice)] == [sid(1)]
    archive.desks.sessions.beat(WEB, [])
    assert listed(archive, archive.alice) == []


def test_a_deny_hides_even_ones_own(archive: Archive) -> None:
    deny = Condition(rules=(Rule(resources=("session",), verbs=("list",)),))
    archive.store.write(lambda tx: tx.add_role(Role(name="blind", deny=deny)))
    archive.ask("/v1/users/update", name="alice", roles=["access", "blind"])
    with pytest.raises(Denied, match="role blind denies list on session"):
        listed(archive, person("alice", "access", "blind"))


def test_who_does_not_exist_any_more_sees_and_joins_nothing(archive: Archive) -> None:
    archive.ask("/v1/users/remove", name="alice")
    for path, words in (("/v1/sessions/list", {}), ("/v1/sessions/join", {"sid": SID})):
        with pytest.raises(Denied, match="does not exist any more"):
            archive.ask(path, archive.alice, **words)


# What a host says


def test_what_a_host_says_is_bounded(archive: Archive) -> None:
    long = "x" * 10_000
    archive.desks.sessions.beat(
        WEB,
        [
            a_session(
                user=long, login=long, addr=long, command=long, parties=[long] * 100, started=1e300
            ),
            a_session(sid="../x"),
            a_session(sid=sid(1), started=float("nan")),
        ],
    )
    [shown] = listed(archive, archive.audra)
    assert len(str(shown)) < 8_000
    assert shown["started"] == "2026-03-02T12:00:00Z"


def test_a_host_has_so_many_sessions_and_no_more(archive: Archive) -> None:
    many = [a_session(sid=sid(number)) for number in range(MAX_SESSIONS + 50)]
    archive.desks.sessions.beat(WEB, many)
    assert len(listed(archive, archive.audra)) == MAX_SESSIONS


def test_what_is_over_is_forgotten_in_the_end(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_OVER", 3)
    for number in range(6):
        archive.desks.sessions.beat(WEB, [a_session(sid=sid(number))])
    desk = archive.desks.sessions
    assert [desk.known(sid(number)) is not None for number in range(6)] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


def test_beats_of_nodes_tell_of_sessions_and_others_do_not(archive: Archive) -> None:
    hello = FromAgent(hello=StreamHello(version="1", roles=["Node"], boot_id="b"))
    beat = FromAgent(beat=Beat(time=T0.timestamp(), sessions=[a_session(sid=sid(7))]))
    for caller, expected in ((the_host(DB, "App"), False), (the_host(DB, "Node"), True)):
        wire = Wire(archive, caller=caller)
        wire.say(hello)
        wire.say(beat)
        found = archive.desks.sessions.live(sid(7))
        assert (found is not None) is expected
        wire.stream.closed()


# Joining


def join(archive: Archive, caller: Any, session: str = SID, mode: str = "observer") -> Any:
    return archive.ask("/v1/sessions/join", caller, sid=session, mode=mode)


def test_who_may_join_learns_where(archive: Archive) -> None:
    found = join(archive, BOB)
    assert (found["host_id"], found["host_name"], found["login"]) == (WEB, "web-1", "root")
    assert (found["sid"], found["mode"], found["user"]) == (SID, "observer", "alice")
    assert join(archive, archive.alice, mode="peer")["mode"] == "peer"


def test_who_may_not_is_told_why_and_the_trail_too(archive: Archive) -> None:
    with pytest.raises(Denied, match="no role allows joining this session as peer") as why:
        join(archive, BOB, mode="peer")
    assert "join_sessions" in why.value.hint
    with pytest.raises(Denied):
        join(archive, CAROL)
    first, second = archive.told("session.join")
    assert (first.code, first.outcome) == ("T2001E", "denied")
    assert first.facts["mode"] == "peer"
    assert first.facts["owner"] == "alice"
    assert (first.facts["user"], second.facts["user"]) == ("user:bob", "user:carol")


def test_roles_of_the_owner_count_as_they_are_now(archive: Archive) -> None:
    archive.ask("/v1/users/update", name="alice", roles=["editor"])
    with pytest.raises(Denied):
        join(archive, BOB)
    archive.ask("/v1/users/remove", name="alice")
    with pytest.raises(Denied):
        join(archive, BOB)


def test_what_is_not_open_can_not_be_joined(archive: Archive) -> None:
    with pytest.raises(NotFound, match="is not open") as why:
        join(archive, BOB, sid(9))
    assert why.value.hint == "tsh sessions ls"
    archive.desks.sessions.beat(WEB, [])
    with pytest.raises(Conflict, match="is over") as over:
        join(archive, BOB)
    assert over.value.hint == f"tsh play {SID}"


@pytest.mark.parametrize(("session", "mode"), [("x", "observer"), (SID, "moderator"), (SID, "")])
def test_words_that_mean_nothing_are_refused(archive: Archive, session: str, mode: str) -> None:
    with pytest.raises(Malformed):
        join(archive, BOB, session, mode)


def test_the_socket_is_nobody(archive: Archive) -> None:
    with pytest.raises(Denied, match="the socket is nobody who could join"):
        join(archive, ROOT)


# Hosts that have been taken over


def test_a_host_does_not_take_the_session_of_another(archive: Archive) -> None:
    desk = archive.desks.sessions
    desk.beat(DB, [a_session(sid=sid(1)), a_session(login="trap")])
    assert [each["login"] for each in listed(archive, archive.audra) if each["sid"] == SID] == [
        "root"
    ]
    assert archive.ask("/v1/sessions/join", BOB, sid=SID)["host_id"] == WEB
    desk.beat(WEB, [])
    desk.beat(DB, [a_session(login="trap")])
    assert desk.live(SID) is None
    assert desk.known(SID) == WEB


def test_a_host_that_makes_up_sessions_pushes_out_its_own_alone(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_OVER", 3)
    desk = archive.desks.sessions
    desk.beat(WEB, [])
    for number in range(1, 20):
        desk.beat(DB, [a_session(sid=sid(number))])
    assert desk.known(SID) == WEB
    assert [number for number in range(1, 20) if desk.known(sid(number))] == [16, 17, 18, 19]


def test_a_session_that_a_beat_left_out_may_come_back(archive: Archive) -> None:
    desk = archive.desks.sessions
    for _ in range(3):
        desk.beat(WEB, [])
        assert (desk.live(SID), desk.known(SID)) == (None, WEB)
        desk.beat(WEB, [a_session()])
        assert desk.live(SID) is not None


def test_many_sessions_of_few_users_are_few_questions(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [a_session(sid=sid(number)) for number in range(MAX_SESSIONS)]
    archive.desks.sessions.beat(DB, many)
    real, asked = archive.store.user, Counter[str]()

    def counted(name: str) -> Any:
        asked[name] += 1
        return real(name)

    monkeypatch.setattr(archive.store, "user", counted)
    assert len(listed(archive, BOB)) == MAX_SESSIONS + 1
    assert asked["alice"] <= 2
