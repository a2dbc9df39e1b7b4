"""From a name to bytes, refused before anything is dialled; and nothing but SSH is ever reached."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.lock import Target
from teleport_lite.proto.reach import ReachRequest
from teleport_lite.proto.stream import ProxyPlace, Route, Routes
from teleport_lite.proxy.dial import Names, dial, forbidden
from teleport_lite.proxy.reach import Reach
from teleport_lite.proxy.routes import RouteTable
from teleport_lite.testing.fakes import FakeClock
from tests.net.serving import LOOPS
from tests.proxy.rig import (
    ALICE,
    BOB,
    CLIENT,
    CLUSTER,
    GREETING,
    PaperTunnels,
    a_judge,
    a_lock,
    a_node,
    host_id,
    knowledge,
    route,
    routes,
    run,
    until,
)
from tests.support import free_port

each_loop = pytest.mark.parametrize("loop", sorted(LOOPS))
HERE, THERE = host_id(91), host_id(92)


class Rig:
    def __init__(self, path: Path, *hosts: Route, locks: tuple[Any, ...] = (), **more: Any) -> None:
        self.routes = RouteTable(path, clock=FakeClock(), cluster=CLUSTER)
        self.routes.apply(routes(*hosts))
        self.tunnels = PaperTunnels()
        self.reach = Reach(
            routes=self.routes,
            judge=a_judge(*locks),
            tunnels=self.tunnels,
            cluster=CLUSTER,
            host_id=HERE,
            **{"news": 0.0} | more,
        )

    async def refuses(self, host: str, caller: Any = ALICE, **words: Any) -> Error:
        with pytest.raises(Error) as no:
            await self.reach.connect(ReachRequest(host=host, **words), caller, CLIENT)
        return no.value


Body = Callable[[], Awaitable[None]]


@each_loop
def test_a_tunnel_goes_before_the_address(tmp_path: Path, loop: str) -> None:
    async def body() -> None:
        async with a_node(b"") as tunnelled, a_node() as direct:
            rig = Rig(tmp_path, route(1, address=direct.address, labels={"env": "prod"}))
            await rig.tunnels.add(host_id(1), tunnelled.port)
            reached = await rig.reach.connect(ReachRequest(host="web-1"), BOB, CLIENT)
            assert (reached.via, reached.by, reached.route.id) == ("tunnel", "prod", host_id(1))
            assert rig.tunnels.opened == [CLIENT]
            assert direct.met == 0
            reached.transport.abort()

    run(loop, body)


@each_loop
def test_without_a_tunnel_the_address_is_dialled(tmp_path: Path, loop: str) -> None:
    async def body() -> None:
        async with a_node() as node:
            rig = Rig(tmp_path, route(1, address=node.address))
            reached = await rig.reach.connect(ReachRequest(host="web-1"), ALICE, CLIENT)
            assert (reached.via, reached.by) == ("direct", "access")
            assert reached.first == GREETING
            assert not reached.transport.is_reading()
            reached.transport.abort()

    run(loop, body)


@each_loop
def test_a_node_auth_has_not_told_of_yet_is_waited_for(tmp_path: Path, loop: str) -> None:
    async def body() -> None:
        async with a_node() as node:
            rig = Rig(tmp_path, route(1, address=node.address), news=30.0)
            wish = rig.reach.connect(ReachRequest(host="web-2"), ALICE, CLIENT)
            asking = asyncio.create_task(wish)
            for news in (route(1, address=node.address), route(2, address=node.address)):
                await asyncio.sleep(0)
                assert not asking.done()
                rig.routes.apply(Routes(first=False, hosts=[news]))
            reached = await asking
            assert reached.route.id == host_id(2)
            reached.transport.abort()

    run(loop, body)


def test_nothing_is_waited_for_in_a_cluster_that_is_not_ours(tmp_path: Path) -> None:
    rig = Rig(tmp_path, route(1), news=3600.0)
    run("asyncio", lambda: rig.refuses("web-1", cluster="leaf.example"))


@pytest.mark.parametrize("port", [0, 22, 3022, 4022])
def test_the_ports_that_mean_its_ssh_service(tmp_path: Path, port: int) -> None:
    rig = Rig(tmp_path, route(1, address="192.0.2.1:4022"))
    assert rig.reach.decide(ReachRequest(host="web-1", port=port), ALICE)[0].id == host_id(1)


@pytest.mark.parametrize("port", [1, 21, 80, 443, 3023, 3025, 6379, 65535, 65536, -1])
def test_any_other_port_is_refused(tmp_path: Path, port: int) -> None:
    async def body() -> None:
        async with a_node() as node:
            rig = Rig(tmp_path, route(1, address=node.address))
            refused = await rig.refuses("web-1", port=port)
            assert isinstance(refused, Denied)
            assert "only its SSH service" in refused.message
            assert node.met == 0

    run("asyncio", body)


@pytest.mark.parametrize(
    ("host", "words", "kind", "says"),
    [
        ("nobody", {}, NotFound, "there is no node nobody that you may reach"),
        ("dev-1", {}, NotFound, "there is no node dev-1 that you may reach"),
        ("127.0.0.1", {}, NotFound, "there is no node 127.0.0.1 that you may reach"),
        ("169.254.169.254", {"port": 80}, NotFound, "there is no node"),
        ("[::1]:22", {}, NotFound, "there is no node"),
        ("/var/run/docker.sock", {}, NotFound, "there is no node"),
        ("web-1", {"login": "alice"}, Denied, "web-1: no role allows login alice here"),
        ("web-1", {"login": "-oProxyCommand=x"}, Malformed, "login '-oProxyCommand=x' is not one"),
        ("web-1", {"login": "root\n"}, Malformed, "is not one"),
        ("web-1", {"cluster": "leaf.example"}, NotFound, "cluster 'leaf.example' is not known"),
        ("twin", {}, Conflict, "twin can mean 2 nodes"),
        ("x" * 1000, {}, Malformed, "is not a name"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_dialled(
    tmp_path: Path, host: str, words: dict[str, Any], kind: type[Error], says: str
) -> None:
    async def body() -> None:
        async with a_node() as node:
            prod = {"env": "prod"}
            rig = Rig(
                tmp_path,
                route(1, address=node.address, labels=prod),
                route(2, "dev-1", address=node.address, labels={"env": "dev"}),
                route(3, "twin", address=node.address, labels=prod),
                route(4, "twin", address=node.address, labels=prod),
            )
            refused = await rig.refuses(host, BOB, **words)
            assert type(refused) is kind
            assert says in refused.message
            assert node.met == 0

    run("asyncio", body)


@pytest.mark.parametrize(
    ("target", "value"),
    [(Target.USER, "alice"), (Target.NODE, host_id(1)), (Target.ROLE, "access")],
)
def test_locks_are_obeyed(tmp_path: Path, target: Target, value: str) -> None:
    async def body() -> None:
        async with a_node() as node:
            rig = Rig(tmp_path, route(1, address=node.address), locks=(a_lock(target, value),))
            refused = await rig.refuses("web-1")
            assert isinstance(refused, Denied)
            assert "is locked" in refused.message
            assert node.met == 0

    run("asyncio", body)


def test_who_may_not_know_of_a_node_does_not_learn_that_it_is_locked(tmp_path: Path) -> None:
    async def body() -> None:
        dev = route(2, "dev-1", labels={"env": "dev"})
        rig = Rig(tmp_path, dev, locks=(a_lock(Target.NODE, host_id(2)),))
        assert isinstance(await rig.refuses("dev-1", BOB), NotFound)

    run("asyncio", body)


# --- nodes that are away


def test_a_node_whose_tunnels_others_hold_says_who(tmp_path: Path) -> None:
    async def body() -> None:
        away = route(1, tunnels=[HERE, THERE, host_id(93)])
        since = datetime(2026, 3, 2, 11, 59, 30, tzinfo=UTC)
        rig = Rig(tmp_path, away, gone_since=lambda _: since)
        rig.reach.learn(
            knowledge(proxies=[ProxyPlace(id=THERE, name="proxy-2", address="10.0.0.2:3080")])
        )
        refused = await rig.refuses("web-1")
        assert isinstance(refused, Unavailable)
        assert refused.message == (
            "node web-1 has no tunnel to this proxy, the last one ended 2026-03-02T11:59:30Z; "
            f"those that hold one: proxy-2 (10.0.0.2:3080), {host_id(93)}"
        )

    run("asyncio", body)


def test_a_node_that_is_offline_says_since_when_and_who_held_its_tunnels(tmp_path: Path) -> None:
    async def body() -> None:
        seen = {"state": "offline", "last_seen": "2026-03-01T08:00:00Z"}
        rig = Rig(tmp_path, route(1, tunnels=[THERE], **seen), route(2, **seen))
        refused = await rig.refuses("web-1")
        assert refused.message == (
            "node web-1 has no tunnel to this proxy; it is offline, last seen "
            f"2026-03-01T08:00:00Z; its tunnels were held by {THERE}"
        )
        refused = await rig.refuses("web-2")
        assert refused.message == (
            "node web-2 has no tunnel to this proxy; it is offline, last seen 2026-03-01T08:00:00Z"
        )
        assert refused.hint == "on web-2: systemctl status teleport-lite"

    run("asyncio", body)


@each_loop
def test_a_node_that_refuses_connections_says_so(tmp_path: Path, loop: str) -> None:
    async def body() -> None:
        port = free_port()
        seen = {"state": "offline", "last_seen": "2026-03-01T08:00:00Z"}
        rig = Rig(tmp_path, route(1, address=f"127.0.0.1:{port}", **seen))
        refused = await rig.refuses("web-1")
        assert isinstance(refused, Unavailable)
        assert refused.message == (
            f"node web-1 can not be reached: 127.0.0.1:{port}: Connection refused, "
            "it was last seen 2026-03-01T08:00:00Z"
        )

    run(loop, body)


# --- addresses that a node that has been taken over might report


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "2002:a9fe:a9fe::",
        "fe80::1",
        "fe80::1%eth0",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "ff02::1",
    ],
)
def test_addresses_where_no_node_may_be(address: str) -> None:
    assert forbidden(address)

    async def body() -> None:
        shown = f"[{address}]" if ":" in address else address
        with pytest.raises(Unavailable):
            await dial(f"{shown}:22", patience=5)

    run("asyncio", body)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "127.0.0.1", "::1", "2001:db8::1"])
def test_addresses_where_nodes_are(address: str) -> None:
    assert not forbidden(address)


def test_names_that_nobody_answers_for_do_not_take_all_threads() -> None:
    """A lookup that was given up goes on in its thread, and auth may have a name as well."""

    async def body() -> None:
        asked: list[str] = []
        answer = asyncio.Event()

        async def slow(host: str, _port: int, **_: object) -> list[object]:
            asked.append(host)
            await answer.wait()
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        asyncio.get_running_loop().getaddrinfo = slow  # type: ignore[assignment]
        names = Names()
        for number in range(5):
            with pytest.raises(Unavailable, match="does not answer"):
                await dial(f"slow-{number}.example:22", patience=0.05, names=names)
        assert asked == ["slow-0.example", "slow-1.example"]
        answer.set()
        with pytest.raises(Unavailable, match="not known"):
            await dial("another.example:22", names=names)

    with asyncio.Runner(loop_factory=LOOPS["asyncio"]) as runner:
        runner.run(body())


@pytest.mark.parametrize(
    "address", ["", ":22", "host", "host:", "host:x", "127.0.0.1:0", "127.0.0.1:65558", "a..b:22"]
)
def test_an_address_that_is_none_is_not_dialled(tmp_path: Path, address: str) -> None:
    async def body() -> None:
        with pytest.raises(Unavailable):
            await dial(address, patience=20)
        if address:
            rig = Rig(tmp_path, route(1, address=address))
            assert isinstance(await rig.refuses("web-1"), Unavailable)

    run("asyncio", body)


@each_loop
@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n", b"-ERR\r\n", b"\0", b"SSX-"])
def test_what_does_not_speak_ssh_hears_nothing_from_us(loop: str, greeting: bytes) -> None:
    """A node may report the address of anything; a caller's bytes shall not get there."""

    async def body() -> None:
        async with a_node(greeting) as node:
            with pytest.raises(Unavailable, match="does not speak SSH"):
                await dial(node.address)
            assert node.heard == b""

    run(loop, body)


