"""The agent of a process: its stream, its labels, its renewals."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent import identity as identities
from teleport_lite.agent import knowledge
from teleport_lite.agent.join import join
from teleport_lite.agent.link import SOON_AGAIN
from teleport_lite.agent.record_spool import PLACE
from teleport_lite.auth.desks import Keeping
from teleport_lite.config.model import LabelCommand
from teleport_lite.daemon.agent_role import AgentRole
from teleport_lite.daemon.health import Health, State
from teleport_lite.errors import Unavailable
from teleport_lite.model.host import Resource, presence
from teleport_lite.proto.stream import AgentEvent, LiveSession
from teleport_lite.testing.fakes import FakeChance
from tests.agent.rig import Auth
from tests.auth.tapes import SID, a_tape, sid
from tests.auth.test_sessions import a_session
from tests.daemon.configs import a_config
from tests.support import eventually, free_port


class Running:
    """An agent with everything it tells within reach."""

    def __init__(self, auth: Auth, home: Path, *, servers: tuple[str, ...] = (), **node: Any):
        auth.bench.token("node,app")
        me = join(auth.wish(roles=("Node", "App")))
        config = a_config(home)
        self.home = config.data_dir
        identities.save(self.home, me)
        self.me, self.health = me, Health()
        self.changes, self.identities = [], []  # type: ignore[var-annotated]
        self.lessons, self.tunnels = [], []  # type: ignore[var-annotated]
        self.sessions: list[LiveSession] = []
        self.told = 0  # so often
        self.role = AgentRole(
            replace(config, node=replace(config.node, **node)),
            me,
            servers=servers or (auth.address,),
            address="10.0.0.5:3022",
            resources=[Resource(kind="app_server", name="grafana")],
            clock=auth.bench.clock,
            chance=FakeChance("agent"),
            health=self.health,
            on_change=lambda: self.changes.append(1),
            on_identity=self.identities.append,
            on_knowledge=self.lessons.append,
            tunnels=lambda: list(self.tunnels),
            sessions=self._live,
        )

    def _live(self) -> list[LiveSession]:
        self.told += 1
        return self.sessions

    def event(self, event: AgentEvent) -> None:
        self.role.link.outbox.put(event)
        self.role.told(event)

    def __enter__(self) -> "Running":
        self.role.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.role.stop()


def report(auth: Auth, running: Running) -> Any:
    [found] = [r for h, r in auth.bench.desks.presence.hosts() if h.id == running.me.host_id]
    return found


def test_it_shows_what_the_process_is(auth: Auth, tmp_path: Path) -> None:
    with Running(auth, tmp_path, labels={"env": "prod"}) as running:
        eventually(lambda: report(auth, running).labels)
        found = report(auth, running)
        assert (found.address, found.labels) == ("10.0.0.5:3022", {"env": "prod"})
        assert found.resources[0].name == "grafana"
        assert running.health.overall()[0] is State.OK
    eventually(lambda: presence(report(auth, running), auth.bench.clock.now()).value == "offline")


def test_what_it_learns_is_on_disk_and_told(auth: Auth, tmp_path: Path) -> None:
    with Running(auth, tmp_path, labels={"env": "prod"}) as running:
        eventually(lambda: running.changes)
        lesson = knowledge.load(running.home)
        assert lesson is not None
        assert lesson.cluster == "test.example"
        assert knowledge.load_labels(running.home) == {"env": "prod"}
        auth.bench.ask("/v1/locks/add", target="user", value="mallory")
        eventually(lambda: knowledge.load(running.home).locks)  # type: ignore[union-attr]


def test_what_it_learns_is_on_disk_before_others_hear_of_it(auth: Auth, tmp_path: Path) -> None:
    with Running(auth, tmp_path) as running:
        lesson = eventually(lambda: running.lessons)[0]
        assert knowledge.load(running.home) == lesson


def test_a_tunnel_is_told_as_soon_as_somebody_says_so(auth: Auth, tmp_path: Path) -> None:
    proxy = "aaaaaaaa-2222-4333-8444-555555555555"
    with Running(auth, tmp_path, labels={"env": "prod"}) as running:
        eventually(lambda: report(auth, running).labels)
        running.tunnels.append(proxy)
        running.role.nudge()
        eventually(lambda: report(auth, running).tunnels == (proxy,))


def test_a_session_is_told_of_soon_and_not_ever_so_often(auth: Auth, tmp_path: Path) -> None:
    desks, clock = auth.bench.desks, auth.bench.clock
    begun = AgentEvent(kind="session.start", code="T2000I", at=0, outcome="ok")

    def trail() -> int:
        return sum(event.kind == "session.start" for _, event in auth.bench.store.events())

    with Running(auth, tmp_path, labels={"env": "prod"}) as running:
        eventually(lambda: report(auth, running).labels)
        told = running.told
        running.sessions = [a_session(), *(a_session(sid=sid(n)) for n in range(300))]
        for number in range(1, 21):
            running.event(begun)
            eventually(lambda number=number: trail() == number)
        assert running.told == told
        clock.tick(seconds=SOON_AGAIN)
        running.role.link.wake()
        eventually(lambda: desks.sessions.live(SID))
        assert running.told == told + 1
        assert desks.sessions.live(sid(299)) is None  # a beat has room for so many


def a_recording(running: Running) -> Path:
    """One that waits, whole from the first moment on. Returns where."""
    place = running.home / PLACE
    place.mkdir(parents=True)
    (place / f"{SID}.json").write_text("{}")
    (place / "tape").write_bytes(a_tape())
    (place / "tape").rename(place / f"{SID}.cast")
    return place


def test_recordings_are_sent(tmp_path: Path) -> None:
    keeping = Keeping(directory=tmp_path / "kept", quota=0, retention=timedelta())
    with Auth(keeping=keeping) as auth, Running(auth, tmp_path) as running:
        place = a_recording(running)
        eventually(lambda: auth.bench.store.recording(SID))
        eventually(lambda: not list(place.iterdir()))


def test_recordings_that_wait_are_shown_and_no_illness(auth: Auth, tmp_path: Path) -> None:
    with Running(auth, tmp_path) as running:
        a_recording(running)
        said = eventually(lambda: running.health.overall()[1].get("recordings"))
        assert said == "wait on this host: this auth service keeps no recordings"
        eventually(lambda: running.health.overall()[0] is State.OK)


def test_labels_of_commands_are_told_when_they_change(
    auth: Auth,
    tmp_path: Path,
) -> None:
    file = tmp_path / "value"
    file.write_text("1")
    command = LabelCommand(name="load", argv=("/bin/cat", str(file)), period=timedelta(seconds=1))
    with Running(auth, tmp_path, commands=(command,)) as running:
        eventually(lambda: report(auth, running).labels == {"load": "1"})
        file.write_text("2")
        auth.bench.clock.tick(seconds=2)
        eventually(lambda: report(auth, running).labels == {"load": "2"})
        assert knowledge.load_labels(running.home) == {"load": "2"}


def test_it_renews_in_time_and_keeps_what_it_got(auth: Auth, tmp_path: Path) -> None:
    with Running(auth, tmp_path) as running:
        eventually(lambda: running.changes)
        auth.bench.clock.tick(hours=15)
        running.role.link.wake()
        [renewed] = eventually(lambda: running.identities)
        assert identities.load(running.home) == renewed
        assert renewed.tls_cert != running.me.tls_cert
        running.role.link.nudge()
    assert len(running.identities) == 1


def test_events_reach_the_trail(auth: Auth, tmp_path: Path) -> None:
    with Running(auth, tmp_path) as running:
        running.event(AgentEvent(kind="session.start", code="T2000I", at=0.0, outcome="ok"))
        eventually(lambda: auth.bench.events("session.start"))


def test_while_auth_is_away_the_process_is_degraded(auth: Auth, tmp_path: Path) -> None:
    away = f"127.0.0.1:{free_port()}"
    with Running(auth, tmp_path, servers=(away,)) as running:
        eventually(lambda: running.health.overall()[0] is State.DEGRADED)
        assert away in running.health.overall()[1]["agent"]


def test_stopping_one_that_never_started_harms_nobody(auth: Auth, tmp_path: Path) -> None:
    Running(auth, tmp_path).role.stop()


def test_a_disk_that_is_full_does_not_end_the_labels(
    auth: Auth,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = LabelCommand(name="x", argv=("/bin/echo", "1"), period=timedelta(seconds=1))
    running = Running(auth, tmp_path, commands=(command,))
    tried = threading.Event()

    def full(home: Path, labels: Any) -> None:
        if labels:
            tried.set()
            raise Unavailable("the disk is full")

    monkeypatch.setattr(knowledge, "save_labels", full)
    with running:
        assert tried.wait(60)
        eventually(lambda: report(auth, running).labels == {"x": "1"})
    assert "the disk is full" in caplog.text


def test_a_full_disk_of_a_host_ends_no_stream_and_what_was_said_is_kept_later(
    auth: Auth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Unavailable("can not write /x/knowledge.json: no space left on device")

    with Running(auth, tmp_path) as running:
        first = eventually(lambda: running.lessons)[0]
        running.role.caught_up({"user": "1/init"})
        with monkeypatch.context() as now:
            now.setattr(knowledge, "save", full)
            changes = len(running.changes)
            auth.bench.ask("/v1/locks/add", target="user", value="mallory")
            eventually(lambda: len(running.lessons) == 2, what="this process hears of it")
            assert knowledge.load(running.home) == first
            state, words = running.health.overall()
            assert state is State.DEGRADED
            assert words["disk"].startswith("what auth says can not be kept: ")
            assert words["agent"].startswith("connected"), "the stream goes on"
            assert len(running.changes) == changes
            assert running.role._report().rotated == {}, "others still go by the old"
        running.role._saving.retry()
        assert knowledge.load(running.home) == running.lessons[1]
        # The thread that tries by itself may have done it, and say so in a moment.
        eventually(lambda: len(running.changes) == changes + 1)
        assert running.health.overall()[0] is State.OK
        assert running.role._report().rotated == {"user": "1/init"}
