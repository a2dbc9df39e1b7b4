"""Bytes from strangers become a message, or Malformed. Nothing else can come out."""

import re
from typing import Any, TypeVar

import msgspec

from teleport_lite.errors import Malformed

# Two public keys, a name and a SCRAM proof come to about 2 KiB; leave room for cloud evidence.
MAX_JOIN = 64 * 1024
# A YAML file of roles, uploaded by an administrator.
MAX_ADMIN = 1024 * 1024
# A host with a thousand announced databases.
MAX_FRAME = 1024 * 1024
# No number of ours needs more than 64 bits. Python has integers of any size, but will not write
# those of thousands of digits, nor pack them, and whoever counts must not stumble over a sum.
_MOST_NUMBER = (1 << 64) - 1
_LONG_NUMBER = re.compile(rb"[0-9]{20}")


class Message(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A wish: it is done as it was said or not at all, so a field that is not known is refused.

    What has its default is not written: who wants nothing new can ask an older version.
    """


class Statement(Message, frozen=True, forbid_unknown_fields=False, omit_defaults=False):
    """What somebody says of themselves or of the world, be it in answer to a wish, or on disk.
    What is not known is passed over: it was written by a later version (docs/protocol.md).

    Nothing may be added to one that forbids something: who passes over it would allow it.
    """


M = TypeVar("M", bound=Message)


def read(kind: type[M], raw: bytes, *, limit: int) -> M:
    """A `kind`, checked field by field, or Malformed naming the field."""
    if len(raw) > limit:
        raise Malformed(f"message is {len(raw)} bytes, the most we read is {limit}")
    try:
        said = msgspec.json.decode(raw or b"{}", type=kind)
        if _LONG_NUMBER.search(raw):
            _check_numbers(msgspec.to_builtins(said))
        return said
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as why:
        raise Malformed(f"message is not a {kind.__name__}: {_plain(why)}") from why


def read_any(raw: bytes, *, limit: int) -> Any:
    """Plain JSON, for answers whose shape the caller checks."""
    if len(raw) > limit:
        raise Malformed(f"answer is {len(raw)} bytes, the most we read is {limit}")
    try:
        said = msgspec.json.decode(raw)
        if _LONG_NUMBER.search(raw):
            _check_numbers(said)
        return said
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as why:
        raise Malformed("answer is not JSON") from why


def write(message: Message | dict[str, Any]) -> bytes:
    return msgspec.json.encode(message)


def _check_numbers(said: object) -> None:
    """Raises ValueError."""
    waiting = [said]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, int) and abs(each) > _MOST_NUMBER:
            raise ValueError("a number has more than 64 bits")


def _plain(why: Exception) -> str:
    return ascii(str(why))[1:-1][:200]
