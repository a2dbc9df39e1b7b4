"""The SSH service in this process: the zygote is started first, the listener comes last."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence

from teleport_lite.ambient import Chance, Clock
from teleport_lite.config.model import Config
from teleport_lite.net.listen import listen
from teleport_lite.net.ssh_listen import SshListener
from teleport_lite.node import pam, zygote
from teleport_lite.node.settings import Settings
from teleport_lite.proto.stream import AgentEvent, LiveSession, ProxyPlace

log = logging.getLogger("teleport_lite.ssh")


class NodeRole:
    """The zygote is started with it, the listener by `serve` (docs/ssh.md has the family).

    Raises Denied or Unavailable for a config that this system cannot serve.
    """

    def __init__(self, config: Config) -> None:
        _look_at_system(config)
        self._config = config
        self.zygote = zygote.start(settings_of(config))
        self._listener: SshListener | None = None

    async def serve(
        self,
        *,
        clock: Clock,
        chance: Chance,
        on_event: Callable[[AgentEvent], None],
        on_lost: Callable[[], None],
        listens: bool,
    ) -> None:
        """Raises Unavailable when the address can not be had. A node that does not listen is
        given its connections by `take`. Unavailable also if the zygote refuses us."""
        await asyncio.to_thread(self.zygote.settle)
        sockets = []
        if listens:
            sockets.append(listen(self._config.node.listen_addr, "ssh_service.listen_addr"))
        self._listener = SshListener(
            sockets=sockets,
            zygote=self.zygote,
            clock=clock,
            chance=chance,
            on_event=on_event,
            on_lost=on_lost,
            returns=self._config.data_dir,
        )
        await self._listener.start()

    def take(self, sock: socket.socket, peer: tuple[str, int], local: tuple[str, int]) -> None:
        """A connection that came through a tunnel. `peer` is the client, as the proxy saw it."""
        if self._listener is None:
            sock.close()
        else:
            self._listener.take(sock, peer=peer, local=local)

    def learn(self, proxies: Sequence[ProxyPlace]) -> None:
        """Behind a proxy of ours are many people, who are not to pay for each other. One that
        is known by name only, or dials from elsewhere, counts as one source."""
        if self._listener is not None:
            hosts = (each.address.rpartition(":")[0] for each in proxies)
            self._listener.share(host.strip("[]") for host in hosts)

    def recheck(self) -> None:
        """Locks or roles have changed: live sessions are judged again."""
        if self._listener is not None:
            self._listener.recheck()

    def sessions(self) -> list[LiveSession]:
        """Those that are open now, the oldest first. From any thread."""
        return [] if self._listener is None else self._listener.sessions()

    async def close(self) -> None:
        """Sessions go on, and look for the next daemon."""
        if self._listener is not None:
            await self._listener.close()
        self.zygote.close()


def _look_at_system(config: Config) -> None:
    """Better now than at the first login."""
    node = config.node
    if node.pam.enabled:
        pam.check(node.pam.service_name)
    if os.geteuid() != 0:
        log.info(
            "this node does not run as root: it serves its own user only, makes no accounts, and "
            "writes no utmp, wtmp and lastlog"
        )
    if node.banner is not None and not os.access(node.banner, os.R_OK):
        log.warning("ssh_service.banner: %s can not be read, nobody will see it", node.banner)


def settings_of(config: Config) -> Settings:
    node = config.node
    return Settings(
        data_dir=config.data_dir,
        accept_env=node.accept_env,
        permit_user_env=node.permit_user_env,
        banner=str(node.banner or ""),
        pam_service=node.pam.service_name if node.pam.enabled else "",
        pam_environment=tuple(node.pam.environment.items()),
        create_host_users=node.create_host_users,
        port_forwarding=node.port_forwarding,
        file_copy=node.file_copy,
        x11=node.x11,
        recording_spool_quota=node.recording_spool_quota,
        strict_locks=node.strict_locks,
        x11_first=node.x11_displays[0],
        x11_last=node.x11_displays[1],
    )
