"""What a bot was told: flags, then the file, then defaults, checked and frozen."""

from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from teleport_lite.config.address import parse_address
from teleport_lite.config.build import host_name
from teleport_lite.config.model import AUTH_PORT, WEB_PORT
from teleport_lite.config.section import Reader
from teleport_lite.config.token_source import TokenSource
from teleport_lite.config.yaml import load_yaml
from teleport_lite.errors import Malformed
from teleport_lite.model.duration import parse_duration, show_duration
from teleport_lite.model.schema import Field, Kind
from teleport_lite.pki.pin import parse_pins

STORAGE = "/var/lib/teleport-lite/bot"
CERTIFICATE_TTL, RENEWAL_INTERVAL = "1h", "20m"
# Auth signs a bot's certificates for this long, whatever is asked for (auth/issue.py).
GIVEN_TTL = timedelta(hours=1)
# Every renewal is a transaction on auth; a fleet of bots must not hammer it.
SHORTEST_INTERVAL = timedelta(seconds=10)
# In these a quoted path of ssh_config would mean something else, or end (ssh_config(5), TOKENS).
UNQUOTABLE = frozenset('"$%\\')

_DESTINATION = Field(
    name="destination",
    kind=Kind.MAPPING,
    help="where the files go",
    required=True,
    example="{type: directory, path: /opt/bot}",
    fields=(
        Field(name="type", kind=Kind.TEXT, help="a directory", choices=("directory",)),
        Field(name="path", kind=Kind.TEXT, help="its path", required=True, example="/opt/bot"),
    ),
)

