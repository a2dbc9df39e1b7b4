"""Static tokens and label commands."""

from datetime import timedelta

import pytest

from teleport_lite.config.model import LabelCommand

STATIC = "auth_service:\n  tokens:\n  - {}\n"


def test_static_tokens_as_text_as_a_mapping_and_from_a_file(desk, tmp_path):
    path = tmp_path / "token"
    path.write_text("secret-token-of-a-file\n")
    path.chmod(0o600)
    for written in (f'"Node,kube:{path}"', f"{{roles: [node, kube], token: {path}}}"):
        [token] = desk.read(STATIC.format(written)).auth.tokens
        assert token.roles == ("Node", "Kube")
        assert token.read().reveal() == "secret-token-of-a-file"


def test_a_token_may_hold_what_yaml_would_read_as_something_else(desk):
    [token] = desk.read(STATIC.format("{roles: node, token: 2024-01-01-00-00-00}")).auth.tokens
    assert token.read().reveal() == "2024-01-01-00-00-00"


def test_a_static_token_is_warned_about(desk):
    assert desk.read(STATIC.format('"node:secret-token-value"')).warnings == (
        "f.yaml:3: auth_service.tokens[0]: a static token never expires; "
        "short-lived ones come from: tctl tokens add",
    )


EXAMPLE = 'like "proxy,node:secret-token-value" or "auth:/path/to/tokenfile"'


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("secret-token-value", f"is not roles:token, {EXAMPLE}"),
        ('":secret-token-value"', f"is not roles:token, {EXAMPLE}"),
        ('"node:"', f"is not roles:token, {EXAMPLE}"),
        ("[node, x]", f"is not roles:token, {EXAMPLE}"),
        (
            "node: secret-token-value",
            f"must stand in quotes without a space after the colon, {EXAMPLE}",
        ),
        (
            '"bot:secret-token-value"',
            "a bot token works once, and a static token never ends: "
            "tctl tokens add --type=bot makes one",
        ),
        (
            '"node,bot:/path/to/tokenfile"',
            "a bot token works once, and a static token never ends: "
            "tctl tokens add --type=bot makes one",
        ),
        (
            '"node:short-token"',
            "the token is shorter than 16 characters and never expires, so it can be guessed; "
            "take a longer one or set allow_weak_static_tokens: yes",
        ),
        ('"node:-"', f"a static token cannot come from standard input, {EXAMPLE}"),
        (
            '"node:secret$token$value"',
            "the token must be 8 to 128 letters, digits, dots, dashes or underscores",
        ),
        ('"node:secret token value"', "the token holds characters that no token has"),
    ],
)
def test_a_wrong_static_token_is_refused_by_line_and_never_shown(desk, token, why):
    said = desk.refusal(STATIC.format(token))
    assert said == f"f.yaml:3: auth_service.tokens[0]: {why}"


def test_parts_in_the_wrong_order_do_not_put_the_token_into_the_error(desk):
    said = desk.refusal(STATIC.format('"hunter2-hunter2-hunter2:node"'))
    assert said.startswith("f.yaml:3: auth_service.tokens[0]: does not begin with roles that exist")
    assert "hunter2" not in said


def test_a_short_static_token_can_be_allowed(desk):
    text = STATIC.format('"node:short-token"') + "  allow_weak_static_tokens: yes\n"
    [token] = desk.read(text).auth.tokens
    assert token.read().reveal() == "short-token"


def test_tokens_must_be_a_list(desk):
    said = desk.refusal("auth_service:\n  tokens: node:secret-token-value\n")
    assert said == f"f.yaml:2: auth_service.tokens: must be a list of tokens, {EXAMPLE}"


def test_no_tokens_are_no_tokens(desk):
    for text in ("[]", "", "~"):
        assert desk.read(f"auth_service: {{tokens: {text}}}").auth.tokens == ()


def test_auth_keeps_its_name_addresses_and_retention(desk):
    auth = desk.read(
        "auth_service: {cluster_name: tele.example.com, public_addr: [auth.example.com, 'b:1'],"
        " presence_retention: 2d, recording_retention: 30d, recording_quota: 2GiB}"
    ).auth
    assert auth.cluster_name == "tele.example.com"
    assert auth.public_addrs == ("auth.example.com:3025", "b:1")
    assert auth.presence_retention == timedelta(days=2)
    assert (auth.recording_retention, auth.recording_quota) == (timedelta(days=30), 2 << 30)


