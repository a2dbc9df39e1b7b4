"""The daemon in one line, for `systemctl status`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from teleport_lite.model.system_role import AUTH

if TYPE_CHECKING:
    from teleport_lite.daemon.process import Process


def summary(process: "Process", *, hosts: int) -> str:
    """The cluster, and what each role has to do. `hosts` is how many have joined."""
    cluster = process.identity.cluster if process.identity is not None else ""
    return "; ".join((f"cluster {cluster}", *_roles(process, hosts), *_link(process)))


def _roles(process: "Process", hosts: int) -> Iterator[str]:
    if process.auth is not None:
        online = process.auth.desks.presence.connected()
        if process.identity is not None and process.identity.roles == (AUTH,):
            hosts -= 1  # this one, which has no agent to be online with
        yield f"auth: {_many(max(hosts, online), 'host')} ({online} online)"
    if process.proxy is not None:
        ssh = process.proxy.ssh
        yield f"proxy: {_many(len(ssh.tunnels), 'tunnel')}, {_many(len(ssh.sessions), 'session')}"
    if process.node is not None:
        yield f"node: {_many(len(process.node.sessions()), 'session')}"
    if process.tunnels is not None:
        yield f"reached through {_many(len(process.tunnels.held()), 'proxy', 'proxies')}"


def _link(process: "Process") -> Iterator[str]:
    """Only when there is something wrong with it."""
    words = process.health.overall()[1].get("agent", "connected")
    if words not in ("starting", "ok") and not words.startswith("connected"):
        yield words


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"
