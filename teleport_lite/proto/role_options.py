"""The options of a role, as `tctl get role` prints and `tctl create` reads them.

Names and shapes are Teleport's (role v7). What stands at its default is left out, but for the
first few, which people look for.
"""

from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from teleport_lite.errors import Malformed
from teleport_lite.model.duration import parse_duration, show_duration
from teleport_lite.model.user import HostUserMode, Options, RecordMode
from teleport_lite.proto.doc import Doc, known, mapping, one_line, yes_or_no

# Key in the document -> attribute.
_FLAGS = {
    "port_forwarding": "port_forwarding",
    "forward_agent": "forward_agent",
    "permit_x11_forwarding": "x11_forwarding",
    "ssh_file_copy": "file_copy",
    "pin_source_ip": "pin_source_ip",
}
_MORE_FLAGS = {"disconnect_expired_cert": "disconnect_expired_cert"}
_NUMBERS = {"max_connections": "max_connections", "max_sessions": "max_sessions"}
_TEXTS = {
    "create_host_user_default_shell": "create_host_user_default_shell",
    "force_command": "force_command",
}
_SIDES = {"local": "local_forwarding", "remote": "remote_forwarding"}
_KEYS = (
    "max_session_ttl",
    *_FLAGS,
    *_MORE_FLAGS,
    "ssh_port_forwarding",
    "client_idle_timeout",
    *_NUMBERS,
    "record_session",
    "create_host_user_mode",
    *_TEXTS,
)
_MOST = 1_000_000
_DEFAULTS = Options()

E = TypeVar("E", bound=StrEnum)


def options_doc(options: Options) -> Doc:
    doc: Doc = {"max_session_ttl": show_duration(options.max_session_ttl)}
    doc |= {key: getattr(options, attr) for key, attr in _FLAGS.items()}
    sides = {word: getattr(options, attr) for word, attr in _SIDES.items()}
    if not all(sides.values()):
        doc["ssh_port_forwarding"] = {word: {"enabled": yes} for word, yes in sides.items()}
    if options.client_idle_timeout:
        doc["client_idle_timeout"] = show_duration(options.client_idle_timeout)
    if options.record_session is not _DEFAULTS.record_session:
        doc["record_session"] = {"ssh": options.record_session.value}
    if options.create_host_user_mode is not None:
        doc["create_host_user_mode"] = options.create_host_user_mode.value
    for key, attr in (_MORE_FLAGS | _NUMBERS | _TEXTS).items():
        if getattr(options, attr) != getattr(_DEFAULTS, attr):
            doc[key] = getattr(options, attr)
    return doc


def read_options(raw: object) -> Options:
    """Raises Malformed."""
    block = mapping(raw, "role.spec.options")
    known(block, _KEYS, "role.spec.options")
    found: Doc = {}
    for key, attr in (_FLAGS | _MORE_FLAGS).items():
        if key in block:
            found[attr] = yes_or_no(block[key], f"role option {key}")
    for key, attr in _NUMBERS.items():
        if key in block:
            found[attr] = _number(block[key], key)
    for key, attr in _TEXTS.items():
        if key in block:
            found[attr] = one_line(block[key], f"role option {key}")
    if "max_session_ttl" in block:
        found["max_session_ttl"] = parse_duration(str(block["max_session_ttl"]), "max_session_ttl")
        if not found["max_session_ttl"]:
            raise Malformed("max_session_ttl must be longer than nothing, like 8h")
    if "client_idle_timeout" in block:
        found["client_idle_timeout"] = _span(block["client_idle_timeout"])
    if "create_host_user_mode" in block:
        mode = _word(HostUserMode, block["create_host_user_mode"], "create_host_user_mode")
        found["create_host_user_mode"] = mode
    if "record_session" in block:
        found["record_session"] = _record_mode(block["record_session"])
    found |= _sides(block.get("ssh_port_forwarding") or {})
    return Options(**found)


def _number(raw: object, key: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 0 <= raw <= _MOST:
        raise Malformed(f"role option {key} must be a number from 0 (no limit) to {_MOST}")
    return raw


def _span(raw: object) -> timedelta:
    if raw in (0, "0", "never"):
        return timedelta()
    return parse_duration(str(raw), "client_idle_timeout")


def _word(kind: type[E], raw: object, key: str) -> E:
    # YAML 1.1 reads `off` as false.
    word = "off" if raw is False else raw
    for each in kind:
        if word == each.value:
            return each
    names = ", ".join(each.value for each in kind)
    raise Malformed(f"role option {key} must be one of {names}")


def _record_mode(raw: object) -> RecordMode:
    """`ssh` counts before `default`; `desktop` is read and means nothing here."""
    block = mapping(raw, "role option record_session")
    known(block, ("default", "ssh", "desktop"), "role option record_session")
    modes = [
        _word(RecordMode, block[key], f"record_session.{key}")
        for key in ("ssh", "default")
        if key in block
    ]
    return modes[0] if modes else _DEFAULTS.record_session


def _sides(raw: object) -> dict[str, bool]:
    block = mapping(raw, "role option ssh_port_forwarding")
    known(block, _SIDES, "role option ssh_port_forwarding")
    found = {}
    for word, side in block.items():
        where = f"role option ssh_port_forwarding.{word}"
        inner = mapping(side, where)
        known(inner, ("enabled",), where)
        found[_SIDES[word]] = yes_or_no(inner.get("enabled", True), f"{where}.enabled")
    return found
