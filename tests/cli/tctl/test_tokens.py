"""tctl tokens and nodes add: what the guides show, word for word, and what scripts rely on."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.cli import answers
from tests.cli.answers import PIN, TOKEN
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth, Refusal

NODE_MESSAGE = f"""\
The invite token: {TOKEN}
This token will expire in 5 minutes.

Run this on the new node to join the cluster:

> teleport-lite start \\
   --roles=node \\
   --token={TOKEN} \\
   --ca-pin={PIN} \\
   --auth-server=192.0.2.0:3025

Please note:

  - This invitation token will expire in 5 minutes
  - 192.0.2.0:3025 must be reachable from the new node
"""


def test_a_node_token_comes_with_the_command_that_uses_it(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation()
    assert tctl("tokens", "add", "--ttl=5m", "--type=node").out == NODE_MESSAGE
    assert auth.asked[-1][1] == {
        "types": "node",
        "value": "",
        "ttl": "5m",
        "labels": {},
        "bot_name": "",
    }


def test_nodes_add_says_the_same_and_takes_the_value_as_token(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation("Node", "Proxy", token="secret-value")
    said = tctl("nodes", "add", "--ttl=5m", "--roles=node,proxy", "--token=secret-value").out
    assert said.splitlines()[0] == "The invite token: secret-value"
    assert "   --roles=node,proxy \\\n" in said
    asked = auth.asked[-1][1]
    assert (asked["types"], asked["value"], asked["ttl"]) == ("node,proxy", "secret-value", "5m")


def test_thirty_minutes_are_the_default(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation()
    tctl("tokens", "add", "--type=node")
    tctl("nodes", "add")
    assert [asked["ttl"] for _, asked in auth.asked] == ["30m", "30m"]


EVERY_TYPE = (
    ("Node",),
    ("Proxy",),
    ("Auth",),
    ("Discovery",),
    ("Node", "App"),
    ("App",),
    ("Db",),
    ("Kube", "App", "Discovery"),
    ("WindowsDesktop",),
    ("Bot",),
    ("trusted_cluster",),
)


@pytest.mark.parametrize("roles", EVERY_TYPE, ids=",".join)
def test_the_value_can_be_cut_out_after_the_one_token_colon(
    auth: FakeAuth, tctl: Tool, roles: tuple[str, ...]
) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation(*roles)
    said = tctl("tokens", "add", f"--type={','.join(roles)}").out
    assert re.findall(r"(?<=token:\s).*", said) == [TOKEN]
    assert "\033" not in said
    assert all(line == line.rstrip() for line in said.splitlines())


def test_an_app_token_shows_where_the_application_is_described(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation("App", proxy_server="tele.example.com:443")
    said = tctl("tokens", "add", "--type=app", "--app-name=grafana", "--app-uri=http://x:3000").out
    assert said == (
        f"The invite token: {TOKEN}\n"
        "This token will expire in 5 minutes.\n"
        "\n"
        "Describe the application in /etc/teleport-lite.yaml on a machine that can reach it:\n"
        "\n"
        "app_service:\n"
        "  enabled: yes\n"
        "  apps:\n"
        '  - name: "grafana"\n'
        '    uri: "http://x:3000"\n'
        "\n"
        "and run this there to make it available:\n"
        "\n"
        "> teleport-lite start \\\n"
        "   --roles=app \\\n"
        f"   --token={TOKEN} \\\n"
        f"   --ca-pin={PIN} \\\n"
        "   --proxy=tele.example.com:443\n"
        "\n"
        "Please note:\n"
        "\n"
        "  - This invitation token will expire in 5 minutes\n"
        "  - tele.example.com:443 must be reachable from the application machine\n"
    )


@pytest.mark.parametrize(
    ("door", "flag"),
    [
        ("auth_server", "--auth-server=192.0.2.0:3025"),
        ("proxy_server", "--proxy=tele.example.com:443"),
    ],
)
def test_hosts_are_sent_to_the_door_that_auth_names(
    auth: FakeAuth, tctl: Tool, door: str, flag: str
) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation(
        proxy_server="tele.example.com:443", door=door
    )
    said = tctl("tokens", "add", "--type=node").out
    assert f"   {flag}\n" in said
    assert f"  - {flag.partition('=')[2]} must be reachable from the new node\n" in said


def test_a_node_is_installed_by_one_line_where_a_proxy_is_there(auth: FakeAuth, tctl: Tool) -> None:
    url = f"https://tele.example.com:443/scripts/{TOKEN}/install-node.sh"
    auth.answers["/v1/tokens/add"] = answers.invitation(proxy_server="tele.example.com:443")
    said = tctl("tokens", "add", "--ttl=5m", "--type=node").out
    # What the guides show stays as it is, and in front.
    assert said.startswith(NODE_MESSAGE.partition("> teleport-lite")[0])
    assert said.endswith(
        "\nOr install the program and join by one line; the proxy sees the token then:\n\n"
        f"> curl -fsSL {url} | sudo bash\n"
    )
    assert re.findall(r"(?<=token:\s).*", said) == [TOKEN]
    shown = json.loads(tctl("tokens", "add", "--type=node", "--format=json").out)
    assert shown["install_script"] == url


@pytest.mark.parametrize(
    "changes",
    [
        {"roles": ["Node", "Proxy"]},
        {"roles": ["App"]},
        {"proxy_server": ""},
        {"proxy_server": "$(id):443"},
        {"proxy_server": "tele.example.com:443/x"},
        {"token": "$(id)$(id)"},
        {"token": "x;id;"},
    ],
)
def test_no_other_token_has_such_a_line(
    auth: FakeAuth, tctl: Tool, changes: dict[str, Any]
) -> None:
    made = answers.invitation(proxy_server="tele.example.com:443")
    auth.answers["/v1/tokens/add"] = made | changes
    assert "curl" not in tctl("tokens", "add", "--type=node").out
    assert "install_script" not in tctl("tokens", "add", "--type=node", "--format=json").out


def test_a_bot_token_says_that_it_works_once_and_what_is_better(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation("Bot", uses="once")
    said = tctl("tokens", "add", "--type=bot").out
    assert "> tbot start \\\n" in said
    assert "  - This invitation token works once\n" in said
    assert "tctl bots add" in said


def test_a_trusted_cluster_token_has_no_command(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation("trusted_cluster")
    assert tctl("tokens", "add", "--type=trusted_cluster").out == (
        f"The cluster invite token: {TOKEN}\n"
        "This token will expire in 5 minutes.\n"
        "\n"
        "Use this token when defining a trusted cluster resource on a remote cluster.\n"
    )


def test_every_pin_of_a_rotation_is_in_the_command(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation(ca_pins=["sha256:new", "sha256:old"])
    said = tctl("tokens", "add", "--type=node").out
    assert "   --ca-pin=sha256:new \\\n   --ca-pin=sha256:old \\\n" in said


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(0, "less than a minute"), (1, "1 minute"), (5, "5 minutes"), (90, "90 minutes")],
)
def test_lives_are_told_in_minutes(auth: FakeAuth, tctl: Tool, minutes: int, words: str) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation(ttl_minutes=minutes)
    assert f"This token will expire in {words}.\n" in tctl("tokens", "add", "--type=node").out


def test_text_is_the_token_alone_and_json_an_object(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation()
    assert tctl("tokens", "add", "--type=node", "--format=text").out == f"{TOKEN}\n"
    kept = {"token": TOKEN, "roles": ["Node"], "expires": "2026-11-21T09:05:00Z"}
    assert json.loads(tctl("tokens", "add", "--type=node", "--format=json").out) == kept
    assert yaml.safe_load(tctl("tokens", "add", "--type=node", "--format=yaml").out) == kept


def test_nodes_add_gives_an_array_as_json(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation()
    assert json.loads(tctl("nodes", "add", "--format=json").out) == [TOKEN]
    assert tctl("nodes", "add", "--format=text").out == f"{TOKEN}\n"


def test_warnings_go_to_stderr_and_labels_to_the_server(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation(warnings=["this token can be guessed"])
    said = tctl("tokens", "add", "--type=node", '--labels=env=prod,note="a, b"')
    assert said.err == "WARN: this token can be guessed\n"
    assert said.out == NODE_MESSAGE
    assert auth.asked[-1][1]["labels"] == {"env": "prod", "note": "a, b"}


def test_a_type_is_needed(tctl: Tool) -> None:
    refused = tctl("tokens", "add")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "ERROR: missing option '--type'\n  try: tctl tokens add --help\n"


def test_the_listing_has_values_in_full_and_never_for_static_ones(
    auth: FakeAuth, tctl: Tool
) -> None:
    # Half a second more than shown, so that the test has that long to run.
    ends = datetime.now(UTC) + timedelta(days=400, minutes=2, seconds=8, milliseconds=400)
    auth.answers["/v1/tokens/list"] = {
        "tokens": [
            answers.token(TOKEN, expires=ends.isoformat(), labels={"env": "prod", "a": "b"}),
            answers.token("ijkl789", "Signup", expires=ends.isoformat()),
            answers.token("efgh456", "Proxy", "Node", static=True),
        ]
    }
    listing = tctl("tokens", "ls").out.splitlines()
    assert listing[0].split("  ")[0] == "Token"
    assert re.split(r" {2,}", listing[0]) == ["Token", "Type", "Labels", "Expiry Time (UTC)"]
    assert set(listing[1]) == {"-", " "}
    shown = ends.strftime("%d %b %y %H:%M UTC")
    first = re.split(r" {2,}", listing[2])
    assert first[:3] == [TOKEN, "Node", "a=b,env=prod"]
    assert re.fullmatch(re.escape(shown) + r" \(9600h2m[678]s\)", first[3])
    assert re.split(r" {2,}", listing[3])[:2] == ["ijkl789", "Signup"]
    assert re.split(r" {2,}", listing[4]) == ["efgh456", "Proxy,Node", "never"]


def test_no_tokens_is_said(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/list"] = {"tokens": []}
    assert tctl("tokens", "ls").out == "No active tokens found.\n"
    assert json.loads(tctl("tokens", "ls", "--format=json").out) == []


def test_redact_hides_three_quarters_in_every_form(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/list"] = {"tokens": [answers.token("0123456789abcdef")]}
    for form in ((), ("--format=text",), ("--format=json",), ("--format=yaml",)):
        said = tctl("tokens", "ls", "--redact", *form).out
        assert "************cdef" in said
        assert "89" not in said


def test_the_listing_as_text_is_names_only(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/list"] = {"tokens": [answers.token("one"), answers.token("two")]}
    assert tctl("tokens", "ls", "--format=text").out == "one\ntwo\n"


def test_the_listing_can_be_narrowed_by_labels(auth: FakeAuth, tctl: Tool) -> None:
    tokens = [answers.token("one", labels={"env": "prod"}), answers.token("two")]
    auth.answers["/v1/tokens/list"] = {"tokens": tokens}
    assert tctl("tokens", "ls", "--labels=env=prod", "--format=text").out == "one\n"


@pytest.mark.parametrize("verb", ["rm", "del"])
def test_removing_says_the_whole_value(auth: FakeAuth, tctl: Tool, verb: str) -> None:
    auth.answers["/v1/tokens/remove"] = {"token": TOKEN}
    assert tctl("tokens", verb, "abcd").out == f"Token {TOKEN} has been deleted\n"
    assert auth.asked[-1] == ("/v1/tokens/remove", {"token": "abcd"})


def test_a_refusal_is_shown_with_its_hint(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/remove"] = Refusal(
        404, "not_found", "token not found", "tctl tokens ls"
    )
    refused = tctl("tokens", "rm", "nope")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err == "ERROR: token not found\n  try: tctl tokens ls\n"


def test_a_token_cannot_draw_on_the_terminal(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/tokens/add"] = answers.invitation(token="x\nThe invite token: y\033[2J")
    auth.answers["/v1/tokens/list"] = {
        "tokens": [answers.token("a\nb\033[31m", labels={"k": "\x9b2J"})]
    }
    for words in (("add", "--type=node"), ("add", "--type=node", "--format=text"), ("ls",)):
        said = tctl("tokens", *words).out
        assert "\033" not in said
        assert "\x9b" not in said
    first = tctl("tokens", "add", "--type=node").out.splitlines()[0]
    assert first == r"The invite token: x\nThe invite token: y\x1b[2J"
    assert len(tctl("tokens", "ls").out.splitlines()) == 3
