"""docs/kernel.md is about files that are there."""

import ast

from benchmarks.kernel import AREAS, ONLY
from benchmarks.mutations import mutants_of
from tests.docs.generated import DOCS

REPO = DOCS.parent


def test_the_kernel_is_made_of_modules_and_tests_that_exist() -> None:
    for area in AREAS.values():
        assert all((REPO / "teleport_lite" / each).is_file() for each in area.modules)
        assert all((REPO / each).exists() for each in area.tests)
    for module, functions in ONLY.items():
        tree = ast.parse((REPO / "teleport_lite" / module).read_text())
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert set(functions) <= defined


def test_the_docs_count_every_module_of_the_kernel() -> None:
    page = (DOCS / "kernel.md").read_text()
    for area in AREAS.values():
        assert all(f"| `{each}` |" in page for each in area.modules)


def test_a_fault_is_one_change_and_the_rest_stays() -> None:
    source = "def f(x):\n    if x < 1 and x:\n        return x + 1\n    return 0\n"
    faults = {ast.unparse(each.put_into(ast.parse(source))) for each in mutants_of(source)}
    changed = [[line for line in each.splitlines() if line not in source] for each in faults]
    assert len(faults) > 8
    assert all(len(lines) <= 1 for lines in changed)
