"""The agent stream, from the auth role's end."""

import re
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from teleport_lite.auth import stream as module
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.stream import HOST_EVENTS, MAX_EVENTS, OUR_EVENTS, AgentStream
from teleport_lite.errors import Denied, NotFound, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.lock import Lock, Target
from teleport_lite.proto.codec import MAX_FRAME, read, write
from teleport_lite.proto.join import Renew
from teleport_lite.proto.stream import (
    AgentEvent,
    Beat,
    FromAgent,
    Goodbye,
    Knowledge,
    ProxyPlace,
    Refusal,
    StreamHello,
    ToAgent,
)
from teleport_lite.testing.makers import TOKEN
from tests.auth.bench import ROOT, Applicant, Bench, the_host
from tests.auth.meanwhile import after_reading

HELLO = FromAgent(hello=StreamHello(version="1.0", roles=["Node"], boot_id="boot-1"))


class Wire:
    """An agent's end of a stream: what it says, and what it heard."""

    def __init__(self, bench: Bench, host_id: str = "", caller: Caller | None = None) -> None:
        if not host_id and caller is None:
            bench.token()
            host_id = bench.join().host_id
        self.bench, self.host_id = bench, host_id or caller.name  # type: ignore[union-attr]
        self.heard: list[bytes | None] = []
        self.stream: AgentStream = bench.desks.streams.open(
            caller or the_host(host_id, "Node"), self.heard.append
        )

    def say(self, message: FromAgent | bytes) -> None:
        self.stream.frame(message if isinstance(message, bytes) else write(message))

    def hello(self) -> "Wire":
        self.say(HELLO)
        self.heard.clear()
        return self

    def last(self) -> ToAgent:
        assert self.heard
        assert self.heard[-1] is not None
        return read(ToAgent, self.heard[-1], limit=MAX_FRAME)

    def refusal(self) -> Refusal:
        """The stream ended with it, and with nothing after it."""
        assert self.heard[-1] is None
        assert self.heard[-2] is not None
        said = read(ToAgent, self.heard[-2], limit=MAX_FRAME).refusal
        assert said is not None
        return said


def an_event(**changes) -> AgentEvent:
    fields = {"kind": "session.start", "code": "T2000I", "at": 0.0, "outcome": "ok"}
    return AgentEvent(**(fields | changes))


# Beginning


