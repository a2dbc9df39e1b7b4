"""A transport around a socket that waits, until a relay or somebody else takes it over."""

import asyncio
import socket


async def paused(sock: socket.socket) -> tuple[asyncio.Transport, bytes]:
    """Owns the connected `sock`, also when it raises OSError. With what was read all the same."""
    keeper = _Keeper()
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: keeper, sock=sock)
    except BaseException:
        sock.close()
        raise
    # uvloop begins to read after connection_made, whatever was said in there.
    transport.pause_reading()
    return transport, keeper.said


class _Keeper(asyncio.Protocol):
    def __init__(self) -> None:
        self.said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.pause_reading()  # type: ignore[attr-defined]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self.said += data
