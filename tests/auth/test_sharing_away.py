"""An auth server that can not reach the database, beside one that can."""

import pytest

from teleport_lite.errors import Unavailable
from tests.auth.test_sharing import NODE, A, B, Pair, Stream, node


def lose_database(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of A."""

    def away(*_: object) -> None:
        raise Unavailable("cannot read database: nobody listens there")

    presence = pair.a.desks.presence
    monkeypatch.setattr(
        presence, "_store", type("Away", (), {"host": away, "hosts": away, "write": away})()
    )


def test_hosts_that_are_sent_away_are_told_why_and_the_other_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pair()
    stream = Stream(pair.a, node())
    stream.beat()
    pair.tick()
    lose_database(pair, monkeypatch)
    pair.a.desks.presence.send_away(Unavailable("another one can"))
    assert (stream.over, stream.refusal) == (True, "another one can")
    assert pair.a.desks.presence.streams() == []
    after = Stream(pair.b, node())
    after.beat()
    monkeypatch.undo()
    pair.tick()
    assert pair.store.host(NODE)[1].via == B  # type: ignore[index]
    assert pair.a.ask("/v1/nodes/list")["nodes"][0]["state"] == "online"


def test_a_goodbye_while_the_database_is_away_is_written_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pair()
    stream = Stream(pair.a, node())
    stream.beat()
    pair.tick()
    lose_database(pair, monkeypatch)
    stream.say(goodbye={})
    monkeypatch.undo()
    assert pair.store.host(NODE)[1].via == A  # type: ignore[index]
    pair.tick()
    assert pair.b.ask("/v1/nodes/list")["nodes"][0]["state"] == "offline"
