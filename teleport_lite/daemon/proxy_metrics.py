"""What a proxy counts, for `/metrics`. Asked from the thread of the diag server."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from teleport_lite.daemon.proxy_role import ProxyRole

T = TypeVar("T")
# Tables may grow while they are read; the next look is likely to be quicker.
TRIES = 20


class ProxyMetrics(Collector):
    """A collector of prometheus_client: `collect` is what it calls."""

    def __init__(self, role: ProxyRole) -> None:
        self._role = role

    def collect(self) -> Iterator[Metric]:
        if self._role.serving:
            yield from self._tunnels()
            yield from self._sessions()
            yield from self._passing()
            yield from self._web()

    def _tunnels(self) -> Iterator[Metric]:
        tunnels = self._role.ssh.tunnels
        yield GaugeMetricFamily(
            "teleport_reverse_tunnels_connected", "Hosts with a tunnel", value=tunnels.count
        )
        yield GaugeMetricFamily(
            "teleport_lite_tunnel_streams",
            "Streams open in them",
            value=_steady(lambda: tunnels.streams),
        )
        counted = asdict(tunnels.counters)
        up, down = _steady(lambda: tunnels.moved)
        yield _counter("tunnel_bytes", "Bytes in tunnels", "way", {"up": up, "down": down})
        events = {name: n for name, n in counted.items() if name not in ("up", "down")}
        yield _counter("tunnel_events", "What happened to tunnels", "event", events)

    def _sessions(self) -> Iterator[Metric]:
        sessions, jump = self._role.ssh.sessions, self._role.ssh.jump.counters
        yield GaugeMetricFamily(
            "teleport_lite_proxy_sessions", "Ways to nodes that are open", value=len(sessions)
        )
        counts = {"opened": sessions.opened, "refused": sessions.refused}
        yield _counter("proxy_session_events", "Ways to nodes", "event", counts)
        moved = {"up": sessions.bytes_up, "down": sessions.bytes_down}
        yield _counter("proxy_session_bytes", "Bytes of those that have ended", "way", moved)
        jumps = {name: n for name, n in asdict(jump).items() if name not in _LIVE}
        yield _counter("jump_host_events", "Connections to the jump host", "event", jumps)

    def _passing(self) -> Iterator[Metric]:
        passing, meter = self._role.passing, self._role.meter
        yield GaugeMetricFamily(
            "teleport_lite_relays", "Connections passed on unopened", value=passing.open
        )
        counts = {"ended": meter.connections, "failed": passing.failed}
        yield _counter("relay_events", "Connections passed on", "event", counts)
        moved = {"up": meter.up, "down": meter.down}
        yield _counter("relay_bytes", "Bytes of those that have ended", "way", moved)

    def _web(self) -> Iterator[Metric]:
        role = self._role
        requests = _steady(lambda: dict(role.pages.counts))
        yield _counter("web_requests", "Answers of the web port by status", "status", requests)
        yield GaugeMetricFamily(
            "teleport_lite_web_connections", "Open web connections", value=role.web_connections
        )
        arrived = CounterMetricFamily(
            "teleport_lite_port_connections", "How connections ended up", labels=["port", "outcome"]
        )
        for name, counts in role.port_counts().items():
            for outcome, number in counts.items():
                arrived.add_metric([name, outcome], number)
        yield arrived
        ends = role.certificates.ends()
        if ends is not None:
            yield GaugeMetricFamily(
                "teleport_lite_web_certificate_end_seconds",
                "Unix time at which the web certificate ends",
                value=ends.timestamp(),
            )


# These go down again.
_LIVE = ("connections", "without_login")


def _counter(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    found = CounterMetricFamily(f"teleport_lite_{name}", words, labels=[label])
    for value, number in values.items():
        found.add_metric([value], number)
    return found


def _steady(look: Callable[[], T]) -> T:
    """What the loop's own tables say, though it may change them meanwhile."""
    for _ in range(TRIES):
        try:
            return look()
        except RuntimeError:  # dictionary changed size during iteration
            continue
    return look()
