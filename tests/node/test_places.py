"""Counting the connections of a user, so that nobody has to tidy up."""

import os
import signal
import stat
from pathlib import Path

from teleport_lite.node.places import DIRECTORY, take_place
from teleport_lite.node.processes import fork_child
from tests.support import eventually


def holder(data_dir: Path, user: str, most: int) -> int:
    """A process that has a place, as a monitor has."""
    told, tell = os.pipe()

    def body() -> None:
        place = take_place(data_dir, user, most)
        os.write(tell, b"no" if place is None else b"ok")
        signal.pause()

    pid = fork_child("holder", body, [tell])
    os.close(tell)
    said = os.read(told, 2)
    os.close(told)
    assert said == b"ok"
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_place_is_free_again_when_its_process_has_died(tmp_path: Path) -> None:
    first, second = holder(tmp_path, "alice", 2), holder(tmp_path, "alice", 2)
    assert take_place(tmp_path, "alice", 2) is None
    end(first)
    place = take_place(tmp_path, "alice", 2)
    assert place is not None
    assert take_place(tmp_path, "alice", 2) is None
    place.leave()
    end(second)


def test_connections_without_a_limit_count_for_those_with_one(tmp_path: Path) -> None:
    pid = holder(tmp_path, "alice", 0)
    assert take_place(tmp_path, "alice", 1) is None
    end(pid)


def test_users_do_not_share(tmp_path: Path) -> None:
    pid = holder(tmp_path, "alice", 1)
    place = take_place(tmp_path, "bob", 1)
    assert place is not None
    place.leave()
    end(pid)


def test_nothing_is_left_of_those_who_leave(tmp_path: Path) -> None:
    place = take_place(tmp_path, "../x" * 100, 1)
    assert place is not None
    [room] = (tmp_path / DIRECTORY).iterdir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in room.iterdir()} == {0o600}
    place.leave()
    assert [path.name for path in room.iterdir()] == [".lock"]
    eventually(lambda: take_place(tmp_path, "../x" * 100, 1))
