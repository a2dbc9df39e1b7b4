"""Where a visitor lives while logged in: the broker, which is the login user, and what it knows."""

import os
from collections.abc import Callable

from teleport_lite.node.account import become
from teleport_lite.node.broker import Broker, Guest
from teleport_lite.node.confine import no_terminal, secretive
from teleport_lite.node.family import Family
from teleport_lite.node.gate import Welcome
from teleport_lite.node.permit import HostRules, Rights
from teleport_lite.node.settings import Settings
from teleport_lite.node.surroundings import Surroundings, login_umask
from teleport_lite.node.wire import Host, Link, SessionEnded, SessionStarted


class Lodging:
    """Belongs to the monitor, which is root. Nothing here touches a path of the user's."""

    def __init__(
        self,
        welcome: Welcome,
        *,
        host: Host,
        peer: tuple[str, int],
        local: tuple[str, int],
        settings: Settings,
    ) -> None:
        self._welcome, self._host, self._settings = welcome, host, settings
        self._peer, self._local = peer, local

    def open(self, family: Family) -> tuple[Link, Link]:
        """Start the broker. Returns our line to it, and the worker's. Raises an Error if this
        account can not be had right now."""
        for_worker, worker_side = Link.pair()
        ours, monitor_side = Link.pair()
        body = self._body(worker_side, monitor_side)
        family.start("broker", body, (worker_side.fileno(), monitor_side.fileno()))
        worker_side.close()
        monitor_side.close()
        return ours, for_worker

    def started(self, session: SessionStarted) -> None:
        """A shell has started, as the broker tells it."""

    def ended(self, session: SessionEnded) -> None:
        """A shell has ended, as the broker tells it, or was still running at the end of all."""

    def close(self) -> None:
        """The connection is over and the broker has ended."""

    def _body(self, worker: Link, monitor: Link) -> Callable[[], None]:
        def body() -> None:
            no_terminal()
            os.umask(login_umask())
            no_home = become(self._welcome.account)
            secretive()
            Broker(
                worker=worker,
                monitor=monitor,
                account=self._welcome.account,
                guest=self._guest(no_home),
                hang_up_time=self._settings.hang_up_time,
            ).run()

        return body

    def _guest(self, no_home: str) -> Guest:
        (ip, port), (local_ip, local_port) = self._peer, self._local
        welcome = self._welcome
        told = {
            "SSH_CLIENT": f"{ip} {port} {local_port}",
            "SSH_CONNECTION": f"{ip} {port} {local_ip} {local_port}",
            "SSH_TELEPORT_USER": welcome.visitor.user,
            "SSH_TELEPORT_CLUSTER_NAME": self._host.cluster,
            "SSH_TELEPORT_HOST_UUID": self._host.host_id,
        }
        return Guest(
            rights=Rights(
                extensions=welcome.visitor.extensions,
                options=welcome.options,
                host=HostRules(
                    port_forwarding=self._settings.port_forwarding,
                    file_copy=self._settings.file_copy,
                    x11=self._settings.x11,
                ),
            ),
            force_command=welcome.force_command,
            around=Surroundings(
                account=welcome.account,
                told=told,
                accept=self._settings.accept_env,
                user_file=self._settings.permit_user_env,
                no_home=no_home,
            ),
            displays=(self._settings.x11_first, self._settings.x11_last),
        )
