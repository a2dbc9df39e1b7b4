"""tctl users, bots and lock."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.cli import answers
from tests.cli.answers import PIN, TOKEN
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth

LISTED = {
    "name": "alice",
    "roles": ["access", "editor"],
    "logins": ["root"],
    "created_at": None,
    "password": True,
    "invited_until": None,
    "locked_seconds": 0,
}


def invited(url: str = f"https://tele.example.com:3080/web/invite/{TOKEN}", ttl: int = 3600) -> Any:
    return {
        "user": {"kind": "user"},
        "invite": {
            "url": url,
            "proxy": "tele.example.com:3080" if url else "",
            "path": f"/web/invite/{TOKEN}",
            "token": TOKEN,
            "kind": "invite",
            "expires": "2026-11-21T10:00:00Z",
            "ttl_seconds": ttl,
        },
    }


def test_adding_a_user_shows_the_link_as_the_guides_do(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/add"] = invited()
    added = tctl("users", "add", "alice", "--roles=access,editor", "--logins=root", "--logins=bob")
    assert added.out == (
        'User "alice" has been created but requires a password. Share this URL with the user to '
        "complete user setup, link is valid for 1h:\n"
        f"https://tele.example.com:3080/web/invite/{TOKEN}\n"
        "\n"
        "NOTE: Make sure tele.example.com:3080 points at a Teleport proxy which users can access.\n"
    )
    assert auth.asked[-1][1] == {
        "name": "alice",
        "roles": ["access", "editor"],
        "logins": ["root", "bob"],
        "ttl": "1h",
    }


def test_without_a_proxy_there_is_no_link_and_that_is_said(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/add"] = invited(url="", ttl=5400)
    added = tctl("users", "add", "alice", "--roles=access", "--ttl=90m")
    assert added.out == (
        'User "alice" has been created but requires a password. No proxy is running yet, and the '
        "page to set it is on a proxy. Once there is one, this path on it serves the user to "
        "complete user setup, for 1h30m from now:\n"
        f"/web/invite/{TOKEN}\n"
        "\n"
        "To see a whole link then, which takes the place of this one, run:\n"
        "\n"
        "> tctl users reset alice\n"
    )


@pytest.mark.parametrize("words", [("add", "alice", "--roles=access"), ("reset", "alice")])
def test_a_link_can_be_had_as_json_and_yaml(
    auth: FakeAuth, tctl: Tool, words: tuple[str, ...]
) -> None:
    auth.answers["/v1/users/add"] = auth.answers["/v1/users/reset"] = invited()
    url = f"https://tele.example.com:3080/web/invite/{TOKEN}"
    for form, load in (("json", json.loads), ("yaml", yaml.safe_load)):
        made = load(tctl("users", *words, f"--format={form}").out)
        assert made["invite"]["url"] == url


def test_a_reset_shows_a_link_that_works_for_eight_hours(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/reset"] = invited(ttl=8 * 3600)
    said = tctl("users", "reset", "alice").out
    assert said.startswith(
        'User "alice" has been reset. Share this URL with the user to complete password reset, '
        f"link is valid for 8h:\nhttps://tele.example.com:3080/web/invite/{TOKEN}\n\nNOTE: "
    )
    assert auth.asked[-1][1] == {"name": "alice", "ttl": "8h"}
    tctl("users", "reset", "alice", "--ttl=10m")
    assert auth.asked[-1][1] == {"name": "alice", "ttl": "10m"}


def test_a_link_cannot_draw_on_the_terminal(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/reset"] = invited(url="https://x\033[2J\nfake")
    said = tctl("users", "reset", "alice").out
    assert r"https://x\x1b[2J\nfake" in said
    assert "\033" not in said


@pytest.mark.parametrize(
    ("locked", "said"), [(True, "may log in again"), (False, "was not locked out")]
)
def test_a_user_is_let_in_again(auth: FakeAuth, tctl: Tool, locked: bool, said: str) -> None:
    auth.answers["/v1/users/unlock"] = {"name": "alice", "locked": locked}
    assert tctl("users", "unlock", "alice").out == f'User "alice" {said}\n'


def test_logins_may_stand_behind_the_name_as_in_old_versions(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/add"] = invited()
    tctl("users", "add", "alice", "root,bob", "--roles=access")
    assert auth.asked[-1][1]["logins"] == ["root", "bob"]


def test_a_user_needs_a_role(auth: FakeAuth, tctl: Tool) -> None:
    refused = tctl("users", "add", "alice")
    assert (refused.code, auth.asked) == (2, [])
    assert refused.err == (
        "ERROR: missing option '--roles', like --roles=access\n  try: tctl users add --help\n"
    )


def test_users_are_listed_with_the_state_of_their_password(auth: FakeAuth, tctl: Tool) -> None:
    # Half a minute more than shown, so that the test has that long to run.
    ends = datetime.now(UTC) + timedelta(hours=1, seconds=30)
    users = [
        LISTED,
        {**LISTED, "name": "bob", "password": False},
        {**LISTED, "name": "carol", "password": False, "invited_until": ends.isoformat()},
        {**LISTED, "name": "dave", "locked_seconds": 1680},
    ]
    auth.answers["/v1/users/list"] = {"users": users}
    rows = [re.split(" {2,}", row) for row in tctl("users", "ls").out.splitlines()]
    assert rows[0] == ["User", "Roles", "Password"]
    assert rows[2] == ["alice", "access,editor", "set"]
    assert rows[3] == ["bob", "access,editor", "not set"]
    shown = ends.strftime("%d %b %y %H:%M UTC")
    assert re.fullmatch(rf"not set, link until {re.escape(shown)} \(1h0m\d+s\)", rows[4][2])
    assert rows[5] == ["dave", "access,editor", "set, locked out for 28m"]
    assert json.loads(tctl("users", "ls", "--format=json").out) == users
    auth.answers["/v1/users/list"] = {"users": []}
    assert tctl("users", "ls").out == "No users found\n"


def test_an_update_changes_only_what_is_given(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/update"] = {"user": {}}
    said = tctl("users", "update", "alice", "--set-logins=").out
    assert said == 'User "alice" has been updated, logins: none\n'
    assert auth.asked[-1][1] == {"name": "alice", "logins": []}
    said = tctl("users", "update", "alice", "--set-roles=access", "--set-logins=root").out
    assert said == 'User "alice" has been updated, roles: access; logins: root\n'
    assert auth.asked[-1][1] == {"name": "alice", "roles": ["access"], "logins": ["root"]}
    assert tctl("users", "update", "alice").code == 2


@pytest.mark.parametrize("verb", ["rm", "del"])
def test_users_are_removed_one_by_one(auth: FakeAuth, tctl: Tool, verb: str) -> None:
    auth.answers["/v1/users/remove"] = lambda asked: {"name": asked["name"]}
    assert tctl("users", verb, "alice,bob").out == (
        'User "alice" has been deleted\nUser "bob" has been deleted\n'
    )


@pytest.mark.parametrize("noun", ["bots", "bot"])
def test_a_bot_comes_with_its_token(auth: FakeAuth, tctl: Tool, noun: str) -> None:
    auth.answers["/v1/bots/add"] = {
        "bot": "deploy",
        "user": "bot-deploy",
        **answers.invitation("Bot", ttl_minutes=60, uses="once"),
    }
    assert tctl(noun, "add", "deploy", "--roles=access", "--logins=root").out == (
        f"The bot token: {TOKEN}\n"
        "This token will expire in 60 minutes.\n"
        "\n"
        "Run this on the machine of the bot to get its first certificates:\n"
        "\n"
        "> tbot start \\\n"
        "   --oneshot \\\n"
        "   --destination-dir=./tbot-user \\\n"
        f"   --token={TOKEN} \\\n"
        f"   --ca-pin={PIN} \\\n"
        "   --auth-server=192.0.2.0:3025\n"
        "\n"
        "Please note:\n"
        "\n"
        "  - This invitation token will expire in 60 minutes\n"
        "  - This invitation token works once\n"
        "  - 192.0.2.0:3025 must be reachable from the machine of the bot\n"
    )
    assert auth.asked[-1][1] == {
        "name": "deploy",
        "roles": ["access"],
        "logins": ["root"],
        "ttl": "1h",
    }


def test_bots_are_listed_and_removed(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/bots/list"] = {"bots": [{**LISTED, "name": "bot-deploy"}]}
    auth.answers["/v1/bots/remove"] = {"name": "deploy"}
    assert tctl("bots", "ls").out.splitlines()[2] == "deploy  bot-deploy  access,editor"
    assert tctl("bots", "rm", "deploy").out == 'Bot "deploy" deleted successfully.\n'
    auth.answers["/v1/bots/list"] = {"bots": []}
    assert tctl("bots", "ls").out == "No bots found\n"


@pytest.mark.parametrize(
    ("flag", "target"),
    [
        ("--user", "user"),
        ("--role", "role"),
        ("--login", "login"),
        ("--server-id", "node"),
        ("--node", "node"),
        ("--bot-instance-id", "bot_instance_id"),
        ("--join-token", "join_token"),
    ],
)
def test_a_lock_names_its_one_target(auth: FakeAuth, tctl: Tool, flag: str, target: str) -> None:
    auth.answers["/v1/locks/add"] = {"id": "lock-1"}
    said = tctl("lock", f"{flag}=x", "--message=lost laptop", "--ttl=10h").out
    assert said == 'Created a lock with name "lock-1".\n'
    assert auth.asked[-1][1] == {
        "target": target,
        "value": "x",
        "message": "lost laptop",
        "ttl": "10h",
    }


def test_an_end_is_sent_as_what_is_left_of_it(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/locks/add"] = {"id": "lock-1"}
    ends = datetime.now(UTC) + timedelta(hours=1, seconds=30)
    tctl("lock", "--user=alice", f"--expires={ends.isoformat()}")
    left = re.fullmatch(r"(\d+)s", auth.asked[-1][1]["ttl"])
    assert left is not None
    assert 3600 <= int(left[1]) <= 3630


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("--user=a", "--role=b"), 2),
        (("--user=a", "--ttl=1h", "--expires=2030-01-01T00:00:00Z"), 2),
        (("--user=a", "--expires=2001-01-01T00:00:00Z"), 1),
        (("--user=a", "--expires=tomorrow"), 1),
        (("--user=a", "--ttl=soon"), 1),
    ],
)
def test_an_unclear_lock_is_not_sent(
    auth: FakeAuth, tctl: Tool, words: tuple[str, ...], code: int
) -> None:
    refused = tctl("lock", *words)
    assert (refused.code, auth.asked) == (code, [])
    assert refused.err.startswith("ERROR: ")
