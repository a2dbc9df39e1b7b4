"""What a broker can not stop: it belongs to the login user, who may make it say anything. And what
a worker can not: it may be in the hands of a stranger."""

from typing import Any, cast

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.node.wire import FromBroker, FromWorker, Link, Login, SessionStarted
from teleport_lite.proto.codec import write
from tests.fuzz.of_node import _HASH as HASH
from tests.fuzz.of_node import Line, Nobody, a_monitor
from tests.fuzz.of_node import _good as good_login


class Swept(Nobody):
    """A family that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return lambda *_args, **_more: None


@pytest.mark.parametrize("last", [b"garbage", b'{"started": 1}', b"[" * 5000])
def test_nonsense_at_the_end_does_not_save_what_a_lock_ends(last: bytes) -> None:
    line, family = Line(), Swept()
    monitor = a_monitor(line)
    ours, theirs = Link.pair()
    monitor._family, monitor._lodging = cast(Any, family), cast(Any, Nobody())
    monitor._broker, monitor._cut_reason = ours, "user alice is locked"
    theirs._sock.send(_started(1))
    theirs._sock.send(last)
    monitor._finish()
    theirs.close()
    assert "sweep" in family.asked
    kinds = [said.event.kind for said in line.said if said.event is not None]
    assert kinds == ["session.start", "session.end"]


def test_a_broker_that_makes_up_sessions_is_heard_up_to_a_limit() -> None:
    line = Line()
    monitor = a_monitor(line)
    monitor._lodging = cast(Any, Nobody())
    ours, theirs = Link.pair()
    for number in range(1200):
        theirs._sock.send(_started(number))
        monitor._hear_broker(ours)
    ours.close()
    theirs.close()
    assert len(monitor._story._open) == 1000
    assert len(monitor._recorder._counts._sids) <= 1024


def _started(number: int) -> bytes:
    sid = f"{number:08x}-b260-41d0-bb5a-e23b0cfe0f8f"
    session = SessionStarted(sid=sid, command=None, pty=True, channel=number)
    return write(FromBroker(started=session))


def test_a_worker_that_goes_on_after_the_last_try_is_ended() -> None:
    """Each refusal would put off the end by a moment, and fill the trail."""
    monitor = a_monitor(Line())
    ours, theirs = Link.pair()
    login = Login(login="root", algorithm="ssh-ed25519-cert-v01@openssh.com", certificate=b"no")
    for _ in range(monitor._settings.tries):
        theirs.send(FromWorker(login=login))
        assert monitor._hear_worker(ours)
    theirs.send(FromWorker(login=login))
    with pytest.raises(Malformed, match="after the last try"):
        monitor._hear_worker(ours)
    ours.close()
    theirs.close()


def test_what_is_heard_of_while_somebody_moves_in_is_looked_at_afterwards() -> None:
    monitor = a_monitor(Line())
    marks = iter([(1,), (2,)])  # modules of PAM may take their time between the two
    gate = cast(Any, monitor._gate)
    gate.mark = lambda: next(marks)
    welcome = gate.admit(good_login(), HASH)
    gate.admit = lambda *_given: welcome
    looked: list[Any] = []
    gate.decide_again = lambda visitor: looked.append(visitor)
    monitor._let_in = lambda _link, admitted: monitor._is_in(admitted)  # type: ignore[method-assign]
    ours, theirs = Link.pair()
    monitor._answer_login(ours, good_login())
    monitor._look_again(asked=False)
    assert looked
    ours.close()
    theirs.close()
