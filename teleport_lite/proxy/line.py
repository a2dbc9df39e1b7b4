"""One line before other bytes: the first thing that a client, or another proxy, says to us."""

import asyncio

from teleport_lite.errors import Malformed
from teleport_lite.proto.reach import MAX_REQUEST


class Line(asyncio.Protocol):
    """Reads one line, and then nothing: what follows it belongs to somebody else."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.line: asyncio.Future[bytes] = loop.create_future()
        # Somebody may be refused before the line is waited for.
        self.line.add_done_callback(lambda line: line.cancelled() or line.exception())
        self.over: asyncio.Future[None] = loop.create_future()
        self.rest = b""
        self.gone = False
        self._said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.line.done():
            self.rest += data  # a read that was under way
            return
        self._said += data
        line, end, rest = self._said.partition(b"\n")
        if end:
            self.rest = rest
            self._transport.pause_reading()  # type: ignore[attr-defined]  # uvloop's: no subclass
            self.line.set_result(line)
        elif len(line) > MAX_REQUEST:
            self.line.set_exception(Malformed(f"request is longer than {MAX_REQUEST} bytes"))

    def eof_received(self) -> None:
        if not self.line.done():
            self.line.set_exception(EOFError("no request"))

    def connection_lost(self, why: Exception | None) -> None:  # noqa: ARG002  # gone is gone
        self.gone = True
        if not self.line.done():
            self.line.set_exception(EOFError("no request"))
        if not self.over.done():
            self.over.set_result(None)
