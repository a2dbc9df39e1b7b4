"""Every command against an auth service that is away, refuses, or talks nonsense."""

from pathlib import Path

import pytest

from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth, Refusal

# Every command that asks, with a form that sends one question.
ASKING = {
    "status": "/v1/status",
    "tokens add --type=node": "/v1/tokens/add",
    "tokens ls": "/v1/tokens/list",
    "tokens rm x": "/v1/tokens/remove",
    "nodes add": "/v1/tokens/add",
    "nodes ls": "/v1/nodes/list",
    "get nodes": "/v1/resources/get",
    "get nodes --format=text": "/v1/resources/get",
    "create {role}": "/v1/resources/create",
    "rm role/x": "/v1/resources/remove",
    "users add alice --roles=access": "/v1/users/add",
    "users ls": "/v1/users/list",
    "users update alice --set-roles=x": "/v1/users/update",
    "users rm alice": "/v1/users/remove",
    "bots add deploy": "/v1/bots/add",
    "bots ls": "/v1/bots/list",
    "bots rm deploy": "/v1/bots/remove",
    "lock --user=eve": "/v1/locks/add",
    "auth sign --user=alice --out={out}": "/v1/auth/sign",
    "auth sign --host=db-1 --out={out} --format=tls": "/v1/auth/sign-host",
    "auth export --type=host": "/v1/auth/export",
    "auth ls": "/v1/resources/get",
    "audit ls": "/v1/audit/list",
    "audit verify": "/v1/audit/verify",
}
# Nothing in the answer is used, so nothing in it can be wrong.
UNREAD = {"users update alice --set-roles=x", "users rm alice", "bots rm deploy"}
READING = [words for words in ASKING if words not in UNREAD]


@pytest.fixture
def ask(tctl: Tool, tmp_path: Path) -> Tool:
    role, out = tmp_path / "role.yaml", tmp_path / "out"
    role.write_text("kind: role\n")
    return lambda words: tctl(*words.format(role=role, out=out).split(), "-d")


@pytest.mark.parametrize("words", ASKING)
def test_away_is_exit_5_and_names_the_socket(ask: Tool, words: str, data_dir: Path) -> None:
    away = ask(words)
    assert (away.code, away.out) == (5, "")
    assert f"ERROR: cannot reach the auth socket {data_dir}/auth.sock: there is none" in away.err


@pytest.mark.parametrize("words", ASKING)
def test_a_refusal_is_exit_4_with_the_words_of_the_server(
    ask: Tool, auth: FakeAuth, words: str, tmp_path: Path
) -> None:
    auth.answers[ASKING[words]] = Refusal(
        403, "denied", "no role of yours allows it", "tctl get roles"
    )
    refused = ask(words)
    assert (refused.code, refused.out) == (4, "")
    assert refused.err.endswith("ERROR: no role of yours allows it\n  try: tctl get roles\n")
    assert [path.name for path in tmp_path.iterdir()] == ["role.yaml"]


@pytest.mark.parametrize("words", READING)
def test_an_answer_without_its_fields_is_told_and_is_no_bug_of_ours(
    ask: Tool, auth: FakeAuth, words: str, tmp_path: Path
) -> None:
    auth.answers[ASKING[words]] = {}
    refused = ask(words)
    assert (refused.code, refused.out) == (1, "")
    assert f"/auth.sock to {ASKING[words]} is not one we know: " in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["role.yaml"]


WRONG_LISTS = (None, 1, "x", {}, [1], [None], [[]], [{}], [{"name": 1}])


@pytest.mark.parametrize("wrong", WRONG_LISTS, ids=str)
@pytest.mark.parametrize("words", READING)
def test_fields_of_the_wrong_kind_are_told_too(
    ask: Tool, auth: FakeAuth, words: str, wrong: object
) -> None:
    keys = "tokens nodes resources users bots events cas ca_pins token text id checked user"
    auth.answers[ASKING[words]] = dict.fromkeys(keys.split(), wrong)
    refused = ask(words)
    assert "internal error" not in refused.err
    assert refused.code in (0, 1)


@pytest.mark.parametrize("words", ASKING)
@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"]
)
def test_nonsense_is_never_taken_for_an_answer(
    ask: Tool, auth: FakeAuth, words: str, said: bytes, data_dir: Path
) -> None:
    auth.answers[ASKING[words]] = said
    refused = ask(words)
    assert refused.code in (1, 5)
    assert refused.out == ""
    assert f"ERROR: {data_dir}/auth.sock " in refused.err


def test_a_broken_chain_is_an_error_that_says_where(ask: Tool, auth: FakeAuth) -> None:
    auth.answers["/v1/audit/verify"] = {"checked": 40, "broken_at": 17}
    broken = ask("audit verify")
    assert (broken.code, broken.out) == (1, "")
    assert broken.err.endswith(
        "ERROR: the audit trail was changed: the chain breaks at event 17\n"
        "  try: tctl audit ls --after=14 --limit=5\n"
    )
    assert ask("audit verify --format=json").code == 1


def test_a_trail_that_repeats_itself_does_not_keep_us_for_ever(ask: Tool, auth: FakeAuth) -> None:
    same = {"seq": 1, "event": "e", "code": "c", "time": "t", "outcome": "ok"}
    auth.answers["/v1/audit/list"] = {"events": [same] * 1000}
    refused = ask("audit ls --limit=5000")
    assert refused.code == 1
    assert "repeats events" in refused.err
