"""The registry of tunnels: who gets in, who takes over, who is cut."""

import asyncio
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization

from teleport_lite.agent.identity import Identity
from teleport_lite.errors import Denied, Unavailable
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_frames import Kind
from teleport_lite.net.mux_heart import Heart, Pace
from teleport_lite.net.mux_tls import Context
from teleport_lite.net.tls import client_context
from teleport_lite.net.tunnel_wire import agent_context, dial, proxy_context
from teleport_lite.proto.alpn import TUNNEL
from teleport_lite.proto.codec import write
from teleport_lite.proto.stream import Knowledge
from teleport_lite.proto.tunnel import Control, GoingAway, Open, TunnelHello
from teleport_lite.proxy import tunnels as module
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeClock
from tests.net.middlebox import middlebox
from tests.net.mux_pair import End
from tests.tunnel_rig import Listener, Proxy, host, until

CLIENT = ("198.51.100.7", 4242)
QUICK = Pace(interval=0.1, deadline=0.5, greeting=0.5)


@pytest.fixture(scope="module")
def cluster() -> PaperCluster:
    return PaperCluster()


@pytest.fixture(scope="module")
def web1(cluster: PaperCluster) -> Identity:
    return host(cluster)


class Agent(End):
    """The other end, which says what the test wants."""

    def __init__(self, boot_id: str = "") -> None:
        super().__init__(greets=False)
        self.boot_id = boot_id

    def secured(self, mux: Mux) -> None:
        mux.say(Control(hello=TunnelHello(version=1, boot_id=self.boot_id)))

    @property
    def refusals(self) -> list[GoingAway]:
        return [each.going_away for each in self.said if each.going_away is not None]


async def bring(
    proxy: Proxy,
    identity: Identity,
    agent: Agent | None = None,
    *,
    port: int = 0,
    context: Context | None = None,
) -> tuple[Mux, Agent]:
    """A connection under way; whether it becomes a tunnel is for the test to see."""
    agent = agent or Agent()
    context = context or agent_context(identity.tls_cert, identity.tls_private, identity.host_cas)
    mux = await dial(
        f"127.0.0.1:{port or proxy.port}",
        context,
        proxy_id=proxy.id,
        timeout=60,
        owner=agent,
        heart=Heart(),
    )
    return mux, agent


