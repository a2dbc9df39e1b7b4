"""Readers of messages and documents: what hosts, people, workers and brokers send as JSON."""

import importlib
import io
import json
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec

import teleport_lite
from teleport_lite.audit import cast as player
from teleport_lite.audit import spool
from teleport_lite.cli.tsh import quick
from teleport_lite.errors import Malformed
from teleport_lite.model import chain, labels
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.lock import Lock
from teleport_lite.model.size import parse_size
from teleport_lite.model.user import Role
from teleport_lite.proto import cast, resource
from teleport_lite.proto.cast_check import CastCheck
from teleport_lite.proto.codec import MAX_FRAME, Message, read, read_any, write
from tests.fuzz.target import Finding, Pieces, any_of, framed, target


@cache
def kinds() -> list[type[Message]]:
    """Every message there is, in an order that stays."""
    for module in pkgutil.walk_packages(teleport_lite.__path__, "teleport_lite."):
        if not set(module.name.split(".")) & {"testing", "__main__", "cli", "daemon"}:
            importlib.import_module(module.name)
    found: set[type[Message]] = set()

    def collect(kind: type[Message]) -> None:
        for each in kind.__subclasses__():
            if "testing" not in each.__module__ and each.__module__.startswith("teleport_lite"):
                found.add(each)
            collect(each)

    collect(Message)
    return sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))


def _example(kind: Any, depth: int = 0) -> Any:
    """A value of that type, by its schema: a message as an honest peer might send it."""
    info = msgspec.inspect.type_info(kind)
    return _value(info, depth)


def _value(info: Any, depth: int) -> Any:
    name = type(info).__name__
    if name == "StructType":
        fields = [each for each in info.fields if depth < 3 or each.required]
        return {each.encode_name: _value(each.type, depth + 1) for each in fields}
    if name == "UnionType":
        return _value(next(t for t in info.types if type(t).__name__ != "NoneType"), depth)
    if name == "DictType":
        return {"key": _value(info.value_type, depth + 1)}
    if name in ("ListType", "VarTupleType", "SetType"):
        return [_value(info.item_type, depth + 1)]
    if name == "TupleType":
        return [_value(each, depth + 1) for each in info.item_types]
    if name == "EnumType":
        return next(iter(info.cls)).value
    if name == "LiteralType":
        return info.values[0]
    plain = {"IntType": 1, "FloatType": 1.5, "BoolType": True, "BytesType": "AAAA"}
    return plain.get(name, "text" if name in ("StrType", "AnyType") else None)


def _messages() -> Iterator[bytes]:
    for at, kind in enumerate(kinds()):
        yield at.to_bytes(2, "big") + json.dumps(_example(kind)).encode()


@target(
    seeds=lambda: list(_messages()),
    parts=lambda: any_of(
        [b'"', b"{", b"}", b"[", b":", b"null", b"1e999", b"-1", b"\\ud800", b","]
    ),
    most=8192,
)
def messages(data: bytes) -> None:
    """All kinds: what can be read says the same when it is written again."""
    pieces = Pieces(data)
    kind = kinds()[pieces.number(2) % len(kinds())]
    said = read(kind, pieces.rest(), limit=MAX_FRAME)
    if read(kind, write(said), limit=8 * MAX_FRAME) != said and b"NaN" not in data:
        raise Finding(f"{kind.__name__} is not what it was")


_ROLE = {
    "kind": "role",
    "version": "v7",
    "metadata": {"name": "dev", "labels": {}},
    "spec": {
        "options": {
            "max_session_ttl": "8h",
            "forward_agent": True,
            "client_idle_timeout": "30m",
            "record_session": {"default": "best_effort"},
            "ssh_port_forwarding": {"local": {"enabled": True}, "remote": {"enabled": False}},
            "max_sessions": 3,
            "create_host_user_mode": "keep",
            "force_command": "ls",
        },
        "allow": {
            "logins": ["root", "{{internal.logins}}"],
            "node_labels": {"env": ["prod", "^db-.*$"]},
            "rules": [{"resources": ["role"], "verbs": ["list"]}],
            "host_groups": ["docker"],
            "host_sudoers": ["ALL=(ALL) NOPASSWD: ALL"],
            "join_sessions": [{"name": "x", "roles": ["a"], "kinds": ["ssh"], "modes": ["peer"]}],
        },
        "deny": {"logins": ["guest"]},
    },
}
_DOCUMENTS = [
    _ROLE,
    {
        "kind": "user",
        "version": "v2",
        "metadata": {"name": "alice"},
        "spec": {"roles": ["dev"], "traits": {"logins": ["root"]}, "bot": False},
    },
    {
        "kind": "lock",
        "version": "v2",
        "metadata": {"name": "l"},
        "spec": {"target": {"user": "alice"}, "message": "m", "expires": "2030-01-31T12:00:00Z"},
    },
    {
        "kind": "token",
        "version": "v2",
        "metadata": {"name": "0123456789abcdef", "expires": "1h", "labels": {"env": "prod"}},
        "spec": {"roles": ["Node"], "join_method": "token"},
    },
]


@target(seeds=lambda: [json.dumps(each).encode() for each in _DOCUMENTS], most=8192)
def documents(data: bytes) -> None:
    """Roles, users, locks and tokens, as administrators and the knowledge of hosts have them."""
    found = read_any(data, limit=1 << 20)
    kind = resource.kind_of(found)
    readers: dict[str, Any] = {
        "role": resource.role_from_doc,
        "user": resource.user_from_doc,
        "lock": resource.lock_from_doc,
        "token": resource.token_parts,
    }
    if kind not in readers:
        return
    noun = readers[kind](found)
    writers: dict[type, Any] = {Role: resource.role_doc, Lock: resource.lock_doc}
    writer = writers.get(type(noun))
    if writer is not None and readers[kind](json.loads(json.dumps(writer(noun)))) != noun:
        raise Finding(f"{noun} is not what it was")