@each_loop
def test_what_says_nothing_is_given_up(loop: str) -> None:
    async def body() -> None:
        async with a_node(b"SS") as node:
            with pytest.raises(Unavailable, match="does not answer within"):
                await dial(node.address, patience=0.3)
            assert node.heard == b""

    run(loop, body)


@each_loop
def test_what_hangs_up_is_told(loop: str) -> None:
    async def body() -> None:
        class Abrupt(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                transport.close()

        server = await asyncio.get_running_loop().create_server(Abrupt, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match="hangs up at once"):
            await dial(f"127.0.0.1:{port}")
        server.close()

    run(loop, body)


def test_the_greeting_may_come_in_pieces() -> None:
    async def body() -> None:
        async with a_node(b"SS") as node:
            dialling = asyncio.create_task(dial(node.address))
            await until(lambda: node.open, "the connection")
            node.open[0].write(b"H-2.0-x\r\n")
            sock, first = await dialling
            assert first.startswith(b"SSH-")
            sock.close()

    run("asyncio", body)


class PaperLeaves:
    """One leaf, with labels; whoever gets there has got through."""

    def __init__(self, **labels: str) -> None:
        self._labels = labels

    def knows(self, cluster: str) -> bool:
        return cluster == "leaf.test"

    def labels(self, cluster: str) -> dict[str, str]:
        return self._labels

    def of(self, host: str) -> str:
        return ""

    async def reach(self, request: ReachRequest, client: Any) -> Any:
        raise Unavailable("as far as the leaf")


@pytest.mark.parametrize(
    ("labels", "caller", "says"),
    [
        ({}, BOB, "as far as the leaf"),
        ({"env": "prod"}, BOB, "cluster leaf.test: no role allows this cluster"),
    ],
)
def test_a_leaf_with_labels_is_closed_to_who_has_no_role_for_it(
    tmp_path: Path, labels: dict[str, str], caller: Any, says: str
) -> None:
    async def body() -> None:
        rig = Rig(tmp_path, leaves=PaperLeaves(**labels))
        no = await rig.refuses("web-1", caller, cluster="leaf.test", proof="signed")
        assert no.message == says

    run("asyncio", body)
