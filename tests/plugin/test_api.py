"""The module plugins import says what is in it, and our own plugins import nothing else."""

import ast
import re
from pathlib import Path

import pytest

from teleport_lite.plugin import api

ROOT = Path(__file__).parents[2]
OURS = sorted((ROOT / "plugins").rglob("*.py"))


def test_everything_promised_is_there():
    assert [name for name in api.__all__ if not hasattr(api, name)] == []


@pytest.mark.parametrize("name", api.__all__)
def test_the_docs_name_everything_that_may_be_imported(name):
    docs = (ROOT / "docs/plugins.md").read_text()
    _, _, told = docs.partition("### What you may import\n")
    assert f"`{name}`" in told.partition("###")[0]


def test_the_docs_promise_nothing_that_is_not_there():
    docs = (ROOT / "docs/plugins.md").read_text()
    told = docs.partition("nothing else of ours: ")[2].partition(".")[0]
    assert sorted(re.findall(r"`(\w+)`", told)) == sorted(api.__all__)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or ".")
    return names


def test_there_are_plugins_to_check():
    assert len({path.parent for path in OURS}) == 6


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_our_plugins_import_one_module_of_ours(path):
    own = path.parent.name
    core = {name for name in imports(path) if name.split(".")[0] == "teleport_lite"}
    others = {
        name for name in imports(path) if name.startswith("teleport_lite_") and own not in name
    }
    assert core <= {"teleport_lite.plugin.api"}
    assert others == set()
