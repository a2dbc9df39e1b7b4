"""How commands end: the block on stderr, the code, and what never happens."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from teleport_lite import errors
from teleport_lite.cli.exit import CODE, guarded
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth, Refusal


def failing(why: BaseException) -> object:
    def work() -> None:
        raise why

    return work


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.Malformed, 1),
        (errors.Conflict, 1),
        (errors.NotFound, 3),
        (errors.Unauthenticated, 4),
        (errors.Denied, 4),
        (errors.Unavailable, 5),
    ],
)
def test_each_error_has_its_code_and_its_block(
    kind: type[errors.Error], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(failing(kind("web-1 is away", hint="tctl nodes ls", log="us only"))) == code
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "ERROR: web-1 is away\n  try: tctl nodes ls\n")


def test_every_error_there_is_has_a_code() -> None:
    assert set(CODE) == set(errors.KINDS.values())


def test_debug_adds_the_log_and_where_it_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(failing(errors.Denied("no", log="us only")), debug=True) == 4
    said = capsys.readouterr().err
    assert said.startswith("DEBUG: us only\nTraceback ")
    assert said.endswith("\nERROR: no\n")


def test_a_bug_is_called_one_and_shows_no_insides(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(failing(KeyError("s3cr3t"))) == 1
    said = capsys.readouterr().err
    assert said.startswith("ERROR: internal error (KeyError), this is a bug in teleport-lite\n")
    assert "s3cr3t" not in said
    assert "Traceback" not in said
    guarded(failing(KeyError("why")), debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_typer_may_choose_a_code() -> None:
    assert guarded(failing(typer.Exit(7))) == 7
    assert guarded(lambda: 9) == 9
    assert guarded(lambda: None) == 0


def test_what_a_server_says_cannot_draw_on_the_terminal(auth: FakeAuth, tctl: Tool) -> None:
    evil = "gone\033]0;title\007\x9b31m\u202e\r"
    auth.answers["/v1/status"] = Refusal(403, "denied", evil, evil)
    said = tctl("status")
    assert said.code == 4
    assert all(char.isprintable() or char == "\n" for char in said.err)


def test_control_characters_of_our_own_errors_are_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    guarded(failing(errors.NotFound("file \033[2J is not\nthere\tat all")))
    assert capsys.readouterr().err == "ERROR: file \\x1b[2J is not\nthere\tat all\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("no_color", "shown"), [(None, "\033[31mERROR:\033[0m no\n"), ("1", "ERROR: no\n")]
)
def test_the_word_error_is_red_on_a_terminal_unless_asked_not_to(
    monkeypatch: pytest.MonkeyPatch, no_color: str | None, shown: str
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    guarded(failing(errors.Denied("no")))
    assert terminal.getvalue() == shown


def program(*words: str, **more: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "teleport_lite", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]  # by name


def test_a_reader_that_goes_away_ends_it_quietly(auth: FakeAuth, data_dir: Path) -> None:
    roles = [{"kind": "role", "metadata": {"name": "x" * 1000}}] * 2000
    auth.answers["/v1/resources/get"] = {"resources": roles}
    run = program("tctl", "get", "roles", f"--data-dir={data_dir}")
    assert run.stdout
    assert run.stderr
    assert run.stdout.read(10) == "kind: role"
    run.stdout.close()
    assert (run.stderr.read(), run.wait(60)) == ("", 141)
    run.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_not_lost(auth: FakeAuth, data_dir: Path) -> None:
    auth.answers["/v1/tokens/list"] = {"tokens": []}
    with open("/dev/full", "w") as full:
        run = program("tctl", "tokens", "ls", f"--data-dir={data_dir}", stdout=full)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 5
    assert said.startswith("ERROR: standard output cannot be written: no space left on device\n")


def test_a_terminal_without_unicode_still_gets_its_listing(auth: FakeAuth, data_dir: Path) -> None:
    auth.answers["/v1/resources/get"] = {"resources": [{"kind": "user", "a": "Ω"}]}
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    run = program("tctl", "get", "users", f"--data-dir={data_dir}", env=ascii_only)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    assert "\\u03a9" in out


def test_the_journal_is_told_how_bad_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    guarded(failing(errors.Denied("the token is wrong", hint="tctl tokens ls")))
    assert capsys.readouterr().err == "<3>ERROR: the token is wrong\n<3>  try: tctl tokens ls\n"
