"""The agent's side: tunnels to every live proxy, rebuilt when they die, and nothing but SSH."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.tunnels import BACKOFF, LOOKS, OWN_TIMEOUT, REMEMBER
from teleport_lite.ambient import SystemClock
from teleport_lite.daemon import tunnel_role
from teleport_lite.daemon.health import Health, State
from teleport_lite.daemon.tunnel_role import TunnelRole
from teleport_lite.errors import Unavailable
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_heart import Pace
from teleport_lite.net.tls import server_context
from teleport_lite.net.tunnel_wire import dial, proxy_context
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.proto.tunnel import GoingAway, Open
from teleport_lite.testing.certs import PaperCluster
from tests.net.middlebox import middlebox
from tests.tunnel_rig import Listener, Proxy, Sshd, agent, host, proxy_papers, until

CLIENT = ("198.51.100.7", 4242)
QUICK = Pace(interval=0.2, deadline=1.0, greeting=5.0)
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(scope="module")
def cluster() -> PaperCluster:
    return PaperCluster()


@pytest.fixture(scope="module")
def web1(cluster: PaperCluster) -> Identity:
    return host(cluster)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def go(work: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work)

    return go


@asynccontextmanager
async def started(role: TunnelRole, *proxies: Proxy) -> AsyncIterator[TunnelRole]:
    await role.start()
    role.learn([each.place for each in proxies])
    try:
        yield role
    finally:
        await role.close()
        for each in proxies:
            await each.stop()


async def proxy(cluster: PaperCluster, **more: Any) -> Proxy:
    made = Proxy(cluster, **more)
    await made.listen()
    return made


async def talk(there: Proxy, identity: Identity, words: bytes) -> bytes:
    """A session down the tunnel, to the end."""
    tunnel = await until(lambda: there.tunnels.get(identity.host_id))
    stream, listener = tunnel.open(CLIENT), Listener()
    stream.set_protocol(listener)
    stream.write(words)
    stream.write_eof()
    await until(lambda: listener.lost)
    return bytes(listener.data)


def test_every_live_proxy_gets_a_tunnel_that_leads_to_ssh(
    run: Run, cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        first, second = await proxy(cluster), await proxy(cluster)
        sshd, changes = Sshd(), []
        role = agent(web1, sshd, on_change=changes.append)
        async with started(role, first, second):
            await until(lambda: len(role.held()) == 2)
            assert role.held() == sorted([first.id, second.id])
            assert changes[-1] == role.held()
            assert await talk(first, web1, b"one") == b"ONE"
            assert await talk(second, web1, b"two" * 100_000) == b"TWO" * 100_000
            peer, local = sshd.peers[0]
            assert peer == CLIENT
            assert local[0] == "127.0.0.1"
            assert role.counters.streams == 2
        assert changes[-1] == []

    run(work())


def test_a_half_that_ends_is_heard_at_the_other_end_of_the_tunnel(
    cluster: PaperCluster, web1: Identity
) -> None:
    """`talk` ends its half first: the answer still comes."""

    async def work() -> None:
        there = await proxy(cluster)
        async with started(agent(web1), there):
            assert await talk(there, web1, b"x" * 2_000_000) == b"X" * 2_000_000

    asyncio.run(work())


def test_a_proxy_that_comes_back_has_its_tunnel_again(
    run: Run, cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        there = await proxy(cluster)
        role = agent(web1)
        async with started(role, there):
            await until(role.held)
            await there.stop()
            await until(lambda: not role.held())
            again = Proxy(cluster, papers=there.papers)
            again.port = there.port
            await again.listen()
            await until(role.held)
            assert await talk(again, web1, b"back") == b"BACK"
            await again.stop()

    run(work())


@pytest.mark.parametrize("ends", ["given up by the dial", "over before its word is heard"])
def test_a_dial_that_goes_wrong_late_does_not_hide_the_end_of_the_next_tunnel(
    cluster: PaperCluster, web1: Identity, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """In a busy loop the certificates can be through before the dial knows that it is too late."""
    dials: list[Mux] = []

    async def slow(address: str, context: ssl.SSLContext, **more: Any) -> Mux:
        mux = await dial(address, context, **more)
        dials.append(mux)
        if len(dials) == 1:
            await until(lambda: mux.greeted)
            mux.die("too late")
            if ends == "given up by the dial":
                raise Unavailable("too late")
            await until(lambda: more["owner"].greeted.done())
            await asyncio.sleep(0)
        return mux

    async def work() -> None:
        monkeypatch.setattr(tunnel_role, "dial", slow)
        there = await proxy(cluster)
        async with started(agent(web1), there) as role:
            await until(lambda: len(dials) == 2 and dials[1].greeted and role.held())
            dials[1].die("lost")
            await until(lambda: len(dials) == 3 and dials[2].greeted and role.held())
            assert await talk(there, web1, b"again") == b"AGAIN"

    asyncio.run(work())


def test_a_proxy_added_later_is_found(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        first, second = await proxy(cluster), await proxy(cluster)
        role = agent(web1)
        async with started(role, first):
            await until(role.held)
            role.learn([first.place, second.place])
            await until(lambda: len(role.held()) == 2)
            await second.stop()

    asyncio.run(work())


def test_a_connection_that_goes_silent_is_found_dead_and_rebuilt(
    cluster: PaperCluster, web1: Identity
) -> None:
    """As when a NAT forgets it. The same with the product's defaults takes 16 s and a dial."""

    async def work() -> None:
        there = await proxy(cluster, pace=QUICK)
        async with middlebox(there.port) as box:
            role = agent(web1, shared=[f"127.0.0.1:{box.port}"], pace=QUICK)
            async with started(role):
                role.learn([ProxyPlace(id=there.id)])
                await until(role.held)
                loop = asyncio.get_running_loop()
                tunnel = await until(lambda: there.tunnels.get(web1.host_id))
                stream, listener = tunnel.open(CLIENT), Listener()
                stream.set_protocol(listener)
                box.forget()
                began = loop.time()
                await until(lambda: role.counters.lost and role.held())
                assert loop.time() - began < 20 * QUICK.deadline / Pace().deadline + 25
                assert await talk(there, web1, b"alive") == b"ALIVE"
                await until(lambda: listener.lost, what="the session of the dead tunnel")
                assert there.tunnels.count == 1
                await there.stop()

    asyncio.run(work())


