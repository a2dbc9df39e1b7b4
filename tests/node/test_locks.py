"""Locks and changed roles reach those who are inside already."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.model.lock import Target
from teleport_lite.model.user import Condition
from tests.node.house import ME, ROLE, House, running
from tests.support import eventually


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    with running(tmp_path, settings={"recheck_every": 0.3, "hang_up_time": 0.5}) as house:
        yield house


def session(house: House, command: str = "echo $$; cat") -> tuple[subprocess.Popen[bytes], int]:
    client = house.visitor().start(command)
    assert client.stdout
    return client, int(client.stdout.readline())


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_lock_cuts_a_session_at_the_daemon_s_word(own: House) -> None:
    client, shell = session(own)
    own.lock(Target.USER, "alice")
    own.tell("recheck")
    assert client.wait(60) == 255
    eventually(lambda: not alive(shell), what="the shell to end")
    end = own.event("T2004I")
    assert end["facts"]["reason"] == "user alice is locked"


def test_a_session_is_cut_when_its_role_no_longer_allows_it(own: House) -> None:
    client, _ = session(own)
    own.roles = [replace(ROLE, allow=Condition(logins=("somebody",), node_labels={"*": ("*",)}))]
    own.save_knowledge()
    own.tell("recheck")
    assert client.wait(60) == 255
    assert own.event("T2004I")["facts"]["reason"] == f"no role allows login {ME} here"


def test_others_stay(own: House) -> None:
    locked, _ = session(own)
    client = own.visitor(own.cluster.user("bob", logins=(ME,))).start("echo up; cat")
    assert client.stdin
    assert client.stdout
    client.stdout.readline()
    own.lock(Target.USER, "alice")
    own.tell("recheck")
    assert locked.wait(60) == 255
    client.stdin.write(b"me too\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"me too\n"


def test_a_lock_works_without_the_daemon(own: House) -> None:
    client, shell = session(own)
    own.daemon.kill()
    own.daemon.wait(60)
    own.lock(Target.LOGIN, ME)
    assert client.wait(60) == 255
    eventually(lambda: not alive(shell), what="the shell to end")


def test_nothing_of_a_locked_visitor_goes_on_not_even_a_daemon(own: House) -> None:
    """One that ignores the hang-up, and one that has left the session and its parent behind."""
    stubborn = "trap '' HUP TERM; sleep 1000"
    gone = "setsid sh -c 'sleep 1000 & echo $!' </dev/null 2>&1 | head -n 1"
    client, shell = session(own, f"echo $$; {gone}; {stubborn}")
    assert client.stdout
    daemon = int(client.stdout.readline())
    assert alive(daemon)
    own.lock(Target.USER, "alice")
    own.tell("recheck")
    assert client.wait(60) == 255
    eventually(lambda: not alive(shell) and not alive(daemon), what="all of it to end")


def test_a_broker_that_the_visitor_has_stopped_does_not_help(own: House) -> None:
    client, shell = session(own)
    broker = int(Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(broker, 19)  # SIGSTOP
    own.lock(Target.USER, "alice")
    own.tell("recheck")
    assert client.wait(60) == 255
    eventually(lambda: not alive(shell) and not alive(broker), what="all of it to end")


def test_what_a_visitor_leaves_running_stays_when_they_just_go(own: House) -> None:
    client, _ = session(own, "echo $$; nohup sleep 1000 >/dev/null 2>&1 & echo $!; exit 0")
    assert client.stdout
    left = int(client.stdout.readline())
    assert client.wait(60) == 0
    eventually(lambda: not own.named("tl-ssh-monitor"), what="the monitor to end")
    assert alive(left)
    os.kill(left, 9)


def test_knowledge_that_cannot_be_read_cuts_nobody(own: House) -> None:
    client, _ = session(own)
    assert client.stdin
    assert client.stdout
    (own.data_dir / "knowledge.json").write_text("{")
    own.tell("recheck")
    time.sleep(0.3)  # nothing happens, and nothing tells that it does not
    client.stdin.write(b"here\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"here\n"
