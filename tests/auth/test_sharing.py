"""Several auth servers on one store: two of them here, with everything but the network."""

from typing import Any

from teleport_lite.auth.caller import Caller
from teleport_lite.model.host import Host
from teleport_lite.proto.codec import MAX_FRAME, read, write
from teleport_lite.proto.stream import (
    Beat,
    FromAgent,
    LiveSession,
    ProxyPlace,
    StreamHello,
    ToAgent,
)
from teleport_lite.store.memory import MemoryStore
from teleport_lite.testing.fakes import T0, FakeClock
from tests.auth.bench import PROXY_ID, Applicant, Bench, stranger, the_host
from tests.store.makers import a_token
from tests.support import eventually

A, B = "aaaaaaaa-1111-4111-8111-111111111111", "bbbbbbbb-2222-4222-8222-222222222222"
NODE = "cccccccc-3333-4333-8333-333333333333"


class Stream:
    """What one host hears from one auth server."""

    def __init__(self, bench: Bench, caller: Caller, boot: str = "boot-1", **more: Any) -> None:
        self.heard: list[ToAgent] = []
        self.over = False
        self.bench, self.caller = bench, caller
        self.stream = bench.desks.streams.open(caller, self._take)
        roles = list(caller.roles)
        self.say(hello=StreamHello(version="1.2.3", roles=roles, boot_id=boot, **more))

    def say(self, **words: Any) -> None:
        self.stream.frame(write(FromAgent(**words)))

    def beat(self, **words: Any) -> None:
        self.say(beat=Beat(time=self.bench.clock.now().timestamp(), **words))

    def _take(self, raw: bytes | None) -> None:
        if raw is None:
            self.over = True
            self.stream.closed()
        else:
            self.heard.append(read(ToAgent, raw, limit=MAX_FRAME))

    @property
    def refusal(self) -> str:
        return next((each.refusal.message for each in self.heard if each.refusal), "")


class Pair:
    """Auth servers A and B."""

    def __init__(self) -> None:
        self.clock, store = FakeClock(), MemoryStore()
        self.a = Bench(store=store, clock=self.clock, seed="a")
        self.b = Bench(store=store, clock=self.clock, seed="b")
        self.store = store
        for host_id, name, role in (
            (A, "auth-a", "Auth"),
            (B, "auth-b", "Auth"),
            (NODE, "n", "Node"),
        ):
            self.host(host_id, name, role)
        self.a.desks.serve_as(A, "10.0.0.1:3025", shared=True)
        self.b.desks.serve_as(B, "10.0.0.2:3025", shared=True)
        self.tick(0)

    def host(self, host_id: str, name: str, role: str) -> None:
        host = Host(
            id=host_id,
            name=name,
            roles=(role,),
            joined_at=T0,
            token_id="t",
            ssh_key=f"key of {name}",
            tls_key="PEM",
        )
        self.store.write(lambda tx: tx.put_host(host))

    def tick(self, seconds: float = 1) -> None:
        """Everybody's chores, as if the store had told them."""
        self.clock.tick(seconds=seconds)
        for _ in range(2):
            for each in (self.a, self.b):
                each.desks.heed(frozenset({"hosts"}))
                each.desks.spread()
                each.desks.presence.flush()


def test_both_know_both() -> None:
    pair = Pair()
    for each in (pair.a, pair.b):
        assert each.desks.presence.auths() == {A: "10.0.0.1:3025", B: "10.0.0.2:3025"}
        assert each.desks.teacher.lesson().auths == ["10.0.0.1:3025", "10.0.0.2:3025"]


def node() -> Caller:
    return the_host(NODE, "Node")


def test_a_host_of_one_is_online_at_the_other_within_a_second() -> None:
    pair = Pair()
    stream = Stream(pair.a, node())
    stream.beat(address="10.0.0.9:3022", labels={"env": "prod"})
    pair.tick()
    for each in (pair.a, pair.b):
        [found] = each.ask("/v1/nodes/list")["nodes"]
        assert (found["state"], found["address"]) == ("online", "10.0.0.9:3022")
    stream.say(goodbye={})
    assert stream.over
    pair.tick()
    assert pair.b.ask("/v1/nodes/list")["nodes"][0]["state"] == "offline"


