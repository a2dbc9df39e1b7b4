"""The daemon's side of the zygote: start it, and hand it connections.

The zygote forks a process for each connection, from a state that knows no secret: it is a fresh
interpreter, so neither the join token of the daemon's command line nor a key is in its memory.
It ends when the daemon does; connections go on. What it does is in `nursery.py`.

It is a child, or, where the unit of the daemon names a socket, systemd starts it outside of that
unit: who logs in is not to live in the daemon's sandbox (`orders.py`, `outside.py`).
"""

import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.net.ssh_line import check_other_end
from teleport_lite.node.lean import ENV
from teleport_lite.node.orders import MAX_ANSWER, Answer, order
from teleport_lite.node.settings import Settings
from teleport_lite.node.wire import take
from teleport_lite.proto.codec import Message, read, write

log = logging.getLogger("teleport_lite.ssh")

# In the environment of a unit: where teleport-lite-sessions.socket listens.
SESSIONS = "TELEPORT_LITE_SESSIONS"
_JOURNAL = "journalctl -n 20 -u 'teleport-lite-sessions@*'"


class Arrival(Message, frozen=True):
    """Comes with two descriptors: the TCP socket and the monitor's end of the line."""

    peer: tuple[str, int]
    local: tuple[str, int]


@dataclass(slots=True)
class Zygote:
    """When `fileno` turns readable after `settle`, it has ended."""

    pid: int  # 0 before `settle`, if systemd has started it
    _control: socket.socket
    _settled: bool = True

    def fileno(self) -> int:
        return self._control.fileno()

    def settle(self, seconds: float = 30.0) -> None:
        """Wait for its first word, which one that systemd starts has to say; once, before all
        else. Raises Unavailable if it will not serve us."""
        if self._settled:
            return
        self._control.settimeout(seconds)
        words = "systemd starts no SSH sessions for this node"
        try:
            raw, fds = take(self._control, MAX_ANSWER, 1)
            said = read(Answer, raw, limit=MAX_ANSWER)
        except (OSError, Malformed) as why:
            raise Unavailable(f"{words}: {why}", hint=_JOURNAL) from why
        if not fds:
            reason = said.reason or "what it has started has ended"
            raise Unavailable(f"{words}: {reason}", hint=said.hint or _JOURNAL)
        self._control.close()
        self.pid, self._control, self._settled = said.pid, socket.socket(fileno=fds[0]), True

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
_CODE = """\
import sys
descriptor, data_dir, settings, *sys.path = sys.argv[1:]
from teleport_lite.node.lean import leave_out
leave_out()
from teleport_lite.node.nursery import main
main(int(descriptor), data_dir, settings)
"""


def start(settings: Settings) -> Zygote:
    """Start the zygote in an interpreter of its own; outside of this unit's sandbox if systemd
    has been told to. Raises Unavailable if there is none."""
    where = os.environ.get(SESSIONS, "")
    if where and not settings.jump:
        try:
            return _call(where, settings)
        except OSError as why:
            _may_be_a_child(f"{where}: {why.strerror}")
    return _start_child(settings)


def _may_be_a_child(why: str) -> None:
    """Where nobody gets new privileges, visitors would have neither accounts nor sudo: better to
    say so, and to be started again. Raises Unavailable."""
    how = "systemctl restart teleport-lite-sessions.socket"
    if _sandboxed():
        raise Unavailable(f"SSH sessions can not be started outside of this unit: {why}", hint=how)
    log.warning("SSH sessions live inside this unit, with all of its limits: %s (%s)", why, how)


def _sandboxed(status: Path = Path("/proc/self/status")) -> bool:
    """NoNewPrivileges= of systemd.exec(5)."""
    return "\nNoNewPrivs:\t1\n" in status.read_text()


def _call(where: str, settings: Settings) -> Zygote:
    """Systemd accepts, and starts one. Raises OSError if nobody listens, Unavailable if somebody
    else does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(where)
        # Whoever listens is root: sockets of units are made by PID 1.
        check_other_end(sock, where)
        sock.sendall(write(order(settings)))
    except Denied as why:
        sock.close()
        raise Unavailable(why.message, hint=f"ls -l {where}") from why
    except OSError:
        sock.close()
        raise
    return Zygote(0, sock, _settled=False)


def _start_child(settings: Settings) -> Zygote:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rest = asdict(settings)
    where = str(rest.pop("data_dir"))  # a word of its own: people look for it in ps
    words = ["-I", "-S", "-c", _CODE, str(theirs.fileno()), where, json.dumps(rest), *sys.path]
    try:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *words],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ENV if name in os.environ},
        )
    except OSError as why:
        raise Unavailable(f"cannot start {sys.executable}: {why.strerror}") from why
    finally:
        theirs.close()
    # Its end is told by the socket, and the kernel reaps it with us.
    process.returncode = 0
    return Zygote(process.pid, ours)
