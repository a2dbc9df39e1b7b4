"""Dialling and accepting: what goes wrong says where and why."""

import asyncio
import socket

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.net.mux_heart import Heart
from teleport_lite.net.tunnel_wire import NOBODY, accept, agent_context, dial, proxy_context
from teleport_lite.testing.certs import PaperCluster
from tests.net.mux_pair import End
from tests.support import free_port
from tests.tunnel_rig import proxy_papers

CLUSTER = PaperCluster()
PROXY, HOST = proxy_papers(CLUSTER), CLUSTER.host()


def dialled(address: str, timeout: float = 60) -> str:
    """Why nobody could be reached there."""
    return refusal(address, timeout).message


def refusal(address: str, timeout: float = 60) -> Unavailable:
    context = agent_context(HOST.tls_cert, HOST.tls_private, CLUSTER.host_cas)

    async def work() -> None:
        await dial(address, context, proxy_id=PROXY.id, timeout=timeout, owner=End(), heart=Heart())

    with pytest.raises(Unavailable) as caught:
        asyncio.run(work())
    return caught.value


def test_a_closed_port_is_named_and_known_as_one() -> None:
    address = f"127.0.0.1:{free_port()}"
    assert dialled(address) == f"{address}: Connection refused"
    assert refusal(address).log == NOBODY
    assert refusal("nobody.invalid:443").log != NOBODY


def test_an_address_without_a_port_is_no_address() -> None:
    assert dialled("proxy.example") == "proxy.example: no address with a port"


def test_a_name_that_nobody_has_is_told() -> None:
    assert dialled("nobody.invalid:443").startswith("nobody.invalid:443: ")


def test_silence_is_not_waited_for_long() -> None:
    """A backlog that is full: the kernel drops what comes, as a firewall would."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        fillers = []
        try:
            for _ in range(4):
                fillers.append(socket.socket())
                fillers[-1].setblocking(False)
                fillers[-1].connect_ex(address)
            assert "no answer within 0 s" in dialled(f"127.0.0.1:{address[1]}", timeout=0.3)
        finally:
            for each in fillers:
                each.close()


def test_a_socket_that_can_not_be_taken_is_closed() -> None:
    context = proxy_context(PROXY.tls_cert, PROXY.tls_private, CLUSTER.host_cas)
    wire, other = socket.socketpair()  # no TCP

    async def work() -> None:
        wire.setblocking(False)
        await accept(wire, context, owner=End(), heart=Heart())

    with other, pytest.raises(Unavailable, match="could not be taken"):
        asyncio.run(work())
    assert wire.fileno() == -1
