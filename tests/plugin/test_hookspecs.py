"""Every hook keeps the form, is written up with its exact signature, and is used by a test."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from teleport_lite.plugin import hookspecs

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/plugins.md").read_text()
FORM = ("Runs in:", "Returns:", "Raises:", "Given:", "Not given:", "Example:")
SOURCE = ast.parse(Path(hookspecs.__file__).read_text())
HOOKS = [
    node
    for node in SOURCE.body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("teleport_lite_")
]
NAMES = [hook.name for hook in HOOKS]
every_hook = pytest.mark.parametrize("hook", HOOKS, ids=NAMES)


def signature(hook: ast.FunctionDef) -> str:
    assert hook.returns is not None
    return f"def {hook.name}({ast.unparse(hook.args)}) -> {ast.unparse(hook.returns)}"


def test_there_are_hooks_to_check():
    assert {"teleport_lite_system_roles", "teleport_lite_announce"} <= set(NAMES)


@every_hook
def test_a_hook_keeps_the_form(hook):
    told = inspect.cleandoc(ast.get_docstring(hook) or "")
    found = re.findall(r"^([A-Z][a-z]*(?: in| given)?:) +", told, re.MULTILINE)
    assert tuple(found) == FORM


@every_hook
def test_the_example_of_a_hook_is_there_and_uses_it(hook):
    [example] = re.findall(r"Example: +(\S+)", ast.get_docstring(hook) or "")
    texts = [file.read_text() for file in (ROOT / example).rglob("*.py")]
    assert any(f"@hookimpl\ndef {hook.name}(" in text for text in texts)


@every_hook
def test_the_docs_have_the_hook_with_its_exact_signature(hook):
    _, _, entry = DOCS.partition(f"\n### {hook.name}\n")
    [shown] = re.findall(r"\A\n```python\n(.*?)\n```", entry, re.DOTALL)
    assert shown == signature(hook)


def test_the_docs_have_no_hook_that_is_not_ours():
    assert re.findall(r"^### (teleport_lite_\w+)$", DOCS, re.MULTILINE) == NAMES


@every_hook
def test_a_test_names_the_hook(hook):
    here = Path(__file__).parent
    assert any(hook.name in test.read_text() for test in here.glob("test_guests.py"))
