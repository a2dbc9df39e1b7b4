"""A browser that was told host:port and tries HTTP first: one answer that leads to HTTPS."""

import asyncio
import socket
from contextlib import suppress

# Nobody needs more to be told where to go.
MAX_HEAD = 8 * 1024
DEADLINE = 5.0


def redirect(to: str) -> bytes:
    """An answer that leads to https://`to`/. Not to the same path: a token in it has been seen."""
    body = f"This port speaks HTTPS: https://{to}/\n".encode()
    head = (
        "HTTP/1.1 307 Temporary Redirect\r\n"
        f"Location: https://{to}/\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


async def send_to_https(wire: socket.socket, to: str) -> None:
    """Owns `wire`; never raises. What is sent is read first: an unread byte would reset it all."""
    loop = asyncio.get_running_loop()
    head = b""
    try:
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(DEADLINE):
                while b"\r\n\r\n" not in head and len(head) < MAX_HEAD:
                    got = await loop.sock_recv(wire, 4096)
                    if not got:
                        break
                    head += got
                await loop.sock_sendall(wire, redirect(to))
    finally:
        wire.close()
