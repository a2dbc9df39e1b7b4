"""What the docs say is what the program does."""

import re
from pathlib import Path

import pytest

from teleport_lite.config.load import parse
from teleport_lite.plugin.builtin import builtin_book
from tests.docs.generated import DOCS, PAGES

REPO = DOCS.parent
PROSE = [REPO / "README.md", REPO / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")
NAMED = re.compile(r"`((?:teleport_lite|tests|docs|packaging|benchmarks)/[\w./-]+\.(?:py|md|sh))`")


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == PAGES[name](), "run: python -m tests.docs.generated"


@pytest.mark.parametrize("page", PROSE, ids=lambda p: p.name)
def test_every_link_and_every_file_named_exists(page: Path) -> None:
    text = page.read_text()
    for target in LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for target in NAMED.findall(text):
        assert (REPO / target).exists(), f"{page.name} names {target}"


def test_the_hints_of_errors_name_pages_that_exist() -> None:
    named = set()
    for path in (REPO / "teleport_lite").rglob("*.py"):
        named |= set(re.findall(r"docs/[\w-]+\.md", path.read_text()))
    missing = {page for page in named if not (REPO / page).exists()}
    assert not missing


def test_every_config_shown_in_the_docs_loads() -> None:
    shown = 0
    for page in PROSE:
        for block in re.findall(r"^version: v\d\n(?:[ \w#-].*\n)*", page.read_text(), re.M):
            parse(block, page.name, builtin_book())
            shown += 1
    assert shown >= 1


def test_every_audit_code_is_in_the_catalogue() -> None:
    catalogue = (DOCS / "audit.md").read_text()
    codes = set()
    for path in (REPO / "teleport_lite").rglob("*.py"):
        codes |= set(re.findall(r'"(T[A-Z0-9]{3,5}\d[IWE])"', path.read_text()))
    assert len(codes) > 20
    assert not {code for code in codes if code not in catalogue}
