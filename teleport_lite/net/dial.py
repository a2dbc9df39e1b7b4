"""A TCP connection, and TLS on it, told by one cause when it fails.

Apart from `http.py` and `way.py`: tools that start for one question do without what those bring.
"""

import socket
import ssl

from teleport_lite.errors import Unavailable

# A join signs two certificates and waits for one fsync; 20 s covers a busy single-core auth.
TIMEOUT = 20.0


def split_address(address: str) -> tuple[str, int]:
    """("10.0.0.5", 3025) of "10.0.0.5:3025" or "[::1]:3025". The port must be there."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def dial(address: str, *, timeout: float = TIMEOUT) -> socket.socket:
    """A TCP connection. Raises Unavailable with one cause: the name, or the connection."""
    host, port = split_address(address)
    try:
        wire = socket.create_connection((host, port), timeout=timeout)
        # A request is two small writes, head and body; Nagle would hold the second for 40 ms.
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire
    except (socket.gaierror, UnicodeError) as why:  # the second: a label is empty or too long
        cause = why.strerror if isinstance(why, OSError) else "not a name of DNS"
        raise Unavailable(
            f"{address}: host name {host} does not resolve ({cause})",
            hint=f"getent hosts {host}",
        ) from why
    except TimeoutError as why:
        raise Unavailable(
            f"{address}: no answer within {timeout:.0f} s, a firewall may drop it",
            hint=f"nc -vz {host} {port}",
        ) from why
    except OSError as why:
        raise Unavailable(
            f"{address}: {why.strerror or why}", hint=f"nc -vz {host} {port}"
        ) from why


def handshake(
    address: str, context: ssl.SSLContext, server_name: str, *, timeout: float
) -> ssl.SSLSocket:
    """Raises Unavailable for DNS and TCP; ssl.SSLError goes through for the caller to read."""
    plain = dial(address, timeout=timeout)
    try:
        return context.wrap_socket(plain, server_hostname=server_name)
    except ssl.SSLError:
        plain.close()
        raise
    except OSError as why:
        plain.close()
        raise Unavailable(
            f"{address}: the connection broke during the TLS handshake; if it is a proxy, "
            "the auth service behind it may be down",
            hint=f"teleport-lite doctor --auth-server={address}",
        ) from why
