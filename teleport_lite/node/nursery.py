"""The zygote's life: import everything once, then fork a monitor for each connection.

Nothing may be imported after a fork: the file that the code came from may have been replaced or
removed by then, and a worker may open no files.
"""

import encodings.idna  # noqa: F401  # for names that are looked up after the fork
import gc
import os
import signal
import socket
from contextlib import suppress

from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Denied, Error
from teleport_lite.net.ssh_line import FromMonitor
from teleport_lite.node import party
from teleport_lite.node.confine import errors_only, keep_only, name, secretive
from teleport_lite.node.host_users import HostUsers
from teleport_lite.node.jump import JumpMonitor
from teleport_lite.node.monitor import Connection, Monitor
from teleport_lite.node.processes import fork_child
from teleport_lite.node.rehearsal import rehearse
from teleport_lite.node.settings import Settings, from_json
from teleport_lite.node.signer import Signer
from teleport_lite.node.wire import Link, take
from teleport_lite.node.zygote import Arrival
from teleport_lite.proto.codec import read, write

_MAX_ARRIVAL = 4096


def main(descriptor: int, data_dir: str, settings: str) -> None:
    """Where the zygote's interpreter begins; see `zygote.start`."""
    live(socket.socket(fileno=descriptor), from_json(data_dir, settings))


def live(control: socket.socket, settings: Settings) -> None:
    """Returns when the daemon has closed its end of `control`, or has died."""
    os.setsid()  # a ^C in the daemon's terminal is not meant for people's sessions
    name(f"{_kind(settings).TITLE}-zygote")
    keep_only([control.fileno()])
    errors_only()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors end; nobody asks how
    signers = _Signers(settings)
    _sweep_accounts(settings)
    party.sweep(settings.data_dir)
    with suppress(Exception):  # people are served without it, and cost more
        rehearse()
    gc.collect()
    gc.freeze()  # what is here is shared with every child, as long as nobody writes to it
    gc.enable()  # off since lean.py: what modules make is no garbage
    while True:
        try:
            raw, fds = take(control, _MAX_ARRIVAL, 2)
        except OSError:
            continue  # we are out of descriptors, and this connection is lost
        if not raw:
            return
        tcp, line = (socket.socket(fileno=fd) for fd in fds)
        with tcp, line:
            _serve(read(Arrival, raw, limit=_MAX_ARRIVAL), tcp, line, signers, settings)


def _serve(
    arrival: Arrival,
    tcp: socket.socket,
    line: socket.socket,
    signers: "_Signers",
    settings: Settings,
) -> None:
    """A system that has no room for another process now may have some later."""
    try:
        signer = signers.line()
        connection = Connection(
            tcp=tcp, line=line, signer=signer, peer=arrival.peer, local=arrival.local
        )
        _fork_monitor(connection, settings)
    except (OSError, Error) as why:
        with suppress(OSError):
            line.send(write(FromMonitor(note=f"can not be served: {why}")), socket.MSG_DONTWAIT)


def _sweep_accounts(settings: Settings) -> None:
    """What a crash has left of the accounts that are made for visitors; beside the logins."""
    if settings.jump or not settings.create_host_users or os.geteuid() != 0:
        return

    def body() -> None:
        with suppress(Error):  # a login says so as well
            HostUsers(note=lambda _text: None).sweep()

    fork_child("tl-ssh-sweeper", body, [])


def _kind(settings: Settings) -> type[Monitor]:
    return JumpMonitor if settings.jump else Monitor


def _fork_monitor(connection: Connection, settings: Settings) -> None:
    kind = _kind(settings)

    def body() -> None:
        kind(connection, settings=settings, clock=SystemClock()).run()

    keep = (connection.tcp.fileno(), connection.line.fileno(), connection.signer.fileno())
    fork_child(f"{kind.TITLE}-monitor", body, keep)
    connection.signer.close()


class _Signers:
    """The signer process, started again if it has died."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._control = self._start()

    def line(self) -> Link:
        """A new line to the signer, for one monitor. Raises Denied."""
        ours, theirs = Link.pair()
        for _ in range(2):
            try:
                flags = socket.MSG_NOSIGNAL
                socket.send_fds(self._control, [b"+"], [theirs.fileno()], flags)
            except OSError:
                self._control = self._start()
            else:
                theirs.close()
                return ours
        raise Denied("the SSH signer does not start")

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def body() -> None:
            secretive()
            Signer(theirs, self._settings.data_dir).run()

        fork_child(f"{_kind(self._settings).TITLE}-signer", body, [theirs.fileno()])
        theirs.close()
        return ours
