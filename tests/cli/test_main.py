"""The names of the program, help, and flags where people put them."""

import json
from pathlib import Path

import pytest

from teleport_lite import __version__
from teleport_lite.__main__ import choose
from tests.cli import answers
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth


@pytest.mark.parametrize(
    ("argv", "program", "words"),
    [
        (["tctl", "status"], "tctl", ["status"]),
        (["/usr/local/bin/tsh", "ls"], "tsh", ["ls"]),
        (["tbot.pyz", "start"], "tbot", ["start"]),
        (["teleport-lite", "tctl", "status"], "teleport-lite tctl", ["status"]),
        (["teleport-lite.pyz", "start"], "teleport-lite", ["start"]),
        (["/x/teleport_lite/__main__.py", "tsh", "ls"], "teleport-lite tsh", ["ls"]),
        (["anything", "else"], "teleport-lite", ["else"]),
        ([], "teleport-lite", []),
    ],
)
def test_the_name_decides_which_program_it_is(
    argv: list[str], program: str, words: list[str]
) -> None:
    assert choose(argv) == (program, words)


@pytest.mark.parametrize("name", ["teleport-lite", "tctl", "tsh"])
@pytest.mark.parametrize("words", [["version"], ["--version"]])
def test_every_program_knows_its_version(run: Tool, name: str, words: list[str]) -> None:
    said = run(name, *words)
    assert said.code == 0
    assert said.out.startswith(f"teleport-lite v{__version__} python3.")
    assert len(said.out.splitlines()) == 1


def test_the_number_alone_is_there_for_scripts(run: Tool) -> None:
    assert run("teleport-lite", "version", "--raw").out == f"{__version__}\n"
    assert json.loads(run("tctl", "version", "--format=json").out)["version"] == __version__


@pytest.mark.parametrize("name", ["teleport-lite", "tctl", "tsh"])
def test_help_is_an_answer_and_bare_names_give_it(run: Tool, name: str) -> None:
    for words in ([], ["help"], ["--help"], ["-h"]):
        said = run(name, *words)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith(f"Usage: {name} [OPTIONS] COMMAND [ARGS]...\n")


def test_help_of_a_command_has_two_ways(run: Tool) -> None:
    said = run("tctl", "help", "tokens", "add")
    assert said.out.startswith("Usage: tctl tokens add [OPTIONS]\n")
    assert said.out == run("tctl", "tokens", "add", "--help").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["toknes"],
            "ERROR: no such command: toknes, did you mean tokens\n  try: tctl --help\n",
        ),
        (["tokens"], "ERROR: missing command\n  try: tctl tokens --help\n"),
        (
            ["tokens", "rm"],
            "ERROR: missing argument 'token'\n  try: tctl tokens rm --help\n",
        ),
        (
            ["status", "--format=xml"],
            "ERROR: invalid value for '--format': 'xml' is not one of 'text', 'json', 'yaml'\n"
            "  try: tctl status --help\n",
        ),
        (["status", "--nope"], "ERROR: no such option: --nope"),
        (["status", "extra"], "ERROR: got unexpected extra argument"),
    ],
)
def test_wrong_words_are_usage_errors(run: Tool, words: list[str], said: str) -> None:
    refused = run("tctl", *words)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(said)


def test_the_long_name_is_shown_in_hints(run: Tool) -> None:
    refused = run("teleport-lite", "tctl", "tokens", "rm")
    assert refused.err.endswith("  try: teleport-lite tctl tokens rm --help\n")


def test_flags_may_stand_before_and_after_and_the_last_one_counts(
    auth: FakeAuth, run: Tool, data_dir: Path
) -> None:
    auth.answers["/v1/status"] = answers.status()
    auth.answers["/v1/tokens/remove"] = {"token": "x"}
    here = f"--data-dir={data_dir}"
    assert run("tctl", here, "status").code == 0
    assert run("tctl", "status", here).code == 0
    assert run("tctl", "--data-dir=/nowhere", "status", "--data-dir", str(data_dir)).code == 0
    assert run("tctl", "status", here, "--data-dir=/nowhere").code == 5
    assert run("tctl", "tokens", "rm", "x", here).code == 0
    assert run("tctl", "tokens", here, "rm", "x").code == 0
    assert run("tctl", "status", here, "--format=yaml", "--format=json").out.startswith("{")


def test_the_environment_names_a_config_and_typed_words_win(
    auth: FakeAuth, run: Tool, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.answers["/v1/status"] = answers.status()
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    right.write_text(f"teleport:\n  data_dir: {data_dir}\n")
    wrong.write_text("teleport:\n  data_dir: /nowhere\n")
    monkeypatch.setenv("TELEPORT_CONFIG_FILE", str(right))
    assert run("tctl", "status").code == 0
    monkeypatch.setenv("TELEPORT_CONFIG_FILE", str(wrong))
    assert run("tctl", "status").code == 5
    assert run("tctl", "-c", str(right), "status").code == 0
    assert run("tctl", "status", "-c", str(right)).code == 0


def test_insecure_is_taken_and_says_that_it_does_nothing(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/status"] = answers.status()
    said = tctl("status", "--insecure")
    assert said.code == 0
    assert said.err == "WARN: --insecure has no effect: the auth service is known by its CA\n"
    assert tctl("status", "--insecure", "--no-insecure").err == ""


@pytest.mark.parametrize("verb", ["apps", "db", "kube"])
def test_tsh_pretends_nothing(run: Tool, verb: str) -> None:
    refused = run("tsh", verb, "root@web-1", "-p", "22", "--whatever=1")
    assert (refused.code, refused.out) == (5, "")
    assert refused.err.startswith(f"ERROR: tsh {verb} is not in this version\n  try: tsh ls")
    refused = run("tsh", "proxy", "db", "--whatever=1")
    assert refused.err.startswith("ERROR: tsh proxy db is not in this version\n")