def test_a_connection_that_ends_during_its_hello_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing is told by another thread than the one that reads the hello."""
    bench = Bench()
    bench.token("proxy")
    host_id = bench.join(Applicant(roles=("Proxy",))).host_id
    wire = Wire(bench, caller=the_host(host_id, "Proxy"))
    after_reading(monkeypatch, bench.store, "host", wire.stream.closed)
    wire.say(HELLO)
    assert bench.desks.presence.connected() == 0
    assert bench.desks.board.readers() == 0


def test_a_host_that_says_hello_learns_cas_roles_and_locks() -> None:
    bench = Bench()
    bench.ask("/v1/locks/add", target="user", value="mallory")
    wire = Wire(bench)
    wire.say(HELLO)
    lesson = wire.last().knowledge
    assert lesson is not None
    assert lesson.cluster == "test.example"
    assert lesson.host_cas == bench.desks.cas.tls(CaType.HOST)
    assert {role["metadata"]["name"] for role in lesson.roles} == {"access", "editor", "auditor"}
    [lock] = lesson.locks
    assert lock["spec"]["target"] == {"user": "mallory"}


def test_a_host_that_was_removed_opens_no_stream() -> None:
    with pytest.raises(NotFound, match="is not part of this cluster any more"):
        Wire(Bench(), "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f")


def test_a_locked_host_opens_no_stream() -> None:
    bench = Bench()
    wire = Wire(bench)
    bench.ask("/v1/locks/add", target="node", value=wire.host_id)
    with pytest.raises(Denied, match="is locked"):
        Wire(bench, wire.host_id)


def test_a_host_that_is_locked_before_its_first_word_is_cut_too() -> None:
    bench = Bench()
    wire = Wire(bench)
    bench.ask("/v1/locks/add", target="node", value=wire.host_id)
    wire.say(HELLO)
    assert "is locked" in wire.refusal().message


@pytest.mark.parametrize(
    "raw",
    [b"x", b"\xff", b"[]", b'{"hello": 1}', b'{"beat": {"time": 1}, "goodbye": {}}',
     b"[" * 100_000],
    ids=lambda raw: ascii(raw[:12]),
)  # fmt: skip
def test_garbage_ends_the_stream_with_a_reason(raw: bytes) -> None:
    for wire in (Wire(Bench()), Wire(Bench()).hello()):
        wire.say(raw)
        assert wire.refusal().code == "malformed"


def test_a_frame_that_is_too_large_ends_the_stream() -> None:
    wire = Wire(Bench()).hello()
    wire.say(b" " * (MAX_FRAME + 1))
    assert "the most we read is" in wire.refusal().message


@pytest.mark.parametrize(
    "first",
    [FromAgent(beat=Beat(time=0)), FromAgent(events=[]), FromAgent(goodbye=Goodbye())],
)
def test_nothing_comes_before_hello(first: FromAgent) -> None:
    wire = Wire(Bench())
    wire.say(first)
    assert wire.refusal().message == "the stream must begin with hello"
    assert wire.bench.desks.presence.connected() == 0


def test_hello_comes_once() -> None:
    wire = Wire(Bench()).hello()
    wire.say(HELLO)
    assert wire.refusal().message == "the stream has begun already"


def test_after_the_end_nothing_is_heard_and_nothing_said() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    wire.say(b"garbage")
    heard, events = len(wire.heard), len(bench.events())
    wire.say(FromAgent(events=[an_event()]))
    wire.say(FromAgent(beat=Beat(time=0, labels={"env": "prod"})))
    bench.desks.presence.tell_everybody()
    bench.desks.presence.cut(wire.host_id, "again")
    assert (len(wire.heard), len(bench.events())) == (heard, events)


# Beating


def test_a_beat_is_answered_with_the_time() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    wire.say(FromAgent(beat=Beat(time=1.0, labels={"env": "prod"})))
    beat = wire.last().beat
    assert beat is not None
    assert beat.time == bench.clock.now().timestamp()
    [(_, report)] = bench.desks.presence.hosts()
    assert report.labels == {"env": "prod"}


def test_a_beat_that_cannot_be_shown_ends_the_stream() -> None:
    wire = Wire(Bench()).hello()
    wire.say(FromAgent(beat=Beat(time=1.0, labels={"env": "\x1b[2J"})))
    assert wire.refusal().code == "malformed"


def test_a_version_is_shown_short_and_plain() -> None:
    wire = Wire(Bench())
    wire.say(FromAgent(hello=StreamHello(version="1\x1b[2J" + "x" * 99, roles=[], boot_id="b")))
    [(_, report)] = wire.bench.desks.presence.hosts()
    assert report.version.startswith("1[2Jx")
    assert len(report.version) < 41


def test_goodbye_ends_it_and_is_remembered() -> None:
    wire = Wire(Bench()).hello()
    wire.say(FromAgent(goodbye=Goodbye(reason="shutdown")))
    assert wire.heard == [None]
    wire.stream.closed()
    [(_, report)] = wire.bench.desks.presence.hosts()
    assert report.gone


def test_a_stream_that_breaks_is_no_goodbye() -> None:
    wire = Wire(Bench()).hello()
    wire.stream.closed()
    [(_, report)] = wire.bench.desks.presence.hosts()
    assert not report.gone
    assert wire.bench.desks.presence.connected() == 0


# Proxies and routes


def a_proxy(bench: Bench, name: str = "proxy-1") -> Wire:
    """Connected, told everything, and reached at an address of its own."""
    bench.token("node,proxy", text=f"token-of-{name}")
    who = Applicant(name=name, text=f"token-of-{name}", roles=("Proxy",))
    host_id = bench.join(who).host_id
    wire = Wire(bench, host_id, the_host(host_id, "Proxy"))
    wire.say(FromAgent(hello=StreamHello(version="1", roles=["Proxy"], boot_id=name)))
    place = ProxyPlace(id="x", name="x", address="10.0.0.7:3080")
    wire.say(FromAgent(beat=Beat(time=0, proxy=place)))
    return wire


def said(wire: Wire) -> list[ToAgent]:
    found = [read(ToAgent, raw, limit=MAX_FRAME) for raw in wire.heard if raw is not None]
    wire.heard.clear()
    return found


def test_a_proxy_that_comes_or_goes_is_told_to_everybody_once() -> None:
    bench = Bench()
    node = Wire(bench).hello()
    proxy = a_proxy(bench)
    assert said(node) == []
    bench.desks.spread()
    [told] = said(node)
    assert told.knowledge is not None
    assert told.knowledge.proxies == [
        ProxyPlace(id=proxy.host_id, name="proxy-1", address="10.0.0.7:3080")
    ]
    bench.desks.spread()
    assert said(node) == []
    proxy.say(FromAgent(goodbye=Goodbye()))
    proxy.stream.closed()
    bench.desks.spread()
    [told] = said(node)
    assert told.knowledge is not None
    assert told.knowledge.proxies == []


def test_ten_proxies_that_start_together_are_one_lesson() -> None:
    bench = Bench()
    node = Wire(bench).hello()
    for number in range(10):
        a_proxy(bench, f"proxy-{number}")
    bench.desks.spread()
    [told] = said(node)
    assert told.knowledge is not None
    assert len(told.knowledge.proxies) == 10


def test_who_says_hello_later_learns_of_proxies_at_once() -> None:
    bench = Bench()
    a_proxy(bench)
    bench.desks.spread()
    node = Wire(bench)
    node.say(HELLO)
    [told] = said(node)
    assert told.knowledge is not None
    assert len(told.knowledge.proxies) == 1


def test_a_proxy_is_told_of_nodes_and_of_what_changes_and_a_node_is_not() -> None:
    bench = Bench()
    node, proxy = Wire(bench).hello(), a_proxy(bench)
    routes = [each.routes for each in said(proxy) if each.routes is not None]
    assert [[route.id for route in each.hosts] for each in routes] == [[node.host_id]]
    assert routes[0].first
    node.say(FromAgent(beat=Beat(time=0, tunnels=[proxy.host_id])))
    bench.desks.spread()
    changes = [each.routes for each in said(proxy) if each.routes is not None]
    assert [(each.first, each.hosts[0].tunnels) for each in changes] == [(False, [proxy.host_id])]
    assert all(each.routes is None for each in said(node))
    bench.desks.resources.remove(ROOT, "node", node.host_id)
    bench.desks.spread()
    assert [each.routes.gone for each in said(proxy) if each.routes is not None] == [[node.host_id]]


def test_a_proxy_that_left_is_told_no_more() -> None:
    bench = Bench()
    node, proxy = Wire(bench).hello(), a_proxy(bench)
    proxy.stream.closed()
    assert bench.desks.board.readers() == 0
    proxy.heard.clear()
    node.say(FromAgent(beat=Beat(time=0, labels={"env": "prod"})))
    bench.desks.spread()
    assert all(each.routes is None for each in said(proxy))


def test_a_node_that_says_it_is_a_proxy_is_sent_away() -> None:
    wire = Wire(Bench()).hello()
    wire.say(FromAgent(beat=Beat(time=0, proxy=ProxyPlace(address="10.0.0.7:3080"))))
    assert "without role Proxy" in wire.refusal().message
    assert wire.bench.desks.presence.proxies() == []


def test_a_locked_proxy_is_named_no_more() -> None:
    bench = Bench()
    node, proxy = Wire(bench).hello(), a_proxy(bench)
    bench.desks.spread()
    said(node)
    bench.ask("/v1/locks/add", target="node", value=proxy.host_id)
    bench.desks.spread()
    last = said(node)[-1].knowledge
    assert last is not None
    assert last.proxies == []


def test_a_listing_shows_who_holds_the_tunnels_of_a_node() -> None:
    bench = Bench()
    node, proxy = Wire(bench).hello(), a_proxy(bench)
    node.say(FromAgent(beat=Beat(time=0, tunnels=[proxy.host_id])))
    [shown] = bench.ask("/v1/nodes/list")["nodes"]
    assert (shown["id"], shown["address"]) == (node.host_id, "")
    assert shown["tunnels"] == [proxy.host_id]


# Clones


def test_a_clone_is_refused_and_recorded_and_told_what_to_do() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    clone = Wire(bench, wire.host_id)
    clone.say(FromAgent(hello=StreamHello(version="1", roles=["Node"], boot_id="boot-2")))
    refusal = clone.refusal()
    assert refusal.code == "conflict"
    assert "is connected already, from 192.0.2.7" in refusal.message
    assert "empty its data_dir" in refusal.hint
    event = bench.last_event("instance.duplicate")
    assert (event.code, event.outcome, event.facts["host_id"]) == (
        "TJ004W",
        "conflict",
        wire.host_id,
    )
    clone.stream.closed()
    assert bench.desks.presence.connected() == 1
    wire.say(FromAgent(beat=Beat(time=0)))
    assert wire.last().beat is not None


def test_after_a_silence_the_new_process_takes_over() -> None:
    bench = Bench()
    old = Wire(bench).hello()
    bench.later(seconds=21)
    new = Wire(bench, old.host_id)
    new.say(FromAgent(hello=StreamHello(version="1", roles=["Node"], boot_id="boot-2")))
    assert new.last().knowledge is not None
    assert old.refusal().message == "this host has connected anew"
    old.stream.closed()
    assert bench.desks.presence.connected() == 1


# Events


def test_events_of_a_host_are_recorded_under_its_name() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    at = bench.clock.now() - timedelta(hours=1)
    facts = {"login": "root", "server_id": "another host"}
    wire.say(FromAgent(events=[an_event(at=at.timestamp(), facts=facts)]))
    event = bench.last_event("session.start")
    assert (event.at, event.outcome) == (at, "ok")
    assert event.facts == {"login": "root", "server_id": wire.host_id}


@pytest.mark.parametrize(
    "kind",
    [
        "instance.join",
        "user.create",
        "join_token.create",
        "cert.create",
        "",
        "auth\n",
        "x y",
        "host.event",
        "session.upload",
        "recording.access",
        "recording.delete",
    ],
)
def test_a_host_cannot_tell_what_auth_alone_knows(kind: str) -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    before = len(bench.events())
    wire.say(FromAgent(events=[an_event(), an_event(kind=kind)]))
    assert "a host can not tell of" in wire.refusal().message
    assert len(bench.events()) == before


def test_what_a_host_of_a_later_version_tells_is_kept_under_a_name_of_ours() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    facts = {"kind": "user.create", "more": "words", "server_id": "another host"}
    wire.say(FromAgent(events=[an_event(kind="db.query", code="TDB02I", facts=facts), an_event()]))
    assert wire.last().taken == 2
    assert bench.last_event("session.start").code == "T2000I"
    event = bench.last_event("host.event")
    assert (event.code, event.outcome) == ("THE00I", "ok")
    assert event.facts == {
        "kind": "db.query",
        "kind_code": "TDB02I",
        "more": "words",
        "server_id": wire.host_id,
    }


def test_no_kind_that_auth_tells_of_can_come_from_a_host() -> None:
    """Under no name: what auth alone knows, and says in docs/audit.md."""
    for source in Path(module.__file__).parent.glob("*.py"):
        told = re.findall(
            r'(?:attempt|note)\(\s*"([a-z_.]+)"|kind="([a-z_]+\.[a-z_.]+)"', source.read_text()
        )
        for kind in (first or second for first, second in told):
            assert OUR_EVENTS.fullmatch(kind) or HOST_EVENTS.fullmatch(kind)


@pytest.mark.parametrize(
    "raw", [b'{"surprise": {}}', b"{}", b'{"surprise": 1, "beat": {"time": 1, "new": [1]}}']
)
def test_words_of_a_later_version_are_passed_over(raw: bytes) -> None:
    wire = Wire(Bench()).hello()
    wire.say(raw)
    wire.say(FromAgent(beat=Beat(time=0)))
    assert wire.last().beat is not None
    early = Wire(Bench())
    early.say(b'{"surprise": {}}')
    assert "must begin with hello" in early.refusal().message


@pytest.mark.parametrize("version", ["3.0.0", "12.1.0"])
def test_a_host_too_many_majors_off_is_refused_on_both_sides_and_stays_joined(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()  # auth is 1.2.3
    wire = Wire(bench)
    for _ in range(2):
        wire = Wire(bench, wire.host_id)
        wire.say(FromAgent(hello=StreamHello(version=version, roles=[], boot_id="b")))
        said = wire.refusal()
        assert f"this host runs teleport-lite {version}, auth 1.2.3" in said.message
        assert "/install.sh | bash" in said.hint
    assert [record.getMessage() for record in caplog.records] == [
        f"host {wire.host_id} at {the_host('').address}: {said.message}"
    ]
    Wire(bench, wire.host_id).hello()


@pytest.mark.parametrize("at", [1e18, -1e18, 4e9, 1e300])
def test_a_host_with_a_wrong_clock_does_not_age_the_cluster(at: float) -> None:
    """The store takes the time of an event for the time it is."""
    bench = Bench()
    wire = Wire(bench).hello()
    wire.say(FromAgent(events=[an_event(at=at)]))
    assert bench.last_event("session.start").at == bench.clock.now()
    bench.join(Applicant(name="web-2"))


def test_too_many_events_at_once_are_refused_and_not_cut() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    before = len(bench.events())
    wire.say(FromAgent(events=[an_event()] * (MAX_EVENTS + 1)))
    assert wire.refusal().message == "201 events in a frame, the most is 200"
    assert len(bench.events()) == before


def test_what_is_long_in_an_event_is_cut() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    wire.say(FromAgent(events=[an_event(code="x" * 99, facts={"k" * 99: "v" * 9999})]))
    event = bench.last_event("session.start")
    assert len(event.code) == 16
    assert len(event.facts["k" * 64]) == 4096


# Renewal


def test_a_host_renews_on_its_stream_with_new_keys() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    again = Applicant(name="another-name", roles=("Node", "Proxy"))
    wire.say(FromAgent(renew=Renew(hello=again.hello)))
    welcome = wire.last().welcome
    assert welcome is not None
    assert (welcome.host_id, welcome.roles) == (wire.host_id, ["Node"])
    [(host, _)] = bench.store.hosts()
    assert (host.name, host.ssh_key) == ("web-1", again.ssh_key)
    assert bench.last_event("instance.renew").code == "TJ003I"


def test_a_host_does_not_renew_with_the_key_of_another() -> None:
    bench = Bench()
    other = Applicant(name="other")
    bench.token()
    bench.join(other)
    wire = Wire(bench, bench.join().host_id).hello()
    thief = Applicant()
    thief.ssh_key = other.ssh_key
    wire.say(FromAgent(renew=Renew(hello=thief.hello)))
    assert "belongs to another host" in wire.refusal().message
    assert bench.last_event("instance.renew").code == "TJ003E"


def test_a_stream_ends_with_the_certificate_it_was_opened_with() -> None:
    bench = Bench()
    bench.token()
    ends = bench.clock.now() + timedelta(days=30)
    caller = Caller(
        kind=Kind.HOST,
        name=bench.join().host_id,
        address="192.0.2.7",
        roles=("Node",),
        until=ends,
    )
    wire = Wire(bench, caller=caller).hello()
    bench.clock.set(ends - timedelta(seconds=1))
    wire.say(FromAgent(beat=Beat(time=0)))
    assert wire.last().beat is not None
    bench.clock.set(ends)
    wire.say(FromAgent(beat=Beat(time=0)))
    assert wire.refusal().code == "denied"


# Being cut


def test_a_lock_cuts_the_stream_of_its_host_and_no_other() -> None:
    bench = Bench()
    one = Wire(bench).hello()
    two = Wire(bench, bench.join(Applicant(name="web-2")).host_id).hello()
    bench.ask("/v1/locks/add", target="node", value=one.host_id)
    assert one.refusal().code == "denied"
    assert two.last().knowledge is not None  # told of the lock, not cut by it


def test_the_token_of_a_host_is_not_in_what_it_is_told() -> None:
    bench = Bench()
    wire = Wire(bench)
    wire.say(HELLO)
    assert TOKEN.encode() not in (wire.heard[-1] or b"")
    assert b"PRIVATE" not in (wire.heard[-1] or b"")


def test_a_lock_that_is_over_is_not_taught() -> None:
    bench = Bench()
    expired = Lock(
        id="1",
        target=Target.USER,
        value="alice",
        created_at=bench.clock.now(),
        expires_at=bench.clock.now(),
    )
    bench.store.write(lambda tx: tx.put_lock(expired))
    assert bench.desks.teacher.lesson().locks == []


def test_of_two_threads_that_teach_at_once_none_teaches_what_is_older(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lock that its host has heard of is not taken back by a slower thread."""
    bench = Bench()
    wire = Wire(bench).hello()
    teacher, lesson = bench.desks.teacher, bench.desks.teacher.lesson
    words = {"target": "user", "value": "mallory"}
    locking = threading.Thread(target=bench.ask, args=("/v1/locks/add",), kwargs=words)

    def slow() -> Knowledge:
        monkeypatch.setattr(teacher, "lesson", lesson)
        found = lesson()
        locking.start()
        locking.join(0.1)  # it teaches now if it can, else later
        return found

    monkeypatch.setattr(teacher, "lesson", slow)
    bench.desks.presence.tell_everybody()
    locking.join(60)
    known = wire.last().knowledge
    assert known is not None
    assert [lock["spec"]["target"] for lock in known.locks] == [{"user": "mallory"}]


