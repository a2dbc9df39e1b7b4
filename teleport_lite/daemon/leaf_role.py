"""A proxy of a leaf cluster: its tunnels to the proxies of every root, and what comes down them.

The root is not believed. What it asks for is our auth server, which knows that the connection
came from there and lets in users of that root alone, or a node, for somebody who has signed the
wish. Everything else is refused.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from teleport_lite.agent.identity import Identity
from teleport_lite.ambient import Chance, Clock
from teleport_lite.daemon.tunnel_role import TunnelRole
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.trust import LEAF_ROLE
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.net.peek import Kind, Opening
from teleport_lite.net.port import Arrival
from teleport_lite.net.relay import Held, relay
from teleport_lite.net.tls import client_context
from teleport_lite.pki.keyfile import read_secret, write_secret
from teleport_lite.pki.proof import proved
from teleport_lite.proto.admin import Nothing
from teleport_lite.proto.alpn import DIRECT, LEAF, TUNNEL
from teleport_lite.proto.codec import MAX_ADMIN, Message, read, write
from teleport_lite.proto.reach import MAX_REQUEST, ReachAnswer, ReachRequest
from teleport_lite.proto.stream import Knowledge, ProxyPlace, RootWord
from teleport_lite.proto.trust import Pass, Passes
from teleport_lite.proto.tunnel import AUTH, REACH, Open
from teleport_lite.proxy.access import Caller
from teleport_lite.proxy.line import Line
from teleport_lite.proxy.sessions import Sessions
from teleport_lite.secret import Secret

log = logging.getLogger("teleport_lite.tunnel")

FILE = "passes.json"
# Streams of one root that have not yet said who wishes what.
MAX_WAITING = 256
# Its connections to our auth server. Each takes three descriptors; people ask a question and go.
MAX_TO_AUTH = 256
LINE = 10.0
# Seconds until auth is asked again for what we show at a root.
AGAIN = 5.0

ToAuth = Callable[[Arrival, str], Coroutine[Any, Any, None]]


class Asks(Protocol):
    """proxy/auth_door.py, as much of it as is needed here."""

    async def ask(self, path: str, message: Message) -> Any: ...


class LeafRole:
    """`learn` whenever auth has told something; `retire` and `close` as every role."""

    def __init__(
        self,
        *,
        cluster: str,
        data_dir: Path,
        clock: Clock,
        chance: Chance,
        auth: Asks,
        sessions: Sessions,
        to_auth: ToAuth,
    ) -> None:
        """`cluster` is ours. `to_auth` passes a connection from a root on to our auth server."""
        self.cluster, self.sessions, self.to_auth = cluster, sessions, to_auth
        self.clock, self.chance = clock, chance
        self._path, self._auth = data_dir / FILE, auth
        self._passes: dict[str, Pass] = _kept(self._path)
        self._known: dict[str, RootWord] = {}
        self._roots: dict[str, _Root] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # for who fetches
        self._saving: asyncio.Task[None] | None = None
        self._stale = False  # the file says something else than `_passes`
        self._ending: set[asyncio.Task[None]] = set()
        self._closing = False

    def learn(self, known: Knowledge) -> None:
        """Roots have come, gone, or changed."""
        self._known = {root.cluster: root for root in known.roots}
        self._follow()
        if self._closing:  # what is on the disk belongs to the next process
            return
        if any(name not in self._known for name in self._passes):
            self._take(self._passes.values())
        self._news.set()
        if any(self._pass(root) is None for root in known.roots) and not self._fetching:
            task = asyncio.get_running_loop().create_task(self._fetch(), name="passes")
            self._fetching = task

    def root(self, cluster: str) -> RootWord | None:
        """What is known of a root now; None if it is not trusted (any more)."""
        return self._known.get(cluster)

    @property
    def relayed(self) -> int:
        return sum(root.relayed for root in self._roots.values())

    async def retire(self) -> None:
        """Tell the roots' proxies, and dial no more. What is open goes on."""
        self._closing = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        if self._saving is not None:  # a thread, which would go on by itself
            await asyncio.gather(self._saving, return_exceptions=True)
        await asyncio.gather(*(root.retire() for root in self._roots.values()))

    async def close(self) -> None:
        await self.retire()
        ends = (root.close() for root in self._roots.values())
        await asyncio.gather(*ends, *self._ending, return_exceptions=True)

    # --- whom we hold tunnels to

    def _follow(self) -> None:
        for name in [name for name in self._roots if name not in self._known]:
            log.info("cluster %s is not trusted any more", name)
            self._end(self._roots.pop(name))
        for name, word in self._known.items():
            shown = self._pass(word)
            if shown is None or self._closing:
                continue
            try:
                self._lead_to(word, shown)
            except (Error, ssl.SSLError) as why:  # what a root says must not stop the others
                log.error("no tunnels to cluster %s: %s", name, why)

    def _lead_to(self, word: RootWord, shown: Pass) -> None:
        name = word.cluster
        if name in self._roots and self._roots[name].proxy != word.proxy:
            self._end(self._roots.pop(name))
        if name not in self._roots:
            self._roots[name] = _Root(self, word, shown)
        self._roots[name].learn_root(word, shown)

    def _end(self, root: "_Root") -> None:
        task = asyncio.get_running_loop().create_task(root.close(), name="end of a root")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _pass(self, word: RootWord) -> Pass | None:
        """What we show there, if it is the one of now."""
        found = self._passes.get(word.cluster)
        return found if found is not None and found.mark == word.mark else None

    async def _fetch(self) -> None:
        """Until there is one for every root. The old one is used meanwhile."""
        try:
            while True:
                self._news.clear()
                try:
                    answer = await self._auth.ask("/v1/trust/passes", Nothing())
                    self._take(read(Passes, write(answer), limit=MAX_ADMIN).passes)
                    self._follow()
                except Error as why:
                    log.debug("what to show at a root is not known: %s", why.message)
                if all(self._pass(root) is not None for root in self._known.values()):
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN):
                        await self._news.wait()
        except Exception:
            log.exception("internal error while asking what to show at a root")
        finally:
            self._fetching = None

    # --- what we show there, in memory and on the disk

    def _take(self, passes: Iterable[Pass]) -> None:
        """Those of roots that are trusted now; the others are keys that open nothing we want. The
        file follows. There is one who writes it, so in the end it has what was decided last."""
        self._passes = {each.cluster: each for each in passes if each.cluster in self._known}
        if not self._passes:  # at once, and again after whatever is being written
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        self._stale = True
        if self._saving is None:
            loop = asyncio.get_running_loop()
            self._saving = loop.create_task(self._save(), name="save passes")

    async def _save(self) -> None:
        try:
            while self._stale:
                self._stale = False
                await asyncio.to_thread(self._put, list(self._passes.values()))
        finally:
            self._saving = None

    def _put(self, passes: list[Pass]) -> None:
        """In a thread: it waits for the disk."""
        try:
            if passes:
                write_secret(self._path, write(Passes(passes=passes)))
            else:
                self._path.unlink(missing_ok=True)
        except (Error, OSError) as why:
            log.warning("what to show at a root is not kept for the next start: %s", why)


