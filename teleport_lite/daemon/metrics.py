"""`/metrics`: Prometheus text, gathered when asked (names as Teleport's dashboards know them)."""

import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from teleport_lite import __version__

if TYPE_CHECKING:
    from teleport_lite.daemon.process import Process
    from teleport_lite.daemon.tunnel_role import TunnelRole


def render(process: "Process", tasks: int) -> bytes:
    """`tasks`: of its event loop. What only grows there is a leak that no descriptor shows."""
    registry = CollectorRegistry()
    state, _ = process.health.overall()
    Gauge("process_state", "0 ok, 1 recovering, 2 degraded, 3 starting", registry=registry).set(
        state.value
    )
    Gauge("teleport_build_info", "Version", ["version", "python"], registry=registry).labels(
        __version__, platform.python_version()
    ).set(1)
    Gauge("teleport_lite_tasks", "Tasks of the event loop", registry=registry).set(tasks)
    if process.auth is not None:
        Gauge("teleport_connected_resources", "Open agent streams", registry=registry).set(
            process.auth.desks.presence.connected()
        )
        Gauge("teleport_registered_servers", "Hosts that have joined", registry=registry).set(
            len(process.auth.store.hosts())
        )
    if process.proxy is not None:
        from teleport_lite.daemon.proxy_metrics import ProxyMetrics

        registry.register(ProxyMetrics(process.proxy))
    if process.tunnels is not None:
        registry.register(TunnelMetrics(process.tunnels))
    return generate_latest(registry)


class TunnelMetrics(Collector):
    """Of a host that is reached through proxies."""

    def __init__(self, role: "TunnelRole") -> None:
        self._role = role

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "reversetunnel_connected_proxies",
            "Proxies that hold a tunnel of this host",
            value=len(self._role.held()),
        )
        events = CounterMetricFamily(
            "teleport_lite_agent_tunnel_events", "What happened to our tunnels", labels=["event"]
        )
        for name, number in asdict(self._role.counters).items():
            events.add_metric([name], number)
        yield events
