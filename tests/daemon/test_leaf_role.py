"""A proxy of a leaf and one of its root, with a real tunnel between them and nobody behind."""

import asyncio
import json
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.daemon import leaf_role
from teleport_lite.daemon.leaf_role import LeafRole
from teleport_lite.errors import Denied, Error, NotFound, Unavailable
from teleport_lite.model.trust import LEAF_ROLE
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.net.port import Arrival
from teleport_lite.net.relay import Held, relay
from teleport_lite.pki.keyfile import write_secret
from teleport_lite.pki.proof import prove
from teleport_lite.proto.codec import Message
from teleport_lite.proto.reach import ReachRequest
from teleport_lite.proto.stream import Knowledge, LeafWord, ProxyPlace, RootWord, Route
from teleport_lite.proto.trust import Pass, Passes
from teleport_lite.proto.tunnel import AUTH, REACH, SSH, Open
from teleport_lite.proxy.access import Caller
from teleport_lite.proxy.leaves import Leaves
from teleport_lite.testing.certs import PaperCluster, Papers
from tests.tunnel_rig import Listener, Proxy, agent, identity_of, until

CLIENT = ("198.51.100.7", 4242)
ROOT, LEAF = "root.example", "leaf.test"


class RootProxy(Proxy):
    """Takes tunnels of leaf clusters, and of nobody else."""

    def __init__(self, cluster: PaperCluster) -> None:
        super().__init__(cluster)
        self.locked = ""
        self.changes_seen = 0
        self.leaves = self.tunnels = Leaves(  # type: ignore[assignment]  # as the listener has it
            cluster=cluster.name,
            host_cas=cluster.host_cas,
            clock=SystemClock(),
            chance=SystemChance(),
            refuse=lambda _: self.locked,
            on_change=self._changed,
        )
        self.cluster = cluster

    def _changed(self) -> None:
        self.changes_seen += 1

    def know(self, **leaves: str) -> None:
        words = [LeafWord(cluster=name.replace("_", "."), id=id) for name, id in leaves.items()]
        fields: dict[str, Any] = {"host_cas": self.cluster.host_cas, "leaves": words}
        self.leaves.learn(knowledge(self.cluster.name, **fields))


def knowledge(cluster: str, **words: Any) -> Knowledge:
    empty: dict[str, Any] = {
        name: []
        for name in ("host_cas", "ssh_host_cas", "ssh_user_cas", "user_cas", "roles", "locks")
    }
    return Knowledge(cluster=cluster, serial=1, **{**empty, **words})


@dataclass
class Shell:
    """A session that echoes in capitals."""

    request: ReachRequest
    caller: Caller
    reached: Any
    abandoned: bool = False

    async def carry(self, left: asyncio.Transport, first: bytes = b"") -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        right, _ = await loop.connect_accepted_socket(Held, ours)
        if first:
            right.write(first)
        echo = loop.create_task(self._echo(theirs))
        await relay(left, right)
        await echo

    async def _echo(self, wire: Any) -> None:
        loop = asyncio.get_running_loop()
        with wire:
            while data := await loop.sock_recv(wire, 65536):
                await loop.sock_sendall(wire, data.upper())

    def abandon(self) -> None:
        self.abandoned = True


@dataclass
class Sessions:
    opened: list[Shell] = field(default_factory=list)
    refusal: Error | None = None

    async def open(self, request: ReachRequest, caller: Caller, client: Any) -> Shell:
        if self.refusal is not None:
            raise self.refusal
        assert client == CLIENT
        route = Route(id=str(uuid.UUID(int=1)), name="db-1")
        reached = type("Reached", (), {"route": route, "leaf": ""})()
        self.opened.append(Shell(request, caller, reached))
        return self.opened[-1]