class _Root(TunnelRole):
    """The tunnels to the proxies of one root. Its proxies have but one address for us: the one
    that an administrator of ours has given."""

    def __init__(self, role: LeafRole, word: RootWord, shown: Pass) -> None:
        self._role, self._cluster = role, word.cluster
        self._word, self._shown = word, shown
        # By service: what has not yet said who wishes what, and what leads to auth.
        self._open = {AUTH: 0, REACH: 0}
        super().__init__(
            identity=_identity(word, shown),
            clock=role.clock,
            chance=role.chance,
            take=_takes_nothing,
            shared=[word.proxy],
        )
        self._starting: asyncio.Task[None] | None = None

    @property
    def proxy(self) -> str:
        """host:port, as an administrator has given it."""
        return self._word.proxy

    def learn_root(self, word: RootWord, shown: Pass) -> None:
        if (word.host_cas, shown) != (self._word.host_cas, self._shown):
            self.renewed(_identity(word, shown))
        self._word, self._shown = word, shown
        self.learn([ProxyPlace(id=each.id) for each in word.proxies])
        if self._starting is None:
            loop = asyncio.get_running_loop()
            self._starting = loop.create_task(self.start(), name=f"tunnels to {word.cluster}")

    def _show_certificate(self) -> None:
        """As that of a host, but that a proxy knows at once what it is."""
        me = self.identity
        self._context = client_context(me.tls_cert, me.tls_private, me.host_cas)
        self._context.set_alpn_protocols([TUNNEL, LEAF])
        self._direct = client_context(me.tls_cert, me.tls_private, me.host_cas)
        self._direct.set_alpn_protocols([TUNNEL, LEAF, DIRECT])

    def incoming(self, line: Any, stream: MuxStream, hello: Open) -> None:  # noqa: ARG002  # one root
        """Somebody of the root: to our auth server, to a node, or not at all."""
        serve = {AUTH: self._to_auth, REACH: self._to_node}.get(hello.service)
        if serve is None:
            self.counters.violations += 1
            log.warning("%s asked for service %a, refused", self._cluster, hello.service)
            stream.abort("not from here")
            return
        if self._open[hello.service] >= (MAX_TO_AUTH if hello.service == AUTH else MAX_WAITING):
            stream.abort("too many at once")
            return
        self.counters.streams += 1
        self._open[hello.service] += 1
        done = _Once(lambda: self._leave(hello.service))
        task = self._spawn(serve(stream, hello, done), f"{hello.service} for {self._cluster}")
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        task.add_done_callback(lambda _: done())

    def _leave(self, service: str) -> None:
        self._open[service] -= 1

    async def _to_auth(self, stream: MuxStream, hello: Open, known: "_Once") -> None:  # noqa: ARG002
        """Until it ends it is nobody that we know."""
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            stream.abort("out of descriptors")
            return
        ours.setblocking(False)
        theirs.setblocking(False)
        client = (hello.client_ip, hello.client_port)
        arrival = Arrival(Opening(Kind.TLS), client, ("", 0), theirs)
        passing = asyncio.ensure_future(self._role.to_auth(arrival, self._cluster))
        try:
            near, _ = await asyncio.get_running_loop().connect_accepted_socket(Held, ours)
            await relay(stream, near)
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)
            theirs.close()
            ours.close()

    async def _to_node(self, stream: MuxStream, hello: Open, known: "_Once") -> None:
        said = Line()
        said.connection_made(stream)
        client = (hello.client_ip, hello.client_port)
        try:
            stream.set_protocol(said)
            async with asyncio.timeout(LINE):
                request = read(ReachRequest, await said.line, limit=MAX_REQUEST)
            caller = self._caller(request)
            asked = ReachRequest(host=request.host, port=request.port, login=request.login)
            session = await self._role.sessions.open(asked, caller, client)
        except Error as why:
            log.debug("refused somebody of %s: %s", self._cluster, why.log or why.message)
            stream.write(write(_refusal(why)) + b"\n")
            stream.close()
            return
        except (TimeoutError, EOFError, OSError):
            stream.abort("no wish")
            return
        finally:
            known()
        if said.gone:
            session.abandon()
            return
        route = session.reached.route
        answer = ReachAnswer(ok=True, host_id=route.id, host_name=route.name)
        stream.write(write(answer) + b"\n")
        with suppress(OSError):
            await session.carry(stream, said.rest)

    def _caller(self, request: ReachRequest) -> Caller:
        """Who has signed the wish: somebody of this root. Raises Denied."""
        if request.cluster.lower() != self._role.cluster.lower():
            raise Malformed(f"cluster {request.cluster[:64]!a} is not this one")
        word = self._role.root(self._cluster)
        if word is None:
            raise Denied(f"cluster {self._cluster} is not trusted any more")
        peer = proved(
            request.proof,
            roots=[word],
            leaf=self._role.cluster,
            words=request.words,
            now=self._role.clock.now(),
        )
        return Caller.from_root(peer)


