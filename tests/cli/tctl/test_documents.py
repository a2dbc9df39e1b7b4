"""Resource documents: what is text stays text, lines are right, limits hold."""

import json

import pytest

from teleport_lite.cli.tctl import documents
from teleport_lite.errors import Malformed


def test_only_unquoted_true_false_and_null_are_more_than_text() -> None:
    text = "a: true\nb: 'true'\nc: 1.10\nd: no\ne:\nf: null\ng: [false, ~, 7]\n"
    assert documents.read(text, "f") == [
        {"a": True, "b": "true", "c": "1.10", "d": "no", "e": None, "f": None}
        | {"g": [False, None, "7"]}
    ]


def test_documents_are_cut_at_markers_and_nowhere_else() -> None:
    text = "---\na: '1'\n--- # second\nb: |\n  --- not a marker\n  -----BEGIN-----\n...\n---\n\n"
    assert documents.read(text, "f") == [
        {"a": "1"},
        {"b": "--- not a marker\n-----BEGIN-----\n"},
    ]


def test_errors_name_the_line_of_the_file() -> None:
    with pytest.raises(Malformed, match=r"^f:6: "):
        documents.read("a: 1\n---\nb: 1\n---\nc: 1\nc: 2\n", "f")


def test_json_is_taken_too_alone_or_as_an_array() -> None:
    assert documents.read('\n\t{"a": "\\/"}', "f") == [{"a": "/"}]
    assert documents.read(json.dumps([{"a": 1}, {"b": 2}]), "f") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "---\n---\n",
        "[1, 2]",
        '{"a": 1, "a": 2}',
        "- a\n- b\n",
        "a: &x 1\nb: *x\n",
        "!!python/object:os.system {}\n",
        "---\n" * 2000,
        "a: " + "x" * (1 << 20),
        "[" * 100_000,
        "{" * 100_000,
    ],
)
def test_everything_else_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        documents.read(text, "f")
