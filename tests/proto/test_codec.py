"""Bytes from strangers become a message, or Malformed."""

import contextlib
import json
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.proto import admin, join, login, reach, recording, script, stream, tunnel
from teleport_lite.proto.codec import MAX_JOIN, Message, Statement, read, read_any, write

MESSAGES = sorted(
    {
        kind
        for module in (admin, join, login, reach, recording, script, stream, tunnel)
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Message)
        and kind not in (Message, Statement, stream.Frame, login.Confidential)
    },
    key=lambda kind: kind.__name__,
)
by_name = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
leaf = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
tree = st.recursive(
    leaf, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3)
)


def almost(kind: type[Message]) -> st.SearchStrategy[bytes]:
    """Objects with the right keys and any values."""
    keys = st.sampled_from([*kind.__struct_fields__, "unknown"])
    return st.dictionaries(keys, tree).map(lambda doc: json.dumps(doc).encode())


@by_name
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_stranger_can_only_make_us_say_malformed(kind: type[Message], data) -> None:
    raw = data.draw(st.binary() | almost(kind))
    with contextlib.suppress(Malformed):
        assert isinstance(read(kind, raw, limit=MAX_JOIN), kind)


@by_name
@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b'"\\ud800"',
        b"\xff\xfe{}",
        b"nul\x00l",
        b"null",
        b"[]",
        b"1e999",
        b"NaN",
        b"{} {}",
    ],
    ids=lambda raw: ascii(raw[:10]),
)
def test_what_is_no_message_is_malformed(kind: type[Message], raw: bytes) -> None:
    with pytest.raises(Malformed, match=f"message is not a {kind.__name__}") as refused:
        read(kind, raw, limit=MAX_JOIN)
    assert refused.value.message.isprintable()


@by_name
def test_a_wish_is_not_granted_in_part_and_a_statement_may_say_more(kind: type[Message]) -> None:
    """What an older version hears from a newer one."""
    said = filled(kind)
    more = json.loads(write(said)) | {"surprise": {"nested": [1]}}
    if issubclass(kind, Statement):
        assert read(kind, json.dumps(more).encode(), limit=MAX_JOIN) == said
    else:
        with pytest.raises(Malformed, match="unknown field `surprise`"):
            read(kind, json.dumps(more).encode(), limit=MAX_JOIN)


@by_name
def test_a_wish_does_not_say_what_goes_without_saying(kind: type[Message]) -> None:
    """Or what is new could not be left unsaid to an older version."""
    whole = filled(kind)
    needed = {name: getattr(whole, name) for name in kind.__struct_fields__}
    for each in msgspec.structs.fields(kind):
        if not each.required:
            del needed[each.name]
    written = json.loads(write(kind(**needed)))
    if not issubclass(kind, Statement):
        assert set(written) == set(needed)
    assert read(kind, json.dumps(written).encode(), limit=MAX_JOIN) == kind(**needed)


@by_name
def test_what_we_write_we_read(kind: type[Message]) -> None:
    said = filled(kind)
    assert read(kind, write(said), limit=MAX_JOIN) == said


def filled(hint: Any) -> Any:
    """A value in which nothing has its default, so that a field that gets lost is noticed."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return filled(args[0])
    if origin is list:
        return [filled(args[0])]
    if origin is dict:
        return {"key \u00fc": filled(args[1])}
    if hint is Any:
        return {"nested": [None, 1]}
    if hint is tunnel.Open:
        return tunnel.Open(service="ssh", client_ip="2001:db8::1", client_port=50022)
    if issubclass(hint, stream.Frame):  # says one thing
        return hint(**{name: filled(each) for name, each in [*get_type_hints(hint).items()][-1:]})
    if issubclass(hint, Message):
        return hint(**{name: filled(each) for name, each in get_type_hints(hint).items()})
    if get_origin(hint) is tuple:
        return tuple(map(filled, args))
    return {str: 'text "\u00fc"\n', int: 7, float: 1.25, bool: True, bytes: b"\0"}[hint]


def test_more_than_the_limit_is_not_even_looked_at() -> None:
    with pytest.raises(Malformed, match="message is 65537 bytes, the most we read is 65536"):
        read(join.JoinStart, b"{" * (MAX_JOIN + 1), limit=MAX_JOIN)


@pytest.mark.parametrize(
    ("kind", "fields", "cause"),
    [
        (join.JoinStart, {"client_first": 1, "node_name": "a", "time": 0}, "client_first"),
        (join.JoinStart, {"client_first": "", "node_name": "a", "time": "0"}, "time"),
        (join.JoinStart, {"client_first": "", "node_name": "a"}, "missing required field `time`"),
        (admin.UserAdd, {"name": "a", "roles": "access"}, "roles"),
        (admin.EventList, {"after": 1e30}, "after"),
        (admin.TokenAdd, {"types": "node", "labels": {"a": 1}}, "labels"),
    ],
)
def test_a_wrong_type_is_refused_and_named(kind: type[Message], fields, cause: str) -> None:
    with pytest.raises(Malformed, match=cause):
        read(kind, json.dumps(fields).encode(), limit=MAX_JOIN)


def test_no_words_are_an_empty_message() -> None:
    assert read(admin.Nothing, b"", limit=MAX_JOIN) == admin.Nothing()


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        admin.Named(name="a").name = "b"  # type: ignore[misc]  # the point of the test


@given(st.binary())
@example(b"[" * 100_000)
@example(b"1" * 10_000)
def test_an_answer_is_json_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        msgspec.json.encode(read_any(raw, limit=1 << 20))


def test_an_answer_has_a_limit_too() -> None:
    with pytest.raises(Malformed, match="the most we read is 4"):
        read_any(b"12345", limit=4)


@pytest.mark.parametrize("kind", [stream.FromAgent, stream.ToAgent, tunnel.Control])
@pytest.mark.parametrize("raw", [b"{}", b'{"surprise": null}', b'{"surprise": {"beat": 1}}'])
def test_a_frame_of_a_later_version_says_nothing(kind: type[Message], raw: bytes) -> None:
    assert read(kind, raw, limit=MAX_JOIN) == kind()


def test_a_frame_that_says_two_things_is_malformed() -> None:
    raw = b'{"beat": {"time": 1}, "goodbye": {}}'
    with pytest.raises(Malformed, match="a frame has one of hello, beat"):
        read(stream.FromAgent, raw, limit=MAX_JOIN)


@pytest.mark.parametrize("number", ["18446744073709551616", "-18446744073709551616", "9" * 4300])
def test_numbers_past_64_bits_are_malformed(number: str) -> None:
    """Python would take them, and stumble when it has to write a sum of two."""
    with pytest.raises(Malformed):
        read_any(f'{{"a": [{{"b": {number}}}]}}'.encode(), limit=MAX_JOIN)
    with pytest.raises(Malformed, match="64 bits"):
        read(stream.Knowledge, json.dumps(_knowledge(int(number))).encode(), limit=MAX_JOIN)


def test_numbers_of_64_bits_and_digits_in_texts_are_none_of_that() -> None:
    for number in (2**64 - 1, -(2**64) + 1):
        assert read_any(b"[%d]" % number, limit=MAX_JOIN) == [number]
    assert read_any(b'"99999999999999999999999"', limit=MAX_JOIN) == "9" * 23
    assert read_any(b"1e300", limit=MAX_JOIN) == 1e300


def _knowledge(serial: int) -> dict[str, Any]:
    lists = ("host_cas", "ssh_host_cas", "ssh_user_cas", "user_cas", "roles", "locks")
    return {"cluster": "c", "serial": serial, **{name: [] for name in lists}}