def test_a_host_that_brings_a_tunnel_can_be_reached(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        _, agent = await bring(proxy, web1)
        tunnel = await until(lambda: proxy.tunnels.get(web1.host_id))
        assert (tunnel.host_id, tunnel.address[0]) == (web1.host_id, "127.0.0.1")
        assert proxy.tunnels.count == len(proxy.tunnels) == 1
        assert proxy.tunnels.all() == [tunnel]
        stream, listener = tunnel.open(CLIENT), Listener()
        stream.set_protocol(listener)
        await until(lambda: agent.streams)
        there, _, hello = agent.streams[0]
        assert hello == Open(service="ssh", client_ip=CLIENT[0], client_port=CLIENT[1])
        there.write(b"SSH-2.0-x\r\n")
        await until(lambda: listener.data == b"SSH-2.0-x\r\n")
        assert (tunnel.streams, proxy.tunnels.streams) == (1, 1)
        assert proxy.tunnels.moved == (0, 11)
        assert proxy.tunnels.counters.streams == 1
        await proxy.stop()
        await until(lambda: agent.why)
        assert proxy.changes == [(web1.host_id, True), (web1.host_id, False)]
        assert proxy.tunnels.moved == (0, 11)
        assert listener.lost

    asyncio.run(work())


def refused(cluster: PaperCluster, identity: Identity, **more: object) -> tuple[str, int]:
    """What a host that may not bring a tunnel hears, and how many were refused."""

    async def work() -> tuple[str, int]:
        proxy = Proxy(cluster, **more)  # type: ignore[arg-type]  # of Proxy
        await proxy.listen()
        _, agent = await bring(proxy, identity)
        await until(lambda: agent.why, what="the refusal")
        assert proxy.tunnels.count == 0
        assert proxy.changes == []
        await proxy.stop()
        said = agent.refusals[0].reason if agent.refusals else agent.why[0]
        return said, proxy.tunnels.counters.refused

    return asyncio.run(work())


def test_a_host_of_another_cluster_is_refused(cluster: PaperCluster) -> None:
    stranger = replace(host(PaperCluster("other.example")), host_cas=tuple(cluster.host_cas))
    why, _ = refused(cluster, stranger)
    assert "TLS failed: tlsv1 alert unknown ca" in why


def test_a_host_that_only_names_another_cluster_is_refused(cluster: PaperCluster) -> None:
    """Signed by our CA, as after a mistake of an administrator."""
    host_id = "00000000-0000-4000-8000-000000000001"
    forged = cluster.tls_forgery(
        common_names=(f"{host_id}.other.example",),
        uris=(f"spiffe://other.example/host/{host_id}",),
    )
    key = forged.public.private_bytes(  # type: ignore[attr-defined]  # any private key
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    identity = replace(host(cluster), tls_cert=forged.pem(), tls_private=Secret(key))
    why, count = refused(cluster, identity)
    assert why == "only hosts of this cluster have tunnels"
    assert count == 1


def test_a_person_is_refused(cluster: PaperCluster) -> None:
    papers = cluster.user("alice")
    identity = replace(host(cluster), tls_cert=papers.tls_cert, tls_private=papers.tls_private)
    why, _ = refused(cluster, identity)
    assert "TLS failed: tlsv1 alert unknown ca" in why


def test_somebody_without_a_certificate_is_refused(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        context = client_context(None, None, cluster.host_cas)
        context.set_alpn_protocols([TUNNEL])
        _, agent = await bring(proxy, web1, context=context)
        await until(lambda: agent.why)
        assert "certificate required" in agent.why[0]
        assert proxy.tunnels.count == 0
        await proxy.stop()

    asyncio.run(work())


@pytest.mark.parametrize("roles", [("Proxy",), ("Auth", "Proxy"), ("Bot",)])
def test_a_host_with_nothing_to_reach_is_refused(
    cluster: PaperCluster, roles: tuple[str, ...]
) -> None:
    why, _ = refused(cluster, host(cluster, roles=roles))
    assert why == "this host has nothing to reach"


def test_a_locked_host_hears_why_and_when_to_come_back(
    cluster: PaperCluster, web1: Identity
) -> None:
    why, count = refused(cluster, web1, refuse=lambda peer: f"node {peer.name} is locked")
    assert why == f"node {web1.host_id} is locked"
    assert count == 1


def test_who_says_nothing_is_cut(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster, pace=QUICK)
        await proxy.listen()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
        silent = End(greets=False)
        await bring(proxy, web1, silent)  # type: ignore[arg-type]  # says no hello
        await until(lambda: silent.why)
        assert proxy.tunnels._arriving == {}
        await proxy.stop()

    asyncio.run(work())


def test_a_lock_cuts_the_tunnel_and_its_sessions(cluster: PaperCluster, web1: Identity) -> None:
    locked: set[str] = set()

    async def work() -> None:
        proxy = Proxy(cluster, refuse=lambda peer: "locked" if peer.name in locked else "")
        await proxy.listen()
        other = host(cluster, "web2")
        _, agent = await bring(proxy, web1)
        await bring(proxy, other)
        await until(lambda: proxy.tunnels.count == 2)
        tunnel = proxy.tunnels.get(web1.host_id)
        assert tunnel is not None
        stream, listener = tunnel.open(CLIENT), Listener()
        stream.set_protocol(listener)
        proxy.tunnels.recheck()
        assert proxy.tunnels.count == 2
        locked.add(web1.host_id)
        proxy.tunnels.recheck()
        await until(lambda: listener.lost and agent.why)
        assert agent.refusals[0].reason == "locked"
        assert agent.refusals[0].delay >= 30
        assert [each.host_id for each in proxy.tunnels.all()] == [other.host_id]
        await proxy.stop()

    asyncio.run(work())


def test_a_removed_host_can_be_cut_by_name(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        _, agent = await bring(proxy, web1)
        await until(lambda: proxy.tunnels.count)
        assert proxy.tunnels.cut("nobody", "removed") == 0
        assert proxy.tunnels.cut(web1.host_id, "removed") == 1
        await until(lambda: agent.why and not proxy.tunnels.count)
        assert agent.refusals[0].reason == "removed"
        await proxy.stop()

    asyncio.run(work())


def knowledge(cluster: PaperCluster, *host_cas: str) -> Knowledge:
    return Knowledge(
        cluster=cluster.name,
        serial=1,
        host_cas=list(host_cas) or cluster.host_cas,
        ssh_host_cas=[],
        ssh_user_cas=[],
        user_cas=[],
        roles=[],
        locks=[],
    )


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after a rotation takes half a minute elsewhere."""
    monkeypatch.setattr(module, "NO_MORE", 0.2)
    monkeypatch.setattr(module, "LAST", 0.6)


def rotated(cluster: PaperCluster, proxy: Proxy) -> PaperCluster:
    """The next generation, which the proxy trusts beside the old one."""
    new = PaperCluster(cluster.name)
    both = [*cluster.host_cas, *new.host_cas]
    proxy.context = proxy_context(proxy.papers.tls_cert, proxy.papers.tls_private, both)
    proxy.tunnels.recheck(knowledge(cluster, *both))
    return new


@pytest.mark.usefixtures("hurry")
def test_sessions_of_a_host_that_has_renewed_outlive_the_ca_they_came_with(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        _, old = await bring(proxy, web1, Agent("1"))
        before = await until(lambda: proxy.tunnels.get(web1.host_id))
        stream, listener = before.open(CLIENT), Listener()
        stream.set_protocol(listener)
        await until(lambda: old.streams)
        new = rotated(cluster, proxy)
        assert proxy.tunnels.get(web1.host_id) is before, "a new CA is no reason to leave"
        papers = new.host("web1", host_id=web1.host_id)
        renewed = replace(web1, tls_cert=papers.tls_cert, tls_private=papers.tls_private)
        await bring(proxy, renewed, Agent("1"))
        await until(lambda: proxy.tunnels.get(web1.host_id) is not before)
        proxy.tunnels.recheck(knowledge(cluster, *new.host_cas))
        await asyncio.sleep(1.0)  # nothing happens, and that for longer than it could
        assert (old.why, listener.lost, proxy.tunnels.count) == ([], [], 1)
        there, _, _ = old.streams[0]
        there.write(b"still there")
        await until(lambda: listener.data == b"still there")
        assert proxy.tunnels.counters.refused == 0
        await proxy.stop()

    asyncio.run(work())


@pytest.mark.usefixtures("hurry")
def test_a_host_that_was_left_behind_is_asked_then_avoided_then_cut(
    cluster: PaperCluster, web1: Identity
) -> None:
    clock = FakeClock.here()

    async def work() -> None:
        proxy = Proxy(cluster, clock=clock)
        await proxy.listen()
        mux, agent = await bring(proxy, web1)
        tunnel = await until(lambda: proxy.tunnels.get(web1.host_id))
        stream, listener = tunnel.open(CLIENT), Listener()
        stream.set_protocol(listener)
        new = rotated(cluster, proxy)
        proxy.tunnels.recheck(knowledge(cluster, *new.host_cas))
        proxy.tunnels.recheck(knowledge(cluster, *new.host_cas))
        clock.tick(seconds=module.NO_MORE)
        await until(lambda: agent.refusals)
        asked = GoingAway(delay=module.RETURN, reason="the CA of its certificate was rotated away")
        assert agent.refusals == [asked]
        await until(lambda: proxy.tunnels.get(web1.host_id) is None)
        assert (mux.alive, listener.lost) == (True, [])
        clock.tick(seconds=module.LAST)
        proxy.tunnels._part_from_outdated()  # its own timer may have come by before the clock did
        await until(lambda: agent.why)
        assert agent.refusals[-1].reason.endswith("and this host has not renewed")
        assert proxy.changes[-1] == (web1.host_id, False)
        assert proxy.tunnels.counters.refused == 1
        await proxy.stop()

    asyncio.run(work())


@pytest.mark.usefixtures("hurry")
def test_a_tunnel_of_a_retired_ca_keeps_nobody_out_and_is_cut(
    cluster: PaperCluster, web1: Identity
) -> None:
    """Somebody with the key of the CA that goes passes for a host."""

    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        new = rotated(cluster, proxy)
        papers = new.host("web1", host_id=web1.host_id)
        renewed = replace(web1, tls_cert=papers.tls_cert, tls_private=papers.tls_private)
        await bring(proxy, renewed, Agent("the host"))
        await until(lambda: proxy.tunnels.count)
        _, thief = await bring(proxy, web1, Agent("the thief"))
        held = await until(
            lambda: proxy.tunnels.counters.replaced and proxy.tunnels.get(web1.host_id)
        )
        assert held is not None
        stream, listener = held.open(CLIENT), Listener()
        stream.set_protocol(listener)
        await until(lambda: thief.streams)
        proxy.tunnels.recheck(knowledge(cluster, *new.host_cas))
        _, back = await bring(proxy, renewed, Agent("the host"))
        await until(lambda: proxy.tunnels.get(web1.host_id) not in (None, held))
        assert (back.why, proxy.tunnels.counters.clones) == ([], 0)
        await until(lambda: thief.why)
        assert proxy.tunnels.get(web1.host_id) not in (None, held)
        await proxy.stop()

    asyncio.run(work())


def test_a_ca_that_is_retired_between_handshake_and_hello_is_retired(
    cluster: PaperCluster, web1: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        new = rotated(cluster, proxy)
        told = module.Tunnels.told

        def late(self: module.Tunnels, mux: Mux, word: Control) -> None:
            self.recheck(knowledge(cluster, *new.host_cas))
            told(self, mux, word)

        monkeypatch.setattr(module.Tunnels, "told", late)
        _, agent = await bring(proxy, web1)
        await until(lambda: agent.why)
        assert (proxy.tunnels.count, proxy.tunnels.counters.refused) == (0, 1)
        await proxy.stop()

    asyncio.run(work())


def test_a_new_tunnel_of_a_retired_ca_is_refused_at_once(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        new = rotated(cluster, proxy)
        proxy.tunnels.recheck(knowledge(cluster, *new.host_cas))
        _, agent = await bring(proxy, web1)  # by a context that is a moment older than the word
        await until(lambda: agent.why)
        assert (proxy.tunnels.count, proxy.tunnels.counters.refused) == (0, 1)
        await proxy.stop()

    asyncio.run(work())


@pytest.mark.usefixtures("hurry")
def test_a_proxy_that_stops_leaves_old_tunnels_to_their_sessions(
    cluster: PaperCluster, web1: Identity
) -> None:
    """Whether their hosts have renewed, only its successor knows."""

    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        _, agent = await bring(proxy, web1)
        tunnel = await until(lambda: proxy.tunnels.get(web1.host_id))
        tunnel.open(CLIENT)
        proxy.tunnels.retire()
        proxy.tunnels.recheck(knowledge(PaperCluster(cluster.name)))
        await asyncio.sleep(0.8)
        assert agent.why == []
        await proxy.stop()

    asyncio.run(work())


def test_a_host_whose_certificate_ends_is_asked_for_another_tunnel(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        clock = FakeClock.here()
        proxy = Proxy(cluster, clock=clock)
        await proxy.listen()
        mux, agent = await bring(proxy, web1)
        tunnel = await until(lambda: proxy.tunnels.get(web1.host_id))
        clock.tick(days=6)
        proxy.tunnels.recheck()
        clock.tick(days=2)
        proxy.tunnels.recheck()
        proxy.tunnels.recheck()
        await until(lambda: agent.refusals)
        assert len(agent.refusals) == 1
        assert "expired" in agent.refusals[0].reason
        assert agent.refusals[0].delay == 0
        assert mux.alive, "sessions go on"
        tunnel.open(CLIENT)
        await proxy.stop()

    asyncio.run(work())


def test_the_same_process_takes_over_and_its_sessions_go_on(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        _, first = await bring(proxy, web1, Agent("one"))
        old = await until(lambda: proxy.tunnels.get(web1.host_id))
        stream, listener = old.open(CLIENT), Listener()
        stream.set_protocol(listener)
        await bring(proxy, web1, Agent("one"))
        new = await until(lambda: (t := proxy.tunnels.get(web1.host_id)) is not old and t)
        assert new is not None
        assert proxy.tunnels.count == 1
        with pytest.raises(Unavailable, match="going away"):
            old.open(CLIENT)
        first.streams[0][0].write(b"still")
        await until(lambda: listener.data == b"still")
        stream.close()
        await until(lambda: first.why)
        assert proxy.tunnels.get(web1.host_id) is new
        assert proxy.changes == [(web1.host_id, True)]
        assert proxy.tunnels.counters.replaced == 1
        await proxy.stop()

    asyncio.run(work())


def test_a_restarted_host_takes_over_from_itself(cluster: PaperCluster, web1: Identity) -> None:
    """Its machine lost power: the old connection still looks alive."""

    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        _, first = await bring(proxy, web1, Agent("before"))
        await until(lambda: proxy.tunnels.count)
        _, second = await bring(proxy, web1, Agent("after"))
        await until(lambda: first.why)
        assert not second.why
        assert proxy.tunnels.count == 1
        assert proxy.tunnels.counters.clones == 0
        await proxy.stop()

    asyncio.run(work())


def test_clones_do_not_throw_each_other_out_for_ever(
    cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        await bring(proxy, web1, Agent("one"))
        await until(lambda: proxy.tunnels.count)
        _, second = await bring(proxy, web1, Agent("two"))
        await until(lambda: proxy.tunnels.counters.replaced)
        _, again = await bring(proxy, web1, Agent("one"))
        await until(lambda: again.why)
        assert "another machine" in again.refusals[0].reason
        assert not second.why, "the one that is here stays"
        assert proxy.tunnels.counters.clones == 1
        await proxy.stop()

    asyncio.run(work())
    assert "two machines use the identity" in caplog.text


def test_a_clone_may_come_when_the_other_is_gone(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        await bring(proxy, web1, Agent("one"))
        await until(lambda: proxy.tunnels.count)
        mux, _ = await bring(proxy, web1, Agent("two"))
        await until(lambda: proxy.tunnels.counters.replaced)
        mux.die("unplugged")
        await until(lambda: not proxy.tunnels.count)
        _, again = await bring(proxy, web1, Agent("one"))
        await until(lambda: proxy.tunnels.count)
        assert not again.why
        await proxy.stop()

    asyncio.run(work())


def test_a_host_that_says_goodbye_is_not_offered_any_more(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        mux, agent = await bring(proxy, web1)
        tunnel = await until(lambda: proxy.tunnels.get(web1.host_id))
        stream, listener = tunnel.open(CLIENT), Listener()
        stream.set_protocol(listener)
        await until(lambda: agent.streams)
        mux.say(Control(going_away=GoingAway(reason="the host stops")))
        await until(lambda: not proxy.tunnels.count)
        agent.streams[0][0].write(b"one more word")
        await until(lambda: listener.data == b"one more word")
        stream.close()
        await until(lambda: agent.why)
        await proxy.stop()

    asyncio.run(work())


def test_a_host_can_not_make_its_proxy_reach_anything(
    cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        mux, agent = await bring(proxy, web1)
        await until(lambda: proxy.tunnels.count and mux.greeted)
        stream, listener = mux.open(Open(service="ssh", client_ip="::1", client_port=1)), Listener()
        stream.set_protocol(listener)
        await until(lambda: listener.lost)
        assert "only proxies open streams" in str(listener.lost[0])
        assert proxy.tunnels.counters.violations == 1
        assert not agent.why
        await proxy.stop()

    asyncio.run(work())
    assert web1.host_id in caplog.text


def test_a_host_without_ssh_is_not_opened(cluster: PaperCluster) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        app = host(cluster, "app1", roles=("App",))
        await bring(proxy, app)
        tunnel = await until(lambda: proxy.tunnels.get(app.host_id))
        with pytest.raises(Denied, match="no SSH service"):
            tunnel.open(CLIENT)
        await proxy.stop()

    asyncio.run(work())


def test_a_proxy_that_stops_asks_everybody_to_spread(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        _, agent = await bring(proxy, web1)
        tunnel = await until(lambda: proxy.tunnels.get(web1.host_id))
        stream, listener = tunnel.open(CLIENT), Listener()
        stream.set_protocol(listener)
        await until(lambda: agent.streams)
        stopping = asyncio.create_task(proxy.stop(delay=7.5, drain=30))
        await until(lambda: agent.refusals)
        assert agent.refusals[0].delay == 7.5
        with pytest.raises(Unavailable, match="going away"):
            tunnel.open(CLIENT)
        agent.streams[0][0].write(b"finishing")
        await until(lambda: listener.data == b"finishing")
        assert not stopping.done()
        stream.close()
        async with asyncio.timeout(30):
            await stopping

    asyncio.run(work())


def test_a_proxy_that_stops_takes_nobody(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        await proxy.tunnels.close(5.0)
        _, agent = await bring(proxy, web1)
        await until(lambda: agent.why)
        assert agent.refusals[0].delay == 5.0
        await proxy.stop()

    asyncio.run(work())


def test_a_dead_tunnel_is_taken_over_by_another_process(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        proxy = Proxy(cluster, pace=Pace(interval=0.1, deadline=60, greeting=10))
        await proxy.listen()
        async with middlebox(proxy.port) as box:
            await bring(proxy, web1, Agent("one"), port=box.port)
            old = await until(lambda: proxy.tunnels.get(web1.host_id))
            box.forget()
            await until(lambda: old.silent() > 1.5)
            await bring(proxy, web1, Agent("two"))
            await until(lambda: proxy.tunnels.counters.replaced)
            assert proxy.tunnels._seen == {}, "no clone: the old one was silent"
            await proxy.stop()

    asyncio.run(work())


def test_the_oldest_that_has_not_said_anything_makes_way(
    cluster: PaperCluster, web1: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teleport_lite.proxy.tunnels.MAX_ARRIVING", 3)

    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        idlers = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(5)]
        await bring(proxy, web1)
        await until(lambda: proxy.tunnels.count)
        async with asyncio.timeout(30):
            assert await idlers[0][0].read() == b""
        for _, writer in idlers:
            writer.close()
        await proxy.stop()

    asyncio.run(work())


def test_hostile_frames_end_one_tunnel_and_no_other(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        other = host(cluster, "web2")
        _, good = await bring(proxy, other)
        mux, bad = await bring(proxy, web1)
        await until(lambda: proxy.tunnels.count == 2 and mux.greeted)
        mux.push(Kind.DATA, 4096, b"for nobody")
        await until(lambda: bad.why)
        await until(lambda: proxy.tunnels.count == 1)
        assert not good.why
        await proxy.stop()

    asyncio.run(work())


def test_a_second_hello_from_nowhere_is_refused(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        proxy = Proxy(cluster)
        await proxy.listen()
        mux, agent = await bring(proxy, web1)
        await until(lambda: proxy.tunnels.count)
        mux.push(Kind.CONTROL, 0, write(Control(hello=TunnelHello(version=1))))
        await until(lambda: agent.why and not proxy.tunnels.count)
        await proxy.stop()

    asyncio.run(work())
