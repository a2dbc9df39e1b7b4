"""tsh join: what auth is asked, and what the system's ssh is told."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from teleport_lite.cli.tsh.join import words
from teleport_lite.client import profile
from teleport_lite.client.facts import Facts
from teleport_lite.client.profile import Profile
from teleport_lite.errors import Malformed
from teleport_lite.model.user import JoinMode
from tests.auth.tapes import SID
from tests.cli.tsh.conftest import Tsh
from tests.cli.tsh.node import BINARY, LOGIN, node
from tests.cli.tsh.recordings_rig import UUID, a_session, refusal
from tests.client.fake_proxy import CLUSTER, FakeProxy, running, to_port
from tests.client.test_profile import credentials

# A subsystem that says what it was given; what is typed comes back.
SCRIPT = """\
#!/bin/sh
echo "in:$TELEPORT_SESSION:$TELEPORT_JOIN_MODE"
test -t 0 && echo tty
echo "agent:$SSH_AUTH_SOCK."
head -n 1
exit 5
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeProxy, dict[str, str]]]:
    """A proxy with a node behind it, and the environment of somebody who is logged in."""
    if BINARY is None:
        pytest.skip("needs OpenSSH's sshd")
    directory = tmp_path_factory.mktemp("ws")
    script = directory / "subsystem"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    more = f"AcceptEnv TELEPORT_*\nSubsystem join@teleport-lite {script}\n"
    with (
        running(FakeProxy(logins=(LOGIN,))) as proxy,
        node(proxy.cluster, tmp_path_factory.mktemp("node"), host_id=UUID, more=more) as port,
    ):
        proxy.gate = to_port(port)
        home = directory / ".tsh"
        mine = Profile(
            proxy="localhost", user="alice", cluster=CLUSTER, web_proxy_addr=proxy.address
        )
        profile.save(home, mine, credentials(proxy.cluster, "alice", logins=(LOGIN,)))
        config = directory / ".ssh"
        config.mkdir(mode=0o700)
        (config / "config").write_text("Host *\n  RemoteCommand true\n  LocalForward 1 x:1\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "TELEPORT_HOME": str(home),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
        }
        yield proxy, environment


def at_terminal(environment: dict[str, str], *typed: str) -> tuple[int, bytes]:
    """Exit code of `tsh ...` on a terminal of its own, and what was shown."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "teleport_lite", "tsh", *typed],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    seen, deadline, sent = b"", time.monotonic() + 60, False
    while time.monotonic() < deadline:
        if b"agent:" in seen and not sent:
            sent = bool(os.write(master, b"hello there\r"))
        if select.select([master], [], [], 0.2)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
        elif process.poll() is not None:
            break
    os.close(master)
    return process.wait(30), seen


def test_the_session_is_joined_on_its_node(place: tuple[FakeProxy, dict[str, str]]) -> None:
    proxy, environment = place
    proxy.answers["/v1/sessions/join"] = a_session(login=LOGIN, mode="peer")
    code, seen = at_terminal(environment, "join", SID, "-m", "peer")
    assert f"in:{SID}:peer".encode() in seen, seen
    assert b"tty" in seen
    assert b"agent:." in seen
    assert seen.count(b"hello there") >= 1
    assert code == 5
    assert proxy.asked[-1] == ("/v1/sessions/join", {"sid": SID, "mode": "peer"})
    assert proxy.reached[-1]["host"] == UUID
    assert proxy.reached[-1]["login"] == LOGIN


def test_who_only_looks_is_the_usual(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/sessions/join"] = refusal(
        403, "denied", "no role allows joining this session as observer", "tctl get roles"
    )
    said = tsh("join", SID)
    assert said.code == 4
    assert "no role allows joining this session as observer" in said.err
    assert proxy.asked[-1][1] == {"sid": SID, "mode": "observer"}


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (404, "not_found", f"session {SID} is not open", 3),
        (409, "conflict", f"session {SID} is over", 1),
    ],
)
def test_why_it_can_not_be_joined_is_said(
    tsh: Tsh,
    alice: Profile,
    proxy: FakeProxy,
    status: int,
    code: str,
    message: str,
    expected: int,
) -> None:
    proxy.answers["/v1/sessions/join"] = refusal(status, code, message)
    said = tsh("join", SID)
    assert (said.code, said.err) == (expected, f"ERROR: {message}\n")


def test_a_mode_is_one_of_two(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    assert tsh("join", SID, "--mode=moderator").code == 2
    assert proxy.asked == []


@pytest.mark.parametrize(
    "changes",
    [{"host_id": "-oProxyCommand=x"}, {"host_id": "web-1"}, {"login": "-oX"}, {"login": "a b"}],
)
def test_an_answer_does_not_become_an_option_of_ssh(changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        words(SID, JoinMode.PEER, Facts(a_session(**changes), "auth"), CLUSTER)