def test_a_lesson_is_built_once_and_again_after_a_change() -> None:
    bench = Bench()
    first = bench.desks.teacher.lesson()
    assert bench.desks.teacher.lesson() is first
    bench.later(seconds=1)
    bench.ask("/v1/locks/add", target="user", value="alice")
    assert bench.desks.teacher.lesson().serial > first.serial


# Auth can not write


def full(bench: Bench, *, is_full: bool = True) -> None:
    """The disk of auth, from now on."""
    bench.store.health._free = lambda: 0 if is_full else None
    bench.store.look()


def test_what_can_not_be_written_now_is_asked_for_later_and_ends_no_stream() -> None:
    bench = Bench()
    wire = Wire(bench).hello()
    full(bench)
    wire.say(FromAgent(events=[an_event()]))
    assert wire.last() == ToAgent(later=module.LATER)
    again = Applicant(host_id=wire.host_id)
    wire.say(FromAgent(renew=Renew(hello=again.hello)))
    assert wire.last() == ToAgent(later=module.LATER)
    wire.say(FromAgent(beat=Beat(time=bench.clock.now().timestamp())))
    assert wire.last().beat is not None, "beats are answered, the stream goes on"
    assert wire.stream._live is not None
    full(bench, is_full=False)
    wire.say(FromAgent(events=[an_event()]))
    assert wire.last() == ToAgent(taken=1)
    assert len(bench.events("session.start")) == 1


def test_who_comes_while_the_disk_is_full_is_taught_and_listed() -> None:
    bench = Bench()
    bench.token()
    host_id = bench.join().host_id
    full(bench)
    wire = Wire(bench, host_id)
    wire.say(HELLO)
    assert wire.last().knowledge is not None
    assert bench.desks.presence.connected() == 1
    with pytest.raises(Unavailable, match="auth is read-only: the disk is full"):
        bench.desks.presence.flush()
    full(bench, is_full=False)
    assert bench.desks.presence.flush() == 1, "what could not be written stays to be written"
