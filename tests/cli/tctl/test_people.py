"""tctl users, bots and lock."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli import answers
from tests.cli.answers import PIN, TOKEN
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth

LISTED = {"name": "alice", "roles": ["access", "editor"], "logins": ["root"], "created_at": None}


def test_adding_a_user_says_what_to_do_next(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/add"] = {"user": {"kind": "user"}}
    added = tctl("users", "add", "alice", "--roles=access,editor", "--logins=root", "--logins=bob")
    assert added.out == (
        'User "alice" has been created with roles access,editor and logins root,bob.\n'
        "\n"
        "This version has no invite links: they come with the proxy's web pages. To give the "
        "user certificates, run:\n"
        "\n"
        "> tctl auth sign --user=alice --format=openssh --out=alice\n"
    )
    assert auth.asked[-1][1] == {
        "name": "alice",
        "roles": ["access", "editor"],
        "logins": ["root", "bob"],
        "ttl": "1h",
    }


def test_logins_may_stand_behind_the_name_as_in_old_versions(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/add"] = {"user": {"kind": "user"}}
    tctl("users", "add", "alice", "root,bob", "--roles=access")
    assert auth.asked[-1][1]["logins"] == ["root", "bob"]


def test_a_user_needs_a_role(auth: FakeAuth, tctl: Tool) -> None:
    refused = tctl("users", "add", "alice")
    assert (refused.code, auth.asked) == (2, [])
    assert refused.err == (
        "ERROR: missing option '--roles', like --roles=access\n  try: tctl users add --help\n"
    )


def test_users_are_listed(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/list"] = {"users": [LISTED]}
    assert tctl("users", "ls").out == ("User   Roles\n-----  -------------\nalice  access,editor\n")
    assert json.loads(tctl("users", "ls", "--format=json").out) == [LISTED]
    auth.answers["/v1/users/list"] = {"users": []}
    assert tctl("users", "ls").out == "No users found\n"


def test_an_update_changes_only_what_is_given(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/users/update"] = {"user": {}}
    said = tctl("users", "update", "alice", "--set-logins=").out
    assert said == 'User "alice" has been updated, logins: none\n'
    assert auth.asked[-1][1] == {"name": "alice", "roles": None, "logins": []}
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
