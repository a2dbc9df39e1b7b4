"""Fields read a section: each kind its type, each refusal its line, key, cause and example."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.config.section import Reader
from teleport_lite.config.yaml import dump, load_yaml
from teleport_lite.errors import Malformed
from teleport_lite.model.schema import Field, Kind
from teleport_lite.secret import Secret

APP = (
    Field(name="name", kind=Kind.TEXT, help="", required=True, example="web"),
    Field(name="ports", kind=Kind.TEXTS, help=""),
)
FIELDS = (
    Field(name="text", kind=Kind.TEXT, help="", example="web-1"),
    Field(name="choice", kind=Kind.TEXT, help="", choices=("AWS", "Azure"), default="AWS"),
    Field(name="texts", kind=Kind.TEXTS, help=""),
    Field(name="secret", kind=Kind.SECRET, help=""),
    Field(name="flag", kind=Kind.BOOL, help=""),
    Field(name="count", kind=Kind.INT, help=""),
    Field(name="span", kind=Kind.DURATION, help=""),
    Field(name="listen_addr", kind=Kind.ADDRESS, help="", default="0.0.0.0:3025"),
    Field(name="public_addr", kind=Kind.ADDRESSES, help="", example="x.example.com:3080"),
    Field(name="labels", kind=Kind.LABELS, help=""),
    Field(name="inner", kind=Kind.MAPPING, help="", fields=APP),
    Field(name="apps", kind=Kind.LIST, help="", fields=APP),
    Field(name="free", kind=Kind.FREE, help=""),
    Field(name="later", kind=Kind.BOOL, help="", built=False),
)


def read(text: str) -> tuple[dict[str, object], Reader]:
    reader = Reader("f.yaml")
    root = load_yaml(text, "f.yaml")
    return reader.section(root, FIELDS, "app_service"), reader


def refusal(text: str) -> str:
    with pytest.raises(Malformed) as refused:
        read(text)
    assert refused.value.hint == "docs/config.md"
    return refused.value.message


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("text: 1:30", "text", "1:30"),
        ("text: on", "text", "on"),
        ("text: 2024-01-01", "text", "2024-01-01"),
        ("choice: azure", "choice", "Azure"),
        ("texts: [a, 1]", "texts", ("a", "1")),
        ("texts: a", "texts", ("a",)),
        ("secret: 12345678", "secret", Secret("12345678")),
        ("flag: YES", "flag", True),
        ('flag: "no"', "flag", False),
        ("flag: Off", "flag", False),
        ("flag: 'true'", "flag", True),
        ("count: 15000", "count", 15000),
        ("count: -1", "count", -1),
        ("span: 1h30m", "span", timedelta(minutes=90)),
        ("span: 0", "span", timedelta(0)),
        ("span: never", "span", timedelta(0)),
        ("listen_addr: 127.0.0.1", "listen_addr", "127.0.0.1:3025"),
        ("listen_addr: 127.0.0.1:0", "listen_addr", "127.0.0.1:0"),
        ("public_addr: a.example.com", "public_addr", ("a.example.com:3080",)),
        ("public_addr: [a, 'b:99']", "public_addr", ("a:3080", "b:99")),
        ("labels: {a: on, b: 1:30, c: }", "labels", {"a": "on", "b": "1:30", "c": ""}),
        ("inner: {name: x}", "inner", {"name": "x", "ports": None}),
        ("apps: [{name: x, ports: 1}]", "apps", ({"name": "x", "ports": ("1",)},)),
        ("free: {a: [1, {b: ~}]}", "free", {"a": ["1", {"b": None}]}),
    ],
)
def test_each_kind_gives_its_type(text, key, value):
    assert read(text)[0][key] == value


def test_absent_empty_and_quoted_empty_keys_have_their_default():
    for text in ("text: x", "text: x\nchoice:\nflag: ~", 'text: x\nchoice: ""\nflag: ""'):
        values, reader = read(text)
        assert values["choice"] == "AWS"
        assert values["flag"] is None
        assert set(reader.lines) == {"app_service.text"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text: a\nflagg: yes", "2: app_service.flagg: unknown key, did you mean flag"),
        ("text: a\nzzz: 1", "2: app_service.zzz: unknown key, it does not exist"),
        ("'te\\nxt': a", "1: app_service.'te\\\\nxt': unknown key, did you mean text"),
        ("text: [a]", "1: app_service.text: a list is not text, like web-1"),
        ("text:\n  a: b", "2: app_service.text: a mapping is not text, like web-1"),
        ("choice: gcp", "1: app_service.choice: 'gcp' is not one of AWS, Azure"),
        (
            "texts: {a: b}",
            "1: app_service.texts: a mapping is not a list of text, like [one, two]",
        ),
        (
            "texts:\n- a\n- [b]",
            "3: app_service.texts[1]: a list is not a list of text, like [one, two]",
        ),
        ("secret: [hunter2]", "1: app_service.secret: a list is not secret text, like text"),
        ("flag: maybe", "1: app_service.flag: 'maybe' is not yes or no, like yes"),
        ("flag: 1", "1: app_service.flag: '1' is not yes or no, like yes"),
        ("count: 1:30", "1: app_service.count: '1:30' is not a whole number, like 10"),
        ("count: 010", "1: app_service.count: '010' is not a whole number, like 10"),
        ("count: 1e3", "1: app_service.count: '1e3' is not a whole number, like 10"),
        (
            "span: 1:30",
            "1: app_service.span: duration '1:30' is not a length of time, like 30m, 12h or 1h30m",
        ),
        (
            "\nlisten_addr: 3025x",
            "2: app_service.listen_addr: '3025x' is not host:port, like '0.0.0.0:3025'",
        ),
        (
            "public_addr:\n- a\n- b:c",
            "3: app_service.public_addr[1]: 'b:c' is not host:port, like 'host.example.com:3080'",
        ),
        (
            "labels:\n  ok: a\n  'b c': d",
            "3: app_service.labels.b c: label key 'b c' is not valid, "
            "letters, digits and /_.:- are",
        ),
        (
            "labels:\n  teleport.dev/x: d",
            "2: app_service.labels.teleport.dev/x: label key 'teleport.dev/x' "
            "is reserved for the system",
        ),
        ("labels:\n  a: [d]", "2: app_service.labels.a: must be text, like prod"),
        ("labels: a=b", "1: app_service.labels: 'a=b' is not labels, like {env: prod}"),
        ("inner: x", "1: app_service.inner: 'x' is not a mapping, like {key: value}"),
        ("inner:\n  ports: [1]", "2: app_service.inner.name: is missing, like web"),
        ("apps:\n- name: a\n- ports: 1", "3: app_service.apps[1].name: is missing, like web"),
        (
            "apps: {name: a}",
            "1: app_service.apps: a mapping is not a list of mappings, like [{key: value}]",
        ),
        (
            "apps:\n- name: a\n- b",
            "3: app_service.apps[1]: 'b' is not a list of mappings, like [{key: value}]",
        ),
        (
            "apps:\n- name: a\n  prots: 1",
            "3: app_service.apps[0].prots: unknown key, did you mean ports",
        ),
    ],
)
def test_a_refusal_names_line_key_cause_and_a_right_value(text, message):
    assert refusal(text) == f"f.yaml:{message}"


def test_an_error_about_a_secret_never_shows_it():
    for text in ("secret: {hunter2: x}", "secret: [hunter2]"):
        assert "hunter2" not in refusal(text)


def test_a_key_that_nothing_uses_yet_is_told():
    assert read("text: a\nlater: no")[1].warnings == [
        "f.yaml:2: app_service.later: has no effect yet"
    ]


def test_a_later_check_finds_the_line_of_the_key_or_of_what_holds_it():
    _, reader = read("text: a\napps:\n- name: x\n")
    assert reader.wrong("app_service.apps[0].name", "is bad").message.startswith("f.yaml:3: ")
    assert reader.wrong("app_service.apps[0].gone", "is bad").message.startswith("f.yaml:3: ")
    assert reader.wrong("app_service.gone", "is bad").message == "f.yaml: app_service.gone: is bad"


VALUES = st.recursive(
    st.text(max_size=8) | st.sampled_from(["yes", "5m", "1", "a:1", "::1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "ports", "a", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([field.name for field in FIELDS]), VALUES))
def test_any_values_are_read_or_refused_in_one_printable_line(tree):
    said = ""
    try:
        values, _ = read(dump(tree))
    except Malformed as why:
        said = why.message
    assert said or set(values) == {field.name for field in FIELDS}
    assert said == "" or said.isprintable()
