"""host:port, as people write it and as everything after the config reads it."""

import contextlib
import ipaddress
import re

from teleport_lite.errors import Malformed
from teleport_lite.model.names import HOST_NAME

_PORT = re.compile(r"[0-9]{1,5}")


def parse_address(text: str, default_port: int | None = None, *, listen: bool = False) -> str:
    """One form for `host[:port]` and `[v6][:port]`; an `https://` in front is taken off.

    With `listen`, ":3080" means every interface and port 0 any free one.
    Raises Malformed showing a right address.
    """
    rest, port = _split(text, default_port)
    host = _host(rest, listen)
    if listen and ":" not in text and text[:1].isdigit() and "." not in text:
        host = None  # a port that was mistyped, not the name of an interface
    if host is None or not _PORT.fullmatch(port) or not (listen or int(port)) or int(port) > 65535:
        example = f"{'0.0.0.0' if listen else 'host.example.com'}:{default_port or 3025}"
        raise Malformed(f"{text[:80]!a} is not host:port, like {example!r}")
    return f"{host}:{int(port)}"


def split_address(address: str) -> tuple[str, int]:
    """Host without brackets, and port, of what parse_address made."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def with_host(address: str, ip: str) -> str:
    """The same port on another address of ours."""
    return join_address(ip, split_address(address)[1])


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_ip(text: str) -> str:
    """Raises Malformed for anything but an IPv4 or IPv6 address."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise Malformed(f"{text[:80]!a} is not an IP address, like '10.0.10.5'") from None


def parse_advertised(text: str) -> str:
    """`host` or `host:port` under which others can reach this machine."""
    host, port = split_address(parse_address(text, 1))
    with contextlib.suppress(ValueError):
        ip = ipaddress.ip_address(host)
        if ip.is_unspecified or ip.is_multicast:
            raise Malformed(f"{text[:80]!a} is an address nobody can connect to, like '10.1.0.5'")
    written = _split(text, None)[1]
    return join_address(host, port) if written else host


def _split(text: str, default_port: int | None) -> tuple[str, str]:
    """Host part with its brackets, and port text, "" when there is none."""
    rest = text
    if text.lower().startswith("https://"):
        rest, default_port = text[8:].removesuffix("/"), 443
    default = "" if default_port is None else str(default_port)
    if rest.count(":") > 1 and not rest.startswith("["):
        return f"[{rest}]", default  # a bare IPv6 address cannot carry a port
    if rest.endswith("]") or ":" not in rest:
        return rest, default
    host, _, port = rest.rpartition(":")
    return host, port


def _host(text: str, listen: bool) -> str | None:
    if text == "" and listen:
        return "0.0.0.0"
    if text.startswith("["):
        try:
            if "%" in text:  # a zone (RFC 4007) means something on one machine only
                return None
            return f"[{ipaddress.IPv6Address(text[1:-1])}]" if text.endswith("]") else None
        except ValueError:
            return None
    if not HOST_NAME.fullmatch(text) or ".." in text:
        return None
    if text.rpartition(".")[2].isdigit():  # only addresses end in a number (WHATWG URL §3.5)
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            return None
    return text