def test_defaults_rebuild_a_silent_tunnel_within_twenty_seconds() -> None:
    pace = Pace()
    found = pace.deadline + pace.interval / 5
    assert found + BACKOFF[0] + OWN_TIMEOUT < 20


def test_behind_a_balancer_the_shared_address_is_used_when_its_own_does_not_answer(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        there = await proxy(cluster)
        role = agent(web1, shared=[there.address])
        async with started(role, there):
            role.learn([ProxyPlace(id=there.id, address="127.0.0.1:1")])
            await until(role.held)

    asyncio.run(work())


def test_whoever_answers_must_be_the_proxy_that_was_asked_for(
    cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """A balancer sent us to another one, which has not passed us on."""

    async def work() -> None:
        there, wanted = await proxy(cluster), proxy_papers(cluster)
        role = agent(web1)
        async with started(role):
            role.learn([ProxyPlace(id=wanted.id, address=there.address)])
            await until(lambda: role.counters.failed)
            assert role.held() == []
            assert there.tunnels.count == 0
            await there.stop()

    asyncio.run(work())
    assert "certificate of the other side is not accepted" in caplog.text


def test_a_node_that_calls_itself_a_proxy_is_refused(
    cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """Another cluster's proxy, then a host of ours without the role and so without the name."""

    async def work() -> None:
        stranger = await proxy(PaperCluster("other.example"))
        node = cluster.host("evil")
        fake = await proxy(cluster, papers=node)
        role = agent(web1)
        async with started(role, stranger, fake):
            await until(lambda: role.counters.failed >= 2)
            assert role.held() == []

    asyncio.run(work())
    assert "hostname mismatch" in caplog.text.lower()


def test_a_server_that_does_not_speak_of_tunnels_is_refused(
    cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        there = Proxy(cluster)
        papers = there.papers
        there.context = server_context(papers.tls_cert, papers.tls_private, cluster.host_cas)
        there.context.verify_mode = ssl.CERT_REQUIRED
        await there.listen()
        role = agent(web1)
        async with started(role, there):
            await until(lambda: role.counters.failed)
            assert role.held() == []

    asyncio.run(work())
    assert "does not take tunnels" in caplog.text


@pytest.mark.parametrize("service", ["web", "tcp://169.254.169.254:80", "", "SSH"])
def test_a_proxy_can_ask_for_ssh_and_nothing_else(
    cluster: PaperCluster, web1: Identity, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        there, sshd = await proxy(cluster), Sshd()
        role = agent(web1, sshd)
        async with started(role, there):
            tunnel = await until(lambda: there.tunnels.get(web1.host_id))
            hello = Open(service=service, client_ip="127.0.0.1", client_port=22)
            stream, listener = tunnel._mux.open(hello), Listener()
            stream.set_protocol(listener)
            await until(lambda: listener.lost)
            assert "serves ssh and nothing else" in str(listener.lost[0])
            assert sshd.peers == []
            assert role.counters.violations == 1
            assert await talk(there, web1, b"ssh") == b"SSH"

    asyncio.run(work())
    assert f"asked for service {service!r}, refused" in caplog.text


def test_a_listener_that_can_not_take_a_session_ends_it(
    cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(Sshd):
        def take(self, *_: object) -> None:
            raise RuntimeError("no")

    async def work() -> None:
        there = await proxy(cluster)
        async with started(agent(web1, Full()), there):
            tunnel = await until(lambda: there.tunnels.get(web1.host_id))
            stream, listener = tunnel.open(CLIENT), Listener()
            stream.set_protocol(listener)
            await until(lambda: listener.lost)
            assert tunnel.alive

    asyncio.run(work())
    assert "internal error in session" in caplog.text


def test_a_proxy_that_asks_for_another_tunnel_gets_it_and_sessions_go_on(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        there = await proxy(cluster)
        role = agent(web1)
        async with started(role, there):
            old = await until(lambda: there.tunnels.get(web1.host_id))
            stream, listener = old.open(CLIENT), Listener()
            stream.set_protocol(listener)
            stream.write(b"a")
            await until(lambda: listener.data == b"A")
            there.tunnels._ask_to_return(old._mux, old, GoingAway(reason="expired"))
            await until(lambda: there.tunnels.get(web1.host_id) not in (None, old))
            stream.write(b"b")
            await until(lambda: listener.data == b"AB")
            assert await talk(there, web1, b"new") == b"NEW"
            stream.close()
            await until(lambda: not old.alive)
            assert role.counters.connected == 2

    asyncio.run(work())


OTHER = "00000000-0000-4000-8000-000000000007"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teleport_lite.agent.tunnels.SPACING", (0.05, 0.1))


@pytest.mark.usefixtures("soon")
def test_a_tunnel_by_way_of_another_proxy_is_replaced_and_no_session_breaks(
    run: Run, cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "teleport_lite.tunnel")
    changes: list[list[str]] = []

    def ways() -> list[str]:
        """What was said of tunnels that came, the last one last."""
        return [text for text in caplog.messages if text.startswith("tunnel to proxy")]

    async def work() -> None:
        there = await proxy(cluster)
        there.via = OTHER
        role = agent(web1, shared=[there.address], on_change=changes.append)
        async with started(role):
            role.learn([ProxyPlace(id=there.id)])
            old = await until(lambda: there.tunnels.get(web1.host_id))
            stream, listener = old.open(CLIENT), Listener()
            stream.set_protocol(listener)
            stream.write(b"a")
            await until(lambda: listener.data == b"A")
            there.via = ""
            await until(lambda: there.tunnels.get(web1.host_id) not in (None, old))
            stream.write(b"b")
            await until(lambda: listener.data == b"AB")
            assert await talk(there, web1, b"new") == b"NEW"
            stream.write(b"c" * 300_000)
            stream.write_eof()
            await until(lambda: listener.lost)
            assert listener.data == b"AB" + b"C" * 300_000
            await until(lambda: not old.alive)
            await until(lambda: OTHER not in ways()[-1], what="the one that nobody passes on")
            assert changes == [[there.id]], "it was there all the time"
            assert role.counters.lost == role.counters.failed == 0
            await there.stop()

    run(work())
    assert ways()[0].endswith(f", by way of proxy {OTHER}")


@pytest.mark.usefixtures("soon")
def test_a_search_in_vain_is_bounded_and_quiet(
    cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind source hash every dial goes to the wrong proxy, which hangs up."""

    async def work() -> None:
        there = await proxy(cluster)
        there.via = OTHER
        astray = 0

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal astray
            astray += 1
            await reader.read(65536)
            writer.close()

        wrong = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with middlebox(there.port) as box:
            role = agent(web1, shared=[f"127.0.0.1:{box.port}"])
            async with started(role):
                role.learn([ProxyPlace(id=there.id)])
                await until(role.held)
                box.target = wrong.sockets[0].getsockname()[1]
                at = await until(lambda: astray >= LOOKS and role._plan.next_at())
                assert astray == LOOKS
                assert at - SystemClock().monotonic() > REMEMBER / 3
                assert (role.counters.connected, role.counters.failed) == (1, 0)
                assert await talk(there, web1, b"still") == b"STILL"
                await there.stop()
        wrong.close()

    asyncio.run(work())
    assert not [each for each in caplog.records if "no better" in each.message]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("admitted", [True, False])
def test_an_old_tunnel_that_ends_before_the_new_one_is_greeted(
    cluster: PaperCluster, web1: Identity, admitted: bool
) -> None:
    """The proxy ends the old one as soon as it has the new one, and words may overtake."""
    changes: list[list[str]] = []

    async def work() -> None:
        there = await proxy(cluster)
        there.via = OTHER
        role = agent(web1, shared=[there.address], on_change=changes.append)
        admit, loop = there.tunnels._admit, asyncio.get_running_loop()

        def late(arriving: Any, *more: Any) -> None:
            there.tunnels._admit = admit  # type: ignore[method-assign]
            there.via = ""
            old = there.tunnels.get(web1.host_id)
            assert old is not None
            old._mux.die("replaced")
            if admitted:
                loop.call_later(0.3, admit, arriving, *more)
            else:
                loop.call_later(0.3, arriving.mux.die, "changed its mind")

        async with started(role):
            role.learn([ProxyPlace(id=there.id)])
            await until(role.held)
            there.tunnels._admit = late  # type: ignore[method-assign]
            await until(lambda: role.counters.connected >= 2)
            assert await talk(there, web1, b"new") == b"NEW"
            assert role.counters.lost == (0 if admitted else 1)
            expected = [[there.id]] if admitted else [[there.id], [], [there.id]]
            assert changes == expected
            await there.stop()

    asyncio.run(work())


def test_a_refused_host_does_not_hammer_the_proxy(
    cluster: PaperCluster, web1: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        there = await proxy(cluster, refuse=lambda _: "this host is locked")
        role = agent(web1)
        async with started(role, there):
            await until(lambda: role.counters.failed)
            await asyncio.sleep(1.5)
            assert there.tunnels.counters.refused == 1

    asyncio.run(work())
    assert "this host is locked" in caplog.text


def test_new_tunnels_show_the_new_certificate(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        there = await proxy(cluster)
        role = agent(web1)
        async with started(role, there):
            old = await until(lambda: there.tunnels.get(web1.host_id))
            papers = cluster.host("web1", host_id=web1.host_id)
            role.renewed(replace(web1, tls_cert=papers.tls_cert, tls_private=papers.tls_private))
            shown = old._mux.tls.certificate
            old._mux.die("cable")
            new = await until(lambda: (t := there.tunnels.get(web1.host_id)) is not old and t)
            assert new
            assert new._mux.tls.certificate != shown
            assert new._mux.tls.certificate == papers.tls_der

    asyncio.run(work())


def test_a_proxy_that_wants_another_tunnel_may_say_so_with_its_hello(
    run: Run, cluster: PaperCluster, web1: Identity
) -> None:
    """Both words are in one packet, and the second is there before the dial goes on."""

    async def work() -> None:
        there = await proxy(cluster)
        admit = there.tunnels._admit

        def once(arriving: Any, *more: Any) -> None:
            there.tunnels._admit = admit  # type: ignore[method-assign]
            admit(arriving, *more)
            tunnel = there.tunnels.all()[0]
            there.tunnels._ask_to_return(arriving.mux, tunnel, GoingAway(reason="rotated"))

        there.tunnels._admit = once  # type: ignore[method-assign]
        async with started(agent(web1), there) as role:
            await until(lambda: role.counters.connected == 2, what="another tunnel")
            assert role.held() == [there.id]
            assert role.counters.lost == role.counters.failed == 0

    run(work())


def test_a_tunnel_to_a_proxy_that_was_given_up_meanwhile_is_not_kept(
    run: Run, cluster: PaperCluster, web1: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teleport_lite.agent.tunnels.FORGET", 0.0)

    async def work() -> None:
        there = await proxy(cluster)
        admit, held = there.tunnels._admit, list[Any]()
        there.tunnels._admit = lambda *words: held.append(words)  # type: ignore[method-assign]
        async with started(agent(web1), there) as role:
            await until(lambda: held, what="a tunnel that is about to be")
            role.learn([])
            await until(lambda: role.words() == "0 of 0 proxies")
            admit(*held[0])
            await until(lambda: there.tunnels.counters.lost, what="the end of the tunnel")
            assert role.counters.connected == 0
            assert not role._lines

    run(work())


def test_one_that_is_closed_before_it_has_started_dials_nobody(
    cluster: PaperCluster, web1: Identity
) -> None:
    async def work() -> None:
        role = agent(web1)
        role.learn([Proxy(cluster).place])
        await role.close()
        await role.start()
        assert not role._tasks

    asyncio.run(work())


def test_health_says_how_many_of_how_many(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        there, health = await proxy(cluster), Health()
        role = agent(web1, health=health)
        async with started(role, there):
            await until(role.held)
            assert health.overall() == (State.OK, {"tunnels": "1 of 1 proxies"})
            role.learn([there.place, ProxyPlace(id=proxy_papers(cluster).id)])
            assert health.overall() == (State.RECOVERING, {"tunnels": "1 of 2 proxies"})

    asyncio.run(work())


def test_a_proxy_that_auth_forgot_loses_its_tunnel_after_a_while(
    cluster: PaperCluster, web1: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teleport_lite.agent.tunnels.FORGET", 0.2)

    async def work() -> None:
        there = await proxy(cluster)
        role = agent(web1)
        async with started(role, there):
            await until(role.held)
            role.learn([])
            await until(lambda: not there.tunnels.count)
            assert role.held() == []

    asyncio.run(work())


def test_stopping_says_goodbye_and_leaves_nothing(cluster: PaperCluster, web1: Identity) -> None:
    async def work() -> None:
        there = await proxy(cluster)
        role = agent(web1)
        async with started(role, there):
            tunnel = await until(lambda: there.tunnels.get(web1.host_id))
            stream, listener = tunnel.open(CLIENT), Listener()
            stream.set_protocol(listener)
            await role.close()
            await until(lambda: listener.lost and not there.tunnels.count)
        left = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in left if "tunnel" in name or "session" in name]

    asyncio.run(work())


def test_many_agents_are_back_soon_after_a_restart(cluster: PaperCluster) -> None:
    """A small version of what benchmarks/tunnels.py does with thousands."""
    identities = [host(cluster, f"web{n}") for n in range(40)]

    async def work() -> None:
        there = await proxy(cluster)
        roles = [agent(each) for each in identities]
        for role in roles:
            await role.start()
            role.learn([there.place])
        await until(lambda: there.tunnels.count == len(roles))
        await there.stop()
        await until(lambda: not any(role.held() for role in roles))
        again = Proxy(cluster, papers=there.papers)
        again.port = there.port
        await again.listen()
        await until(lambda: again.tunnels.count == len(roles))
        assert again.tunnels.counters.clones == 0
        await asyncio.gather(*(role.close() for role in roles))
        await again.stop()

    asyncio.run(work())


def test_a_certificate_of_another_ca_brings_another_tunnel_and_sessions_go_on(
    cluster: PaperCluster, web1: Identity, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_role, "SPREAD", (0.0, 0.1))
    new = PaperCluster(cluster.name)
    both = (*cluster.host_cas, *new.host_cas)

    async def work() -> None:
        proxy = Proxy(cluster)
        proxy.context = proxy_context(proxy.papers.tls_cert, proxy.papers.tls_private, both)
        proxy.tunnels._host_cas = both
        await proxy.listen()
        async with started(agent(web1), proxy) as role:
            before = await until(lambda: proxy.tunnels.get(web1.host_id))
            stream, listener = before.open(CLIENT), Listener()
            stream.set_protocol(listener)
            await until(role.held)
            again = replace(web1, host_cas=both)
            role.renewed(again)  # it only trusts more
            papers = new.host("web1", host_id=web1.host_id)
            role.renewed(replace(again, tls_cert=papers.tls_cert, tls_private=papers.tls_private))
            assert role.held() == [proxy.id]
            after = await until(
                lambda: (found := proxy.tunnels.get(web1.host_id)) is not before and found
            )
            await until(lambda: role.counters.connected == 2)
            stream.write(b"hello")
            await until(lambda: listener.data == b"HELLO")
            assert listener.lost == []
            stream.abort()
            await until(lambda: not before.alive)
            assert after.alive
            assert (role.held(), role.counters.lost) == ([proxy.id], 0)
            # The same CA has signed another one, as it does twice a day.
            papers = new.host("web1", host_id=web1.host_id)
            role.renewed(replace(again, tls_cert=papers.tls_cert, tls_private=papers.tls_private))
            await asyncio.sleep(0.3)
            assert role.counters.connected == 2
        await proxy.stop()

    run(work())