def test_a_proxy_of_one_is_told_to_hosts_of_the_other() -> None:
    pair = Pair()
    pair.a.proxy()
    proxy = Stream(pair.a, the_host(PROXY_ID, "Proxy"))
    watcher = Stream(pair.b, node())
    proxy.beat(proxy=ProxyPlace(address="10.0.0.7:3080", public=["proxy.example:443"]))
    pair.tick()
    told = [each.knowledge for each in watcher.heard if each.knowledge][-1]
    assert [place.address for place in told.proxies] == ["10.0.0.7:3080"]
    proxy.say(goodbye={})
    pair.tick()
    told = [each.knowledge for each in watcher.heard if each.knowledge][-1]
    assert told.proxies == []


def test_a_proxy_hears_of_nodes_of_the_other() -> None:
    pair = Pair()
    pair.b.proxy()
    proxy = Stream(pair.b, the_host(PROXY_ID, "Proxy"))
    stream = Stream(pair.a, node())
    stream.beat(address="10.0.0.9:3022")
    pair.tick()
    routes = [route for each in proxy.heard if each.routes for route in each.routes.hosts]
    assert (routes[-1].address, routes[-1].state) == ("10.0.0.9:3022", "online")


def test_a_clone_is_refused_by_the_other() -> None:
    pair = Pair()
    Stream(pair.a, node(), "boot-1").beat()
    pair.tick()
    clone = Stream(pair.b, node(), "boot-2")
    assert "is connected already, from auth server" in clone.refusal
    assert pair.b.last_event("instance.duplicate").facts["host_id"] == NODE


def test_of_two_that_come_at_the_same_time_the_second_is_cut() -> None:
    pair = Pair()
    first = Stream(pair.a, node(), "boot-1")  # and nobody has been told yet
    second = Stream(pair.b, node(), "boot-2")
    first.beat()
    second.beat()
    for _ in range(3):
        pair.tick()
        for each in (first, second):
            if not each.over:
                each.beat()
    assert (first.over, second.over) == (False, True)
    assert "connected already" in second.refusal
    assert pair.a.ask("/v1/nodes/list")["nodes"][0]["state"] == "online"


def test_a_process_that_goes_on_to_the_other_is_let_in_and_the_old_stream_is_cut() -> None:
    pair = Pair()
    before = Stream(pair.a, node())
    before.beat()
    pair.tick()
    after = Stream(pair.b, node())
    after.beat()
    pair.tick()
    assert (before.over, after.over) == (True, False)
    assert pair.store.host(NODE)[1].via == B  # type: ignore[index]
    pair.tick(60)
    after.beat()
    pair.tick()
    assert pair.a.ask("/v1/nodes/list")["nodes"][0]["state"] == "online"


def test_an_auth_server_that_was_stopped_and_writes_late_is_written_over_again() -> None:
    pair = Pair()
    Stream(pair.a, node()).beat()
    pair.tick()
    late = pair.store.host(NODE)[1]  # type: ignore[index]
    pair.clock.tick(seconds=31)  # A stands still
    after = Stream(pair.b, node())
    after.beat()
    pair.b.desks.spread()
    assert pair.store.host(NODE)[1].via == B  # type: ignore[index]
    pair.store.write(lambda tx: tx.put_report(NODE, late))  # what A had to write still
    pair.tick()
    assert pair.store.host(NODE)[1].via == B  # type: ignore[index]
    assert not after.over


def test_who_came_or_went_is_told_by_the_store_and_a_mere_beat_is_not() -> None:
    pair = Pair()
    heard: list[frozenset[str]] = []
    pair.store.watch(heard.append)
    stream = Stream(pair.a, node())
    pair.a.desks.spread()
    eventually(lambda: heard == [frozenset({"hosts"})], what=str(heard))
    heard.clear()
    stream.beat()
    pair.a.desks.presence.flush()
    pair.store.write(lambda tx: tx.add_token(a_token()))
    eventually(lambda: heard == [frozenset({"tokens"})], what=str(heard))
    heard.clear()
    stream.say(goodbye={})
    eventually(lambda: heard == [frozenset({"hosts"})], what=str(heard))


