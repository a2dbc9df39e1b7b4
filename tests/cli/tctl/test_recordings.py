"""tctl recordings, against auth's own desks."""

import json
from pathlib import Path

import pytest

from tests.auth.tapes import SID, Archive, sid
from tests.auth.test_recordings import a_tape
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth
from tests.cli.real_auth import put_behind


@pytest.fixture
def archive(auth: FakeAuth, tmp_path: Path) -> Archive:
    made = Archive(tmp_path)
    put_behind(auth, made.desks)
    for number in range(3):
        made.send(a_tape(), sid(number), user="alice" if number else "ed", command="top")
    return made


def test_recordings_are_listed_and_removed(tctl: Tool, archive: Archive) -> None:
    said = tctl("recordings", "ls", "--from-utc=2026-03-01", "--format=json")
    assert sorted(each["sid"] for each in json.loads(said.out)) == [sid(n) for n in range(3)]
    said = tctl("recordings", "ls", "--from-utc=2026-03-02", "--user=ed")
    assert len(said.out.splitlines()) == 3
    assert sid(0) in said.out
    assert tctl("recordings", "ls", "--to-utc=2026-03-01").out.count("\n") == 2
    said = tctl("recordings", "rm", sid(1), sid(2).upper())
    assert (said.code, said.err) == (0, "")
    assert said.out.count("has been removed") == 2
    assert archive.sids() == [sid(0)]


def test_what_is_not_there_can_not_be_removed(tctl: Tool, archive: Archive) -> None:
    said = tctl("recordings", "rm", SID)
    assert said.code == 3
    assert "there is no recording of session" in said.err
    assert tctl("recordings", "rm", "x").code == 1
    assert len(archive.sids()) == 3
