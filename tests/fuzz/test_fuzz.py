"""Every reader of bytes, for a moment. `python -m tests.fuzz.run` does it for longer."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.target import CORPUS, Target, file_name
from tests.fuzz.targets import ALL

PAGE = Path(__file__).parent.parent.parent / "docs" / "fuzzing.md"

# The same inputs in every run: new ones are for tests.fuzz.run to find.
SHORT = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_honest_inputs_are_within_what_is_tried(target: Target) -> None:
    seeds = target.seeds()
    assert seeds
    for seed in seeds:
        target.check(seed)


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_any_bytes_are_a_value_or_a_declared_error(target: Target) -> None:
    @SHORT
    @given(target.strategy())
    def run(data: bytes) -> None:
        target.check(data)

    run()


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_what_once_was_a_finding_is_none_any_more(target: Target) -> None:
    target.seeds()
    for path in target.regressions():
        target.check(path.read_bytes())


def test_the_corpus_holds_inputs_of_targets_that_exist_and_nothing_else() -> None:
    names = {target.name for target in ALL}
    for path in CORPUS.glob("*/*"):
        assert path.parent.name in names, path
        assert path.name == file_name(path.read_bytes()), path
        assert path.stat().st_size <= 16 << 10, path


def test_the_docs_name_every_target_and_no_other() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(target.name for target in ALL)
