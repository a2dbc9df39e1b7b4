"""The file that `configure` writes. It loads again: a test asks that of every text made here."""

from collections.abc import Mapping
from dataclasses import dataclass

from teleport_lite.config.address import parse_address
from teleport_lite.config.build import VERSIONS
from teleport_lite.config.flags import Flags
from teleport_lite.config.load import defaults
from teleport_lite.config.model import Config
from teleport_lite.config.override import flagged, with_flags
from teleport_lite.config.path import absolute_path
from teleport_lite.config.proxy_service import EMAIL, dns_name
from teleport_lite.config.yaml import Quoted, dump
from teleport_lite.errors import Malformed
from teleport_lite.model.labels import parse_labels
from teleport_lite.model.names import CLUSTER_NAME
from teleport_lite.model.system_role import AUTH, NODE, PROXY, RoleBook

HEADER = """\
#
# Sample Teleport configuration file, for teleport-lite.
# All keys: docs/config.md. To test a change: teleport-lite configure --test FILE
#
"""
YES, NO = Quoted("yes"), Quoted("no")
# What ACME (RFC 8737, TLS-ALPN-01) needs the web port to be.
ACME_PORT = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked of `configure`. `flags` are those it shares with `start`."""

    flags: Flags
    version: str = "v3"
    cluster_name: str = ""
    public_addrs: tuple[str, ...] = ()
    cert_file: str = ""
    key_file: str = ""
    acme: bool = False
    acme_email: str = ""
    app_name: str = ""
    app_uri: str = ""

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise Malformed(f"--version: {self.version[:16]!a} is not one of {', '.join(VERSIONS)}")
        if self.cluster_name and not CLUSTER_NAME.fullmatch(self.cluster_name):
            raise Malformed(f"--cluster-name: {self.cluster_name[:64]!a} is no name for a cluster")
        for address in self.public_addrs:
            flagged("--public-addr", parse_address, address, ACME_PORT)
        for path in filter(None, (self.cert_file, self.key_file)):
            flagged("--cert-file, --key-file", absolute_path, path)
        if self.acme:
            self._check_acme()
        if bool(self.cert_file) != bool(self.key_file):
            raise Malformed("--cert-file: needs --key-file, and the other way round")
        if bool(self.app_name) != bool(self.app_uri):
            raise Malformed("--app-name: needs --app-uri, and the other way round")

    def _check_acme(self) -> None:
        names = self.public_addrs or (self.cluster_name,)
        found = [parse_address(name, ACME_PORT) for name in names if name]
        if not any(map(dns_name, found)):
            raise Malformed("--acme: needs --cluster-name or --public-addr, a name to certify")
        if self.cert_file:
            raise Malformed("--acme: --cert-file is given too, one of them is enough")
        if self.acme_email and not EMAIL.fullmatch(self.acme_email):
            raise Malformed(f"--acme-email: {self.acme_email[:80]!a} is not like admin@example.com")


def render(wish: Wish, book: RoleBook) -> str:
    """Raises Malformed naming the flag whose value no file could hold."""
    config = with_flags(defaults(book), wish.flags, book)
    roles = config.roles | frozenset(book.parse("app") if wish.app_name else ())
    ours = {
        "auth_service": _auth(wish) if AUTH in roles else {"enabled": NO},
        "ssh_service": _ssh(wish, roles) if NODE in roles else {"enabled": NO},
        "proxy_service": _proxy(wish) if PROXY in roles else {"enabled": NO},
    }
    others: dict[str, Mapping[str, object]] = {
        role.section: {"enabled": YES}
        for role in book
        if role.name in roles and role.section not in ("", *ours)
    }
    if wish.app_name:
        apps = [{"name": wish.app_name, "uri": wish.app_uri}]
        others["app_service"] = {"enabled": YES, "apps": apps}
    top = {"version": wish.version, "teleport": _teleport(wish, config)}
    return HEADER + dump({**top, **ours, **others})


def _teleport(wish: Wish, config: Config) -> Mapping[str, object]:
    said: dict[str, object] = {"nodename": config.nodename, "data_dir": str(config.data_dir)}
    if wish.flags.token:
        said["join_params"] = {"token_name": wish.flags.token, "method": "token"}
    said |= _servers(wish)
    said["log"] = {"output": "stderr", "severity": "INFO", "format": {"output": "text"}}
    # Stands literally as ca_pin: "" so that people's sed can find and fill it.
    pins = config.ca_pins
    said["ca_pin"] = list(pins) if len(pins) > 1 else Quoted("".join(pins))
    return said | {"diag_addr": Quoted(config.diag_addr)}


def _servers(wish: Wish) -> Mapping[str, object]:
    auth = [one.strip() for text in wish.flags.auth_servers for one in text.split(",")]
    either = [*auth, wish.flags.proxy] if wish.flags.proxy else auth
    if not either:
        return {}
    if wish.version != "v3":
        return {"auth_servers": either}
    if len(either) > 1:
        raise Malformed("--auth-server: a v3 file holds one, give --version=v2 for several")
    return {"proxy_server" if wish.flags.proxy else "auth_server": either[0]}


def _auth(wish: Wish) -> Mapping[str, object]:
    said: dict[str, object] = {"enabled": YES, "listen_addr": "0.0.0.0:3025"}
    if wish.cluster_name:
        said["cluster_name"] = wish.cluster_name
    return said


def _ssh(wish: Wish, roles: frozenset[str]) -> Mapping[str, object]:
    labels = parse_labels(wish.flags.labels) or {"env": "example"}
    said: dict[str, object] = {"enabled": YES, "labels": labels}
    if PROXY not in roles and wish.public_addrs:
        said["public_addr"] = list(wish.public_addrs)
    if "hostname" not in labels:
        sample = {"name": "hostname", "command": ["hostname"], "period": "1m0s"}
        said["commands"] = [sample]
    return said


def _proxy(wish: Wish) -> Mapping[str, object]:
    said: dict[str, object] = {"enabled": YES}
    public = list(wish.public_addrs)
    if wish.acme:
        said["web_listen_addr"] = f"0.0.0.0:{ACME_PORT}"
        public = public or [f"{wish.cluster_name}:{ACME_PORT}"]
        said["acme"] = {"enabled": YES, "email": wish.acme_email}
    if public:
        said["public_addr"] = public
    if wish.cert_file:
        said["https_keypairs"] = [{"key_file": wish.key_file, "cert_file": wish.cert_file}]
    return said
