"""`tsh proxy ssh`, as the proxy sees it: TLS, one line, then bytes it cannot read."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent.identity import Identity
from teleport_lite.errors import NotFound, Unavailable
from teleport_lite.model.lock import Target
from teleport_lite.net.tls import client_context
from teleport_lite.proto.reach import MAX_REQUEST, ReachRequest
from teleport_lite.proto.stream import AgentEvent, RootWord, Route
from teleport_lite.proxy.access import Caller, Judge
from teleport_lite.proxy.reach import Reach
from teleport_lite.proxy.routes import RouteTable
from teleport_lite.proxy.sessions import Limits as SessionLimits
from teleport_lite.proxy.sessions import Sessions
from teleport_lite.proxy.ssh_gate import Limits, SshGate
from teleport_lite.testing.certs import PaperCluster, Papers
from teleport_lite.testing.fakes import FakeClock
from tests.net.serving import LOOPS
from tests.proxy.rig import ALICE as CALLER_ALICE
from tests.proxy.rig import (
    BOB,
    CLIENT,
    GREETING,
    PaperTunnels,
    a_lock,
    a_node,
    host_id,
    knowledge,
    route,
    routes,
    run,
    until,
)

SERVER_NAME = "proxy.example.com"
PAPER = PaperCluster("test.example")
PROXY = PAPER.host("proxy-1", roles=("Proxy",), extra=(SERVER_NAME,))
ALICE = PAPER.user()
each_loop = pytest.mark.parametrize("loop", sorted(LOOPS))


class Gate:
    """A gate that listens, the way `PortMux` would hand connections to it."""

    def __init__(self, path: Path, *hosts: Route, limits: Any = None, **session: Any) -> None:
        self.clock = FakeClock.here()
        self.judge = Judge(self.clock, knowledge())
        self.table = RouteTable(path, clock=self.clock, cluster=PAPER.name)
        self.table.apply(routes(*hosts))
        self.tunnels = PaperTunnels()
        self.events: list[AgentEvent] = []
        self.sessions = Sessions(
            reach=Reach(
                routes=self.table,
                judge=self.judge,
                tunnels=self.tunnels,
                cluster=PAPER.name,
                news=0.0,
            ),
            judge=self.judge,
            clock=self.clock,
            on_event=self.events.append,
            limits=SessionLimits(**session),
        )
        self.gate = SshGate(
            sessions=self.sessions, clock=self.clock, cluster=PAPER.name, limits=limits
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        self.gate.show(identity_of(PROXY))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        while True:
            sock, address = await asyncio.get_running_loop().sock_accept(self._listener)
            task = asyncio.create_task(self.gate.serve(sock, address))
            self._tasks.add(task)

    async def close(self) -> None:
        self._accepting.cancel()
        self._listener.close()
        await self.gate.close()
        await self.sessions.close()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert [each for each in done if isinstance(each, Exception)] == []
        assert len(self.sessions) == 0
        assert not self.gate._waiting

    async def connect(self, papers: Papers | None = ALICE) -> "Client":
        cert, key = (papers.tls_cert, papers.tls_private) if papers else (None, None)
        context = client_context(cert, key, PAPER.host_cas)
        context.set_alpn_protocols(["teleport-proxy-ssh"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=SERVER_NAME
        )
        return Client(reader, writer)

    async def ask(self, papers: Papers | None = ALICE, **request: Any) -> dict[str, Any]:
        client = await self.connect(papers)
        try:
            return await client.ask(**request)
        finally:
            await client.close()

    def codes(self) -> list[str]:
        return [event.code for event in self.events]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, **request: Any) -> dict[str, Any]:
        self.writer.write(json.dumps(request).encode() + b"\n")
        return dict(json.loads(await self.reader.readline()))

    async def rest(self) -> bytes:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            return await self.reader.read()
        return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


def identity_of(papers: Papers) -> Identity:
    return Identity(
        cluster=PAPER.name,
        host_id=papers.id,
        roles=("Proxy",),
        ssh_private=papers.ssh_private,
        ssh_public=papers.ssh_public,
        tls_private=papers.tls_private,
        ssh_cert=papers.ssh_cert,
        tls_cert=papers.tls_cert,
        host_cas=tuple(PAPER.host_cas),
        ssh_host_cas=(PAPER.host_ca.public.ssh_key,),
        ssh_user_cas=(PAPER.user_ca.public.ssh_key,),
        user_cas=tuple(PAPER.user_cas),
    )


@contextlib.asynccontextmanager
async def open_gate(path: Path, *hosts: Route, **more: Any) -> AsyncIterator[Gate]:
    gate = Gate(path, *hosts, **more)
    await gate.listen()
    try:
        yield gate
    finally:
        await gate.close()


@pytest.fixture(params=sorted(LOOPS))
def go(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    return lambda body: run(request.param, body)


Go = Callable[[Callable[[], Awaitable[None]]], None]


def test_bytes_go_both_ways_after_one_line(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            client = await gate.connect()
            answer = await client.ask(host="web-1", login="root")
            assert answer == {
                "ok": True,
                "host_id": host_id(1),
                "host_name": "web-1",
                "code": "",
                "message": "",
                "hint": "",
                "cas": "",
            }
            assert await client.reader.readexactly(len(GREETING)) == GREETING
            data = b"x" * 300_000
            client.writer.write(data)
            assert await client.reader.readexactly(len(data)) == data
            assert len(gate.sessions) == 1
            await client.close()
            await until(lambda: len(gate.events) == 2, "the end in the trail")
            connect, end = gate.events
            where = connect.facts.pop("addr.remote")
            assert where.startswith("127.0.0.1:")
            assert (connect.kind, connect.code, connect.outcome) == (
                "session.connect",
                "TSC01I",
                "ok",
            )
            assert connect.facts == {
                "user": "alice",
                "login": "root",
                "node_id": host_id(1),
                "node_name": "web-1",
                "node_addr": node.address,
                "via": "direct",
                "by": "access",
            }
            assert (end.kind, end.code) == ("session.data", "T2006I")
            assert end.facts["bytes_up"] == str(len(data))
            assert int(end.facts["bytes_down"]) >= len(data) + len(GREETING)
            assert end.facts["addr.remote"] == where

    go(body)


def test_what_follows_the_line_in_the_same_packet_reaches_the_node(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        async with a_node(b"") as node, open_gate(tmp_path, route(1)) as gate:
            await gate.tunnels.add(host_id(1), node.port)
            client = await gate.connect()
            client.writer.write(b'{"host": "web-1"}\nSSH-2.0-early\r\n')
            assert json.loads(await client.reader.readline())["ok"]
            assert await client.reader.readexactly(15) == b"SSH-2.0-early\r\n"
            await client.close()
            await until(lambda: len(gate.events) == 2, "the end in the trail")
            assert gate.events[0].facts["via"] == "tunnel"
            assert gate.events[1].facts["bytes_up"] == "15"
            assert gate.tunnels.opened[0][0] == "127.0.0.1"

    go(body)


def test_a_node_that_ends_ends_the_client(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        async with a_node(b"") as node, open_gate(tmp_path, route(1)) as gate:
            await gate.tunnels.add(host_id(1), node.port)
            client = await gate.connect()
            assert (await client.ask(host="web-1"))["ok"]
            client.writer.write(b"hi")
            assert await client.reader.readexactly(2) == b"hi"
            node.open[0].transport.abort()
            assert await client.rest() == b""
            await client.close()

    go(body)


# --- who is refused


def without_traits(answer: dict[str, Any]) -> tuple[bool, str, str]:
    return answer["ok"], answer["code"], answer["message"]


def test_who_is_refused_over_and_over_does_not_fill_the_trail(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        async with open_gate(tmp_path) as gate:

            async def refused(who: Caller) -> None:
                with pytest.raises(NotFound):
                    await gate.sessions.open(ReachRequest(host="nowhere"), who, CLIENT)

            for _ in range(500):
                await refused(CALLER_ALICE)
            assert len(gate.events) == 60
            await refused(BOB)
            assert gate.events[-1].facts["user"] == "bob"
            gate.clock.tick(minutes=1)
            await refused(CALLER_ALICE)
            await refused(CALLER_ALICE)
            assert [each.facts.get("left_out") for each in gate.events[-2:]] == ["440", None]
            assert gate.sessions.refused == 503

    go(body)


def test_refusals_are_sentences(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        hosts = (route(1, address="192.0.2.1:3022"), route(2, "twin"), route(3, "twin"), route(4))
        async with open_gate(tmp_path, *hosts) as gate:
            no = "there is no node nobody that you may reach"
            assert without_traits(await gate.ask(host="nobody")) == (False, "not_found", no)
            answer = await gate.ask(host="twin")
            assert answer["code"] == "conflict"
            assert host_id(2) in answer["message"]
            assert host_id(3) in answer["message"]
            assert (await gate.ask(host="web-1", port=80))["code"] == "denied"
            answer = await gate.ask(host="web-4")
            assert answer["code"] == "unavailable"
            assert "has no tunnel to this proxy" in answer["message"]
            assert gate.codes() == ["TSC01W"] * 4
            assert [event.outcome for event in gate.events] == [
                "not_found",
                "conflict",
                "denied",
                "unavailable",
            ]
            assert gate.events[2].facts["port"] == "80"

    go(body)


def test_no_certificate_is_told_to_log_in(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        async with open_gate(tmp_path, route(1)) as gate:
            answer = await gate.ask(None, host="web-1")
            assert answer["code"] == "unauthenticated"
            assert answer["hint"] == "tsh login"
            assert gate.events == []

    go(body)


def other_cluster() -> Papers:
    """Signed by our CA, for a cluster that is not ours."""
    other = PaperCluster("other.example")
    other.authority = PAPER.authority
    return other.user()


EXPIRED = PaperCluster("test.example", now=PAPER.now - timedelta(hours=3))
EXPIRED.authority = PAPER.authority


@pytest.mark.parametrize(
    "papers",
    [
        pytest.param(PaperCluster("test.example").user(), id="of another CA"),
        pytest.param(EXPIRED.user(life=timedelta(hours=1)), id="expired"),
        pytest.param(PAPER.host("web-1"), id="a host"),
        pytest.param(PROXY, id="a proxy"),
        pytest.param(other_cluster(), id="of another cluster"),
    ],
)
def test_a_certificate_that_is_no_user_s_is_refused(tmp_path: Path, papers: Papers) -> None:
    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            answer: dict[str, Any] = {"ok": False}
            with contextlib.suppress(ssl.SSLError, ConnectionError, json.JSONDecodeError):
                answer = await gate.ask(papers, host="web-1")
            assert not answer["ok"]
            assert node.met == 0
            assert gate.events == []

    for loop in LOOPS:
        run(loop, body)


def test_a_bot_is_let_through(tmp_path: Path) -> None:
    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            bot = PAPER.user("bot-ci", bot=True, generation=1)
            assert (await gate.ask(bot, host="web-1"))["ok"]
            gate.judge.learn(knowledge(a_lock(Target.BOT, bot.id)))
            answer = await gate.ask(bot, host="web-1")
            assert answer["message"] == f"bot {bot.id} is locked"

    run("uvloop", body)


def test_a_user_ca_that_is_taken_away_ends_new_sessions(tmp_path: Path) -> None:
    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            assert (await gate.ask(host="web-1"))["ok"]
            other = PaperCluster("test.example")
            gate.gate.learn(knowledge(user_cas=other.user_cas))
            with pytest.raises((ssl.SSLError, ConnectionError, json.JSONDecodeError)):
                await gate.ask(host="web-1")
            assert (await gate.ask(other.user(), host="web-1"))["ok"]

    run("uvloop", body)


def test_who_waits_at_the_door_while_a_user_ca_is_taken_away_stays_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    identify = SshGate._identify

    def noted(self: SshGate, transport: asyncio.Transport) -> Caller:
        caller = identify(self, transport)
        seen.append(caller.user)
        return caller

    monkeypatch.setattr(SshGate, "_identify", noted)

    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            client = await gate.connect()
            await until(lambda: seen, "they are known")
            gate.gate.learn(knowledge(user_cas=PaperCluster("test.example").user_cas))
            assert not (await client.ask(host="web-1"))["ok"]
            await client.close()

    run("uvloop", body)


@pytest.mark.parametrize(
    "line",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"{}\n",
        b"\n",
        b'{"host": 1}\n',
        b'{"host": "web-1", "sudo": true}\n',
        b'{"host": "web-1"' + b" " * (MAX_REQUEST + 10),
        b"\xff" * 100 + b"\n",
    ],
)
def test_a_line_that_is_none_is_refused(tmp_path: Path, go: Go, line: bytes) -> None:
    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            client = await gate.connect()
            client.writer.write(line)
            assert json.loads(await client.reader.readline())["code"] == "malformed"
            assert await client.rest() == b""
            await client.close()
            assert node.met == 0

    go(body)


def test_who_says_nothing_is_hung_up_on(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        async with open_gate(tmp_path, route(1), limits=Limits(handshake=0.3)) as gate:
            silent = await asyncio.open_connection("127.0.0.1", gate.port)
            assert await silent[0].read() == b""
            silent[1].close()
        async with open_gate(tmp_path, route(1), limits=Limits(handshake=60, line=0.3)) as gate:
            client = await gate.connect()
            client.writer.write(b'{"host": ')
            assert await client.rest() == b""
            await client.close()

    go(body)


def test_only_so_many_may_wait_at_the_door(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        limits = Limits(waiting_per_source=2)
        async with (
            a_node() as node,
            open_gate(tmp_path, route(1, address=node.address), limits=limits) as gate,
        ):
            waiting = [await gate.connect() for _ in range(2)]
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await gate.connect()
            assert gate.gate.turned_away == 1
            # One that is through the door makes room for the next.
            assert (await waiting[0].ask(host="web-1"))["ok"]
            waiting.append(await gate.connect())
            for client in waiting:
                await client.close()

    go(body)


def test_people_and_the_proxy_have_a_limit(tmp_path: Path) -> None:
    async def body() -> None:
        async with a_node() as node:
            here = route(1, address=node.address)
            async with open_gate(tmp_path, here, per_user=1, total=2) as gate:
                bob, carol = PAPER.user("bob"), PAPER.user("carol")
                first = await gate.connect()
                assert (await first.ask(host="web-1"))["ok"]
                answer = await gate.ask(host="web-1")
                assert answer["message"] == "alice has 1 sessions, no more are possible"
                second = await gate.connect(bob)
                assert (await second.ask(host="web-1"))["ok"]
                answer = await gate.ask(carol, host="web-1")
                assert answer["message"] == "this proxy has as many sessions as it may have"
                await first.close()
                await until(lambda: len(gate.sessions) == 1, "the first to end")
                third = await gate.connect(carol)
                assert (await third.ask(host="web-1"))["ok"]
                # Refusals take no place.
                assert not (await gate.ask(bob, host="nobody"))["ok"]
                await second.close()
                await third.close()

    run("uvloop", body)


def test_people_of_a_root_leave_room_for_our_own(tmp_path: Path) -> None:
    """It can call in as many of them as it likes."""

    async def body() -> None:
        async with a_node() as node:
            here = route(1, address=node.address)
            root = RootWord(
                cluster="root.test",
                user_cas=[],
                ssh_user_cas=[],
                role_map=[{"remote": "dev", "local": ["access"]}],
            )
            async with open_gate(tmp_path, here, per_root=2) as gate:
                gate.judge.learn(knowledge(roots=[root]))
                asked, client = ReachRequest(host="web-1"), ("192.0.2.7", 7)
                callers = [
                    Caller(user=f"{name}@root.test", roles=("dev",), cluster="root.test")
                    for name in ("a", "b", "c")
                ]
                opened = [await gate.sessions.open(asked, each, client) for each in callers[:2]]
                with pytest.raises(Unavailable, match=r"root\.test has as many sessions"):
                    await gate.sessions.open(asked, callers[2], client)
                own = await gate.connect()
                assert (await own.ask(host="web-1"))["ok"]
                opened.pop().abandon()
                opened.append(await gate.sessions.open(asked, callers[2], client))
                for each in opened:
                    each.abandon()
                assert not gate.sessions._from["root.test"]
                await own.close()

    run("uvloop", body)


# --- live sessions


def test_a_lock_cuts_a_live_session_and_no_other(tmp_path: Path, go: Go) -> None:
    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            alice, bob = await gate.connect(), await gate.connect(PAPER.user("bob"))
            for client in (alice, bob):
                assert (await client.ask(host="web-1"))["ok"]
            gate.judge.learn(knowledge(a_lock(Target.USER, "alice")))
            gate.sessions.recheck()
            gate.sessions.recheck()  # twice is as good as once
            assert (await alice.rest()) in (b"", GREETING)
            await until(lambda: len(gate.events) == 3, "the end in the trail")
            end = gate.events[-1]
            assert (end.code, end.facts["reason"]) == ("T2006I", "user alice is locked")
            await bob.reader.readexactly(len(GREETING))
            bob.writer.write(b"still here")
            assert await bob.reader.readexactly(10) == b"still here"
            await bob.close()
            await alice.close()

    go(body)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (knowledge(a_lock(Target.NODE, host_id(1))), f"host {host_id(1)} is locked"),
        (knowledge(a_lock(Target.LOGIN, "root")), "login root is locked"),
        (knowledge(a_lock(Target.ROLE, "access")), "role access is locked"),
        (knowledge(roles=()), "no role allows login root here"),
    ],
)
def test_every_change_of_rules_reaches_live_sessions(
    tmp_path: Path, change: Any, reason: str
) -> None:
    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            client = await gate.connect()
            assert (await client.ask(host="web-1", login="root"))["ok"]
            gate.judge.learn(change)
            gate.sessions.recheck()
            await client.rest()
            await until(lambda: len(gate.events) == 2, "the end in the trail")
            assert gate.events[1].facts["reason"] == reason
            await client.close()

    run("uvloop", body)


def test_the_end_of_a_certificate_ends_no_session(tmp_path: Path) -> None:
    async def body() -> None:
        async with a_node() as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            client = await gate.connect()
            assert (await client.ask(host="web-1"))["ok"]
            gate.clock.tick(hours=24)
            gate.sessions.recheck()
            await client.reader.readexactly(len(GREETING))
            client.writer.write(b"x")
            assert await client.reader.readexactly(1) == b"x"
            assert (await gate.ask(host="web-1"))["code"] == "denied"
            await client.close()

    run("uvloop", body)


def test_a_client_that_has_gone_while_the_node_was_dialled_leaves_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with a_node(b"") as node, open_gate(tmp_path, route(1, address=node.address)) as gate:
            client = await gate.connect()
            client.writer.write(b'{"host": "web-1"}\n')
            await until(lambda: node.open, "the proxy to dial")
            client.writer.transport.abort()
            node.open[0].write(GREETING)
            await until(lambda: not node.open, "the node to be left")
            await until(lambda: not len(gate.sessions), "the session to end")

    run("uvloop", body)
