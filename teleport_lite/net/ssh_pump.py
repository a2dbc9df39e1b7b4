"""One shell and its channel: bytes both ways, each end's window respected, and a clean end."""

import fcntl
import os
import select
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from teleport_lite.net.ssh_channel import Channel

# How much of one shell's output is taken before the others, and the client, get their turn; and
# what its pipes should hold, so that each side has as much to do when its turn comes.
_BURST = 256 * 1024
# What is read of a terminal whose shell has ended: more than the kernel keeps for one. Whatever
# else is running there does not hold up the end for ever.
_LAST_WORDS = 1 << 20


class Tap(Protocol):
    """Somebody who follows a session: records it, shows it to others, lets them type."""

    def bind(self, note: Callable[[str], None], wake: Callable[[float], None]) -> None:
        """`note` shows a line to the client; `wake` asks us again, in so many seconds."""

    def holds(self) -> bool:
        """True: do not read the shell now (strict recording is behind)."""

    def output(self, data: bytes) -> None:
        """What the shell wrote, before it is sent; never blocks."""

    def resized(self, columns: int, rows: int) -> None: ...

    def wants(self) -> Iterator[tuple[int, int]]:
        """Descriptors of its own, and poll events."""

    def has(self, fd: int) -> bool: ...

    def ready(self, fd: int) -> None: ...

    def typed(self) -> bytes:
        """What peers who have joined have typed since the last call."""

    def close(self) -> None:
        """The channel is over."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Descriptors of a shell. A pty is stdin and stdout at once and has no stderr."""

    stdin: int
    stdout: int
    stderr: int | None
    tap: Tap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a shell on `channel` ended: a code, or the name of a signal (RFC 4254 §6.10)."""

    channel: int
    code: int = 0
    signal: str = ""
    core: bool = False


class Pump:
    """Owns the descriptors. `closed` when there is nothing more to do for it."""

    def __init__(self, channel: Channel, streams: Streams, tap: Tap | None) -> None:
        self._channel, self._streams, self._tap = channel, streams, tap
        self._sources = {streams.stdout: False}
        if streams.stderr is not None:
            self._sources[streams.stderr] = True
        self._is_pty = streams.stderr is None
        self._stdin_open = True
        # What those who have joined have typed, and the shell has not yet taken.
        self._typed = b""
        self._exit: Exit | None = None
        self._last_words = _LAST_WORDS
        self.closed = False
        for fd in {streams.stdin, *self._sources}:
            os.set_blocking(fd, False)
            with suppress(OSError):  # a terminal, or the system's limit
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _BURST)

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        """Move what the client has sent; then say what to wait for."""
        self.push()
        may_read = may_send and not (self._tap is not None and self._tap.holds())
        if self._exit is not None and self._is_pty and may_read:
            self._drain()
        if self.closed:
            return
        room = may_read and self._channel.out_window > 0
        for fd in {self._streams.stdin, *self._sources}:
            events = select.POLLIN if room and fd in self._sources else 0
            if fd == self._streams.stdin and (self._channel.waiting or self._typed):
                events |= select.POLLOUT
            if events:
                yield fd, events
        if self._tap is not None:
            yield from self._tap.wants()

    def ready(self, fd: int) -> None:
        if self._tap is not None and self._tap.has(fd):
            self._tap.ready(fd)
        elif fd in self._sources:
            self._pull(fd)
        self.push()

    def has(self, fd: int) -> bool:
        if self.closed:
            return False
        ours = fd in self._sources or (self._stdin_open and fd == self._streams.stdin)
        return ours or (self._tap is not None and self._tap.has(fd))

    def resized(self, columns: int, rows: int) -> None:
        if self._tap is not None:
            self._tap.resized(columns, rows)

    def exited(self, how: Exit) -> None:
        """A terminal may be held open by others for ever, so it is read until it is empty: what
        the shell itself has written is there by now. Pipes are read to their end, as sshd does."""
        self._exit = how
        self._maybe_finish()

    def unread(self) -> None:
        """eow@openssh.com (PROTOCOL §2.1): nobody reads what the client writes out any more, so
        whoever writes here must hear of it, as `yes | head` does. Terminals are read on."""
        fd = self._streams.stdout
        if not self._is_pty and fd in self._sources:
            self._end_of(fd)

    def close(self) -> None:
        """The channel is gone. Hang-ups are the broker's business."""
        if self.closed:
            return
        self.closed = True
        open_fds = set(self._sources) | ({self._streams.stdin} if self._stdin_open else set())
        for fd in open_fds:
            os.close(fd)
        if self._tap is not None:
            self._tap.close()

    # --- client to shell

    def push(self) -> None:
        """As long as the shell takes it. The window opens only for what it has taken."""
        if self.closed:
            return
        if not self._stdin_open:
            self._channel.discard()
            return
        try:
            self._push_typed()
            done = not self._typed and self._channel.write_to(self._streams.stdin)
        except OSError:  # the other end is closed
            self._channel.discard()
            self._typed = b""
            if not self._is_pty:
                self._close_stdin()
                self._tell_unread()
            return
        if done and self._channel.eof_received and not self._is_pty:
            self._close_stdin()

    def _push_typed(self) -> None:
        if self._tap is not None and not self._typed:
            self._typed = self._tap.typed()
        while self._typed:
            try:
                written = os.write(self._streams.stdin, self._typed)
            except BlockingIOError:
                return
            self._typed = self._typed[written:]

    def _tell_unread(self) -> None:
        """The other way round: `yes | ssh host true` must end."""
        if self._channel.openssh and not self._channel.eof_received:
            self._channel.request(b"eow@openssh.com")

    def _close_stdin(self) -> None:
        os.close(self._streams.stdin)
        self._stdin_open = False

    # --- shell to client

    def _drain(self) -> None:
        fd = self._streams.stdout
        while fd in self._sources and self._channel.out_window > 0 and not self._channel.closed:
            self._pull(fd)

    def _pull(self, fd: int) -> None:
        if self._channel.closed or self._channel.out_window <= 0:
            return
        try:
            count = self._move(fd)
        except BlockingIOError:
            if self._exit is not None and self._is_pty:
                self._end_of(fd)
            return
        except OSError:  # EIO: nobody has the terminal open any more
            count = 0
        if self._exit is not None and self._is_pty:
            self._last_words -= count
        if not count or self._last_words <= 0:
            self._end_of(fd)

    def _move(self, fd: int) -> int:
        stderr = self._sources[fd]
        if self._tap is None:
            return self._channel.send_from(fd, most=_BURST, stderr=stderr)
        data = os.read(fd, min(_BURST, self._channel.out_window))
        if data:
            self._tap.output(data)
            (self._channel.send_stderr if stderr else self._channel.send)(data)
        return len(data)

    def _end_of(self, fd: int) -> None:
        del self._sources[fd]
        if fd != self._streams.stdin:
            os.close(fd)
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        """The last byte of output, then how it ended, then EOF and CLOSE (RFC 4254 §5.3, §6.10)."""
        how = self._exit
        if how is None or self._sources or self._channel.closed:
            return
        if how.signal:
            self._channel.send_exit_signal(how.signal, core=how.core)
        else:
            self._channel.send_exit_status(how.code)
        self._channel.close()
