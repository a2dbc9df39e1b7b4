"""Every command that one of our errors tells people to type exists, with its flags."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from teleport_lite.cli import main

ROOT = Path(main.__file__).parent.parent
# A program, its words, and its flags; what stands after "=" is an example.
COMMAND = re.compile(r"\b(teleport-lite|tctl|tbot|tsh)((?: (?:-{1,2})?[a-z][a-z-]*(?:=\S*)?)+)")


def hints() -> Iterator[tuple[str, str]]:
    """(where, text) of every `hint=` in the package, and of the constants given as one."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
    given = [
        (path, each.value)
        for path, tree in trees.items()
        for each in ast.walk(tree)
        if isinstance(each, ast.keyword) and each.arg == "hint"
    ]
    names = {getattr(value, "id", getattr(value, "attr", "")) for _, value in given}
    given += [
        (path, each.value)
        for path, tree in trees.items()
        for each in tree.body
        if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", None) in names
    ]
    for path, value in given:
        yield f"{path.relative_to(ROOT)}:{value.lineno}", _text(value)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "x"  # a value that is only known when it happens


def commands() -> list[tuple[str, str, str]]:
    return [
        (where, found[1], found[2]) for where, text in hints() for found in COMMAND.finditer(text)
    ]


def test_the_command_of_every_hint_exists() -> None:
    """One test for all: to name them one by one, every worker would read the whole package."""
    found = commands()
    assert len(found) > 20
    wrong = [
        f"{where}: {program}{words}: {why}"
        for where, program, words in found
        if (why := fault_of(program, words))
    ]
    assert not wrong, "\n".join(wrong)


def fault_of(program: str, words: str) -> str:
    """What is wrong with this command; empty when nothing is."""
    command: Any = command_line(program)
    ctx: Any = typer.Context(command, info_name=program)
    flags: set[str] = set()
    for word in words.split():
        if word.startswith("-"):
            flags.add(word.partition("=")[0])
        elif hasattr(command, "get_command"):
            if word not in (getattr(command, "places", None) or command.commands):
                return f"no command {word}"
            command = command.get_command(ctx, word)
            ctx = typer.Context(command, info_name=word, parent=ctx)
    if command.context_settings.get("ignore_unknown_options"):  # tsh, for now
        return ""
    known = {
        opt for param in command.get_params(ctx) for opt in (*param.opts, *param.secondary_opts)
    }
    return f"no flag {', '.join(sorted(flags - known))}" if flags - known else ""


@cache
def command_line(program: str) -> Any:
    return typer.main.get_command(main._app(program))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (" no-such-word", "no command no-such-word"),
        (" tokens no-such-word", "no command no-such-word"),
        (" status --no-such-flag=1", "no flag --no-such-flag"),
        (" status", ""),
    ],
)
def test_a_hint_that_is_wrong_is_seen(words: str, why: str) -> None:
    assert fault_of("tctl", words) == why
