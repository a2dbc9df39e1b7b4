"""One shell and its channel: bytes both ways, each end's window respected, and a clean end."""

import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from teleport_lite.errors import Malformed
from teleport_lite.net.ssh_policy import WINDOW, WINDOW_SLACK

_CHUNK = 64 * 1024
# How much of one shell's output is taken before the others, and the client, get their turn.
_BURST = 4


@dataclass(frozen=True, slots=True)
class Streams:
    """Descriptors of a shell. A pty is stdin and stdout at once and has no stderr."""

    stdin: int
    stdout: int
    stderr: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a shell on `channel` ended: a code, or the name of a signal (RFC 4254 §6.10)."""

    channel: int
    code: int = 0
    signal: str = ""
    core: bool = False


class Pump:
    """Owns the descriptors. `closed` when there is nothing more to do for it."""

    def __init__(
        self,
        channel: paramiko.Channel,
        streams: Streams,
        send: Callable[[paramiko.Message], None],
    ) -> None:
        self._channel, self._streams, self._send = channel, streams, send
        self._sources = {streams.stdout: False}
        if streams.stderr is not None:
            self._sources[streams.stderr] = True
        self._is_pty = streams.stderr is None
        self._stdin_open = True
        self._pending = b""
        self._exit: Exit | None = None
        self.closed = False
        for fd in {streams.stdin, *self._sources}:
            os.set_blocking(fd, False)

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        """Move what the client has sent; then say what to wait for."""
        self._push()
        if self._exit is not None and self._is_pty and may_send:
            for fd in list(self._sources):
                self._pull(fd)
        room = may_send and self._channel.out_window_size > 0
        for fd in {self._streams.stdin, *self._sources}:
            events = select.POLLIN if room and fd in self._sources else 0
            if self._pending and fd == self._streams.stdin:
                events |= select.POLLOUT
            if events:
                yield fd, events

    def ready(self, fd: int) -> None:
        if fd in self._sources:
            self._pull(fd)
        self._push()

    def has(self, fd: int) -> bool:
        return not self.closed and fd in {self._streams.stdin, *self._sources}

    def exited(self, how: Exit) -> None:
        """A terminal may be held open by others for ever, so it is read until it is empty: what
        the shell itself has written is there by now. Pipes are read to their end, as sshd does."""
        self._exit = how
        self._maybe_finish()

    def close(self) -> None:
        """The channel is gone. Hang-ups are the broker's business."""
        if self.closed:
            return
        self.closed = True
        open_fds = set(self._sources) | ({self._streams.stdin} if self._stdin_open else set())
        for fd in open_fds:
            os.close(fd)

    # --- client to shell

    def _push(self) -> None:
        """As long as the shell takes it. The window opens only for what it has taken."""
        if self.closed:
            return
        self._check_window()
        while self._take():
            if not self._stdin_open:
                self._pending = b""  # nobody reads; but the client must not wait for room
                continue
            try:
                written = os.write(self._streams.stdin, self._pending)
            except BlockingIOError:
                return
            except OSError:  # the other end is closed
                self._close_stdin()
                continue
            if not written:
                return
            self._pending = self._pending[written:]
        if self._channel.eof_received and not self._is_pty:
            self._close_stdin()

    def _take(self) -> bool:
        if not self._pending and self._channel.recv_ready():
            self._pending = self._channel.recv(_CHUNK)
        return bool(self._pending)

    def _check_window(self) -> None:
        """Paramiko keeps whatever comes; RFC 4254 §5.2 lets us not."""
        kept = len(self._channel.in_buffer) + len(self._channel.in_stderr_buffer)
        if kept > WINDOW + WINDOW_SLACK:
            raise Malformed("client sends more than its window")

    def _close_stdin(self) -> None:
        if self._stdin_open and not self._is_pty:
            os.close(self._streams.stdin)
            self._stdin_open = False
        elif self._is_pty:
            self._pending = b""

    # --- shell to client

    def _pull(self, fd: int) -> None:
        if self._channel.closed:
            return
        for _ in range(_BURST):
            room = self._channel.out_window_size
            if room <= 0:
                return
            try:
                data = os.read(fd, min(_CHUNK, room))
            except BlockingIOError:
                if self._exit is not None and self._is_pty:
                    self._end_of(fd)
                return
            except OSError:  # EIO: nobody has the terminal open any more
                data = b""
            if not data:
                self._end_of(fd)
                return
            if self._sources[fd]:
                self._channel.sendall_stderr(data)
            else:
                self._channel.sendall(data)

    def _end_of(self, fd: int) -> None:
        del self._sources[fd]
        if fd != self._streams.stdin:
            os.close(fd)
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        """The last byte of output, then how it ended, then EOF and CLOSE (RFC 4254 §5.3, §6.10)."""
        if self._exit is None or self._sources or self._channel.closed:
            return
        if self._exit.signal:
            self._send_exit_signal(self._exit)
        else:
            self._channel.send_exit_status(self._exit.code)
        self._channel.close()

    def _send_exit_signal(self, how: Exit) -> None:
        said = paramiko.Message()
        said.add_byte(cMSG_CHANNEL_REQUEST)
        said.add_int(self._channel.remote_chanid)
        said.add_string("exit-signal")
        said.add_boolean(False)
        said.add_string(how.signal)
        said.add_boolean(how.core)
        said.add_string("")
        said.add_string("")
        self._send(said)
