"""How a host or a tool gets to auth: straight, or through a proxy that passes bytes on.

    agent                         proxy                       auth
     | -- ClientHello ------------> |                           |
     |    ALPN teleport-auth@<cluster>                          |
     |                              | -- the same bytes ------> |
     | <================ TLS 1.3, end to end ================>  |

The proxy looks at the name in the first packet (proto/alpn.py) and opens nothing. It is not
trusted: whoever answers has to hold a certificate of auth, whichever way the bytes came.
"""

import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.model.names import CLUSTER_NAME, checked
from teleport_lite.net.dial import handshake as handshake
from teleport_lite.net.dial import split_address
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import stranger_context
from teleport_lite.proto.alpn import to_auth
from teleport_lite.proto.codec import MAX_JOIN, read, write
from teleport_lite.proto.join import AUTH_SERVER_NAME, Bundle

TIMEOUT = 20.0
# Somebody who answers at all answers this fast.
PROBE_TIMEOUT = 10.0
# Where a proxy says who it is; all of them answer all of these.
FIND = ("/webapi/find", "/v1/webapi/find", "/webapi/ping")


@dataclass(frozen=True, slots=True)
class Way:
    """`cluster` is "" where auth itself listens at `address`. Else a proxy may listen there, and
    passes us on to auth of that cluster; an auth server does not mind being asked like this.

    Raises Malformed for what is no name of a cluster: it comes from a stranger.
    """

    address: str  # host:port
    cluster: str = ""

    def __post_init__(self) -> None:
        if self.cluster:
            checked(CLUSTER_NAME, self.cluster, "cluster name", example="teleport.example.com")

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.address} (proxy)" if self.cluster else self.address

    def tls(self, context: ssl.SSLContext, *, timeout: float = TIMEOUT) -> ssl.SSLSocket:
        """Dial, and shake hands with auth. `context` decides who is believed to be auth.

        Raises Unavailable for DNS and TCP; ssl.SSLError goes through for the caller to read.
        """
        if self.cluster:
            context.set_alpn_protocols([to_auth(self.cluster)])
        return handshake(self.address, context, AUTH_SERVER_NAME, timeout=timeout)


def find_way(address: str, *, timeout: float = PROBE_TIMEOUT) -> Way:
    """Is it auth or a proxy that answers at `address`? Tells no secrets, believes nobody.

    What is found is only a direction: the TLS that follows proves auth by its CA or pin.
    Raises Unavailable, or ssl.SSLError, when it is neither.
    """
    try:
        introduction(Way(address), timeout=timeout)
        return Way(address)
    except (Error, ssl.SSLError):
        cluster = cluster_in(web_of(address, timeout=timeout))
        if not cluster:
            raise
        return Way(address, cluster)


def introduction(way: Way, *, timeout: float = PROBE_TIMEOUT) -> Bundle:
    """What auth says of itself, to anybody. Not yet believed.

    Raises Unavailable, ssl.SSLError, or Malformed if somebody else answers.
    """
    with Connection.tls(way, stranger_context(), timeout=timeout) as wire:
        return introduced(wire)


def introduced(wire: Connection) -> Bundle:
    answer = wire.ask("/v1/ca")
    try:
        return read(Bundle, write(answer), limit=MAX_JOIN)
    except TypeError as why:
        raise Malformed("the answer is no introduction") from why


def web_of(address: str, *, timeout: float = PROBE_TIMEOUT) -> dict[str, Any] | None:
    """What the proxy at `address` says of itself on its web port. None if there is no proxy.

    Its certificate is not looked at: nothing of this is believed (`Way`).
    """
    host, _ = split_address(address)
    for path in FIND:
        try:
            tls = handshake(address, stranger_context(), host, timeout=timeout)
        except (Unavailable, ssl.SSLError, ValueError):  # the last: SNI can not carry the name
            return None
        with suppress(Error), Connection(tls, address, timeout=timeout) as wire:
            answer = wire.ask(path)
            if isinstance(answer, dict) and ("proxy" in answer or "server_version" in answer):
                return answer
    return None


def cluster_in(said: dict[str, Any] | None) -> str:
    """The cluster that `web_of` told of; "" for no proxy, and for none that can be used."""
    cluster = (said or {}).get("cluster_name")
    return cluster if isinstance(cluster, str) and CLUSTER_NAME.fullmatch(cluster) else ""
