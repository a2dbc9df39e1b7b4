"""The worker, where the others do not play along."""

import pytest

from teleport_lite.node import worker
from teleport_lite.node.wire import Link, Reply


def test_a_broker_that_does_not_answer_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user can stop it; and the client may have left long ago."""
    monkeypatch.setattr(worker, "_BROKER_TIME", 0.1)
    monitor, ours = Link.pair()
    broker, line = Link.pair()
    monitor.send(Reply(ok=True), line.fileno())
    line.close()
    desk = worker.Desk(ours)
    assert desk.login("root", "ssh-ed25519-cert-v01@openssh.com", b"", b"").ok
    with pytest.raises(EOFError):
        desk.ask("open session")
    for end in (monitor, ours, broker):
        end.close()
    assert desk._broker is not None
    desk._broker.close()
