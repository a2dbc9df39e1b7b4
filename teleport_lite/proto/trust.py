"""Clusters that trust each other, as the auth servers of both see it. Data only.

    auth of the leaf                      (a proxy of the root)            auth of the root
     | -- GET  /v1/ca ----------------------------------------------------------> |
     | -- POST /v1/join/start    JoinStart: SCRAM, as a host (proto/join.py) ---> |
     | -- POST /v1/trust/finish  TrustFinish(client_final, hello) --------------> |
     |     the proof fits: token spent and leaf recorded, one transaction         |
     | <-- TrustWord(server_final, certificate, CAs of the root) ---------------  |
     |     the leaf checks server_final before it believes a word                 |
     |                                                                            |
     | -- POST /v1/trust/refresh  TrustRefresh(hello), over mTLS with that ------>|
     | <-- TrustWord: CAs, proxies and locks of the root as they are now -------  |

The leaf gets one certificate, signed by the root's host CA for the role RemoteProxy. With it its
auth asks for news, and its proxies hold tunnels to proxies of the root (proto/tunnel.py). It opens
nothing else there. What the root's users may do at the leaf, the leaf alone decides.
"""

from typing import Any

from teleport_lite.errors import Malformed
from teleport_lite.model.names import CLUSTER_NAME, checked
from teleport_lite.model.trust import RemoteCluster, RoleMapping, TrustedCluster
from teleport_lite.proto.codec import Message, Statement
from teleport_lite.proto.doc import Doc, known, mapping, texts
from teleport_lite.proto.resource import moment
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.secret import Secret

# The token type, and the role in the token of a leaf.
TRUSTED_CLUSTER = "trusted_cluster"


class TrustHello(Statement, frozen=True):
    """What a leaf says about itself."""

    cluster: str
    tls_csr: str = ""  # PEM PKCS#10; "" asks for no new certificate
    host_cas: list[str] = []  # PEM
    ssh_host_cas: list[str] = []  # OpenSSH lines
    version: str = ""


class TrustFinish(Message, frozen=True):
    session: str
    client_final: str
    hello: TrustHello


class TrustRefresh(Message, frozen=True):
    hello: TrustHello


class TrustWord(Statement, frozen=True):
    """What a root tells a leaf."""

    cluster: str
    id: str  # UUID of the leaf, in its certificate
    host_cas: list[str]  # PEM
    ssh_host_cas: list[str]  # OpenSSH lines
    user_cas: list[str]
    ssh_user_cas: list[str]
    server_final: str = ""  # of the join
    tls_cert: str = ""  # PEM; "" if none was asked for
    proxies: list[ProxyPlace] = []
    locks: list[dict[str, Any]] = []

    def kept(self, tls_cert: str) -> "TrustWord":
        """What of it is remembered. `tls_cert` is that of last time if there is no new one."""
        return TrustWord(
            cluster=self.cluster,
            id=self.id,
            host_cas=self.host_cas,
            ssh_host_cas=self.ssh_host_cas,
            user_cas=self.user_cas,
            ssh_user_cas=self.ssh_user_cas,
            tls_cert=self.tls_cert or tls_cert,
            proxies=self.proxies,
            locks=self.locks,
        )


class Pass(Statement, frozen=True):
    """What a proxy of the leaf shows to proxies of a root. Holds a secret."""

    cluster: str
    id: str
    tls_cert: str
    tls_private: str
    mark: str  # of RootWord


class Passes(Statement, frozen=True):
    passes: list[Pass]


# --- documents


def trusted_doc(cluster: TrustedCluster) -> Doc:
    """Without the token, which is spent."""
    spec = {
        "enabled": cluster.enabled,
        "web_proxy_addr": cluster.proxy,
        "tunnel_addr": cluster.proxy,
        "role_map": role_map_doc(cluster.role_map),
    }
    meta = {"name": cluster.name, "created": moment(cluster.created_at)}
    return {"kind": "trusted_cluster", "version": "v2", "metadata": meta, "spec": spec}


def remote_doc(cluster: RemoteCluster, *, online: bool) -> Doc:
    meta = {
        "name": cluster.name,
        "labels": dict(cluster.labels),
        "created": moment(cluster.created_at),
    }
    status = {
        "connection": "online" if online else "offline",
        "last_heartbeat": moment(cluster.last_heartbeat),
    }
    spec = {"id": cluster.id}
    return {
        "kind": "remote_cluster",
        "version": "v3",
        "metadata": meta,
        "spec": spec,
        "status": status,
    }


class TrustedWish:
    """A trusted_cluster document, read. `token` is "" to change one that is there."""

    __slots__ = ("enabled", "name", "pins", "proxy", "role_map", "token")

    def __init__(self, doc: Doc) -> None:
        """Raises Malformed."""
        known(doc, ("kind", "version", "metadata", "spec", "status", "sub_kind"), TRUSTED_CLUSTER)
        meta = mapping(doc.get("metadata") or {}, "trusted_cluster.metadata")
        known(
            meta,
            ("name", "labels", "description", "expires", "created", "revision", "namespace"),
            "trusted_cluster.metadata",
        )
        self.name = checked(
            CLUSTER_NAME, str(meta.get("name") or ""), "name of the root", example="example.com"
        )
        where = f"trusted_cluster {self.name}: spec"
        spec = mapping(doc.get("spec") or {}, where)
        keys = ("enabled", "token", "tunnel_addr", "web_proxy_addr", "role_map", "ca_pin")
        known(spec, keys, where)
        self.enabled = _flag(spec.get("enabled", True), f"{where}.enabled")
        self.token = Secret(_text(spec, "token", where))
        tunnel, self.proxy = _text(spec, "tunnel_addr", where), _text(spec, "web_proxy_addr", where)
        self.proxy = self.proxy or tunnel
        if not self.proxy:
            raise Malformed(f"{where}.web_proxy_addr is missing, like root.example.com:3080")
        self.role_map = role_map_of(spec.get("role_map") or [], f"{where}.role_map")
        if not self.role_map:
            raise Malformed(
                f"{where}.role_map is missing: nobody of {self.name} could do anything here",
                hint="role_map: [{remote: access, local: [access]}]",
            )
        pins = spec.get("ca_pin") or []
        self.pins = texts([pins] if isinstance(pins, str) else pins, f"{where}.ca_pin")


def role_map_of(raw: object, where: str) -> tuple[RoleMapping, ...]:
    """Raises Malformed."""
    if not isinstance(raw, list):
        raise Malformed(f"{where} must be a list, like [{{remote: access, local: [access]}}]")
    return tuple(_line(each, where) for each in raw)


def role_map_doc(lines: tuple[RoleMapping, ...]) -> list[Doc]:
    return [{"remote": line.remote, "local": list(line.local)} for line in lines]


def _line(raw: object, where: str) -> RoleMapping:
    block = mapping(raw, where)
    known(block, ("remote", "local"), where)
    local = block.get("local") or []
    local = [local] if isinstance(local, str) else local
    return RoleMapping(remote=_text(block, "remote", where), local=texts(local, f"{where}.local"))


def _text(block: Doc, key: str, where: str) -> str:
    value = block.get(key)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"{where}.{key} must be text")
    return value or ""


def _flag(value: object, where: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    found = words.get(str(value).lower())
    if found is None:
        raise Malformed(f"{where} must be true or false")
    return found
