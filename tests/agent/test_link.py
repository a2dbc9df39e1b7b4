"""The stream to auth: kept open, beating, learning, renewing."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
from wsproto.events import TextMessage
from wsproto.utilities import RemoteProtocolError

from teleport_lite.agent import link as module
from teleport_lite.agent import outbox
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import join
from teleport_lite.agent.link import Link
from teleport_lite.agent.outbox import MAX_EVENTS, Outbox
from teleport_lite.model.host import presence
from teleport_lite.proto.codec import MAX_FRAME, read, write
from teleport_lite.proto.stream import (
    AgentEvent,
    Beat,
    BeatReply,
    FromAgent,
    Knowledge,
    ProxyPlace,
    Routes,
    ToAgent,
)
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeChance, FakeClock
from tests.agent.rig import Auth, an_identity
from tests.net.servers import Little
from tests.net.serving import auth_papers, shown
from tests.net.test_stream import Speaker, listen
from tests.support import eventually, free_port


class Stop:
    """Stopping, which does not really wait between attempts but notes how long it should."""

    def __init__(self) -> None:
        self.event, self.waits = threading.Event(), []  # type: ignore[var-annotated]

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        return self.event.wait(min(timeout, 0.01))


class Dice(FakeChance):
    """Always the largest number, so that the bounds show."""

    def uniform(self, low: float, high: float) -> float:
        return high


class Agent:
    """A link in its thread; a context manager."""

    def __init__(
        self, identity: Identity, *servers: str, clock: FakeClock, boot: str = "1", **changes: Any
    ) -> None:
        self.labels = {"env": "prod"}
        self.due = False
        self.lessons: list[Knowledge] = []
        self.identities: list[Identity] = []
        self.states: list[str] = []
        self.stop = Stop()
        self.clock = clock
        calls: dict[str, Callable[..., Any]] = {
            "report": self._report,
            "renew_due": lambda: self.due,
            "on_knowledge": self.lessons.append,
            "on_identity": self._renewed,
            "on_state": self.states.append,
        }
        self.link = Link(
            identity=identity,
            servers=servers,
            node_name="web-1",
            clock=clock,
            chance=Dice(boot),
            **(calls | changes),
        )
        self._thread = threading.Thread(target=self.link.run, args=(self.stop,), daemon=True)

    def _report(self) -> Beat:
        return Beat(time=self.clock.now().timestamp(), labels=self.labels)

    def _renewed(self, identity: Identity) -> None:
        self.due = False
        self.identities.append(identity)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        self.stop.event.set()
        self.link.wake()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "it does not stop"


@pytest.fixture
def me(auth: Auth) -> Identity:
    auth.bench.token()
    return join(auth.wish())


def agent(auth: Auth, me: Identity, *servers: str, **changes: Any) -> Agent:
    return Agent(me, *(servers or (auth.address,)), clock=auth.bench.clock, **changes)


def report(auth: Auth, me: Identity) -> Any:
    [found] = [r for host, r in auth.bench.desks.presence.hosts() if host.id == me.host_id]
    return found


def state(auth: Auth, me: Identity) -> str:
    return presence(report(auth, me), auth.bench.clock.now()).value


# There


def test_it_is_online_and_taught_at_once(auth: Auth, me: Identity) -> None:
    with agent(auth, me) as running:
        lesson = eventually(lambda: running.lessons)[0]
        assert lesson.cluster == "test.example"
        eventually(lambda: report(auth, me).labels == {"env": "prod"})
        assert state(auth, me) == "online"
        assert running.states == [f"connected to {auth.address}"]


def test_a_change_is_told_at_once(auth: Auth, me: Identity) -> None:
    with agent(auth, me) as running:
        eventually(lambda: report(auth, me).labels)
        running.labels = {"env": "stage"}
        running.link.nudge()
        eventually(lambda: report(auth, me).labels == {"env": "stage"})


def test_it_learns_of_a_change_at_once(auth: Auth, me: Identity) -> None:
    with agent(auth, me) as running:
        eventually(lambda: running.lessons)
        auth.bench.ask("/v1/locks/add", target="user", value="mallory")
        eventually(lambda: len(running.lessons) == 2)
        assert running.lessons[1].locks


def test_it_beats_when_it_is_time(auth: Auth, me: Identity) -> None:
    with agent(auth, me) as running:
        eventually(lambda: report(auth, me).labels)
        before = report(auth, me).last_seen
        auth.bench.clock.tick(seconds=16)
        running.link.wake()
        eventually(lambda: report(auth, me).last_seen > before)


def test_stopping_says_goodbye_and_takes_no_time(auth: Auth, me: Identity) -> None:
    running = agent(auth, me)
    with running:
        eventually(lambda: running.lessons)
    eventually(lambda: state(auth, me) == "offline")
    eventually(lambda: auth.bench.desks.presence.connected() == 0)


def test_stopping_before_it_ever_connected_takes_no_time_either(me: Identity, auth: Auth) -> None:
    with agent(auth, me, f"127.0.0.1:{free_port()}") as running:
        eventually(lambda: running.states)


def test_both_sides_hear_of_clocks_that_are_apart(
    auth: Auth, me: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = FakeClock(auth.bench.clock.now())
    ahead.tick(seconds=45)
    with Agent(me, auth.address, clock=ahead) as running:
        eventually(lambda: report(auth, me).skew == 45)
        eventually(lambda: "45 s off the auth server's" in caplog.text)
        assert running.lessons


def test_a_proxy_hears_of_routes_and_tells_of_itself(auth: Auth) -> None:
    auth.bench.token("proxy,node", text="a-token-for-proxies")
    me = join(auth.wish(roles=("Proxy", "Node"), token=Secret("a-token-for-proxies")))
    routes: list[Routes] = []
    place = ProxyPlace(address="10.0.0.7:3080")
    beat = Beat(time=auth.bench.clock.now().timestamp(), proxy=place, tunnels=[me.host_id])
    with agent(auth, me, on_routes=routes.append, report=lambda: beat) as running:
        eventually(lambda: running.lessons)
        eventually(lambda: routes)
        assert (routes[0].first, [each.id for each in routes[0].hosts]) == (True, [me.host_id])
        eventually(auth.bench.desks.presence.proxies)
        auth.bench.desks.spread()
        eventually(lambda: len(running.lessons) == 2)
        [told] = running.lessons[1].proxies
        assert (told.id, told.address) == (me.host_id, "10.0.0.7:3080")
        eventually(lambda: len(routes) == 2)
        assert routes[1].hosts[0].tunnels == [me.host_id]


# Away and back


def test_a_stream_that_breaks_is_opened_again(auth: Auth, me: Identity) -> None:
    with agent(auth, me) as running:
        eventually(lambda: running.lessons)
        auth.call(lambda: auth.server.drop_connections(lambda peer: True))
        eventually(lambda: len(running.lessons) == 2)
        assert [words.split(":")[0] for words in running.states] == [
            f"connected to {auth.address.split(':')[0]}",
            "not connected",
            f"connected to {auth.address.split(':')[0]}",
        ]
        assert running.stop.waits == [1.0]


def test_waits_grow_with_jitter_and_have_an_end(auth: Auth, me: Identity) -> None:
    with agent(auth, me, f"127.0.0.1:{free_port()}") as running:
        eventually(lambda: len(running.stop.waits) >= 8)
    assert running.stop.waits[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 25.0, 25.0, 25.0]


def test_servers_take_turns(auth: Auth, me: Identity) -> None:
    away = f"127.0.0.1:{free_port()}"
    with agent(auth, me, away, auth.address) as running:
        eventually(lambda: running.lessons)
    assert running.states[0].startswith(f"not connected: {away}")
    assert running.states[1] == f"connected to {auth.address}"


def test_being_refused_at_once_is_no_reason_to_hurry(
    auth: Auth, me: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """A cloned machine: connected, and told to go, again and again."""
    with agent(auth, me) as original:
        eventually(lambda: original.lessons)
        with agent(auth, me, boot="clone") as clone:
            eventually(lambda: len(clone.stop.waits) >= 4)
        assert clone.stop.waits[:4] == [1.0, 2.0, 4.0, 8.0]
        assert clone.lessons == []
        tries = len(clone.stop.waits)
        assert caplog.text.count("is connected already") == 1 + tries // 20, "said seldom"
        assert len(original.states) == 1, "the first one is not disturbed"


def test_a_host_that_was_removed_hears_it_and_keeps_trying(
    auth: Auth, me: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    with agent(auth, me) as running:
        eventually(lambda: running.lessons)
        auth.bench.ask("/v1/resources/remove", kind="node", name=me.host_id)
        eventually(lambda: "is not part of this cluster any more" in caplog.text)
        eventually(lambda: len(running.states) >= 3)


def test_a_certificate_that_auth_does_not_take_is_told_as_such(
    auth: Auth, me: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    stray = an_identity(host_cas=me.host_cas)
    with agent(auth, stray) as running:
        eventually(lambda: running.states)
        assert "does not accept this host's certificate" in running.states[0]
        assert "start with a new token" in caplog.text


def test_a_server_of_another_cluster_is_told_as_such(auth: Auth) -> None:
    with agent(auth, an_identity()) as running:
        eventually(lambda: running.states)
    assert "is not the auth server this host joined" in running.states[0]


def test_an_error_of_ours_does_not_end_it(
    auth: Auth, me: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    lessons: list[Knowledge] = []

    def learn(lesson: Knowledge) -> None:
        lessons.append(lesson)
        if len(lessons) == 1:
            raise ZeroDivisionError

    with agent(auth, me, on_knowledge=learn) as running:
        eventually(lambda: len(lessons) == 2)
        assert "not connected: internal error" in running.states
    assert "internal error in the stream to auth" in caplog.text


# Servers that are not auth


CLUSTER = PaperCluster()
LESSON = Knowledge(
    cluster=CLUSTER.name,
    serial=1,
    host_cas=CLUSTER.host_cas,
    ssh_host_cas=[CLUSTER.host_ca.public.ssh_key],
    ssh_user_cas=[CLUSTER.user_ca.public.ssh_key],
    user_cas=CLUSTER.user_cas,
    roles=[],
    locks=[],
)
LATER = ToAgent(later=5.0)


@contextlib.contextmanager
def playing(
    script: Callable[[Speaker], None], *, servers: int = 1, **changes: Any
) -> Iterator[Agent]:
    """An agent that talks to servers which follow a script."""

    def talk(wire: socket.socket) -> None:
        with contextlib.suppress(RemoteProtocolError):  # it also asks other things
            script(Speaker(wire).accept())

    context = shown(CLUSTER, auth_papers(CLUSTER)).context
    with contextlib.ExitStack() as open_:
        there = [open_.enter_context(Little(talk, context)).address for _ in range(servers)]
        agent = Agent(an_identity(CLUSTER), *there, clock=FakeClock.here(), **changes)
        yield open_.enter_context(agent)


def say(speaker: Speaker, raw: bytes) -> None:
    speaker.say(TextMessage(data=raw.decode()))


def heard_by(speaker: Speaker) -> bytes:
    while not isinstance(event := speaker.hear(), TextMessage):
        pass
    return event.data.encode()


def test_silence_is_not_waited_out_for_ever() -> None:
    with playing(listen) as running:
        eventually(lambda: running.states)
        running.clock.tick(seconds=module.SILENCE + 1)
        running.link.wake()
        eventually(lambda: len(running.states) >= 2)
    assert running.states[1] == "not connected: auth said nothing for 30 s"


@pytest.mark.parametrize("raw", [b"x", b"[]", b'{"knowledge": {}}', b'{"taken": "x"}'])
def test_words_that_auth_would_not_say_end_the_stream(raw: bytes) -> None:
    def script(speaker: Speaker) -> None:
        say(speaker, raw)
        listen(speaker)

    with playing(script) as running:
        eventually(lambda: len(running.states) >= 2)
    assert "not connected: message is not a ToAgent" in running.states[1]


def test_who_can_not_read_auth_does_not_hurry_back() -> None:
    def script(speaker: Speaker) -> None:
        say(speaker, write(ToAgent(knowledge=LESSON)))
        say(speaker, b'{"taken": "x"}')
        listen(speaker)

    with playing(script) as running:
        eventually(lambda: len(running.stop.waits) >= 4)
    assert running.stop.waits[:4] == [1.0, 2.0, 4.0, 8.0]


def test_the_next_auth_server_is_not_hurried_to_by_who_could_not_read_the_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def script(speaker: Speaker) -> None:
        say(speaker, write(ToAgent(knowledge=LESSON)))
        say(speaker, b'{"taken": "x"}')
        listen(speaker)

    with playing(script, servers=2) as running:
        eventually(lambda: len(running.stop.waits) >= 6)
        assert running.stop.waits[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 25.0]
    tries = len(running.stop.waits)
    said = [each for each in caplog.records if "is not a ToAgent" in each.getMessage()]
    assert len(said) <= 1 + tries // 20, "said once, and then seldom"


def test_who_is_dropped_as_soon_as_it_is_taught_does_not_hurry_back_either() -> None:
    def script(speaker: Speaker) -> None:
        say(speaker, write(ToAgent(knowledge=LESSON)))
        speaker.hear()

    with playing(script, servers=2) as running:
        eventually(lambda: len(running.stop.waits) >= 4)
    assert running.stop.waits[:4] == [1.0, 2.0, 4.0, 8.0]


def test_a_stream_that_has_lasted_is_a_success_however_it_ends() -> None:
    ends = threading.Semaphore(0)

    def script(speaker: Speaker) -> None:
        say(speaker, write(ToAgent(knowledge=LESSON)))
        ends.acquire(timeout=60)

    with playing(script) as running:
        for number in range(1, 4):
            eventually(lambda number=number: len(running.lessons) == number)  # type: ignore[misc]
            running.clock.tick(seconds=module.STEADY)
            ends.release()
        eventually(lambda: len(running.stop.waits) >= 3)
        running.finish()
        ends.release(9)
    assert running.stop.waits[:3] == [1.0, 1.0, 1.0]


def test_a_welcome_that_nobody_asked_for_changes_nothing(
    auth: Auth, me: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    auth.bench.token(text="another-token-of-ours")
    welcome = auth.bench.join()

    def script(speaker: Speaker) -> None:
        say(speaker, write(ToAgent(welcome=welcome)))
        say(speaker, write(ToAgent(beat=BeatReply(time=0.0))))
        listen(speaker)

    with playing(script) as running:
        before = running.link.identity
        eventually(lambda: "off the auth server's" in caplog.text, what="what follows it")
        assert running.identities == []
        assert running.link.identity is before


def test_a_server_that_does_not_read_does_not_hold_up_the_stop() -> None:
    gate = threading.Event()
    with playing(lambda speaker: gate.wait(120)) as running:  # type: ignore[arg-type, return-value]
        eventually(lambda: running.states)
        for number in range(50):
            running.link.outbox.put(an_event(str(number)))
        running.finish()
        gate.set()


# Renewal


def test_it_renews_on_the_open_stream_and_uses_what_it_got(auth: Auth, me: Identity) -> None:
    running = agent(auth, me)
    running.due = True
    with running:
        [renewed] = eventually(lambda: running.identities)
        assert renewed.host_id == me.host_id
        assert renewed.tls_cert != me.tls_cert
        assert len(running.states) == 1, "the stream goes on"
        auth.call(lambda: auth.server.drop_connections(lambda peer: True))
        eventually(lambda: len(running.lessons) == 2)
        assert running.link.identity is renewed
        eventually(lambda: running.states[-1].startswith("connected"))
    assert len(running.identities) == 1


# Events


def an_event(name: str = "x") -> AgentEvent:
    return AgentEvent(
        kind="session.start", code="T2000I", at=0.0, outcome="ok", facts={"name": name}
    )


def test_events_reach_the_trail_in_order(auth: Auth, me: Identity) -> None:
    with agent(auth, me) as running:
        for number in range(250):
            running.link.outbox.put(an_event(str(number)))
        running.link.wake()
        eventually(lambda: len(auth.bench.events("session.start")) >= 100)
        for _ in range(3):
            running.link.wake()
        eventually(lambda: running.link.wake() or len(auth.bench.events("session.start")) == 250)
    names = [event.facts["name"] for event in auth.bench.events("session.start")]
    assert names == [str(number) for number in range(250)]
    assert {e.facts["server_id"] for e in auth.bench.events("session.start")} == {me.host_id}


def test_events_wait_while_auth_is_away(auth: Auth, me: Identity) -> None:
    with agent(auth, me, f"127.0.0.1:{free_port()}", auth.address) as running:
        running.link.outbox.put(an_event())
        eventually(lambda: auth.bench.events("session.start"))


def test_the_outbox_is_bounded_and_counts_what_it_drops() -> None:
    box = Outbox()
    for number in range(MAX_EVENTS + 5):
        box.put(an_event(str(number)))
    assert box.count_lost() == 5
    assert box.count_lost() == 0
    taken = box.take()
    assert (len(taken), taken[0].facts["name"]) == (100, "5")
    box.send_again()
    assert box.take() == taken
    box.taken(100)
    assert len(box) == MAX_EVENTS - 100
    assert box.put_ever - box.gone_ever == len(box)


def test_one_frame_is_under_way_at_a_time() -> None:
    box = Outbox()
    for number in range(150):
        box.put(an_event(str(number)))
    first = box.take()
    assert box.take() == []
    assert box.empty() == [], "what is under way stays where its answer finds it"
    for number in range(MAX_EVENTS):  # what is pushed out is not what is under way
        box.put(an_event(f"late {number}"))
    box.taken(len(first))
    assert box.put_ever - box.gone_ever == len(box)
    assert box.take()[0].facts["name"] == "late 100"


def test_what_is_taken_out_is_nobody_elses() -> None:
    box = Outbox()
    for number in range(3):
        box.put(an_event(str(number)))
    box.take()
    box.send_again()
    assert [event.facts["name"] for event in box.empty()] == ["0", "1", "2"]
    assert (len(box), box.put_ever - box.gone_ever) == (0, 0)


def test_what_auth_has_not_answered_for_is_sent_again() -> None:
    """A connection that breaks may have lost what was written to it."""
    heard: list[str] = []

    def script(speaker: Speaker) -> None:
        while len(heard) < 2:
            said = read(FromAgent, heard_by(speaker), limit=MAX_FRAME)
            heard.extend(event.facts["name"] for event in said.events or [])
            if said.events and len(heard) == 1:
                return  # hangs up without a word
        say(speaker, write(ToAgent(taken=1)))
        listen(speaker)

    with playing(script) as running:
        running.link.outbox.put(an_event("only"))
        eventually(lambda: running.link.wake() or len(heard) == 2)
        eventually(lambda: len(running.link.outbox) == 0)
    assert heard == ["only", "only"]


def test_auth_that_can_not_write_is_asked_later_and_by_the_same_stream() -> None:
    heard: list[FromAgent] = []

    def script(speaker: Speaker) -> None:
        say(speaker, write(ToAgent(knowledge=LESSON)))
        while True:
            said = read(FromAgent, heard_by(speaker), limit=MAX_FRAME)
            if said.events or said.renew:
                heard.append(said)
                answer = ToAgent(taken=len(said.events or [])) if len(heard) > 2 else LATER
                say(speaker, write(answer))

    with playing(script) as running:
        eventually(lambda: running.link.flows)
        running.link.outbox.put(an_event("only"))
        running.link.wake()
        eventually(lambda: heard)
        eventually(lambda: not running.link.flows, what="it has been told to wait")
        running.due = True
        running.link.outbox.put(an_event("second"))
        for _ in range(5):
            running.link.wake()
            running.link.nudge()
        assert len(heard) == 1, "it waits as long as it was told"
        running.clock.tick(seconds=5)
        eventually(lambda: running.link.wake() or len(heard) >= 2)
        eventually(lambda: not running.link.flows, what="it has been told to wait again")
        running.clock.tick(seconds=5)
        eventually(lambda: running.link.wake() or len(running.link.outbox) == 0)
        assert [words.partition(" ")[0] for words in running.states] == ["connected"]
    last = next(said.events for said in reversed(heard) if said.events)
    assert [event.facts["name"] for event in last] == ["only", "second"]


@pytest.mark.parametrize(("said", "kept"), [(0.0, 1.0), (1e9, 60.0), (-5.0, 1.0)])
def test_how_long_it_waits_has_bounds(said: float, kept: float) -> None:
    def script(speaker: Speaker) -> None:
        say(speaker, write(ToAgent(knowledge=LESSON)))
        say(speaker, write(ToAgent(later=said)))
        listen(speaker)

    with playing(script) as running:
        eventually(lambda: running.link._waits())
        running.clock.tick(seconds=kept - 0.1)
        assert not running.link.flows
        running.clock.tick(seconds=0.2)
        assert running.link.flows


def test_each_word_of_an_auth_that_has_taken_us_is_told(auth: Auth, me: Identity) -> None:
    words: list[None] = []
    with agent(auth, me, on_heard=lambda: words.append(None)) as running:
        eventually(lambda: running.lessons)
        eventually(lambda: len(words) >= 2, what="the lesson, and the answer to a beat")


def test_an_event_that_auth_can_not_read_takes_no_other_with_it(auth: Auth, me: Identity) -> None:
    odd = AgentEvent(kind="token.create", code="T1", at=0.0, outcome="ok")
    with agent(auth, me) as running:
        for number in range(5):
            running.link.outbox.put(an_event(str(number)))
            if number in (1, 3):
                running.link.outbox.put(odd)
        running.link.wake()
        eventually(lambda: len(running.link.outbox) == 0)
        running.link.outbox.put(an_event("later"))
        running.link.wake()
        eventually(lambda: len(running.link.outbox) == 0)
    names = [event.facts["name"] for event in auth.bench.events("session.start")]
    assert names == ["0", "1", "2", "3", "4", "later"]


def test_what_was_dropped_is_said(
    auth: Auth, me: Identity, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_EVENTS", 3)
    caplog.set_level(logging.WARNING)
    running = agent(auth, me)
    for number in range(5):
        running.link.outbox.put(an_event(str(number)))
    with running:
        eventually(lambda: "2 audit events were dropped" in caplog.text)
        eventually(lambda: len(auth.bench.events("session.start")) == 3)