def test_both_ask_alike_for_the_proof_of_a_token_that_there_is_not() -> None:
    pair = Pair()
    asked = Applicant("no-such-token-0123456789").first(pair.clock.now().timestamp())
    said = [each.desks.joins.start(stranger(), asked).server_first for each in (pair.a, pair.b)]
    one, other = (each.partition(",s=")[2] for each in said)
    assert one == other != ""


def test_a_process_that_has_ended_may_begin_again_with_the_other_at_once() -> None:
    pair = Pair()
    first = Stream(pair.a, node(), "boot-1")
    first.beat()
    pair.tick()
    first.stream.closed()  # killed: no goodbye
    assert Stream(pair.b, node(), "boot-2").refusal == ""


def test_a_host_of_an_auth_server_that_was_killed_is_believed_after_a_silence() -> None:
    pair = Pair()
    Stream(pair.a, node(), "boot-1").beat()
    pair.tick()
    pair.clock.tick(seconds=21)  # both were killed together
    assert Stream(pair.b, node(), "boot-2").refusal == ""


def test_a_lock_at_one_cuts_at_the_other() -> None:
    pair = Pair()
    stream = Stream(pair.b, node())
    pair.a.ask("/v1/locks/add", target="node", value=NODE, message="lost")
    pair.b.desks.heed(frozenset({"locks"}))
    assert stream.over
    assert "lost" in stream.refusal


def test_a_removal_at_one_cuts_at_the_other() -> None:
    pair = Pair()
    stream = Stream(pair.b, node())
    pair.a.ask("/v1/resources/remove", kind="node", name=NODE)
    pair.tick()
    assert stream.over
    assert "removed from the cluster" in stream.refusal
    assert pair.b.ask("/v1/nodes/list")["nodes"] == []


def test_a_role_made_at_one_is_taught_by_the_other_once() -> None:
    pair = Pair()
    stream = Stream(pair.b, node())
    lessons = len([each for each in stream.heard if each.knowledge])
    role = {"kind": "role", "metadata": {"name": "night"}, "spec": {}}
    pair.a.ask("/v1/resources/create", resource=role)
    for _ in range(3):
        pair.b.desks.heed(frozenset({"roles"}))
    told = [each.knowledge for each in stream.heard if each.knowledge]
    assert len(told) == lessons + 1
    assert "night" in [each["metadata"]["name"] for each in told[-1].roles]


SID = "dddddddd-4444-4444-8444-444444444444"


def a_session(sid: str = SID) -> LiveSession:
    now = T0.timestamp()
    return LiveSession(
        sid=sid, user="alice", login="root", started=now, addr="192.0.2.7", command=""
    )


def test_sessions_of_one_are_listed_by_the_other_and_are_still_theirs_when_they_are_over() -> None:
    pair = Pair()
    stream = Stream(pair.a, node())
    stream.beat(sessions=[a_session()])
    pair.tick()
    [found] = pair.b.ask("/v1/sessions/list")["sessions"]
    assert (found["sid"], found["host_id"]) == (SID, NODE)
    stream.beat(sessions=[])
    pair.tick()
    assert pair.b.ask("/v1/sessions/list")["sessions"] == []
    assert pair.b.desks.sessions.known(SID) == NODE


def test_sessions_of_a_host_that_went_on_to_the_other_are_told_by_that_one() -> None:
    pair = Pair()
    Stream(pair.a, node()).beat(sessions=[a_session()])
    pair.tick()
    after = Stream(pair.b, node())
    after.beat(sessions=[])
    pair.tick()
    assert pair.a.ask("/v1/sessions/list")["sessions"] == []


def test_an_auth_server_that_stops_is_not_told_of_any_more() -> None:
    pair = Pair()
    pair.a.desks.sharing.end()
    pair.b.desks.heed(frozenset({"hosts"}))
    pair.b.desks.spread()
    assert pair.b.desks.presence.auths() == {B: "10.0.0.2:3025"}


def test_an_auth_server_that_was_killed_is_not_told_of_after_a_silence() -> None:
    pair = Pair()
    pair.clock.tick(seconds=46)
    pair.b.desks.heed(frozenset({"hosts"}))
    pair.b.desks.spread()
    assert pair.b.desks.presence.auths() == {B: "10.0.0.2:3025"}


