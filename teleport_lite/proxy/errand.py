"""What a connection is here for, from what it said first. Pure.

Names of ours in ALPN win over those of browsers, because only our own programs know them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from teleport_lite.errors import NotFound
from teleport_lite.net.peek import Kind, Opening
from teleport_lite.proto.alpn import ACME, AUTH, DIRECT, LEAF, SSH, TUNNEL, proxy_of


class Errand(StrEnum):
    AUTH = "auth"  # passed on unopened
    LEAF_AUTH = "leaf auth"  # of a leaf cluster; passed on unopened
    LEAF = "leaf"  # a tunnel of a leaf cluster, to us
    PROXY = "proxy"  # a tunnel to another proxy, passed on unopened
    TUNNEL = "tunnel"  # to us
    GATE = "gate"  # SSH of a node, over TLS
    JUMP = "jump"  # SSH, with us as the jump host
    ACME = "acme"
    WEB = "web"
    PLAIN = "plain"  # HTTP without TLS


@dataclass(frozen=True, slots=True)
class Found:
    errand: Errand
    proxy: str = ""  # UUID of the proxy that is meant
    cluster: str = ""  # the leaf that is meant


def errand(
    opening: Opening, *, cluster: str, own_id: str, leaf: Callable[[str], bool] = lambda _: False
) -> Found:
    """`leaf` says which clusters are leaves of ours.

    Raises NotFound for any other cluster, and for a tunnel that wants to be passed on by nobody
    and is not for us."""
    if opening.kind is Kind.SSH:
        return Found(Errand.JUMP)
    if opening.kind is Kind.HTTP:
        return Found(Errand.PLAIN)
    for name in opening.alpn:
        if name.startswith(AUTH):
            meant = name.removeprefix(AUTH)
            if meant == cluster:
                return Found(Errand.AUTH)
            if not leaf(meant):
                raise NotFound(f"cluster {meant[:64]!a} is not known here")
            return Found(Errand.LEAF_AUTH, cluster=meant)
        if name == TUNNEL:
            meant = proxy_of(opening.sni)
            if meant in ("", own_id):
                return Found(Errand.LEAF if LEAF in opening.alpn else Errand.TUNNEL, own_id)
            if DIRECT in opening.alpn:
                raise NotFound("this tunnel is for another proxy, and not to be passed on")
            return Found(Errand.PROXY, meant)
        if name == SSH:
            return Found(Errand.GATE)
        if name == ACME:
            return Found(Errand.ACME)
    return Found(Errand.WEB)