CAST = (
    b'{"version": 2, "width": 80, "height": 24, "timestamp": 1504467315, '
    b'"teleport_lite": {"sid": "x"}}\n'
    b'[0.25, "o", "$ \\u001b[31mls\\u001b[0m\\r\\n"]\n[1.5, "r", "100x50"]\n'
    b'[2, "i", "x"]\n[3, "m", "mark"]\n[3.5, "o", "\\ud83d"]\n'
)


@target(seeds=lambda: [CAST], parts=lambda: any_of(CAST.splitlines(keepends=True)), most=8192)
def recordings_of_hosts(data: bytes) -> None:
    """What auth keeps of a recording can be played, and printed, whatever a host has sent."""
    check = CastCheck({"sid": "x"})
    whole = data[: data.rfind(b"\n") + 1]
    kept = check.feed(whole[: whole.find(b"\n") + 1] or whole)
    rest = whole[whole.find(b"\n") + 1 :]
    kept += check.feed(rest) if rest else b""
    if not kept.isascii() or any(byte < 32 and byte != 10 for byte in kept) or b"\x7f" in kept:
        raise Finding("a recording that does something to a terminal")
    _played(kept)


def _played(kept: bytes) -> int:
    file = io.BytesIO(kept)
    try:
        player.read_header(file)
        return sum(1 for _ in player.read_events(file))
    except Malformed as why:
        raise Finding(f"what was kept can not be played: {why.message}") from why


@target(seeds=lambda: [CAST], parts=lambda: any_of(CAST.splitlines(keepends=True)), most=8192)
def recordings_to_play(data: bytes) -> None:
    """A file from somewhere."""
    file = io.BytesIO(data)
    player.read_header(file)
    for event in player.read_events(file):
        if not 0 <= event.at <= cast.MAX_SECONDS:
            raise Finding(f"an event at {event.at}")


@target(
    raises=(),
    seeds=lambda: [b"\0\0\5hello\1\0\3\xf0\x9f\x98\2\0\1\x80", b"\3\0\4\x1b[2J"],
    parts=lambda: any_of(
        [b"\0" + framed(b"\xe2\x82"), b"\0" + framed(b"\xac"), b"\2\0\0", b"\3\0\0"]
    ),
)
def terminal_output(data: bytes) -> None:
    """The recorder: whatever a shell writes becomes a recording, and nothing of it is lost."""
    pieces, scribe = Pieces(data), player.CastWriter()
    shown, at = b"", 0.0
    kept = scribe.header(
        columns=0, rows=99_999, started=1.0, facts={}, title=data.decode("latin-1")
    )
    while pieces:
        what, text = pieces.number() % 4, pieces.text()
        at += 0.001
        if what == 2:
            kept += scribe.resized(at, len(text), pieces.number(2))
        elif what == 3 and not text:
            kept += scribe.gap(at, 7)
        else:
            shown += text
            kept += scribe.output(at, text)
    kept += scribe.end(at)
    file = io.BytesIO(kept)
    player.read_header(file)
    played = [each.data for each in player.read_events(file) if each.kind == cast.OUTPUT]
    if shown.isascii() and "".join(played) != shown.decode():
        raise Finding("what is played is not what was shown")


@target(
    raises=(ValueError,),
    seeds=lambda: [
        b'{"code":"T1","event":"auth","facts":{"user":"a"},"outcome":"ok",'
        b'"time":"2024-01-01T00:00:00.000000Z"}'
    ],
)
def trail_lines(data: bytes) -> None:
    event = chain.read_line(data)
    with suppress(TypeError, ValueError, AttributeError):  # stored lines are hashed; it is shown
        chain.canonical(event)


@target(
    raises=(),
    seeds=lambda: [b'{"kind":"a","code":"b","at":1.0,"outcome":"ok","facts":{}}\n{"kind":\n' * 2],
    most=8192,
)
def spooled_events(data: bytes) -> None:
    """A power cut leaves holes."""
    events, odd = spool._events(data)
    if len(events) + odd > len(data.splitlines()):
        raise Finding("more events than lines")
    spool._count(data)
    spool._number(data.decode("latin-1"))


@target(
    seeds=lambda: [
        b'\0env=prod,note="a, b"',
        b"\0a=" + b'"\\' * 40,
        b"\x011h30m",
        b"\x0210GiB",
        b"\x03^db-[0-9]+$",
        b"\x042030-01-31T12:00:00Z",
        b"\x06root@[::1]:22",
        "\x06web-1.example.com:\u00b2\u00b2".encode(),
    ],
)
def words(data: bytes) -> None:
    """Labels, durations, sizes, patterns, times and targets that people write."""
    readers: list[Any] = [
        labels.parse_labels,
        parse_duration,
        parse_size,
        labels.check_pattern,
        lambda text: resource.read_moment(text, "time"),
        lambda text: labels.value_matches(text.replace("^", ""), "some value"),
        lambda text: quick.asked_of(text, "example.com"),
    ]
    pieces = Pieces(data)
    reader = readers[pieces.number() % len(readers)]
    try:
        reader(pieces.rest().decode("utf-8", "replace"))
    except Warning as why:  # of expressions that a later Python reads differently
        raise Malformed("pattern") from why
