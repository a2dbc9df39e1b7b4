"""teleport-lite status: the session you are in."""

import pytest

from teleport_lite.cli.teleport.status import text
from tests.cli.conftest import Tool

SESSION = {
    "SSH_TELEPORT_USER": "alice",
    "SSH_TELEPORT_CLUSTER_NAME": "example.com",
    "SSH_TELEPORT_HOST_UUID": "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f",
    "SSH_SESSION_ID": "3a1e",
    "SSH_CLIENT": "192.0.2.7 50312 3022",
    "USER": "root",
}


def test_outside_a_session_it_says_so_and_succeeds(
    run: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_TELEPORT_USER", raising=False)
    said = run("teleport-lite", "status")
    assert (said.code, said.out) == (0, "You are not inside a teleport-lite SSH session.\n")


def test_inside_it_shows_what_the_node_told_the_session() -> None:
    assert text(SESSION) == (
        "User ID       alice, logged in as root, from 192.0.2.7\n"
        "Cluster Name  example.com\n"
        "Host UUID     d52527f9-b260-41d0-bb5a-e23b0cfe0f8f\n"
        "Session ID    3a1e\n"
    )


def test_with_a_proxy_it_shows_where_to_watch() -> None:
    shown = text({**SESSION, "SSH_SESSION_WEBPROXY_ADDR": "example.com:3080"})
    assert shown.splitlines()[-1] == (
        "Session URL   https://example.com:3080/web/cluster/example.com/console/session/3a1e"
    )


def test_the_environment_cannot_draw_on_the_terminal() -> None:
    assert "\033" not in text({**SESSION, "SSH_TELEPORT_USER": "a\033[2J"})