class LeafProxy:
    """The role as a proxy of the leaf runs it; auth answers from `passes`."""

    def __init__(self, data_dir: Path, root: PaperCluster, proxy: RootProxy) -> None:
        self.root, self.proxy = root, proxy
        self.id = str(uuid.uuid4())
        self.papers: Papers = root.host("leaf", roles=(LEAF_ROLE,), host_id=self.id)
        self.sessions, self.asked = Sessions(), 0
        self.met: list[tuple[Any, str]] = []
        self.others: list[Pass] = []  # that auth shows, too
        self.away = False
        self.held: asyncio.Event | None = None  # until then there is no answer
        self.role = LeafRole(
            cluster=LEAF,
            data_dir=data_dir,
            clock=SystemClock(),
            chance=SystemChance(),
            auth=self,
            sessions=self.sessions,  # type: ignore[arg-type]  # as much of it as is asked
            to_auth=self._to_auth,
        )

    async def ask(self, path: str, message: Message) -> Any:
        assert path == "/v1/trust/passes"
        self.asked += 1
        if self.away:
            raise Unavailable("auth is away")
        shown = Pass(
            cluster=self.root.name,
            id=self.id,
            tls_cert=self.papers.tls_cert,
            tls_private=self.papers.tls_private.reveal(),
            mark=self.papers.tls_cert[-60:],
        )
        if self.held is not None:
            await self.held.wait()
        return msgspec.to_builtins(Passes(passes=[shown, *self.others]))

    def know(self, *, also: Sequence[RootWord] = (), **changes: Any) -> None:
        word = {
            "cluster": self.root.name,
            "user_cas": self.root.user_cas,
            "ssh_user_cas": [self.root.user_ca.public.ssh_key],
            "role_map": [{"remote": "access", "local": ["access"]}],
            "proxy": self.proxy.address,
            "host_cas": self.root.host_cas,
            "proxies": [ProxyPlace(id=self.proxy.id)],
            "mark": self.papers.tls_cert[-60:],
        } | changes
        self.role.learn(knowledge(LEAF, roots=[RootWord(**word), *also]))

    async def _to_auth(self, arrival: Arrival, root: str) -> None:
        self.met.append((arrival.peer, root))
        loop = asyncio.get_running_loop()
        with arrival.socket:
            while data := await loop.sock_recv(arrival.socket, 65536):
                await loop.sock_sendall(arrival.socket, data.upper())


@dataclass
class Rig:
    root: PaperCluster
    proxy: RootProxy
    leaf: LeafProxy
    stack: AsyncExitStack

    async def up(self) -> None:
        self.proxy.know(**{LEAF.replace(".", "_"): self.leaf.id})
        self.leaf.know()
        await until(lambda: self.proxy.leaves.here() == [self.leaf.id], what="a tunnel")

    def wish(self, who: Papers | None = None, *, leaf: str = LEAF, **words: Any) -> ReachRequest:
        who = who or self.root.user("alice", roles=("access",))
        asked = ReachRequest(**({"host": "db-1", "login": "root", "cluster": leaf} | words))
        proof = prove(
            who.tls_cert, who.tls_private, leaf=leaf, words=asked.words, now=SystemClock().now()
        )
        return ReachRequest(
            host=asked.host, port=asked.port, login=asked.login, cluster=leaf, proof=proof
        )


@asynccontextmanager
async def rig(path: Path) -> AsyncIterator[Rig]:
    root = PaperCluster(ROOT)
    proxy = RootProxy(root)
    await proxy.listen()
    leaf = LeafProxy(path, root, proxy)
    async with AsyncExitStack() as stack:
        yield Rig(root, proxy, leaf, stack)
    await leaf.role.close()
    await proxy.stop()


def run(path: Path, body: Callable[[Rig], Awaitable[None]]) -> None:
    async def story() -> None:
        async with asyncio.timeout(180), rig(path) as all:
            await body(all)

    asyncio.run(story())


async def said(stream: MuxStream, words: bytes) -> bytes:
    """What comes back to them."""
    listener = Listener()
    stream.set_protocol(listener)
    stream.resume_reading()
    stream.write(words)
    await until(lambda: len(listener.data) >= len(words) or listener.lost, what="an answer")
    return bytes(listener.data)


