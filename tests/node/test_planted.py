"""A fault in the code that strangers' bytes reach: what it would give away, which is nothing."""

import json
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.house import House
from tests.node.planted import BROKER_WORDS, WORKER_WORDS, tries
from tests.node.test_isolation import Session, as_root, memory


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[House]:
    """`planted` says what is wrong with it."""
    house = House(tmp_path)
    house.python = [sys.executable, "-c", "from tests.node.planted import main; main()"]
    house.start()
    try:
        yield house
    finally:
        house.stop()


class Intrusion:
    """What the code of an intruder is told, and what it reports."""

    def __init__(self, house: House, tmp_path: Path, mine: Session, victim: Session) -> None:
        self._report = socket.create_server(("127.0.0.1", 0))
        self._report.settimeout(30)
        others = tmp_path / "others"
        others.write_text("not yours")
        others.chmod(0o600)
        os.chown(others, pwd.getpwnam("daemon").pw_uid, -1)
        signer = house.one("tl-ssh-signer")
        family = {
            "the victim's monitor": victim.monitor,
            "the victim's worker": victim.worker,
            "the victim's broker": victim.broker,
            "the victim's shell": victim.shell,
            "my monitor": mine.monitor,
            "the signer": signer,
            "the zygote": house.zygote,
            "the daemon": house.daemon.pid,
        }
        secrets = [path for path in house.data_dir.rglob("*") if path.is_file()]
        key = house.host.ssh_private.reveal().split("\n")[2].encode()
        assert any(key in path.read_bytes() for path in secrets)
        self.facts = {
            "report": self._report.getsockname()[1],
            "files": [str(path) for path in (*secrets, others, Path("/etc/shadow"))],
            "processes": family,
        }
        # A way that cannot be gone by its owner would not tell anything about an intruder.
        assert all(memory(pid) for pid in family.values())

    def said(self) -> dict[str, Any]:
        with self._report:
            line, _ = self._report.accept()
            with line, line.makefile("rb") as report:
                return dict(json.loads(report.read()))


@as_root
def test_code_planted_in_a_worker_finds_nothing(faulty: House, other: str, tmp_path: Path) -> None:
    visitor = faulty.visitor(faulty.cluster.user(logins=(other,)))
    mine, victim = Session(visitor, login=other), Session(faulty.visitor())
    intrusion = Intrusion(faulty, tmp_path, mine, victim)
    assert mine.client.stdin
    mine.client.stdin.write(WORKER_WORDS + json.dumps(intrusion.facts).encode() + b"\n")
    mine.client.stdin.flush()
    said = intrusion.said()
    assert said["pid"] == mine.worker
    assert said["uid"] not in (0, pwd.getpwnam(other).pw_uid)
    assert said["worked"] == []
    assert said["failed"] > 60
    assert victim.echoes()
    assert victim.end() == 0
    mine.end()


@as_root
def test_code_planted_in_a_broker_finds_what_its_user_may_and_nothing_more(
    faulty: House, other: str, tmp_path: Path
) -> None:
    papers = faulty.cluster.user(logins=(other,))
    mine, victim = Session(faulty.visitor(papers), login=other), Session(faulty.visitor())
    intrusion = Intrusion(faulty, tmp_path, mine, victim)
    command = BROKER_WORDS.decode() + json.dumps(intrusion.facts)
    client = faulty.visitor(papers).start(command, login=other)
    said = intrusion.said()
    assert said["uid"] == pwd.getpwnam(other).pw_uid
    assert said["worked"] == []
    assert said["failed"] > 60
    client.kill()
    client.wait()
    assert victim.echoes()
    assert victim.end() == 0
    mine.end()


@as_root
def test_what_is_tried_there_works_for_somebody_who_may(house: House) -> None:
    """Or else the two above would be happy about nothing at all."""
    victim = Session(house.visitor())
    facts = {"files": ["/etc/shadow"], "processes": {"the shell": victim.shell}}
    failed = {what for what, attempt in tries(facts).items() if not attempt()}
    # Containers may forbid this call to everybody (seccomp).
    assert failed <= {"pidfd_getfd of the shell"}
    victim.end()
