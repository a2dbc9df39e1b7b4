"""Leaf clusters at a proxy of their root: their tunnels, and what goes down them.

Each proxy of a leaf holds a tunnel to each of ours, all with the one certificate that the leaf
has from our host CA; which process is at the other end its hello says. We open streams in them
and read none: inside is TLS with the leaf's auth, or a wish that its proxy checks by itself and
then SSH with a node.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import KINDS, Denied, NotFound, Unavailable
from teleport_lite.model.names import HOST_NAME, UUID
from teleport_lite.model.source import source_of
from teleport_lite.model.trust import LEAF_ROLE
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_heart import Heart
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.pki.verify import Peer, peer_identity
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.reach import MAX_ANSWER, ReachAnswer, ReachRequest
from teleport_lite.proto.stream import Knowledge
from teleport_lite.proto.tunnel import REACH, TunnelHello
from teleport_lite.proxy.line import Line
from teleport_lite.proxy.tunnels import Arriving, Tunnels

log = logging.getLogger("teleport_lite.tunnel")

# Proxies of one leaf. More would only be tunnels that somebody keeps us busy with.
MAX_TUNNELS = 64
# Connections to the auth server of one leaf, and those of them from one source. Nobody knows yet
# whose they are, and a tunnel has places for a thousand streams, sessions among them.
MAX_STRANGERS, MAX_OF_SOURCE = 256, 64
# The leaf's proxy waits a moment for a node that has just joined, and dials for ten seconds.
PATIENCE = 20.0


class Leaves(Tunnels):
    """Runs in the loop it is used in."""

    def __init__(
        self,
        *,
        cluster: str,
        host_cas: Sequence[str],
        clock: Clock,
        chance: Chance,
        refuse: Callable[[str], str] = lambda _: "",
        on_change: Callable[[], None] = lambda: None,
        heart: Heart | None = None,
    ) -> None:
        """`refuse` says why the leaf with a UUID may have no tunnel (locked), "" if it may.
        `on_change`: `here` says something else."""
        self._why = refuse
        self._strangers: Counter[tuple[str, str]] = Counter()  # by leaf, and by leaf and source
        self._ids: dict[str, str] = {}  # by name of the cluster, in lower case
        self._labels: dict[str, dict[str, str]] = {}  # likewise
        super().__init__(
            cluster=cluster,
            host_cas=host_cas,
            clock=clock,
            chance=chance,
            refuse=self._refusal,
            on_change=lambda _id, _up: on_change(),
            heart=heart,
        )

    def learn(self, known: Knowledge) -> None:
        """Leaves have come or gone, or our CAs have changed."""
        self._ids = {each.cluster.lower(): each.id for each in known.leaves}
        self._labels = {each.cluster.lower(): each.labels for each in known.leaves}
        self.recheck(known)

    def knows(self, cluster: str) -> bool:
        return cluster.lower() in self._ids

    def labels(self, cluster: str) -> dict[str, str]:
        return self._labels.get(cluster.lower(), {})

    def of(self, host: str) -> str:
        """The leaf that a node with this name would be in; "" if it is none."""
        host = host.lower().rstrip(".")
        return next((name for name in self._ids if host.endswith(f".{name}")), "")

    def here(self) -> list[str]:
        """UUIDs of the leaves that have a tunnel to us. From any thread."""
        return sorted({_leaf_of(tunnel.host_id) for tunnel in self.all()})

    def open(self, cluster: str, service: str, client: tuple[str, int]) -> MuxStream:
        """A stream to a proxy of that leaf. Raises NotFound for a cluster that is none of our
        leaves, Unavailable while it has no tunnel here."""
        leaf_id = self._ids.get(cluster.lower())
        if leaf_id is None:
            raise NotFound(f"cluster {cluster[:64]!a} is not known here", hint="tsh clusters")
        there = [
            tunnel
            for tunnel in self.all()
            if _leaf_of(tunnel.host_id) == leaf_id and tunnel.alive and not tunnel.going
        ]
        if not there:
            raise Unavailable(
                f"cluster {cluster[:64]} has no tunnel to this proxy",
                hint="tsh clusters, and on a proxy there: journalctl -u teleport-lite",
            )
        return min(there, key=lambda tunnel: tunnel.streams).open(client, service)

    @contextmanager
    def stranger(self, cluster: str, address: str) -> Iterator[None]:
        """A place for somebody on the way to the auth server of a leaf. Raises Unavailable when
        there is none."""
        leaf, source = cluster.lower(), source_of(address)
        here, taken = ((leaf, ""), (leaf, source)), self._strangers
        if taken[leaf, ""] >= MAX_STRANGERS or taken[leaf, source] >= MAX_OF_SOURCE:
            raise Unavailable(f"too many connections to cluster {cluster[:64]}")
        taken.update(here)
        try:
            yield
        finally:
            for each in here:
                taken[each] -= 1
                if not taken[each]:
                    del taken[each]

    async def reach(
        self, request: ReachRequest, client: tuple[str, int]
    ) -> tuple[MuxStream, ReachAnswer, bytes]:
        """The SSH service of a node of that leaf, what its proxy says about it, and what the node
        has said already. Raises what the leaf refuses with, or Unavailable."""
        stream = self.open(request.cluster, REACH, client)
        said = Line()
        said.connection_made(stream)
        try:
            stream.set_protocol(said)
            stream.write(write(request) + b"\n")
            async with asyncio.timeout(PATIENCE):
                answer = read(ReachAnswer, await said.line, limit=MAX_ANSWER)
        except (TimeoutError, EOFError, OSError) as why:
            stream.abort()
            raise Unavailable(f"cluster {request.cluster[:64]} gives no answer") from why
        except BaseException:
            stream.abort()
            raise
        if not answer.ok:
            stream.abort()
            raise KINDS.get(answer.code, Unavailable)(
                _plain(answer.message), hint=_plain(answer.hint)
            )
        return stream, _plain_answer(answer), said.rest

    # --- who may have a tunnel

    def _who(self, mux: Mux) -> Peer:
        peer = peer_identity(
            mux.tls.certificate, host_cas=self._host_cas, user_cas=(), now=self._clock.now()
        )
        if peer.kind != "host" or peer.cluster != self._cluster or LEAF_ROLE not in peer.roles:
            raise Denied("only leaf clusters have tunnels of this kind", log=f"roles {peer.roles}")
        if why := self._refusal(peer):
            raise Denied(why, log=f"leaf {peer.name}: {why}")
        return peer

    def _admit(self, arriving: Arriving, peer: Peer, hello: TunnelHello) -> None:
        """One for each process of the leaf."""
        same = [each for each in self.all() if _leaf_of(each.host_id) == peer.name]
        if len(same) >= MAX_TUNNELS:
            raise Unavailable("this cluster has as many tunnels as it may have")
        process = hashlib.sha256(hello.boot_id.encode()).hexdigest()[:16]  # its words, in our log
        super()._admit(arriving, replace(peer, name=f"{peer.name}/{process}"), hello)

    def _refusal(self, peer: Peer) -> str:
        leaf_id = _leaf_of(peer.name)
        if leaf_id not in self._ids.values():
            return "this cluster is not a leaf of ours any more"
        return self._why(leaf_id)


def _leaf_of(name: str) -> str:
    """Of a tunnel's name, UUID/process."""
    return name.partition("/")[0]


def _plain(words: str) -> str:
    """What another cluster has us say to our people."""
    return "".join(each if each.isprintable() else "?" for each in words[:1000])


def _plain_answer(said: ReachAnswer) -> ReachAnswer:
    """Its word, in our trail."""
    return ReachAnswer(
        ok=True,
        host_id=said.host_id if UUID.fullmatch(said.host_id) else "",
        host_name=said.host_name if HOST_NAME.fullmatch(said.host_name) else "",
    )