class _Once:
    """Calls it the first time."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


def _refusal(why: Error) -> ReachAnswer:
    """What is told of it. Where nodes of ours are dialled, and which proxies hold their tunnels,
    is our own business."""
    if isinstance(why, Unavailable):
        return ReachAnswer(ok=False, code=why.code, message="the node can not be reached right now")
    return ReachAnswer(ok=False, code=why.code, message=why.message, hint=why.hint)


def _identity(word: RootWord, shown: Pass) -> Identity:
    """Ours at the root, as much of one as tunnels need."""
    return Identity(
        cluster=word.cluster,
        host_id=shown.id,
        roles=(LEAF_ROLE,),
        ssh_private=Secret(""),
        ssh_public="",
        tls_private=Secret(shown.tls_private),
        ssh_cert="",
        tls_cert=shown.tls_cert,
        host_cas=tuple(word.host_cas),
        ssh_host_cas=(),
        ssh_user_cas=(),
        user_cas=(),
    )


def _takes_nothing(sock: socket.socket, _peer: object, _local: object) -> None:
    sock.close()


def _kept(path: Path) -> dict[str, Pass]:
    """Of the last time, for a start while auth is away."""
    try:
        kept = read(Passes, read_secret(path, limit=MAX_ADMIN), limit=MAX_ADMIN)
    except NotFound:
        return {}
    except Error as why:
        log.warning("%s is not used: %s", path, why.message)
        return {}
    return {each.cluster: each for each in kept.passes}
