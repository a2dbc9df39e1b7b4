"""Whom the auth role believes about connections that are passed on to it."""

import asyncio
import contextlib
import socket
from pathlib import Path

from teleport_lite.agent.identity import Identity
from teleport_lite.net.http import split_address
from teleport_lite.net.proxy_header import write_header
from teleport_lite.net.tls import client_context
from teleport_lite.pki.attest import TLV, attest
from teleport_lite.proto.join import AUTH_SERVER_NAME
from tests.daemon.test_auth_role import a_role

SOURCE, TARGET = ("203.0.113.7", 40000), ("192.0.2.1", 443)


def answers(address: str, me: Identity, header: bytes) -> bool:
    context = client_context(None, None, me.host_cas)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(split_address(address), timeout=30) as wire,
    ):
        wire.sendall(header)
        with context.wrap_socket(wire, server_hostname=AUTH_SERVER_NAME) as tls:
            tls.sendall(b"GET /v1/ca HTTP/1.1\r\nHost: auth\r\n\r\n")
            return b"200 OK" in tls.recv(65536)
    return False


def test_a_proxy_of_the_cluster_is_believed_for_two_minutes_and_others_never(
    tmp_path: Path,
) -> None:
    role = a_role(tmp_path)
    clock = role._clock
    address = role._config.auth.listen_addr

    async def go() -> None:
        proxy = role.enlist(("Auth", "Proxy"), "auth-1", ())
        auth = role.enlist(("Auth",), "auth-1", ())

        def header(me: Identity) -> bytes:
            cert, key, now = me.tls_cert, me.tls_private, clock.now()
            tlv = attest(cert, key, source=SOURCE, target=TARGET, now=now)
            return write_header(SOURCE, TARGET, [(TLV, tlv)])

        async def welcome(first: bytes) -> bool:
            return await asyncio.to_thread(answers, address, auth, first)

        try:
            await role.serve(auth)
            signed = header(proxy)
            assert await welcome(b"")
            assert await welcome(signed)
            assert not await welcome(write_header(SOURCE, TARGET))
            assert not await welcome(header(auth))
            clock.tick(minutes=3)  # type: ignore[attr-defined]  # a fake one
            assert not await welcome(signed)
            assert await welcome(header(proxy))
        finally:
            await role.close()

    asyncio.run(go())
