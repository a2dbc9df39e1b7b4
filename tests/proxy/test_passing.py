"""Passing connections on: who is told what, and that nothing is left open."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from teleport_lite.net.peek import Kind, Opening
from teleport_lite.net.port import Arrival
from teleport_lite.net.proxy_header import ProxyHeader, read_header
from teleport_lite.net.splice import connect_one
from teleport_lite.pki.attest import TLV
from teleport_lite.proxy import passing
from teleport_lite.proxy.meter import Meter
from teleport_lite.proxy.passing import Passing
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeClock
from tests.daemon.proxies import proxy_identity
from tests.support import free_port

CLUSTER = PaperCluster()
ME = proxy_identity(CLUSTER)
CLIENT = ("192.0.2.7", 40_000)


class Rig:
    def __init__(self, *, idle: float = 30.0, linger: float = 30.0, identity=ME) -> None:
        self.meter = Meter()
        self.passing = Passing(
            identity=lambda: identity,
            host_cas=lambda: CLUSTER.host_cas,
            clock=FakeClock(CLUSTER.now),
            meter=self.meter,
            idle=idle,
            linger=linger,
        )
        self.client, self.ours = socket.socketpair()
        for end in (self.client, self.ours):
            end.setblocking(False)
        self.arrival = Arrival(Opening(Kind.TLS), CLIENT, ("192.0.2.1", 443), self.ours)

    def run(self, address: str, talk: Callable[[], Awaitable[None]] | None = None) -> None:
        async def both() -> None:
            work = asyncio.create_task(self.passing.on(self.arrival, [address], "auth"))
            if talk is not None:
                await asyncio.wait_for(talk(), 30)
            await asyncio.wait_for(work, 30)

        with self.client:
            asyncio.run(both())
        assert self.ours.fileno() == -1
        assert self.passing.open == 0


def test_the_other_end_is_told_who_comes_and_then_gets_the_bytes():
    rig, heard = Rig(), []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]

        async def talk() -> None:
            loop = asyncio.get_running_loop()
            wire, _ = await loop.sock_accept(server)
            with wire:
                wire.setblocking(False)
                await loop.sock_sendall(rig.client, b"hello")
                got = b""
                while not got.endswith(b"hello"):
                    got += await loop.sock_recv(wire, 65536)
                heard.append(got)
                await loop.sock_sendall(wire, b"good day")
                assert await loop.sock_recv(rig.client, 100) == b"good day"
            rig.client.shutdown(socket.SHUT_WR)

        rig.run(f"127.0.0.1:{port}", talk)
    header = read_header(heard[0])
    assert isinstance(header, ProxyHeader)
    assert (header.source, header.target) == (CLIENT, ("127.0.0.1", port))
    signed = header.tlv(TLV)
    assert signed is not None
    assert rig.passing.attested(signed, header.source, header.target) == ME.host_id
    [told] = rig.meter.take()
    assert (told["addr.remote"], told["bytes_up"], told["bytes_down"]) == ("192.0.2.7", "5", "8")


def test_nobody_there_ends_the_connection_and_is_told(caplog):
    rig = Rig()
    rig.run(f"127.0.0.1:{free_port()}")
    assert rig.passing.failed == 1
    assert rig.meter.take() == []
    assert "a connection to auth can not be passed on: can not connect to 127.0.0.1" in caplog.text


def test_an_identity_that_can_not_sign_leaves_nothing_open(caplog):
    rig = Rig(identity=replace(ME, tls_private=Secret("nonsense")))
    with socket.create_server(("127.0.0.1", 0)) as server:
        rig.run(f"127.0.0.1:{server.getsockname()[1]}")
        wire, _ = server.accept()
        with wire:
            assert wire.recv(10) == b""
    assert rig.passing.failed == 1
    assert "nonsense" not in caplog.text


def test_silence_ends_it():
    rig = Rig(idle=0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        rig.run(f"127.0.0.1:{server.getsockname()[1]}")
    assert rig.meter.connections == 1


def test_who_is_hung_up_on_by_auth_and_stays_is_let_go():
    rig = Rig(idle=3600, linger=0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        async def talk() -> None:
            wire, _ = await asyncio.get_running_loop().sock_accept(server)
            wire.close()

        rig.run(f"127.0.0.1:{server.getsockname()[1]}", talk)
    assert rig.meter.connections == 1


@pytest.mark.parametrize("when", ["dialling", "passing"])
def test_a_proxy_that_stops_lets_go(when):
    rig = Rig()

    async def stopped() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            work = asyncio.create_task(rig.passing.on(rig.arrival, [address], "auth"))
            while when == "passing" and not rig.passing.open:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

    with rig.client:
        asyncio.run(stopped())
    assert rig.ours.fileno() == -1
    assert rig.passing.open == 0


@pytest.mark.parametrize("to", ["auth", "another proxy"])
def test_a_proxy_that_retires_while_it_dials_goes_on_to_no_auth(to):
    """Else an agent would stay with a process that is only there for sessions. What leads to
    another proxy may have some in it."""
    rig, dialled, goes_on = Rig(), asyncio.Event(), asyncio.Event()

    async def held(addresses: Sequence[str], *, timeout: float) -> tuple[str, socket.socket]:
        found = await connect_one(addresses, timeout=timeout)
        dialled.set()
        await goes_on.wait()
        return found

    async def go() -> bytes:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            work = loop.create_task(rig.passing.on(rig.arrival, [address], to))
            await asyncio.wait_for(dialled.wait(), 30)
            rig.passing.retire()
            goes_on.set()
            wire, _ = server.accept()
            with wire:
                wire.setblocking(False)
                said = await asyncio.wait_for(loop.sock_recv(wire, 1), 30)
            rig.client.close()
            await asyncio.wait_for(work, 30)
        return said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passing, "connect_one", held)
        assert bool(asyncio.run(go())) == (to != "auth")
    assert rig.ours.fileno() == -1
    assert rig.passing.open == 0


def test_a_server_that_lets_in_and_says_nothing_is_told_of(monkeypatch):
    rig, told = Rig(), []
    times = iter((0.0, 3.0))
    monkeypatch.setattr(rig.passing._clock, "monotonic", lambda: next(times))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        async def go() -> None:
            work = asyncio.create_task(
                rig.passing.on(rig.arrival, [address], "auth", silent=told.append)
            )
            wire, _ = await asyncio.get_running_loop().sock_accept(server)
            with wire:
                rig.client.close()
                await asyncio.wait_for(work, 30)

        server.setblocking(False)
        rig.passing._linger = 0.1
        asyncio.run(go())
    assert told == [address]


def test_the_second_server_is_taken_when_the_first_is_away():
    rig, heard = Rig(), []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        addresses = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{server.getsockname()[1]}"]

        async def go() -> None:
            work = asyncio.create_task(rig.passing.on(rig.arrival, addresses, "auth"))
            wire, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(server), 30)
            heard.append(wire)
            wire.close()
            rig.client.close()
            await asyncio.wait_for(work, 30)

        asyncio.run(go())
    assert len(heard) == 1
    assert rig.passing.failed == 0
