"""TLS without sockets: both ends in memory."""

import pytest

from teleport_lite.errors import Denied
from teleport_lite.net.mux_tls import CHUNK, TlsEnd
from teleport_lite.net.tls import client_context
from teleport_lite.net.tunnel_wire import agent_context, proxy_context
from teleport_lite.proto.alpn import TUNNEL, proxy_name
from teleport_lite.testing.certs import PaperCluster
from tests.tunnel_rig import proxy_papers

CLUSTER = PaperCluster()
PROXY, HOST = proxy_papers(CLUSTER), CLUSTER.host()


def ends(*, name: str = "", with_certificate: bool = True) -> tuple[TlsEnd, TlsEnd]:
    serving = proxy_context(PROXY.tls_cert, PROXY.tls_private, CLUSTER.host_cas)
    dialling = agent_context(HOST.tls_cert, HOST.tls_private, CLUSTER.host_cas)
    if not with_certificate:
        dialling = client_context(None, None, CLUSTER.host_cas)
    return (
        TlsEnd(dialling, server_side=False, server_hostname=name or proxy_name(PROXY.id)),
        TlsEnd(serving, server_side=True),
    )


def shake(client: TlsEnd, server: TlsEnd) -> None:
    """Until both are secure."""
    client.handshake()
    for _ in range(4):
        for sender, receiver in ((client, server), (server, client)):
            receiver.feed(memoryview(sender.taken()))
            if not receiver.secure:
                receiver.handshake()


def secure() -> tuple[TlsEnd, TlsEnd]:
    client, server = ends()
    shake(client, server)
    assert client.secure
    assert server.secure
    return client, server


def pass_on(sender: TlsEnd, receiver: TlsEnd, step: int = CHUNK) -> bytes:
    raw, plain, got = memoryview(sender.taken()), memoryview(bytearray(CHUNK)), bytearray()
    for at in range(0, len(raw), step):
        receiver.feed(raw[at : at + step])
        while size := receiver.read(plain):
            got += plain[:size]
    return bytes(got)


@pytest.mark.parametrize("step", [1, 7, 1000, CHUNK])
def test_bytes_come_out_as_they_went_in(step: int) -> None:
    client, server = secure()
    words = b"abcdefgh" * (500 if step == 1 else 50_000)
    client.write(words)
    assert pass_on(client, server, step) == words
    server.write(memoryview(words))
    assert pass_on(server, client, step) == words


def test_both_know_who_is_there() -> None:
    client, server = secure()
    assert server.certificate == HOST.tls_der
    assert client.certificate == PROXY.tls_der
    assert client.alpn == server.alpn == TUNNEL


def test_a_goodbye_is_noticed_after_the_last_words() -> None:
    client, server = secure()
    client.write(b"last")
    client.close()
    assert pass_on(client, server) == b"last"
    assert server.ended
    assert not client.ended


def test_another_name_in_the_certificate_is_refused() -> None:
    client, server = ends(name=proxy_name(HOST.id))
    with pytest.raises(Denied, match="certificate of the other side is not accepted: Hostname"):
        shake(client, server)


def test_no_certificate_is_refused() -> None:
    client, server = ends(with_certificate=False)
    with pytest.raises(Denied, match="did not return a certificate"):
        shake(client, server)
    assert server.to_send, "an alert says why"


def test_changed_bytes_are_refused() -> None:
    client, server = secure()
    client.write(b"do this")
    raw = bytearray(client.taken())
    raw[-1] ^= 1
    server.feed(memoryview(raw))
    with pytest.raises(Denied, match="TLS failed"):
        server.read(memoryview(bytearray(100)))


def test_garbage_is_refused() -> None:
    _, server = ends()
    server.feed(memoryview(b"GET / HTTP/1.1\r\n\r\n"))
    with pytest.raises(Denied, match="TLS failed"):
        server.handshake()
