"""From a client through a port and a relay to auth, end to end, as the proxy does it."""

import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from teleport_lite.net.port import Arrival
from teleport_lite.net.proxy_header import Address, write_header
from teleport_lite.net.splice import Moved, connect, splice
from teleport_lite.pki.attest import TLV, attest, attested
from teleport_lite.proto.join import AUTH_SERVER_NAME
from tests.net.parrot import CLUSTER, NODE, Parrot
from tests.net.serving import LOOPS, Serving, shown, trusting
from tests.net.test_port import Ported
from tests.support import eventually

PROXY = CLUSTER.host("proxy1", roles=("Proxy",))


def check(tlv: bytes, source: Address, target: Address) -> str:
    now = datetime.now(UTC)
    ours = {"host_cas": CLUSTER.host_cas, "cluster": CLUSTER.name}
    return attested(tlv, source=source, target=target, now=now, **ours)  # type: ignore[arg-type]


class Relay:
    """Passes on to auth, with the client's address signed."""

    def __init__(self, auth: str) -> None:
        self.auth, self.moved = auth, list[Moved]()

    async def __call__(self, arrival: Arrival) -> None:
        server = await connect([self.auth], timeout=30)
        ends: dict[str, Any] = {"source": arrival.peer, "target": arrival.local}
        word = attest(PROXY.tls_cert, PROXY.tls_private, now=datetime.now(UTC), **ends)
        first = write_header(**ends, tlvs=[(TLV, word)])
        self.moved.append(await splice(arrival.socket, server, idle=30, first=first))


@pytest.mark.parametrize("loop", LOOPS)
def test_auth_sees_the_client_and_the_relay_sees_nothing(loop: str, parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), loop=loop, attested=check) as auth:
        relay = Relay(auth.address)
        with Ported(loop=loop, route=relay) as port:
            for client in "127.0.0.2", "127.0.0.3":
                ends = {"source_address": (client, 0), "timeout": 60}
                wire = socket.create_connection(port.address, **ends)  # type: ignore[arg-type]
                context = trusting(CLUSTER, NODE)
                with context.wrap_socket(wire, server_hostname=AUTH_SERVER_NAME) as tls:
                    tls.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n")
                    tls.sendall(b"Content-Length: 2\r\n\r\n{}")
                    answer = b""
                    while part := tls.recv(65536):
                        answer += part
                assert b"200 OK" in answer
            eventually(lambda: len(relay.moved) == 2)
    assert [peer.address for _, peer, _ in parrot.asked] == ["127.0.0.2", "127.0.0.3"]
    assert all(peer.certificate == NODE.tls_der for _, peer, _ in parrot.asked)
    assert all(1000 < each.up < 10_000 and each.down > len(answer) for each in relay.moved)