def test_auth_of_the_leaf_is_reached_and_told_from_where(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        stream = it.proxy.leaves.open(LEAF, AUTH, CLIENT)
        assert await said(stream, b"client hello") == b"CLIENT HELLO"
        assert it.leaf.met == [(CLIENT, ROOT)]
        stream.abort()

    run(tmp_path, body)


def test_a_node_of_the_leaf_is_reached_for_who_has_signed_the_wish(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        stream, answer, first = await it.proxy.leaves.reach(it.wish(port=22), CLIENT)
        assert (answer.host_name, first) == ("db-1", b"")
        [shell] = it.leaf.sessions.opened
        assert (shell.caller.user, shell.caller.cluster) == (f"alice@{ROOT}", ROOT)
        assert shell.caller.roles == ("access",)
        assert (shell.request.host, shell.request.port, shell.request.login) == ("db-1", 22, "root")
        assert (shell.request.cluster, shell.request.proof) == ("", "")
        assert await said(stream, b"SSH-2.0-x") == b"SSH-2.0-X"
        stream.abort()

    run(tmp_path, body)


def test_what_the_leaf_refuses_is_passed_on_in_its_words(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        it.leaf.sessions.refusal = NotFound("there is no node db-1\x1b[2J", hint="tsh ls")
        with pytest.raises(NotFound, match=r"there is no node db-1\?\[2J") as why:
            await it.proxy.leaves.reach(it.wish(), CLIENT)
        assert why.value.hint == "tsh ls"

    run(tmp_path, body)


FORGED: dict[str, Callable[[Rig], ReachRequest]] = {
    "nobody": lambda it: ReachRequest(host="db-1", cluster=LEAF),
    "noise": lambda it: ReachRequest(host="db-1", cluster=LEAF, proof="x" * 400),
    "somebody of another cluster": lambda it: it.wish(PaperCluster(ROOT).user("alice")),
    "a host of the root": lambda it: it.wish(it.root.host("web-1")),
    "another login": lambda it: ReachRequest(
        host="db-1", login="postgres", cluster=LEAF, proof=it.wish().proof
    ),
    "another leaf": lambda it: ReachRequest(
        host="db-1", login="root", cluster=LEAF, proof=it.wish(leaf="other.test").proof
    ),
}


@pytest.mark.parametrize("who", FORGED)
def test_a_wish_that_is_not_signed_by_a_user_of_the_root_is_refused(
    tmp_path: Path, who: str
) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        with pytest.raises(Denied, match="is not signed by somebody of a trusted cluster"):
            await it.proxy.leaves.reach(FORGED[who](it), CLIENT)
        assert it.leaf.sessions.opened == []

    run(tmp_path, body)


def test_a_wish_for_another_cluster_is_refused(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        it.proxy.know(leaf_test=it.leaf.id, other_test=it.leaf.id)
        with pytest.raises(Error, match=r"cluster 'other\.test' is not this one"):
            await it.proxy.leaves.reach(it.wish(leaf="other.test"), CLIENT)

    run(tmp_path, body)


@pytest.mark.parametrize("service", [SSH, "evil", "", "127.0.0.1:22"])
def test_a_root_gets_nothing_else(tmp_path: Path, service: str) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        [tunnel] = it.proxy.leaves.all()
        mux = tunnel._mux
        stream = mux.open(Open(service=service, client_ip="192.0.2.1", client_port=1))
        listener = Listener()
        stream.set_protocol(listener)
        await until(lambda: listener.lost, what="a reset")
        assert not listener.data
        assert not it.leaf.met
        assert not it.leaf.sessions.opened
        assert it.proxy.leaves.here() == [it.leaf.id]

    run(tmp_path, body)


def test_a_host_of_the_root_brings_no_tunnel_of_a_leaf(tmp_path: Path) -> None:
    """And the leaf's certificate none of a host."""

    async def body(it: Rig) -> None:
        it.proxy.know(leaf_test=it.leaf.id)
        node = agent(identity_of(it.root.host("web-1"), it.root, ("Node",)))
        await node.start()
        node.learn([it.proxy.place])
        await until(lambda: it.proxy.leaves.counters.refused, what="a refusal")
        assert it.proxy.leaves.here() == []
        await node.close()
        plain = Proxy(it.root)
        await plain.listen()
        leaf = agent(identity_of(it.leaf.papers, it.root, (LEAF_ROLE,)))
        await leaf.start()
        leaf.learn([plain.place])
        await until(lambda: plain.tunnels.counters.refused, what="a refusal")
        assert len(plain.tunnels) == 0
        await leaf.close()
        await plain.stop()

    run(tmp_path, body)


@pytest.mark.parametrize("how", ["removed", "locked"])
def test_a_leaf_that_is_removed_or_locked_is_cut(tmp_path: Path, how: str) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        stream = it.proxy.leaves.open(LEAF, AUTH, CLIENT)
        listener = Listener()
        stream.set_protocol(listener)
        if how == "locked":
            it.proxy.locked = "host is locked"
        it.proxy.know(**({} if how == "removed" else {"leaf_test": it.leaf.id}))
        await until(lambda: listener.lost, what="the stream to end")
        assert it.proxy.leaves.here() == []
        with pytest.raises(NotFound if how == "removed" else Unavailable):
            it.proxy.leaves.open(LEAF, AUTH, CLIENT)

    run(tmp_path, body)


def test_each_proxy_of_a_leaf_has_a_tunnel_and_one_is_enough(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        (tmp_path / "second").mkdir()
        second = LeafProxy(tmp_path / "second", it.root, it.proxy)
        second.id, second.papers = it.leaf.id, it.leaf.papers
        second.know()
        await until(lambda: len(it.proxy.leaves.all()) == 2, what="two tunnels")
        assert it.proxy.leaves.here() == [it.leaf.id]
        streams = [it.proxy.leaves.open(LEAF, AUTH, CLIENT) for _ in range(4)]
        for stream in streams:
            assert await said(stream, b"x") == b"X"
        assert len(it.leaf.met) == len(second.met) == 2
        await it.leaf.role.close()
        await until(lambda: len(it.proxy.leaves.all()) == 1, what="one tunnel")
        assert await said(it.proxy.leaves.open(LEAF, AUTH, CLIENT), b"y") == b"Y"
        await second.role.close()

    run(tmp_path, body)


def test_trust_that_ends_takes_the_tunnels_down(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        await until((tmp_path / "passes.json").exists, what="its keys to be saved")
        it.leaf.role.learn(knowledge(LEAF))
        await until(lambda: it.proxy.leaves.here() == [], what="no tunnel")
        assert not (tmp_path / "passes.json").exists()

    run(tmp_path, body)


class Slowly:
    """write_secret of a slow disk: it begins, and goes on when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.goes_on, self.written = threading.Event(), threading.Event(), 0
        monkeypatch.setattr(leaf_role, "write_secret", self)

    def __call__(self, path: Path, content: bytes) -> None:
        self.begun.set()
        assert self.goes_on.wait(60)
        write_secret(path, content)
        self.written += 1


def test_trust_that_ends_while_its_keys_are_saved_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Slowly(monkeypatch)

    async def body(it: Rig) -> None:
        await it.up()
        await until(disk.begun.is_set, what="the keys to be saved")
        it.leaf.role.learn(knowledge(LEAF))
        disk.goes_on.set()
        await until(lambda: disk.written, what="the end of saving")
        await until(lambda: not (tmp_path / "passes.json").exists(), what="the keys to be gone")

    try:
        run(tmp_path, body)
    finally:
        disk.goes_on.set()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_proxy_that_stops_while_keys_are_saved_leaves_what_was_decided_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """A thread that writes can not be stopped, so it is waited for."""
    disk = Slowly(monkeypatch)

    async def body(it: Rig) -> None:
        await it.up()
        await until(disk.begun.is_set, what="the keys to be saved")
        if not trusted:
            it.leaf.role.learn(knowledge(LEAF))
        ending = asyncio.ensure_future(it.leaf.role.retire())
        await until(lambda: it.leaf.role._closing, what="the end to begin")
        disk.goes_on.set()
        await ending
        assert (tmp_path / "passes.json").exists() == trusted

    try:
        run(tmp_path, body)
    finally:
        disk.goes_on.set()


def test_of_two_roots_the_one_that_is_trusted_no_more_is_forgotten_alone(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        shown = Pass(cluster="b.test", id=it.leaf.id, tls_cert="x", tls_private="y", mark="z")
        it.leaf.others = [shown]
        it.proxy.know(leaf_test=it.leaf.id)
        word = RootWord(
            cluster="b.test",
            user_cas=[],
            ssh_user_cas=[],
            role_map=[],
            proxy="127.0.0.1:1",
            host_cas=[],
            proxies=[],
            mark="another",
        )
        it.leaf.know(also=[word])
        await until(lambda: len(kept(tmp_path)) == 2, what="two of them")
        it.leaf.know()
        await until(lambda: kept(tmp_path) == [ROOT], what="one of them")

    run(tmp_path, body)


def test_news_while_auth_is_asked_are_asked_about_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer may be older than they are."""
    monkeypatch.setattr(leaf_role, "AGAIN", 3600.0)

    async def body(it: Rig) -> None:
        it.proxy.know(leaf_test=it.leaf.id)
        it.leaf.held = asyncio.Event()
        it.leaf.know()
        await until(lambda: it.leaf.asked, what="a question")
        it.leaf.papers = it.root.host("leaf", roles=(LEAF_ROLE,), host_id=it.leaf.id)
        it.leaf.know()
        it.leaf.held.set()
        await until(lambda: it.proxy.leaves.here() == [it.leaf.id], what="a tunnel")
        assert it.leaf.asked == 2

    run(tmp_path, body)


@pytest.mark.parametrize("trusted", [True, False])
def test_what_is_told_after_the_end_is_for_the_next_process(tmp_path: Path, trusted: bool) -> None:
    """A process that stays behind hears of it, and touches nothing."""

    async def body(it: Rig) -> None:
        await it.up()
        role, asked = it.leaf.role, it.leaf.asked
        await role.retire()
        kept_before = (tmp_path / "passes.json").read_bytes()
        if trusted:
            it.leaf.papers = it.root.host("leaf", roles=(LEAF_ROLE,), host_id=it.leaf.id)
            it.leaf.know()
        else:
            role.learn(knowledge(LEAF))
        assert role._fetching is None
        assert role._saving is None
        await role.close()
        assert it.leaf.asked == asked
        assert (tmp_path / "passes.json").read_bytes() == kept_before

    run(tmp_path, body)


def kept(path: Path) -> list[str]:
    """The roots in the file, by name."""
    if not (path / "passes.json").exists():
        return []
    found = json.loads((path / "passes.json").read_bytes())
    return sorted(each["cluster"] for each in found["passes"])


def test_a_new_certificate_is_fetched_when_auth_tells_of_it(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        assert it.leaf.asked == 1
        it.leaf.know()
        assert it.leaf.asked == 1
        it.leaf.papers = it.root.host("leaf", roles=(LEAF_ROLE,), host_id=it.leaf.id)
        it.leaf.know()
        await until(lambda: it.leaf.asked >= 2, what="another question")

    run(tmp_path, body)


def test_while_auth_is_away_a_proxy_starts_with_what_it_had(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        await it.leaf.role.close()
        await until(lambda: it.proxy.leaves.here() == [], what="no tunnel")
        assert (tmp_path / "passes.json").stat().st_mode & 0o777 == 0o600
        again = LeafProxy(tmp_path, it.root, it.proxy)
        again.id, again.papers, again.away = it.leaf.id, it.leaf.papers, True
        again.know()
        await until(lambda: it.proxy.leaves.here() == [it.leaf.id], what="a tunnel")
        assert again.asked == 0
        await again.role.close()

    run(tmp_path, body)


def test_where_nodes_of_the_leaf_are_is_not_told(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        it.leaf.sessions.refusal = Unavailable("10.0.0.7:3022 refuses", hint="tctl nodes ls")
        with pytest.raises(Unavailable) as why:
            await it.proxy.leaves.reach(it.wish(), CLIENT)
        assert (why.value.message, why.value.hint) == ("the node can not be reached right now", "")

    run(tmp_path, body)


@pytest.mark.parametrize("service", [AUTH, REACH])
def test_a_root_has_only_so_many_at_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """Opened in one go, as somebody would who means it; those that end make room."""
    monkeypatch.setattr("teleport_lite.daemon.leaf_role.MAX_TO_AUTH", 2)
    monkeypatch.setattr("teleport_lite.daemon.leaf_role.MAX_WAITING", 2)

    async def body(it: Rig) -> None:
        await it.up()
        listeners = [Listener() for _ in range(5)]
        streams = [it.proxy.leaves.open(LEAF, service, CLIENT) for _ in listeners]
        for stream, listener in zip(streams, listeners, strict=True):
            stream.set_protocol(listener)
        await until(lambda: sum(bool(each.lost) for each in listeners) == 3, what="three resets")
        for stream in streams:
            stream.abort()
        role = it.leaf.role._roots[ROOT]
        await until(lambda: role._open[service] == 0, what="room")
        if service == AUTH:
            assert await said(it.proxy.leaves.open(LEAF, AUTH, CLIENT), b"x") == b"X"
        else:
            await it.proxy.leaves.reach(it.wish(), CLIENT)
            await it.proxy.leaves.reach(it.wish(), CLIENT)
            await it.proxy.leaves.reach(it.wish(), CLIENT)  # those inside wait at no door

    run(tmp_path, body)


def test_strangers_leave_room_in_a_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teleport_lite.proxy.leaves.MAX_STRANGERS", 3)
    monkeypatch.setattr("teleport_lite.proxy.leaves.MAX_OF_SOURCE", 2)

    async def body(it: Rig) -> None:
        await it.up()
        leaves = it.proxy.leaves
        with leaves.stranger(LEAF, "192.0.2.1"), leaves.stranger(LEAF.upper(), "192.0.2.1"):
            with pytest.raises(Unavailable), leaves.stranger(LEAF, "192.0.2.1"):
                pass
            with (
                leaves.stranger(LEAF, "192.0.2.2"),
                leaves.stranger("b.test", "192.0.2.1"),
                pytest.raises(Unavailable),
                leaves.stranger(LEAF, "192.0.2.3"),
            ):
                pass
        assert not leaves._strangers

    run(tmp_path, body)


def test_a_root_with_a_certificate_that_fits_no_key_stops_no_other(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        it.proxy.know(leaf_test=it.leaf.id)
        good, it.leaf.papers = (
            it.leaf.papers,
            replace(it.leaf.papers, tls_cert=it.root.host("x", roles=(LEAF_ROLE,)).tls_cert),
        )
        it.leaf.know()
        await until(lambda: it.leaf.asked, what="a question")
        it.leaf.know()
        assert not it.leaf.role._roots
        it.leaf.papers = good
        it.leaf.know()
        await until(lambda: it.proxy.leaves.here() == [it.leaf.id], what="a tunnel")

    run(tmp_path, body)


class OddChance(SystemChance):
    """Of a leaf that thinks of a name for its process."""

    def token(self, size: int) -> str:
        return "x/y\nhost root\x1b[2J"


def test_words_of_a_leaf_do_not_get_into_our_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    async def body(it: Rig) -> None:
        it.leaf.role.chance = OddChance()
        it.proxy.know(leaf_test=it.leaf.id)
        it.leaf.know()
        await until(lambda: it.proxy.leaves.here() == [it.leaf.id], what="a tunnel")

    run(tmp_path, body)
    assert "has a tunnel from" in caplog.text
    assert "\x1b" not in caplog.text


def test_a_leaf_has_only_so_many_tunnels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teleport_lite.proxy.leaves.MAX_TUNNELS", 1)

    async def body(it: Rig) -> None:
        await it.up()
        (tmp_path / "second").mkdir()
        second = LeafProxy(tmp_path / "second", it.root, it.proxy)
        second.id, second.papers = it.leaf.id, it.leaf.papers
        second.know()
        tunnels = second.role._roots
        await until(lambda: ROOT in tunnels and tunnels[ROOT].counters.failed, what="a refusal")
        assert len(it.proxy.leaves.all()) == 1
        await second.role.close()

    run(tmp_path, body)


def test_which_leaf_a_node_would_be_in(tmp_path: Path) -> None:
    async def body(it: Rig) -> None:
        await it.up()
        leaves = it.proxy.leaves
        assert leaves.knows("LEAF.test")
        assert leaves.of("db-1.leaf.test.") == LEAF
        assert leaves.of("leaf.test") == leaves.of("db-1.xleaf.test") == leaves.of("db-1") == ""

    run(tmp_path, body)
