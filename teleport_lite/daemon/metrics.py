"""`/metrics`: Prometheus text, gathered when asked (names as Teleport's dashboards know them)."""

import platform
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from teleport_lite import __version__

if TYPE_CHECKING:
    from teleport_lite.daemon.process import Process


def render(process: "Process") -> bytes:
    registry = CollectorRegistry()
    state, _ = process.health.overall()
    Gauge("process_state", "0 ok, 1 recovering, 2 degraded, 3 starting", registry=registry).set(
        state.value
    )
    Gauge("teleport_build_info", "Version", ["version", "python"], registry=registry).labels(
        __version__, platform.python_version()
    ).set(1)
    if process.auth is not None:
        Gauge("teleport_connected_resources", "Open agent streams", registry=registry).set(
            process.auth.desks.presence.connected()
        )
        Gauge("teleport_registered_servers", "Hosts that have joined", registry=registry).set(
            len(process.auth.store.hosts())
        )
    return generate_latest(registry)
