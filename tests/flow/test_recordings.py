"""A session on a node is joined, recorded, sent to auth through the proxy, and played.

Real processes: auth, a proxy, a node behind it, tsh and OpenSSH.
"""

import contextlib
import getpass
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.cluster import teleport
from tests.flow.proxied import Proxied
from tests.support import eventually

ME = getpass.getuser()

pytestmark = [
    pytest.mark.skipif(not shutil.which("ssh"), reason="needs OpenSSH"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a node needs root"),
]


class Person:
    """tsh on a terminal of its own."""

    def __init__(self, cluster: Proxied, *words: str) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            teleport("tsh", *words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**cluster.env, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def sees(self, text: str, *, times: int = 1) -> None:
        deadline = time.monotonic() + 30
        while self.seen.count(text.encode()) < times:
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self._master], [], [], left)[0]:
                try:
                    self.seen += os.read(self._master, 65536)
                except OSError:
                    raise AssertionError(f"it ended: {self.seen!r}") from None

    def ends(self) -> int:
        with contextlib.suppress(OSError):
            while select.select([self._master], [], [], 30)[0]:
                self.seen += os.read(self._master, 65536)
        return self._process.wait(30)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(30)
        os.close(self._master)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    with Proxied(tmp_path_factory.mktemp("recorded")) as made:
        flags = (f"--token={made.token('node')}", f"--ca-pin={made.pin}")
        made.node("web-1", f"--auth-server={made.proxy}", *flags)
        eventually(lambda: made.tunnelled("web-1"), what="the node is there")
        made.set_password(made.invite("alice", "--roles=access,editor", f"--logins={ME}"))
        assert made.login("alice").returncode == 0
        yield made


@contextlib.contextmanager
def at_terminal(cluster: Proxied, *words: str) -> Iterator[Person]:
    person = Person(cluster, *words)
    try:
        yield person
    finally:
        person.close()


def test_a_session_is_joined_recorded_sent_and_played(cluster: Proxied, tmp_path: Path) -> None:
    def sids(*words: str) -> list[str]:
        listed = cluster.run("tsh", *words, "ls", "--format=text").stdout
        return [line.split()[0] for line in listed.splitlines()[2:]]

    with at_terminal(cluster, "ssh", f"{ME}@web-1") as alice:
        alice.types("echo he''llo\r")
        alice.sees("hello")
        [sid] = eventually(lambda: sids("sessions"), what="the session is told of")
        refused = cluster.run("tsh", "play", sid)
        assert "still goes on" in refused.stderr
        with at_terminal(cluster, "join", sid, "-m", "peer") as friend:
            alice.sees("alice")
            friend.types("echo from''friend\r")
            alice.sees("fromfriend")
            friend.sees("fromfriend")
            alice.types("exit 3\r")
            assert alice.ends() == 3
            friend.ends()
    eventually(lambda: sid in sids("recordings"), what="the recording has come")
    eventually(lambda: sids("sessions") == [], what="the session is over")
    played = cluster.run("tsh", "play", sid, "--format=text")
    assert played.returncode == 0, played.stderr
    assert "hello\n" in played.stdout
    assert "fromfriend\n" in played.stdout
    assert "\x1b" not in played.stdout
    assert played.stderr == ""
    out = tmp_path / "x.cast"
    assert cluster.run("tsh", "recordings", "export", sid, f"--out={out}").returncode == 0
    assert cluster.run("tsh", "play", str(out), "--format=text").stdout == played.stdout
    kept = cluster.root / "web-1" / "log" / "records"
    eventually(lambda: not list(kept.glob(f"{sid}*")), what="the node to keep nothing of it")
    assert [each["sid"] for each in cluster.events("session.upload")] == [sid]
    assert cluster.events("recording.access")[0]["user"] == "user:alice"
    cluster.tctl("recordings", "rm", sid)
    assert sids("recordings") == []
