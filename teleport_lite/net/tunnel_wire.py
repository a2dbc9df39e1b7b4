"""Making tunnels: the TLS contexts of both ends, the proxy's accept and the agent's dial."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Sequence

from teleport_lite.errors import Unavailable
from teleport_lite.net.http import split_address
from teleport_lite.net.mux import Mux, Owner
from teleport_lite.net.mux_heart import Heart
from teleport_lite.net.mux_tls import Context, TlsEnd
from teleport_lite.net.tls import client_context, server_context
from teleport_lite.proto.alpn import DIRECT, TUNNEL, proxy_name
from teleport_lite.secret import Secret

# In the log of an error: the host is there, and nobody listens.
NOBODY = "nobody listens"


def proxy_context(cert_pem: str, key: Secret, host_cas: Sequence[str]) -> Context:
    """For the end that is dialled: nobody gets in without a certificate of the host CA."""
    context = server_context(cert_pem, key, host_cas)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([TUNNEL])
    return context


def agent_context(
    cert_pem: str, key: Secret, host_cas: Sequence[str], *, direct: bool = False
) -> Context:
    """`direct`: no other proxy is to pass it on."""
    context = client_context(cert_pem, key, host_cas)
    context.set_alpn_protocols([TUNNEL, DIRECT] if direct else [TUNNEL])
    return context


async def accept(wire: socket.socket, context: Context, *, owner: Owner, heart: Heart) -> Mux:
    """The socket is the tunnel's from now on; `owner` hears the rest. Raises Unavailable."""
    mux = Mux(TlsEnd(context, server_side=True), dialled=False, owner=owner, heart=heart)
    try:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: mux, wire)
    except OSError as why:  # reset meanwhile
        wire.close()
        raise Unavailable(f"a tunnel could not be taken: {why.strerror or why}") from why
    return mux


async def dial(
    address: str, context: Context, *, proxy_id: str, timeout: float, owner: Owner, heart: Heart
) -> Mux:
    """Connect, and begin TLS with this proxy and no other; `owner` hears the rest.

    Raises Unavailable if there is no connection within `timeout` seconds.
    """
    tls = TlsEnd(context, server_side=False, server_hostname=proxy_name(proxy_id))
    mux = Mux(tls, dialled=True, owner=owner, heart=heart)
    try:
        host, port = split_address(address)
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().create_connection(lambda: mux, host, port)
    except TimeoutError as why:
        mux.die("it came too late")  # a busy loop may have connected it all the same
        raise Unavailable(f"{address}: no answer within {timeout:.0f} s") from why
    except OSError as why:
        # Of a refused connection asyncio has words of its own; those of DNS have no number > 0.
        number = why.errno or 0
        cause = os.strerror(number) if number > 0 else why.strerror or why
        nobody = NOBODY if number == errno.ECONNREFUSED else ""
        raise Unavailable(f"{address}: {cause}", log=nobody) from why
    except ValueError as why:
        raise Unavailable(f"{address}: no address with a port") from why
    except asyncio.CancelledError:
        mux.die("it was given up")  # as above: nobody has it
        raise
    return mux
