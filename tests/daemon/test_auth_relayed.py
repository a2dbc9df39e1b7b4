"""Whom the auth role believes about connections that are passed on to it."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from teleport_lite.agent.identity import Identity
from teleport_lite.model.lock import Lock, Target
from teleport_lite.net.http import split_address
from teleport_lite.net.proxy_header import write_header
from teleport_lite.net.tls import client_context
from teleport_lite.pki.attest import TLV, attest
from teleport_lite.proto.join import AUTH_SERVER_NAME
from teleport_lite.store.protocols import Tx
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


@pytest.mark.parametrize("how", ["locked", "removed"])
def test_a_proxy_that_is_locked_or_removed_is_not_believed(tmp_path: Path, how: str) -> None:
    """It was broken into: its certificate is good for weeks, and lies about addresses are guesses
    at passwords that no limit counts."""
    role = a_role(tmp_path)
    now = role._clock.now()

    async def go() -> None:
        me = role.enlist(("Auth", "Proxy"), "auth-1", ())
        lock = Lock(id="lock-1", target=Target.NODE, value=me.host_id, created_at=now)
        tlv = attest(me.tls_cert, me.tls_private, source=SOURCE, target=TARGET, now=now)
        header = write_header(SOURCE, TARGET, [(TLV, tlv)])

        def end(tx: Tx) -> None:
            if how == "locked":
                tx.put_lock(lock)
            else:
                tx.remove_host(me.host_id)

        try:
            await role.serve(me)
            address = role._config.auth.listen_addr
            assert await asyncio.to_thread(answers, address, me, header)
            role.desks.store.write(end)
            assert not await asyncio.to_thread(answers, address, me, header)
        finally:
            await role.close()

    asyncio.run(go())
