"""Asking a proxy who it is: the one thing that is said to it before anybody is believed."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.model.names import CLUSTER_NAME, checked
from teleport_lite.net.dial import dial, split_address
from teleport_lite.net.problems import plain

PATH = "/webapi/ping"
PATIENCE = 10.0
# Addresses and a few pins; a page of HTML from some other web server is longer.
MAX_ANSWER = 256 * 1024
WAYS_OUT = (
    "tsh login --ca-pin=PIN with the pin that tctl status shows on the auth host, or --insecure"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """What a proxy says of itself. Believed only as far as its certificate was `verified`."""

    cluster: str
    version: str = ""
    least: str = ""  # version of clients that it understands; "" if it does not say
    pins: tuple[str, ...] = ()
    ssh_addr: str = ""  # where clients that have only OpenSSH connect; "" if the proxy says none
    verified: bool


def ping(address: str, *, insecure: bool = False) -> Ping:
    """Ask. The web certificate must be of a CA this system trusts, unless `insecure`.

    Raises Denied for a certificate that is not, Unavailable, or Malformed if it is no proxy.
    """
    host, _ = split_address(address)
    plain_wire = dial(address, timeout=PATIENCE)
    try:
        wire = _context(insecure).wrap_socket(plain_wire, server_hostname=host)
    except (OSError, ValueError) as why:  # the second: SNI can not carry the name
        plain_wire.close()
        raise _refused(address, why) from why
    with wire:
        return _read(_get(wire, address), address, verified=not insecure)


def _context(insecure: bool) -> ssl.SSLContext:
    """For a web certificate, so what browsers take: 1.2 too, and the system's CAs."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _get(wire: ssl.SSLSocket, address: str) -> Any:
    asking = http.client.HTTPConnection(address, timeout=PATIENCE)
    asking.sock = wire
    asking.auto_open = False  # never a second time, in the clear
    try:
        asking.request("GET", PATH, headers={"Host": address, "Connection": "close"})
        with asking.getresponse() as answer:
            raw = answer.read(MAX_ANSWER + 1)
        if answer.status != http.client.OK or len(raw) > MAX_ANSWER:
            raise ValueError(f"status {answer.status}")
        return json.loads(raw)
    except (OSError, http.client.HTTPException) as why:
        raise Unavailable(
            f"{address} did not answer like a proxy ({plain(str(why)) or type(why).__name__})",
            hint="tsh login --proxy=HOST:3080",
        ) from why
    except (ValueError, RecursionError) as why:
        raise _no_proxy(address) from why


def _read(said: Any, address: str, *, verified: bool) -> Ping:
    if not isinstance(said, dict) or not isinstance(said.get("cluster_name"), str):
        raise _no_proxy(address)
    pins = said.get("ca_pins")
    return Ping(
        cluster=checked(CLUSTER_NAME, said["cluster_name"], "cluster name", example="example.com"),
        version=plain(str(said.get("server_version", "")))[:64],
        least=plain(str(said.get("min_client_version", "")))[:64],
        pins=tuple(map(str, pins[:16])) if isinstance(pins, list) else (),
        ssh_addr=_ssh_address(said),
        verified=verified,
    )


def _ssh_address(said: Mapping[str, Any]) -> str:
    from teleport_lite.config.address import parse_address

    proxy = said.get("proxy")
    ssh = proxy.get("ssh") if isinstance(proxy, dict) else None
    address = ssh.get("ssh_public_addr") if isinstance(ssh, dict) else None
    if not isinstance(address, str) or not address:
        return ""
    try:
        return parse_address(address, 3023)
    except Malformed:
        return ""


def _no_proxy(address: str) -> Malformed:
    return Malformed(
        f"{address} speaks HTTPS but is not a proxy of teleport-lite",
        hint="tsh login --proxy=HOST:3080",
    )


def _refused(address: str, why: Exception) -> Denied | Unavailable:
    if isinstance(why, ssl.SSLCertVerificationError):
        return Denied(
            f"{address} shows a certificate that nothing here vouches for "
            f"({why.verify_message.lower()}), so it may not be the proxy; no password was sent",
            hint=WAYS_OUT,
        )
    reason = getattr(why, "reason", None) or str(why) or type(why).__name__
    return Unavailable(
        f"{address} does not speak TLS like a proxy ({str(reason).lower().replace('_', ' ')})",
        hint="tsh login --proxy=HOST:3080",
    )
