"""Recordings of a host go to auth, over the wire."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent import uploads
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import join
from teleport_lite.agent.record_spool import PLACE, RecordSpool, Waiting
from teleport_lite.agent.renew import renew
from teleport_lite.agent.uploads import LOOK, REFUSED_FOR, Uploads
from teleport_lite.auth.desks import Keeping
from teleport_lite.errors import Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.testing.fakes import FakeChance
from tests.agent.rig import Auth
from tests.agent.test_rotation import rotate
from tests.auth.tapes import SID, a_tape, sid
from tests.support import eventually, free_port


class Still:
    """Nobody asks it to stop."""

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        raise AssertionError("once() does not wait")


class Node:
    """A host that has joined, and its spool."""

    def __init__(self, auth: Auth, data_dir: Path, me: Identity) -> None:
        self.auth, self.me, self.place = auth, me, data_dir / PLACE
        self.place.mkdir(parents=True, mode=0o700)
        self.states: list[str] = []
        self.uploads = self.made(data_dir, auth.address)

    def made(self, data_dir: Path, *servers: str) -> Uploads:
        return Uploads(
            data_dir=data_dir,
            identity=lambda: self.me,
            servers=servers,
            clock=self.auth.bench.clock,
            chance=FakeChance("uploads"),
            on_state=self.states.append,
        )

    def record(self, session: str = SID, tape: bytes | None = None, **facts: Any) -> bytes:
        tape = a_tape() if tape is None else tape
        said = {"user": "alice", "login": "root", "started": 1, "ended": 2, "complete": True}
        for suffix, data in ((".cast", tape), (".json", json.dumps(said | facts).encode())):
            path = self.place / f"{session}{suffix}"
            path.write_bytes(data)
            path.chmod(0o600)
        return tape

    def waiting(self) -> list[str]:
        return sorted(path.name for path in self.place.iterdir())

    def kept(self, session: str = SID) -> Any:
        return self.auth.bench.store.recording(session)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Auth]:
    keeping = Keeping(directory=tmp_path / "records", quota=10**7, retention=timedelta(days=1))
    with Auth(keeping=keeping) as running:
        yield running


@pytest.fixture
def node(archive: Auth, tmp_path: Path) -> Node:
    archive.bench.token()
    return Node(archive, tmp_path / "data", join(archive.wish()))


def test_recordings_are_sent_and_then_forgotten(node: Node) -> None:
    tapes = [node.record(sid(number), a_tape(f"session {number}")) for number in range(3)]
    assert node.uploads.once(Still()) == LOOK
    assert node.waiting() == []
    for number, tape in enumerate(tapes):
        kept = node.kept(sid(number))
        assert (kept.size, kept.host_id, kept.complete) == (len(tape), node.me.host_id, True)
    assert node.states == []


def test_a_large_one_takes_several_parts(node: Node) -> None:
    tape = node.record(tape=a_tape(*["x" * 200_000] * 12))
    node.uploads.once(Still())
    assert node.kept().size == len(tape)
    assert node.kept().events == 12


def test_what_a_crash_left_is_sent_as_incomplete(node: Node) -> None:
    path = node.place / f"{SID}.part"
    path.write_bytes(a_tape("one", "two")[:-5])
    node.uploads.once(Still())
    assert node.waiting() == [f"{SID}.part"]
    node.auth.bench.clock.tick(minutes=1)
    node.uploads.once(Still())  # finishes it
    node.uploads.once(Still())
    assert node.waiting() == []
    assert (node.kept().events, node.kept().complete) == (1, False)


def test_they_wait_for_as_long_as_auth_is_away(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node.record()
    away = node.made(tmp_path / "data", f"127.0.0.1:{free_port()}", node.auth.address)
    with caplog.at_level(logging.WARNING, "teleport_lite.agent"):
        pause = away.once(Still())
    assert 0 < pause <= uploads.BACKOFF[1]
    assert node.waiting() == [f"{SID}.cast", f"{SID}.json"]
    assert "recordings wait on this host (0 KiB): " in caplog.text
    assert away.once(Still()) == LOOK  # the next server in turn
    assert node.waiting() == []
    assert len(node.states) == 2
    assert node.states[1] == ""


def test_the_pause_grows_to_a_limit_and_trouble_is_told_once(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node.record()
    away = node.made(tmp_path / "data", f"127.0.0.1:{free_port()}")
    pauses = [away.once(Still()) for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pauses[-2] <= uploads.BACKOFF[1]
    assert caplog.text.count("recordings wait on this host") == 1


def test_no_room_at_auth_is_said_and_the_spool_is_kept(node: Node, archive: Auth) -> None:
    archive.bench.desks.uploads._quota = 1
    node.record()
    node.uploads.once(Still())
    assert node.waiting() == [f"{SID}.cast", f"{SID}.json"]
    assert node.states[-1].startswith("no room for recordings: ")
    archive.bench.desks.uploads._quota = 0
    node.uploads.once(Still())
    assert node.waiting() == []
    assert node.states[-1] == ""


def test_one_that_is_refused_does_not_hold_up_the_others(
    node: Node, archive: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    node.record(sid(1))
    node.uploads.once(Still())
    node.record(sid(1), a_tape("another story"))
    node.record(sid(2))
    node.record(sid(3), b"no line")
    assert node.uploads.once(Still()) == LOOK
    assert node.kept(sid(2)) is not None
    assert node.waiting() == [f"{sid(n)}{end}" for n in (1, 3) for end in (".cast", ".json")]
    assert f"recording {sid(1)} stays on this host: there is another recording" in caplog.text
    asked = len(caplog.records)
    node.uploads.once(Still())
    assert len(caplog.records) == asked
    archive.bench.ask("/v1/recordings/remove", sid=sid(1))
    archive.bench.clock.tick(seconds=REFUSED_FOR)
    node.uploads.once(Still())
    assert node.kept(sid(1)) is not None


def test_a_cut_connection_goes_on_where_it_was(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = node.record(tape=a_tape(*["x" * 250_000] * 10))
    sent: list[int] = []
    real = Connection.ask

    def ask(wire: Connection, path: str, message: Any = None) -> Any:
        if path.endswith("/part"):
            sent.append(message.at)
            if len(sent) == 3:
                wire.close()
                wire._wire.close()
        return real(wire, path, message)

    monkeypatch.setattr(Connection, "ask", ask)
    node.uploads.once(Still())
    assert node.states != []
    assert node.kept() is None
    node.uploads.once(Still())
    assert node.kept().size == len(tape)
    assert sent[2] == sent[3] > 0


def test_one_that_outlives_the_ca_of_its_connection_goes_on_with_the_new_certificate(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = node.record(tape=a_tape(*["x" * 200_000] * 12))
    asked, phases = uploads._asked, ["init", "update_clients", "update_servers", "standby"]

    def meanwhile(*words: Any) -> Any:
        answer = asked(*words)
        while phases:
            rotate(node.auth, phase := phases.pop(0))
            if phase != "standby":
                node.me = renew(node.me, [node.auth.address], node_name="web-1")
        return answer

    monkeypatch.setattr(uploads, "_asked", meanwhile)
    assert node.uploads.once(Still()) < LOOK
    assert "renewed meanwhile" in node.states[-1]
    assert node.uploads.once(Still()) == LOOK
    assert node.kept().size == len(tape)
    assert node.waiting() == []


def test_it_stops_in_the_middle_when_asked_to(node: Node) -> None:
    node.record(tape=a_tape(*["x" * 250_000] * 10))
    node.record(sid(9))

    class Soon(Still):
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 3

    node.uploads.once(Soon())
    assert node.kept() is None
    assert len(node.waiting()) == 4


def test_a_host_that_was_removed_keeps_its_recordings(node: Node, archive: Auth) -> None:
    node.record()
    archive.bench.ask("/v1/resources/remove", kind="node", name=node.me.host_id)
    node.uploads.once(Still())
    assert len(node.waiting()) == 2
    assert "is not part of this cluster any more" in node.states[-1]


def test_it_runs_until_it_is_told_to_stop(node: Node) -> None:
    node.record()
    stopping = threading.Event()
    thread = threading.Thread(target=node.uploads.run, args=(stopping,))
    thread.start()
    try:
        eventually(lambda: node.kept() is not None)
    finally:
        stopping.set()
        thread.join(30)
    assert not thread.is_alive()


def test_a_file_that_can_not_be_read_holds_up_no_other(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        node.record(sid(number), a_tape(f"session {number}"))
    opened = RecordSpool.open

    def broken(self: RecordSpool, session: str) -> Waiting:
        if session == sid(1):
            raise Unavailable("input/output error")
        return opened(self, session)

    monkeypatch.setattr(RecordSpool, "open", broken)
    assert node.uploads.once(Still()) == LOOK
    assert node.kept(sid(2)) is not None
    assert f"{sid(1)}.cast" in node.waiting()


def test_who_gives_up_waits_for_no_answer_and_keeps_nobody_out(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.record()
    stopping, silent = threading.Event(), node.made(tmp_path / "data", node.auth.address)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(silent, "_connected", lambda: Connection(ours, "auth", timeout=300))
        thread = threading.Thread(target=silent.run, args=(stopping,))
        thread.start()
        theirs.recv(1)  # it has asked, and hears nothing
        stopping.set()
        silent.give_up()
        thread.join(timeout=30)
        assert not thread.is_alive()
    node.uploads.once(Still())
    assert node.kept() is not None