def test_one_auth_server_alone_tells_of_none_and_writes_nothing_for_others() -> None:
    bench = Bench()
    host = Host(
        id=NODE,
        name="n",
        roles=("Node",),
        joined_at=T0,
        token_id="t",
        ssh_key="key",
        tls_key="PEM",
    )
    bench.store.write(lambda tx: tx.put_host(host))
    Stream(bench, node()).beat(sessions=[a_session()])
    bench.desks.spread()
    bench.desks.presence.flush()
    report = bench.store.host(NODE)[1]  # type: ignore[index]
    assert (report.via, report.boot_id, report.sessions) == ("", "", ())
    assert bench.desks.teacher.lesson().auths == []


def test_status_and_the_listing_show_every_auth_server_and_its_state() -> None:
    pair = Pair()
    pair.b.desks.sharing.end()
    pair.tick(0)
    pair.b.desks.sharing.end()
    pair.a.desks.heed(frozenset({"hosts"}))
    pair.a.desks.spread()
    shown = pair.a.ask("/v1/status")["auth_servers"]
    assert [(each["hostname"], each["address"], each["state"]) for each in shown] == [
        ("auth-a", "10.0.0.1:3025", "online"),
        ("auth-b", "10.0.0.2:3025", "offline"),
    ]
    found = pair.a.ask("/v1/resources/get", kind="auth_servers")["resources"]
    assert [each["spec"]["hostname"] for each in found] == ["auth-a", "auth-b"]


def test_the_only_auth_server_is_shown_too() -> None:
    bench = Bench()
    host = Host(
        id=A,
        name="auth-a",
        roles=("Auth",),
        joined_at=T0,
        token_id="local",
        ssh_key="key",
        tls_key="PEM",
    )
    bench.store.write(lambda tx: tx.put_host(host))
    bench.desks.serve_as(A, "10.0.0.1:3025", shared=False)
    [shown] = bench.ask("/v1/status")["auth_servers"]
    assert (shown["address"], shown["state"]) == ("10.0.0.1:3025", "online")
    assert bench.desks.teacher.lesson().auths == []


def test_a_host_that_is_no_auth_server_can_not_say_it_is_one() -> None:
    pair = Pair()
    stream = Stream(pair.a, node())
    stream.beat(auth="10.0.0.66:3025")
    assert "without role Auth" in stream.refusal
    assert A in pair.a.desks.presence.auths()
    assert NODE not in pair.a.desks.presence.auths()


def test_an_auth_server_with_an_agent_is_told_of_by_whoever_has_its_stream() -> None:
    pair = Pair()
    stream = Stream(pair.a, the_host(B, "Auth"))
    for _ in range(3):
        stream.beat(auth="10.0.0.2:3025")
        pair.tick(6)
        for each in (pair.a, pair.b):
            assert each.desks.presence.auths() == {A: "10.0.0.1:3025", B: "10.0.0.2:3025"}
            assert each.desks.presence.host(B)[1].via == A  # type: ignore[index]
    assert not stream.over
    pair.b.desks.sharing.end()
    pair.a.desks.heed(frozenset({"hosts"}))


def test_a_bot_is_told_where_auth_and_proxies_are_and_a_host_is_not() -> None:
    """It has no stream to hear it from."""
    pair = Pair()
    pair.host(PROXY_ID, "p", "Proxy")
    proxy = Stream(pair.a, the_host(PROXY_ID, "Proxy"))
    proxy.beat(proxy=ProxyPlace(public=["tele.example.com:443", "tele.example.com:443"]))
    pair.tick()
    pair.a.ask("/v1/bots/add", name="ci", roles=["access"])
    [token] = [each for each in pair.store.tokens() if each.bot_name]
    bot = pair.b.join(Applicant(text=token.text.reveal(), name="ci", roles=("Bot",)))
    assert bot.auths == ["10.0.0.1:3025", "10.0.0.2:3025"]
    assert bot.proxies == ["tele.example.com:443"]
    pair.a.token()
    host = pair.a.join(Applicant())
    assert (host.auths, host.proxies) == ([], [])