FILE = (
    Field(name="version", kind=Kind.TEXT, help="form of the file", choices=("v2",)),
    Field(name="auth_server", kind=Kind.TEXTS, help="host:port of auth, one or several"),
    Field(name="proxy_server", kind=Kind.TEXTS, help="host:port of a proxy, one or several"),
    Field(
        name="onboarding",
        kind=Kind.MAPPING,
        help="how the bot joins",
        fields=(
            Field(name="join_method", kind=Kind.TEXT, help="token", choices=("token",)),
            Field(name="token", kind=Kind.SECRET, help="token, absolute path, or env:NAME"),
            Field(name="ca_pins", kind=Kind.TEXTS, help="pins of `tctl status`, or files"),
        ),
    ),
    Field(
        name="storage",
        kind=Kind.MAPPING,
        help="where the bot keeps what it renews with",
        fields=(
            Field(name="type", kind=Kind.TEXT, help="a directory", choices=("directory",)),
            Field(name="path", kind=Kind.TEXT, help="its path", required=True, example=STORAGE),
        ),
    ),
    Field(name="certificate_ttl", kind=Kind.TEXT, help="how long certificates work"),
    Field(name="credential_ttl", kind=Kind.TEXT, help="its newer name"),
    Field(name="renewal_interval", kind=Kind.TEXT, help="how often they are renewed"),
    Field(name="oneshot", kind=Kind.BOOL, help="write once and end"),
    Field(
        name="outputs",
        kind=Kind.LIST,
        help="what to write",
        fields=(
            Field(name="type", kind=Kind.TEXT, help="identity", choices=("identity",)),
            _DESTINATION,
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """As typed, or as the file says it; empty is "not said"."""

    token: str = ""
    auth_server: str = ""  # several with commas, and so the next
    proxy_server: str = ""
    ca_pins: tuple[str, ...] = ()
    join_method: str = ""
    certificate_ttl: str = ""
    renewal_interval: str = ""
    storage: str = ""
    destinations: tuple[str, ...] = ()
    oneshot: bool = False
    pid_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    servers: tuple[str, ...]  # host:port of auth or of proxies
    only_proxies: bool  # they were said to be proxies
    token: TokenSource | None
    ca_pins: tuple[str, ...]
    storage: Path
    destinations: tuple[Path, ...]
    certificate_ttl: timedelta
    renewal_interval: timedelta
    oneshot: bool
    pid_file: Path | None
    node_name: str

    def __post_init__(self) -> None:
        if not self.destinations:
            raise Malformed(
                "a destination for the certificates is missing",
                hint="tbot start --destination-dir=./tbot-user",
            )
        if self.storage in self.destinations:
            raise Malformed(
                f"storage and destination are both {self.storage}, they must be apart",
                hint="tbot start --help",
            )


def settle(flags: Flags, file: Flags | None = None) -> Settings:
    """Flags win over the file. Raises Malformed naming the flag, before anything is opened."""
    said = merged(flags, file or Flags())
    if said.join_method not in ("", "token"):
        raise _wrong("--join-method", f"{said.join_method[:40]!a} is not known here, token is")
    ttl = _length("--certificate-ttl", said.certificate_ttl or CERTIFICATE_TTL)
    interval = _length("--renewal-interval", said.renewal_interval or RENEWAL_INTERVAL)
    if interval < SHORTEST_INTERVAL:
        raise _wrong("--renewal-interval", f"must be at least {show_duration(SHORTEST_INTERVAL)}")
    if not said.oneshot and interval >= min(ttl, GIVEN_TTL):
        raise _wrong("--renewal-interval", "must be shorter than the certificates live, 1h at most")
    return Settings(
        servers=_servers(said),
        only_proxies=bool(said.proxy_server),
        token=TokenSource.parse(said.token) if said.token else None,
        ca_pins=parse_pins(said.ca_pins),
        storage=directory("--storage", said.storage or STORAGE),
        destinations=tuple(
            dict.fromkeys(directory("--destination", each) for each in said.destinations)
        ),
        certificate_ttl=ttl,
        renewal_interval=interval,
        oneshot=said.oneshot,
        pid_file=Path(said.pid_file).absolute() if said.pid_file else None,
        node_name=host_name(),
    )


def merged(flags: Flags, file: Flags) -> Flags:
    said = {one.name: getattr(flags, one.name) or getattr(file, one.name) for one in fields(Flags)}
    for flag, other in (("auth_server", "proxy_server"), ("proxy_server", "auth_server")):
        if getattr(flags, flag) and not getattr(flags, other):
            said[other] = ""  # the flag replaces the file's address of either kind
    return Flags(**said)


def read_file(text: str, source: str) -> Flags:
    """The file's part. Raises Malformed beginning with source, line and key."""
    reader = Reader(source)
    said: dict[str, Any] = reader.section(load_yaml(text, source), FILE, "")
    onboarding, storage = said["onboarding"] or {}, said["storage"] or {}
    token = onboarding.get("token")
    return Flags(
        token=token.reveal() if token else "",
        auth_server=",".join(said["auth_server"] or ()),
        proxy_server=",".join(said["proxy_server"] or ()),
        ca_pins=onboarding.get("ca_pins") or (),
        join_method=onboarding.get("join_method") or "",
        certificate_ttl=said["certificate_ttl"] or said["credential_ttl"] or "",
        renewal_interval=said["renewal_interval"] or "",
        storage=storage.get("path") or "",
        destinations=tuple(each["destination"]["path"] for each in said["outputs"] or ()),
        oneshot=bool(said["oneshot"]),
    )


def directory(flag: str, text: str) -> Path:
    """A path, or `file:///path`; relative ones start here. Raises Malformed."""
    scheme, mark, rest = text.partition("://")
    path = rest if mark and scheme == "file" else text
    if mark and (scheme != "file" or not rest.startswith("/")):
        raise _wrong(flag, f"{text[:80]!a} is not a directory or file:///path")
    if not path or not path.isprintable() or UNQUOTABLE & set(path):
        raise _wrong(flag, f"{text[:80]!a} holds characters that ssh_config can not quote")
    return Path(path).absolute()


def _servers(said: Flags) -> tuple[str, ...]:
    if said.proxy_server and said.auth_server:
        raise _wrong("--proxy-server", "--auth-server is given too, one of them is enough")
    if not said.proxy_server and not said.auth_server:
        raise Malformed(
            "the address of auth or of a proxy is missing",
            hint="tbot start --auth-server=HOST:3025, or --proxy-server=HOST:3080",
        )
    flag, port = ("--proxy-server", WEB_PORT) if said.proxy_server else ("--auth-server", AUTH_PORT)
    try:
        given = (said.proxy_server or said.auth_server).split(",")
        return tuple(dict.fromkeys(parse_address(each.strip(), port) for each in given))
    except Malformed as why:
        raise _wrong(flag, why.message) from None


def _length(flag: str, text: str) -> timedelta:
    try:
        return parse_duration(text, "")
    except Malformed as why:
        raise _wrong(flag, why.message.strip()) from None


def _wrong(flag: str, cause: str) -> Malformed:
    return Malformed(f"{flag}: {cause}", hint="tbot start --help")
