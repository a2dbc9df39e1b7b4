"""Recordings that another auth server keeps: fetched from there, and removed there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.auth.recordings import RecordingDesk
from teleport_lite.errors import Denied, NotFound, Unavailable
from teleport_lite.proto.codec import Message
from teleport_lite.store.memory import MemoryStore
from tests.auth.bench import the_host
from tests.auth.tapes import SID, Archive, a_tape
from tests.auth.test_sharing import A, B


class Two:
    """Archives A and B, on one store, each with files of its own."""

    def __init__(self, root: Path) -> None:
        store = MemoryStore()
        self.away = False
        self.asked: list[tuple[str, str]] = []
        self.a = self._archive(root / "a", store, A)
        self.b = self._archive(root / "b", store, B)

    def _archive(self, root: Path, store: MemoryStore, me: str) -> Archive:
        root.mkdir()
        archive = Archive(root, store=store)
        desk = archive.desks.recordings
        desk._me, desk._ask = (lambda: me), self._ask  # as daemon/auth_role.py hands them over
        archive.desks.uploads._me = lambda: me
        return archive

    def _ask(self, host_id: str, path: str, message: Message) -> Any:
        if self.away:
            raise Unavailable("this is kept by auth server auth-a (10.0.0.1:3025)")
        self.asked.append((host_id, path))
        there: RecordingDesk = {A: self.a, B: self.b}[host_id].desks.recordings
        return there.piece(message) if path.endswith("piece") else there.dropped(message)  # type: ignore[arg-type]


@pytest.fixture
def two(tmp_path: Path) -> Two:
    pair = Two(tmp_path)
    pair.a.send(a_tape())
    return pair


def test_it_is_read_at_either(two: Two) -> None:
    assert two.b.play() == two.a.play()
    assert two.asked[0] == (A, "/v1/auth/recordings/piece")
    assert two.b.sids() == two.a.sids() == [SID]


def test_who_may_not_read_it_is_refused_where_she_asks(two: Two) -> None:
    other = SID.replace("c5", "c6")
    two.a.send(a_tape(), other, user="ed")
    with pytest.raises(Denied):
        two.b.play(other, caller=two.b.alice)
    assert two.asked == []


def test_one_that_can_not_be_fetched_now_says_who_has_it(two: Two) -> None:
    two.away = True
    with pytest.raises(Unavailable, match="kept by auth server auth-a"):
        two.b.play()


def test_removed_at_one_the_file_goes_at_the_other(two: Two) -> None:
    assert two.a.files() != []
    two.b.ask("/v1/recordings/remove", sid=SID)
    assert two.a.files() == []
    assert two.a.desks.uploads._used == 0


def test_removed_while_the_other_is_away_the_file_goes_when_it_starts_again(
    two: Two, tmp_path: Path
) -> None:
    two.a.send(a_tape("another"), SID.replace("c5", "c6"))
    two.away = True
    two.b.ask("/v1/recordings/remove", sid=SID)
    assert len(two.a.files()) == 2
    assert len(Archive(tmp_path / "a", store=two.a.store).files()) == 1


def test_a_file_of_the_index_is_not_dropped_for_another(two: Two) -> None:
    with pytest.raises(Exception, match="is in the index"):
        two.a.ask("/v1/auth/recordings/dropped", auth_server(two), sid=SID)
    assert two.a.files() != []


def test_what_is_kept_elsewhere_is_not_fetched_through_a_third(two: Two) -> None:
    """Two that are each asked for what the other has would go on for ever."""
    with pytest.raises(NotFound, match="not kept here"):
        two.b.ask("/v1/auth/recordings/piece", auth_server(two), sid=SID)


def test_a_file_that_was_moved_here_is_read_here(two: Two) -> None:
    before, [name] = two.a.play(), two.a.files()
    (two.a.records / name).rename(two.b.records / name)
    assert two.b.play() == before
    assert two.asked == []


def auth_server(two: Two) -> Any:
    known = two.a.store.host(two.a.web.name)
    assert known is not None
    host = replace(known[0], id=A, name="auth-a", roles=("Auth",))
    two.a.store.write(lambda tx: tx.put_host(host))
    return the_host(A, "Auth")
