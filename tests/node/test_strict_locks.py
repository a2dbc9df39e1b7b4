"""`strict_locks`: nobody new while auth was silent for so long that it may have locked them."""

from pathlib import Path

from teleport_lite.agent import heard
from teleport_lite.agent.heard import Heard
from teleport_lite.ambient import SystemClock
from teleport_lite.testing.fakes import FakeClock
from tests.node.house import House, running
from tests.node.test_refusals import refused


def last_heard(house: House, *, ago: float) -> None:
    """As a process that heard it then has noted it."""
    then = FakeClock()
    then.tick(seconds=SystemClock().uptime() - ago)
    Heard(house.data_dir, then).note()


def test_a_silence_of_ten_minutes_lets_nobody_new_in(tmp_path: Path) -> None:
    with running(tmp_path, settings={"strict_locks": True}) as house:
        never = "strict_locks: nothing was heard from auth since this host has started"
        assert refused(house.visitor()) == never
        last_heard(house, ago=540)
        assert not refused(house.visitor())
        client = house.visitor().start("echo in; cat")
        assert client.stdin
        assert client.stdout
        assert client.stdout.readline() == b"in\n"
        last_heard(house, ago=720)
        reason = "strict_locks: nothing was heard from auth for 12 min"
        assert refused(house.visitor()) == reason
        house.tell("recheck")
        client.stdin.write(b"still\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"still\n", "who is inside stays"
        client.kill()
        client.wait()
        Heard(house.data_dir, SystemClock()).note()
        assert not refused(house.visitor()), "as soon as auth is back"


def test_an_open_connection_gets_nothing_new_either_and_keeps_what_runs(tmp_path: Path) -> None:
    with running(tmp_path, settings={"strict_locks": True}) as house:
        last_heard(house, ago=0)
        visitor = house.visitor()
        with visitor.master(tmp_path / "control") as shared:
            client = visitor.start("echo in; cat", options=shared)
            assert client.stdin
            assert client.stdout
            assert client.stdout.readline() == b"in\n"
            last_heard(house, ago=720)
            reason = "strict_locks: nothing was heard from auth for 12 min"
            assert visitor.ssh("true", options=shared).returncode == 255
            house.event("T1006W", reason=reason)
            assert visitor.ssh(options=[*shared, "-W", "127.0.0.1:1"]).returncode == 255
            house.event("T3003E", reason=reason)
            client.stdin.write(b"still\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"still\n", "what runs stays"
            last_heard(house, ago=0)
            assert visitor.ssh("true", options=shared).returncode == 0, "as soon as auth is back"
            client.stdin.close()
            assert client.wait(30) == 0


def test_without_it_what_was_known_counts(tmp_path: Path) -> None:
    with running(tmp_path) as house:
        assert heard.silence(house.data_dir, SystemClock()) is None
        assert not refused(house.visitor())
