"""The daemon's side of the zygote: start it, and hand it connections.

The zygote forks a process for each connection, from a state that knows no secret: it is a fresh
interpreter, so neither the join token of the daemon's command line nor a key is in its memory.
It ends when the daemon does; connections go on. What it does is in `nursery.py`.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass

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


# -I and -S as the program itself is run: nothing from the environment, no site directories.
# Paramiko and msgspec do without these, or only show their version. They bring asyncio, email and
# a hundred more, and every page in here has to be accounted for in each fork.
_CODE = """\
import sys, types
descriptor, data_dir, settings, *sys.path = sys.argv[1:]
sys.modules.update(dict.fromkeys(["invoke", "typing_extensions"]))
sys.modules["importlib.metadata"] = types.SimpleNamespace(version=lambda name: "")
from teleport_lite.node.nursery import main
main(int(descriptor), data_dir, settings)
"""


# What else there is may be a secret, like the token of `--token=env:NAME`.
_ENV = ("PATH", "LANG", "LC_ALL", "TZ")


def start(settings: Settings) -> Zygote:
    """Start the zygote in an interpreter of its own. Raises Unavailable if there is none."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rest = asdict(settings)
    where = str(rest.pop("data_dir"))  # a word of its own: people look for it in ps
    words = ["-I", "-S", "-c", _CODE, str(theirs.fileno()), where, json.dumps(rest), *sys.path]
    try:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *words],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENV if name in os.environ},
        )
    except OSError as why:
        raise Unavailable(f"cannot start {sys.executable}: {why.strerror}") from why
    finally:
        theirs.close()
    # Its end is told by the socket, and the kernel reaps it with us.
    process.returncode = 0
    return Zygote(process.pid, ours)
