"""What a monitor tells the daemon, and the next one."""

import socket
import threading
from pathlib import Path

from teleport_lite.ambient import SystemClock
from teleport_lite.net.ssh_line import MAX_SAID, FromMonitor, listen_for_monitors
from teleport_lite.node.story import Story
from teleport_lite.node.wire import SessionStarted
from teleport_lite.proto.codec import read
from tests.auth.tapes import sid
from tests.support import eventually


def test_the_next_daemon_hears_of_many_sessions_with_long_commands(tmp_path: Path) -> None:
    """Whoever opens so many must not be hidden from it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here = ("127.0.0.1", 1)
    story = Story(ours, clock=SystemClock(), peer=here, local=here, data_dir=tmp_path)
    theirs.close()
    told = [sid(number) for number in range(60)]
    for each in told:
        assert story.started(SessionStarted(sid=each, command="\x01" * 4000, pty=True))
    story.unheard()
    heard: list[str] = []
    with listen_for_monitors(tmp_path) as listening:
        listening.settimeout(60)
        daemon = threading.Thread(target=_listen, args=(listening, heard, len(told)))
        daemon.start()
        eventually(story.look_for_daemon, what="the way back")
        daemon.join()
    story._line.close()
    assert heard == told


def _listen(listening: socket.socket, heard: list[str], count: int) -> None:
    line, _ = listening.accept()
    with line:
        line.settimeout(60)
        hello = read(FromMonitor, line.recv(MAX_SAID), limit=MAX_SAID).hello
        assert hello is not None
        heard += [each.sid for each in hello.sessions]
        while len(heard) < count:
            said = read(FromMonitor, line.recv(MAX_SAID), limit=MAX_SAID).session
            assert said is not None
            heard.append(said.sid)
