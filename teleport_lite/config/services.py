"""The sections of auth and of the node, as Config wants them (proxy_service.py has the third)."""

import re
from datetime import timedelta
from typing import Any

from teleport_lite.config import model
from teleport_lite.config.section import Reader
from teleport_lite.config.ssh_service import account_keys, forward_keys
from teleport_lite.config.token_source import MIN_STATIC, StaticToken, TokenSource
from teleport_lite.config.yaml import Items, Node, Scalar, Table
from teleport_lite.errors import Malformed
from teleport_lite.model.labels import check_labels
from teleport_lite.model.names import CLUSTER_NAME, TOKEN, checked
from teleport_lite.model.schema import Field, Kind
from teleport_lite.model.size import parse_size
from teleport_lite.model.system_role import RoleBook

Values = dict[str, Any]  # what Reader made of a section: each value has its Field's type

STATIC_TOKEN = (
    Field(name="roles", kind=Kind.TEXTS, help="who may join", required=True, example="[node]"),
    Field(name="token", kind=Kind.SECRET, help="text or absolute path", required=True),
)
EXAMPLE = '"proxy,node:secret-token-value" or "auth:/path/to/tokenfile"'
# A label command that runs more often than this would be a busy loop.
MIN_PERIOD = timedelta(seconds=1)


def auth_config(
    reader: Reader, values: Values, tokens: Node | None, book: RoleBook, host: str
) -> model.AuthConfig:
    name = values["cluster_name"] or re.sub(r"[^A-Za-z0-9.-]", "-", host)[:128].strip("-.")
    path = "auth_service.cluster_name"
    example = "teleport.example.com"
    reader.checked(path, checked, CLUSTER_NAME, name, "cluster name", example=example)
    retention = values["presence_retention"] or model.PRESENCE_RETENTION
    kept = values["recording_retention"]
    quota = values["recording_quota"]
    return model.AuthConfig(
        listen_addr=values["listen_addr"],
        public_addrs=values["public_addr"] or (),
        cluster_name=name,
        tokens=_tokens(reader, tokens, book, weak_ok=values["allow_weak_static_tokens"]),
        presence_retention=retention,
        session_recording=_session_recording(reader, values["session_recording"]),
        recording_retention=model.RECORDING_RETENTION if kept is None else kept,
        recording_quota=reader.checked("auth_service.recording_quota", parse_size, quota),
    )


def node_config(reader: Reader, values: Values) -> model.NodeConfig:
    labels = values["labels"] or {}
    commands: list[model.LabelCommand] = []
    for at, one in enumerate(values["commands"] or ()):
        path = f"ssh_service.commands[{at}]"
        reader.checked(f"{path}.name", check_labels, {one["name"]: ""})
        if one["period"] < MIN_PERIOD:
            raise reader.wrong(f"{path}.period", "must be 1s or longer, like 1m0s")
        if not one["command"] or not one["command"][0]:
            raise reader.wrong(f"{path}.command", "must name a program, like [hostname]")
        if one["name"] in {*labels, *(known.name for known in commands)}:
            raise reader.wrong(f"{path}.name", f"label {one['name']} is given twice")
        commands.append(
            model.LabelCommand(name=one["name"], argv=one["command"], period=one["period"])
        )
    return model.NodeConfig(
        listen_addr=values["listen_addr"],
        public_addrs=values["public_addr"] or (),
        labels=labels,
        commands=tuple(commands),
        **account_keys(reader, values),
        **forward_keys(reader, values),
        recording_spool_quota=reader.checked(
            "ssh_service.recording_spool_quota", parse_size, values["recording_spool_quota"]
        ),
        strict_locks=bool(values["strict_locks"]),
    )


def _session_recording(reader: Reader, where: str) -> str:
    """node or off. The others are taken for node: everything else would record less."""
    if where in ("node", "off"):
        return where
    path = "auth_service.session_recording"
    why = f"{where} is not built, nodes record and upload when a session is over"
    reader.warnings.append(f"{reader.source}:{reader.lines[path]}: {path}: {why}")
    return "node"


def _tokens(
    reader: Reader, node: Node | None, book: RoleBook, *, weak_ok: bool
) -> tuple[StaticToken, ...]:
    if node is None or (isinstance(node, Scalar) and node.empty):
        return ()
    path = "auth_service.tokens"
    if not isinstance(node, Items):
        raise reader.wrong(path, f"must be a list of tokens, like {EXAMPLE}")
    found = []
    for at, item in enumerate(node.items):
        here = f"{path}[{at}]"
        reader.lines[here] = item.line
        found.append(_token(reader, item, here, book, weak_ok=weak_ok))
        reader.warnings.append(
            f"{reader.source}:{item.line}: {here}: a static token never expires; "
            "short-lived ones come from: tctl tokens add"
        )
    return tuple(found)


def _token(reader: Reader, item: Node, path: str, book: RoleBook, *, weak_ok: bool) -> StaticToken:
    roles, text = _token_parts(reader, item, path)
    try:
        names = book.parse(roles)
    except Malformed:  # its words quote the text, which is the token when parts are swapped
        why = f"does not begin with roles that exist ({book.flags()}), like {EXAMPLE}"
        raise reader.wrong(path, why) from None
    for name in names:
        if book.get(name).spends_token:
            flag = book.get(name).flag
            why = f"a {flag} token works once, and a static token never ends: tctl tokens add"
            raise reader.wrong(path, f"{why} --type={flag} makes one")
    source = reader.checked(path, TokenSource.parse, text)
    if source.kind == "stdin":
        raise reader.wrong(path, f"a static token cannot come from standard input, like {EXAMPLE}")
    if source.value is not None:
        reader.checked(path, _check_text, text, weak_ok=weak_ok)
    return StaticToken(roles=names, source=source, weak_ok=weak_ok)


def _token_parts(reader: Reader, item: Node, path: str) -> tuple[str, str]:
    """Roles and token of "roles:token" or {roles, token}. Errors never quote the token."""
    if isinstance(item, Table) and not item.entries.keys() & {"roles", "token"}:
        why = f"must stand in quotes without a space after the colon, like {EXAMPLE}"
        raise reader.wrong(path, why)
    if isinstance(item, Table):
        values: Values = reader.section(item, STATIC_TOKEN, path)
        return ",".join(values["roles"]), values["token"].reveal()
    roles, colon, text = item.text.partition(":") if isinstance(item, Scalar) else ("", "", "")
    if not colon or not roles or not text:
        raise reader.wrong(path, f"is not roles:token, like {EXAMPLE}")
    return roles, text


def _check_text(text: str, *, weak_ok: bool) -> None:
    if len(text) < MIN_STATIC and not weak_ok:
        raise Malformed(
            f"the token is shorter than {MIN_STATIC} characters and never expires, "
            "so it can be guessed; take a longer one or set allow_weak_static_tokens: yes"
        )
    if not TOKEN.fullmatch(text):
        raise Malformed("the token must be 8 to 128 letters, digits, dots, dashes or underscores")
