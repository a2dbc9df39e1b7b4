"""What proxies are told of the nodes."""

from dataclasses import replace

import pytest

from teleport_lite.auth import routes as module
from teleport_lite.auth.hosts import Live, Presence
from teleport_lite.auth.routes import Board, chunks, route
from teleport_lite.errors import Unavailable
from teleport_lite.model.host import Host, Report
from teleport_lite.proto.codec import MAX_FRAME, write
from teleport_lite.proto.stream import Beat, Route, Routes, ToAgent
from teleport_lite.store.memory import MemoryStore
from teleport_lite.testing.fakes import T0, FakeClock

KINDS = frozenset({"node"})
PROXY_ID = "aaaaaaaa-2222-4333-8444-555555555555"


def a_host(host_id: str, **changes) -> Host:
    fields = {
        "id": host_id,
        "name": f"name-{host_id}",
        "roles": ("Node",),
        "joined_at": T0,
        "token_id": "t",
        "ssh_key": f"key {host_id}",
        "tls_key": "PEM",
    }
    return Host(**(fields | changes))


class Hall:
    """A board above a real presence, and a proxy that reads it."""

    def __init__(self, *hosts: str) -> None:
        self.clock, self.store = FakeClock(), MemoryStore()
        for host_id in hosts:
            self.add(a_host(host_id))
        self.presence = Presence(clock=self.clock, store=self.store)
        self.board = Board(clock=self.clock, hosts=self.presence)
        self.lives: dict[str, Live] = {}
        self.known: dict[str, Route] = {}  # what a reader makes of what it hears
        self.frames: list[Routes] = []

    def add(self, host: Host) -> None:
        self.store.write(lambda tx: tx.put_host(host))

    def live(self, host_id: str) -> Live:
        live = Live(
            host_id=host_id,
            boot_id="boot",
            address="192.0.2.7",
            version="1",
            push=lambda: None,
            cut=lambda why: None,
            last_beat=self.clock.now(),
        )
        self.presence.arrive(live)
        self.lives[host_id] = live
        return live

    def beat(self, host_id: str, **said) -> None:
        live = self.lives.get(host_id) or self.live(host_id)
        beat = Beat(**{"time": self.clock.now().timestamp(), **said})
        self.presence.beat(live, beat, KINDS)

    def follow(self):
        return self.board.follow(self.read)

    def read(self, frame: Routes) -> None:
        self.frames.append(frame)
        if frame.first:
            self.known.clear()
        self.known |= {each.id: each for each in frame.hosts}
        for host_id in frame.gone:
            del self.known[host_id]

    def tick(self, **span: float) -> list[Routes]:
        """Time passes; what was said then."""
        self.clock.tick(**(span or {"seconds": 1}))
        self.frames.clear()
        self.board.tick()
        return list(self.frames)


def test_who_follows_is_told_of_every_node_at_once() -> None:
    hall = Hall("h1", "h2")
    hall.add(a_host("a1", roles=("App",)))
    hall.add(a_host("p1", roles=("Proxy", "Node")))
    hall.beat("h1", address="10.0.0.5:3022", labels={"env": "prod"})
    hall.beat("h2", tunnels=[PROXY_ID])
    hall.follow()
    [frame] = hall.frames
    assert frame.first
    assert {each.id for each in frame.hosts} == {"h1", "h2", "p1"}
    assert hall.known["h1"] == Route(
        id="h1", name="name-h1", address="10.0.0.5:3022", labels={"env": "prod"}
    )
    assert hall.known["h2"].tunnels == [PROXY_ID]
    assert (hall.known["p1"].state, hall.known["p1"].last_seen) == ("offline", "")


def test_a_cluster_without_nodes_is_told_too() -> None:
    hall = Hall()
    hall.follow()
    assert hall.frames == [Routes(first=True)]


def test_many_nodes_come_in_chunks_of_which_the_first_clears() -> None:
    hall = Hall(*(f"h{number}" for number in range(1201)))
    hall.follow()
    assert [(frame.first, len(frame.hosts)) for frame in hall.frames] == [
        (True, 500),
        (False, 500),
        (False, 201),
    ]
    assert len(hall.known) == 1201


def test_a_chunk_fits_into_a_frame_whatever_the_labels() -> None:
    fat = [Route(id=str(n), name="n", labels={"k": "\u00fc" * 1024}) for n in range(1000)]
    parts = chunks(fat)
    assert sum(len(part) for part in parts) == 1000
    assert all(
        len(write(ToAgent(routes=Routes(first=True, hosts=part)))) < MAX_FRAME for part in parts
    )


def test_changes_are_told_together_and_nothing_is_told_of_none() -> None:
    hall = Hall("h1", "h2", "h3")
    for name in ("h1", "h2", "h3"):
        hall.beat(name, address=f"10.0.0.1:{len(name)}")
    hall.follow()
    assert hall.tick() == []
    hall.beat("h1", address="10.0.0.9:3022")
    hall.beat("h1", tunnels=[PROXY_ID])
    hall.beat("h2", labels={"env": "prod"})
    hall.beat("h3", address="10.0.0.1:2")
    [frame] = hall.tick()
    assert {each.id for each in frame.hosts} == {"h1", "h2"}
    assert (hall.known["h1"].address, hall.known["h1"].tunnels) == ("", [PROXY_ID])
    assert hall.tick() == []


