"""A proxy role in a thread, in front of an auth server that only exists on paper."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any, Self

from teleport_lite.agent import identity as identities
from teleport_lite.agent import knowledge as lessons
from teleport_lite.agent.identity import Identity
from teleport_lite.daemon.proxy_role import ProxyRole
from teleport_lite.model.lock import Lock
from teleport_lite.net.accept import Peer
from teleport_lite.pki.attest import attested
from teleport_lite.proto.alpn import PROXY_SERVER_NAME, proxy_name
from teleport_lite.proto.resource import lock_doc
from teleport_lite.proto.stream import AgentEvent, Knowledge, ProxyPlace
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeChance, FakeClock
from tests.agent.rig import an_identity
from tests.daemon.configs import a_config
from tests.net.serving import LOOPS, Serving, shown

TEXT = """\
version: v3
auth_service: {enabled: no}
ssh_service: {enabled: no}
proxy_service:
  web_listen_addr: 127.0.0.1:0
"""


class PaperAuth(Serving):
    """Answers every question with who asked it."""

    def __init__(self, cluster: PaperCluster) -> None:
        def check(value: bytes, source: tuple[str, int], target: tuple[str, int]) -> str:
            return attested(
                value,
                source=source,
                target=target,
                host_cas=cluster.host_cas,
                cluster=cluster.name,
                now=FakeClock.here().now(),
            )

        super().__init__(Echo(), shown(cluster), attested=check)


class Echo:
    def limit(self, path: str, peer: Peer) -> int:
        return 1 << 20

    def answer(self, path: str, peer: Peer, raw: bytes) -> dict[str, Any]:
        return {"path": path, "address": peer.address, "size": len(raw)}

    def open_stream(self, peer: Peer, send: Callable[[bytes | None], None]) -> Any:
        raise NotImplementedError


def proxy_identity(cluster: PaperCluster, name: str = "proxy-1") -> Identity:
    papers = cluster.host(name, roles=("Proxy",), dns_names=(PROXY_SERVER_NAME,))
    papers = cluster.host(
        name,
        roles=("Proxy",),
        host_id=papers.id,
        dns_names=(PROXY_SERVER_NAME, proxy_name(papers.id)),
    )
    return an_identity(
        cluster,
        host_id=papers.id,
        roles=("Proxy",),
        ssh_private=papers.ssh_private,
        ssh_public=papers.ssh_public,
        tls_private=papers.tls_private,
        ssh_cert=papers.ssh_cert,
        tls_cert=papers.tls_cert,
    )


class ProxyServing:
    """A context manager: inside, the proxy listens. `text` is its config file."""

    def __init__(
        self,
        home: Path,
        cluster: PaperCluster,
        *,
        auth: str,
        text: str = TEXT,
        clock: FakeClock | None = None,
        loop: str = "uvloop",
    ) -> None:
        home.mkdir(mode=0o700, exist_ok=True)
        self.cluster, self.identity = cluster, proxy_identity(cluster, home.name)
        self.clock = clock or FakeClock.here()
        self.events: list[AgentEvent] = []
        self._loop = LOOPS[loop]()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.config = a_config(home, dedent(text))
        identities.save(self.config.data_dir, self.identity)
        self.role = ProxyRole(
            self.config, clock=self.clock, chance=FakeChance(home.name), auth_addresses=[auth]
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.wait(self.role.serve(self.identity, on_event=self.events.append))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self.wait(self.role.close())
        self.wait(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()

    @property
    def address(self) -> str:
        return self.role.place.address

    @property
    def place(self) -> ProxyPlace:
        """As auth tells it to others."""
        place = self.role.place
        return ProxyPlace(id=self.identity.host_id, address=place.address, public=place.public)

    def knows(self, *places: ProxyPlace, locks: Sequence[Lock] = ()) -> None:
        me = self.identity
        known = Knowledge(
            cluster=me.cluster,
            serial=1,
            host_cas=list(me.host_cas),
            ssh_host_cas=list(me.ssh_host_cas),
            ssh_user_cas=list(me.ssh_user_cas),
            user_cas=list(me.user_cas),
            roles=[],
            locks=[lock_doc(lock) for lock in locks],
            proxies=list(places),
        )
        lessons.save(self.config.data_dir, known)
        self.call(lambda: self.role.learn(known))

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def call(self, work: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return work()

        return self.wait(run())
