"""The strict loader: a tree of text with line numbers, or Malformed."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml as pyyaml
from hypothesis import example, given
from hypothesis import strategies as st

from teleport_lite.config import yaml
from teleport_lite.config.yaml import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Quoted,
    Scalar,
    Table,
    dump,
    load_yaml,
    plain,
)
from teleport_lite.errors import Malformed

PARSERS = [pyyaml.SafeLoader]
if hasattr(pyyaml, "CSafeLoader"):
    PARSERS.append(pyyaml.CSafeLoader)


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__name__)
def _parser(request, monkeypatch):
    """Machines without libyaml use the parser written in Python; both must say the same."""
    monkeypatch.setattr(yaml, "_LOADER", request.param)


def refusal(text: str) -> str:
    with pytest.raises(Malformed) as refused:
        load_yaml(text, "f.yaml")
    return refused.value.message


def scalar(text: str) -> Scalar:
    found = load_yaml(f"key: {text}\n", "f.yaml").entries["key"]
    assert isinstance(found, Scalar)
    return found


@pytest.mark.parametrize(
    "text", ["1:30", "on", "yes", "No", "2024-01-01", "010", "0x10", "1e3", ".inf", "12_000"]
)
@pytest.mark.usefixtures("_parser")
def test_what_yaml_would_guess_stays_the_text_that_was_written(text):
    assert scalar(text) == Scalar(text, False, 1)


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
@pytest.mark.usefixtures("_parser")
def test_null_is_as_good_as_absent_and_a_quoted_null_is_a_word(text):
    assert scalar(text).empty
    assert not scalar(f'"{text}"').empty


@pytest.mark.usefixtures("_parser")
def test_every_key_and_value_knows_its_line():
    root = load_yaml("# c\na: 1\nb:\n  - x\n  -\n    c: y\n", "f.yaml")
    assert root.lines == {"a": 2, "b": 3}
    items = root.entries["b"].items
    assert [item.line for item in items] == [4, 6]
    assert items[1].lines == {"c": 6}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "~\n", "\ufeff"])
@pytest.mark.usefixtures("_parser")
def test_an_empty_file_has_no_tree(text):
    assert load_yaml(text, "f.yaml") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: 'a' is given twice, first in line 1"),
        ("a:\n  x: 1\n  x: 2\n", "f.yaml:3: 'x' is given twice, first in line 2"),
        ("a:\n\tb: 1\n", "f.yaml:2: is indented with a tab, use spaces"),
        ("a:\n  b: 1\n\tc: 2\n", "f.yaml:3: is indented with a tab, use spaces"),
        (
            "a: 1\nb: &x 2\nc: *x\n",
            "f.yaml:2: anchors and aliases (& and *) are not allowed, quote the text",
        ),
        ("a: *x\n", "f.yaml:1: anchors and aliases (& and *) are not allowed, quote the text"),
        (
            "a: !!python/object/apply:os.system [id]\n",
            "f.yaml:1: tag 'tag:yaml.org,2002:python/object/apply:os.system' "
            "is not allowed, remove it",
        ),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: holds a second document, one is the limit"),
        ("a: 1\nb: x\0y\n", "f.yaml:2: holds the character '\\x00', remove it"),
        ("\n\0", "f.yaml:2: holds the character '\\x00', remove it"),
        ('a: 1\nb: "x\\0y"\n', "f.yaml:2: holds an escaped control character, remove it"),
        ("a: x\u202ey\n", "f.yaml:1: holds the character '\\u202e', remove it"),
        ("a: \ud800\n", "f.yaml:1: holds the character '\\ud800', remove it"),
        ("just words\n", "f.yaml:1: must hold keys, like 'version: v3'"),
        ("- a\n- b\n", "f.yaml:1: must hold keys, like 'version: v3'"),
        ("[a]: 1\n", "f.yaml:1: a key must be a word, like 'nodename:'"),
        ("a: 1\n~: 1\n", "f.yaml:2: a key must be a word, like 'nodename:'"),
    ],
)
@pytest.mark.usefixtures("_parser")
def test_a_refusal_names_the_line_and_what_to_change(text, message):
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: 1\nb: [1, 2\n", "f.yaml:3: is not YAML: "),
        ("a: 1\nb: c: d\n", "f.yaml:2: is not YAML: "),
        ('a: "x\n', "f.yaml:2: is not YAML: "),
        ("a: {b: 1\nc: 2\n", "f.yaml:2: is not YAML: "),
        ("a: 1\nb: @x\n", "f.yaml:2: is not YAML: "),
        ("%YAML 2.0\n---\na: 1\n", "f.yaml:1: is not YAML: "),
    ],
)
@pytest.mark.usefixtures("_parser")
def test_what_is_not_yaml_is_told_with_its_line(text, start):
    assert refusal(text).startswith(start)
    assert "\n" not in refusal(text)


@pytest.mark.usefixtures("_parser")
def test_an_unfinished_list_says_where_it_began():
    assert refusal("a: 1\nb: [1,\n  2\n").endswith(", begun in line 2")


def test_a_complaint_without_a_place_is_told_all_the_same(monkeypatch):
    def complain(*_: object, **__: object) -> None:
        raise pyyaml.YAMLError("somewhere")

    monkeypatch.setattr(yaml.yaml, "parse", complain)
    assert refusal("a: b") == "f.yaml: is not YAML"


def complaint(monkeypatch, text, **facts):
    """What is said about `text` when the parser says this; places are (line, column)."""
    facts |= {
        name: pyyaml.Mark("", 0, *place, None, None)
        for name, place in facts.items()
        if name.endswith("mark")
    }

    def complain(*_: object, **__: object) -> None:
        raise pyyaml.MarkedYAMLError(**facts)

    monkeypatch.setattr(yaml.yaml, "parse", complain)
    return refusal(text)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"problem": "odd", "problem_mark": (1, 0)}, "2: is not YAML: odd"),
        ({"problem": "odd", "context_mark": (1, 0)}, "2: is not YAML: odd"),
        ({"problem_mark": (9, 0)}, "10: is not YAML: unreadable"),
        (
            {"problem": "odd", "context_mark": (0, 0), "problem_mark": (1, 0)},
            "2: is not YAML: odd, begun in line 1",
        ),
        (
            {"problem": "odd", "context_mark": (1, 0), "problem_mark": (1, 3)},
            "2: is not YAML: odd",
        ),
    ],
)
def test_a_complaint_is_told_at_the_line_to_change(monkeypatch, facts, message):
    assert complaint(monkeypatch, "a: 1\nb: 2\n", **facts) == f"f.yaml:{message}"


def test_a_tab_is_blamed_only_where_it_indents(monkeypatch):
    for text, tab in (("\tb", True), (" \t b", True), ("b:\tc", False), ("b\t", False)):
        said = complaint(monkeypatch, text, problem="odd", problem_mark=(0, 0))
        assert ("tab" in said) is tab


@pytest.mark.usefixtures("_parser")
def test_so_many_values_and_no_more(monkeypatch):
    monkeypatch.setattr(yaml, "MAX_VALUES", 4)
    assert plain(load_yaml("a: [b]", "f.yaml")) == {"a": ["b"]}
    assert refusal("a: [b, c]") == "f.yaml:1: holds more than 4 values"


@pytest.mark.usefixtures("_parser")
def test_lists_and_mappings_are_levels_alike(monkeypatch):
    monkeypatch.setattr(yaml, "MAX_DEPTH", 4)
    for text in ("a: {b: {c: d}}", "a: [[b]]", "a: [{b: c}]"):
        assert load_yaml(text, "f.yaml") is not None
    for text in ("a: {b: {c: {d: e}}}", "a: [[[b]]]", "a: [{b: [c]}]"):
        assert refusal(text) == "f.yaml:1: is nested deeper than 4 levels"


@pytest.mark.usefixtures("_parser")
def test_a_tag_that_says_nothing_is_no_tag():
    assert scalar('! "x"').text == "x"


def test_long_words_are_cut_where_they_are_shown():
    long = "k" * 200
    assert refusal(f"{long}: 1\n{long}: 2\n") == (
        f"f.yaml:2: '{'k' * 64}' is given twice, first in line 1"
    )


def nested(depth: int) -> str:
    return f"a: {'[' * (depth - 1)}{']' * (depth - 1)}\n"


@pytest.mark.usefixtures("_parser")
def test_nesting_ends_at_the_limit():
    assert load_yaml(nested(MAX_DEPTH), "f.yaml") is not None
    assert refusal(nested(MAX_DEPTH + 1)).endswith("is nested deeper than 32 levels")


BOMBS = {
    "5,000 brackets": "a: " + "[" * 5000,
    "a megabyte of brackets": "[" * MAX_BYTES,
    "a megabyte of dashes": "- " * (MAX_BYTES // 2),
    "half a million values": "a: [" + "b," * (MAX_BYTES // 2 - 4) + "]",
    "billion laughs": "a: &a [x,x,x,x,x]\n"
    + "".join(f"{c}: &{c} [*{p},*{p},*{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "20 MB": "a: " + "x" * 20_000_000,
    "a megabyte of quotes": '"' + "a" * (MAX_BYTES - 1),
    "a megabyte of tag": "a: !" + "%41" * 300_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.usefixtures("_parser")
def test_a_bomb_is_refused_within_a_second(bomb):
    # One, with slack for a machine that runs 4 of these; and where it is slow for a moment, again.
    assert any(seconds_to_refuse(bomb) < 1.5 for _ in range(3))


def seconds_to_refuse(bomb):
    begun = time.process_time()
    assert refusal(bomb)
    return time.process_time() - begun


def test_no_bomb_takes_a_hundred_megabytes():
    program = (
        "import resource; from tests.config.test_yaml import BOMBS, refusal\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); [refusal(bomb) for bomb in BOMBS.values()]; print(peak() - before)"
    )
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert int(child.stdout) < 100 * 1024  # KiB


def test_a_file_of_many_values_is_refused_where_there_are_too_many():
    text = "".join(f"k{n}: v\n" for n in range(MAX_VALUES))
    line = MAX_VALUES // 2  # the mapping itself is a value too
    assert refusal(text) == f"f.yaml:{line}: holds more than {MAX_VALUES} values"


PIECES = [*"a[]{},\"'!#%|>\\~\n\t\r\0\ufeff\u2028", "b: ", "- ", "  ", "&x ", "*x", "? ", "---\n"]
pieces = st.lists(st.sampled_from([*PIECES, "...\n"]), max_size=40).map("".join)


@given(pieces | st.text())
@example("a: !<tag:yaml.org,2002:python/none> x")
@example("? [a]\n: b")
@example("%TAG ! tag:x,2000:\n--- !a\nb: c")
@example('a: "\\ud800"')
def test_any_text_is_a_tree_or_malformed(text):
    for parser in PARSERS:
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Malformed):
            patch.setattr(yaml, "_LOADER", parser)
            assert isinstance(load_yaml(text, "f"), Table | None)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=30).filter(
    lambda text: not yaml._UNSEEN.search(text)
)
keys = texts.filter(bool)
trees = st.recursive(
    texts,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(texts.filter(bool), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(keys, trees, min_size=1, max_size=4))
@example({"a": "yes", "b": "1:30", "c": "~", "d": "# x", "e": ": ", "f": "- x", "g": "\t"})
@example({"a": "", "b": [], "c": {}, "d": " x ", "e": "x\u00a0"})
def test_what_dump_writes_load_reads_back(tree):
    read = load_yaml(dump(tree), "f")
    assert plain(read) == tree


def test_what_is_written_is_for_people_to_read():
    assert dump({"b": ["ä b", "c"], "a": {"x": "y"}}) == "b:\n- ä b\n- c\na:\n  x: y\n"
    assert dump({"a": "word " * 2000 + "end"}).count("\n") == 1


def test_quoted_text_stands_in_double_quotes_and_shared_values_are_written_twice():
    shared = ["x"]
    assert dump({"a": Quoted(""), "b": Quoted("no")}) == 'a: ""\nb: "no"\n'
    assert "&" not in dump({"a": shared, "b": shared})
