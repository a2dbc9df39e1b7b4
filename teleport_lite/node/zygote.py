"""The daemon's side of the zygote: start it first of all, and hand it connections.

The zygote forks a process for each connection, from a state that knows no secret: when it is
forked off, the daemon has one thread, no event loop and no key in memory. It ends when the
daemon does; connections go on. What it does is in `nursery.py`.
"""

import os
import socket
import sys
import traceback
from dataclasses import dataclass

from teleport_lite.errors import Unavailable
from teleport_lite.node.settings import Settings
from teleport_lite.proto.codec import Message, write


class Arrival(Message, frozen=True):
    """Comes with two descriptors: the TCP socket and the monitor's end of the line."""

    peer: tuple[str, int]
    local: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Zygote:
    """When `fileno` turns readable, it has ended."""

    pid: int
    _control: socket.socket

    def fileno(self) -> int:
        return self._control.fileno()

    def hand_over(
        self,
        tcp: socket.socket,
        line: socket.socket,
        *,
        peer: tuple[str, int],
        local: tuple[str, int],
    ) -> None:
        """Never waits. Raises Unavailable; the caller keeps and closes its own copies."""
        arrival = write(Arrival(peer=peer, local=local))
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        try:
            socket.send_fds(self._control, [arrival], [tcp.fileno(), line.fileno()], flags)
        except OSError as why:
            raise Unavailable(f"SSH zygote takes no connection: {why.strerror}") from why

    def close(self) -> None:
        """No more connections will come: it ends."""
        self._control.close()


def start(settings: Settings) -> Zygote:
    """Fork the zygote. Call it before there are threads, event loops, or keys in memory.

    What is in this process's memory and arguments by now stays in the zygote's for ever.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return Zygote(pid, ours)
    code = 1
    try:
        ours.close()
        # Not before the fork: the daemon itself has no use for paramiko, 20 MiB of it.
        from teleport_lite.node import nursery

        nursery.live(theirs, settings)
        code = 0
    except BaseException:  # nothing may climb into the daemon's frames
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