def test_beats_that_change_nothing_cost_nothing() -> None:
    hall = Hall("h1")
    hall.beat("h1", address="10.0.0.1:3022")
    hall.follow()
    for _ in range(20):
        hall.beat("h1", address="10.0.0.1:3022")
        assert hall.tick(seconds=5) == []


def test_a_node_that_joins_or_leaves_is_told() -> None:
    hall = Hall("h1")
    hall.follow()
    hall.add(a_host("h2"))
    hall.beat("h2")
    hall.tick()
    assert set(hall.known) == {"h1", "h2"}
    hall.store.write(lambda tx: tx.remove_host("h2"))
    hall.presence.forget("h2")
    [frame] = hall.tick()
    assert frame.gone == ["h2"]
    assert set(hall.known) == {"h1"}
    hall.presence.forget("h2")
    assert hall.tick() == []


def test_silence_becomes_stale_and_offline_without_a_word() -> None:
    hall = Hall("h1", "h2")
    hall.beat("h1")
    hall.follow()
    assert hall.known["h1"].state == "online"
    hall.tick(seconds=46)
    assert (hall.known["h1"].state, hall.known["h1"].last_seen) == ("stale", "2026-03-02T12:00:00Z")
    hall.tick(seconds=80)
    assert hall.known["h1"].state == "offline"
    assert hall.tick(seconds=80) == []
    hall.beat("h1")
    hall.tick(seconds=5)
    assert (hall.known["h1"].state, hall.known["h1"].last_seen) == ("online", "")


def test_a_goodbye_and_a_cut_are_told_at_once() -> None:
    hall = Hall("h1", "h2")
    hall.beat("h1")
    hall.beat("h2")
    hall.follow()
    hall.presence.leave(hall.lives["h1"], said_goodbye=True)
    hall.presence.cut("h2", "this host is locked")
    hall.tick()
    assert {each.state for each in hall.known.values()} == {"offline"}


def test_a_stream_that_breaks_is_no_reason_to_give_a_node_up() -> None:
    hall = Hall("h1")
    hall.beat("h1", address="10.0.0.1:3022", labels={"env": "prod"})
    hall.follow()
    hall.presence.leave(hall.lives["h1"], said_goodbye=False)
    hall.live("h1")
    assert hall.tick() == []
    assert hall.known["h1"].labels == {"env": "prod"}


def test_after_a_restart_of_auth_nothing_is_lost_until_the_first_beat() -> None:
    hall = Hall("h1")
    hall.beat("h1", labels={"env": "prod"}, tunnels=[PROXY_ID])
    hall.presence.flush()
    hall.presence = Presence(clock=hall.clock, store=hall.store)
    hall.board = Board(clock=hall.clock, hosts=hall.presence)
    hall.follow()
    hall.live("h1")
    hall.tick()
    found = hall.known["h1"]
    assert (found.tunnels, found.labels) == ([PROXY_ID], {"env": "prod"})


def test_who_stops_following_hears_no_more_and_one_that_comes_later_hears_all() -> None:
    hall = Hall("h1", "h2")
    leave = hall.follow()
    leave()
    leave()
    hall.beat("h1", address="10.0.0.1:3022")
    assert hall.tick() == []
    assert hall.board.readers() == 0
    hall.beat("h2", address="10.0.0.2:3022")
    hall.follow()
    assert {each.address for each in hall.known.values()} == {"10.0.0.1:3022", "10.0.0.2:3022"}


def test_every_reader_hears_the_same() -> None:
    hall, other = Hall("h1"), []
    hall.follow()
    hall.beat("h1", address="10.0.0.1:3022")
    hall.board.follow(other.append)
    hall.beat("h1", address="10.0.0.2:3022")
    frames = hall.tick()
    assert other[-len(frames) :] == frames
    assert other[0].first
    assert hall.known["h1"].address == "10.0.0.2:3022"


def test_silent_nodes_are_looked_for_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall("h1")
    hall.beat("h1")
    hall.follow()
    looks = []
    monkeypatch.setattr(hall.presence, "reports", lambda: looks.append(1) or {})
    for _ in range(20):
        hall.tick()
    assert len(looks) == 20 / module.LOOK_EVERY


def test_a_route_says_when_a_node_was_last_seen_only_if_it_is_missed() -> None:
    seen = Report(last_seen=T0)
    assert route(a_host("h1"), seen, T0).last_seen == ""
    assert route(a_host("h1"), replace(seen, gone=True), T0).last_seen == "2026-03-02T12:00:00Z"


def test_what_moves_while_the_store_is_away_is_told_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hall = Hall("h1", "h2")
    hall.follow()
    hall.live("h1")
    hall.beat("h2", address="192.0.2.9:22")

    def away(host_id: str) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as now:
        now.setattr(hall.store, "host", away)
        with pytest.raises(Unavailable):
            hall.board.tick()
        with pytest.raises(Unavailable):
            hall.board.tick()
    told = {route.id for frame in hall.tick() for route in frame.hosts}
    assert told == {"h1", "h2"}