def test_recordings_are_kept_for_ninety_days_unless_told_otherwise(desk):
    auth = desk.read("auth_service: {enabled: yes}").auth
    assert (auth.recording_retention, auth.recording_quota) == (timedelta(days=90), 10 << 30)
    auth = desk.read("auth_service: {recording_retention: 0s, recording_quota: 0}").auth
    assert (auth.recording_retention, auth.recording_quota) == (timedelta(), 0)
    said = desk.refusal("auth_service:\n  recording_quota: much\n")
    assert said.startswith("f.yaml:2: auth_service.recording_quota: ")
    assert "is not an amount of bytes, like 512MiB or 10GiB" in said


@pytest.mark.parametrize("name", ["a b", "$(id)", "a*", "-a", "a;b", "x" * 200, "a/b"])
def test_a_hostile_cluster_name_is_refused(desk, name):
    said = desk.refusal(f"auth_service:\n  cluster_name: '{name}'\n")
    assert said.startswith("f.yaml:2: auth_service.cluster_name: cluster name ")
    assert said.endswith("is not valid, expected something like 'teleport.example.com'")


def test_labels_and_commands_of_a_node(desk):
    node = desk.read(
        """
ssh_service:
  public_addr: node.example.com
  labels: {env: example, on: off}
  commands:
  - {name: hostname, command: [hostname, -f], period: 1m0s}
"""
    ).node
    assert node.labels == {"env": "example", "on": "off"}
    assert node.public_addrs == ("node.example.com:3022",)
    assert node.commands == (
        LabelCommand(name="hostname", argv=("hostname", "-f"), period=timedelta(minutes=1)),
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("{name: a, command: [b], period: 5}", "period: duration '5' is not a length of time"),
        ("{name: a, command: [b], period: 10ms}", "period: must be 1s or longer, like 1m0s"),
        ("{name: a, command: [b]}", "period: is missing, like 1m0s"),
        ("{name: a, command: [], period: 1m}", "command: must name a program, like [hostname]"),
        ("{name: a b, command: [b], period: 1m}", "name: label key 'a b' is not valid"),
        ("{name: teleport.dev/x, command: [b], period: 1m}", "name: label key 'teleport.dev/x'"),
        ("{name: env, command: [b], period: 1m}", "name: label env is given twice"),
    ],
)
def test_a_wrong_command_is_refused_by_line(desk, command, message):
    said = desk.refusal(f"ssh_service:\n  labels: {{env: a}}\n  commands:\n  - {command}\n")
    assert said.startswith(f"f.yaml:4: ssh_service.commands[0].{message}")


def test_sessions_are_recorded_by_nodes_unless_they_are_not(desk):
    assert desk.read("auth_service: {session_recording: off}").auth.session_recording == "off"
    config = desk.read("auth_service: {}")
    assert config.auth.session_recording == "node"
    assert config.node.recording_spool_quota == 1 << 30
    config = desk.read("auth_service:\n  session_recording: proxy-sync\n")
    assert config.auth.session_recording == "node"
    assert any(
        "f.yaml:2: auth_service.session_recording: proxy-sync is not built" in each
        for each in config.warnings
    )
    node = desk.read("ssh_service: {recording_spool_quota: 300MiB}").node
    assert node.recording_spool_quota == 300 << 20
    said = desk.refusal("ssh_service:\n  recording_spool_quota: much\n")
    assert said.startswith("f.yaml:2: ssh_service.recording_spool_quota: ")


def test_a_command_may_run_once_a_second(desk):
    text = "ssh_service: {{commands: [{{name: a, command: [b], period: {}}}]}}"
    [command] = desk.read(text.format("1s")).node.commands
    assert command.period == timedelta(seconds=1)
    assert "must be 1s or longer" in desk.refusal(text.format("999ms"))


def test_two_commands_have_two_names(desk):
    one = "{name: a, command: [b], period: 1m}"
    assert "label a is given twice" in desk.refusal(f"ssh_service: {{commands: [{one}, {one}]}}")
