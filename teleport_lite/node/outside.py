"""`teleport-lite zygote DATA_DIR`: a zygote that systemd has started, outside the daemon's sandbox.

Standard input is the connection of a daemon, as teleport-lite-sessions.socket has accepted it.
It is there for the introduction only: systemd keeps a copy of it, so its end tells nothing.
"""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from teleport_lite.errors import Denied, Error
from teleport_lite.net.ssh_line import peer_uid
from teleport_lite.node.lean import clean_env
from teleport_lite.node.orders import MAX_ORDER, Answer, obey
from teleport_lite.node.settings import Settings
from teleport_lite.proto.codec import write

# Seconds. The order is sent right after the connection is made.
_PATIENCE = 10.0


def main(words: Sequence[str]) -> int:
    """Returns when the daemon is gone, like `nursery.live`; 2 for whoever types this."""
    daemon = _introduced()
    if daemon is None or len(words) != 1:
        sys.stderr.write(
            "ERROR: zygote is what systemd runs for a node (teleport-lite-sessions@.service), "
            "and not for people\n  try: systemctl status teleport-lite-sessions.socket\n"
        )
        return 2
    # The unit is of Type=forking: there is no main process whose end could mean anything, and it
    # is active as long as anything runs in it.
    if os.fork():
        os._exit(0)
    clean_env()
    with daemon:
        try:
            settings = _hear(daemon, Path(words[0]))
        except (Error, OSError) as why:
            _refuse(daemon, str(why), why.hint if isinstance(why, Error) else "")
            return 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        answer = write(Answer(pid=os.getpid()))
        with theirs, suppress(OSError):  # it has ended meanwhile, and so shall we
            socket.send_fds(daemon, [answer], [theirs.fileno()], socket.MSG_NOSIGNAL)
    # Only now, so that the daemon hears of what is wrong without waiting for all of it.
    from teleport_lite.node.nursery import live

    live(ours, settings)
    return 0


def _introduced() -> socket.socket | None:
    try:
        found = socket.socket(fileno=os.dup(0))
    except OSError:
        return None
    if (found.family, found.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        return found
    found.close()
    return None


def _hear(daemon: socket.socket, data_dir: Path) -> Settings:
    """Raises Denied, Malformed or OSError."""
    daemon.settimeout(_PATIENCE)
    # What is left unread when we close would be an error at the other end, in place of our answer.
    raw = daemon.recv(MAX_ORDER + 1)
    if not raw:
        raise Denied("whoever called has gone")
    uid = peer_uid(daemon)
    # Not who the data belongs to: it may be the user of auth, who is not to become root here.
    if uid not in (0, os.geteuid()):
        raise Denied(f"uid {uid} may not start sessions")
    return obey(raw, data_dir)


def _refuse(daemon: socket.socket, why: str, hint: str) -> None:
    """To the journal, and to whoever asks."""
    sys.stderr.write(f"no SSH sessions: {why}\n")
    answer = write(Answer(reason=why[:1000], hint=hint[:500]))
    with suppress(OSError):
        daemon.send(answer, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
