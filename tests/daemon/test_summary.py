"""What `systemctl status` says of a daemon."""

from types import SimpleNamespace
from typing import Any

import pytest

from teleport_lite.daemon.summary import summary


def a_process(**parts: Any) -> Any:
    agent = parts.pop("agent", "connected to auth at auth.example.com:3025")
    roles = parts.pop("roles", ("Node",))
    whole = {
        "identity": SimpleNamespace(cluster="tele.example.com", roles=roles),
        "health": SimpleNamespace(overall=lambda: (0, {"agent": agent})),
        **dict.fromkeys(("auth", "proxy", "node", "tunnels")),
    }
    return SimpleNamespace(**whole | parts)


def auth(online: int) -> Any:
    presence = SimpleNamespace(connected=lambda: online)
    return SimpleNamespace(desks=SimpleNamespace(presence=presence))


def proxy(tunnels: int, sessions: int) -> Any:
    return SimpleNamespace(ssh=SimpleNamespace(tunnels=[0] * tunnels, sessions=[0] * sessions))


def node(sessions: int) -> Any:
    return SimpleNamespace(sessions=lambda: [0] * sessions)


def test_every_role_has_its_counts() -> None:
    process = a_process(auth=auth(11), proxy=proxy(10, 3), node=node(1))
    assert summary(process, hosts=12) == (
        "cluster tele.example.com; auth: 12 hosts (11 online); proxy: 10 tunnels, 3 sessions; "
        "node: 1 session"
    )


def test_an_auth_alone_does_not_count_itself() -> None:
    assert "auth: 1 host (1 online)" in summary(a_process(auth=auth(1), roles=("Auth",)), hosts=2)
    assert "auth: 0 hosts (0 online)" in summary(a_process(auth=auth(0), roles=("Auth",)), hosts=0)


@pytest.mark.parametrize(("count", "words"), [(1, "1 proxy"), (2, "2 proxies"), (0, "0 proxies")])
def test_a_host_behind_proxies_says_how_many_reach_it(count: int, words: str) -> None:
    process = a_process(node=node(0), tunnels=SimpleNamespace(held=lambda: ["x"] * count))
    assert summary(process, hosts=0).endswith(f"node: 0 sessions; reached through {words}")


@pytest.mark.parametrize("words", ["starting", "ok", "connected to auth at a:1"])
def test_a_link_that_is_well_is_not_mentioned(words: str) -> None:
    assert summary(a_process(node=node(0), agent=words), hosts=0).endswith("0 sessions")


def test_a_link_that_is_not_is() -> None:
    words = "not connected: auth.example.com:3025: Connection refused"
    assert summary(a_process(node=node(0), agent=words), hosts=0).endswith(f"; {words}")
