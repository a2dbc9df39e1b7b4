"""Hosts of an auth server that can not reach the database, while another one can."""

from teleport_lite.daemon.send_on import LOOK_EVERY, PATIENCE, SURE, SendOn
from teleport_lite.errors import Error, Unavailable
from teleport_lite.testing.fakes import FakeClock

THERE, AWAY = "10.0.0.2:3025", "10.0.0.3:3025"


class Servers:
    """This one and two others."""

    def __init__(self) -> None:
        self.clock, self.trouble = FakeClock(), ""
        self.theirs = {THERE: ""}  # their trouble; who is not in it does not answer
        self.known = {"b": AWAY, "c": THERE}
        self.sent: list[Error] = []
        self.send_on = SendOn(
            clock=self.clock,
            trouble=lambda: self.trouble,
            others=lambda: self.known,
            ask=self._ask,
            send=self.sent.append,
        )
        self.send_on.tick()

    def _ask(self, address: str) -> str:
        if address not in self.theirs:
            raise Unavailable("can not be reached")
        return self.theirs[address]

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_EVERY)):
            self.send_on.tick()
            self.clock.tick(seconds=LOOK_EVERY)


LONG = PATIENCE + (SURE + 1) * LOOK_EVERY


def test_hosts_are_sent_to_the_one_that_can() -> None:
    servers = Servers()
    servers.trouble = "nobody listens there"
    servers.known = {}  # of whom nothing can be heard any more
    servers.run(PATIENCE)
    assert not servers.sent
    servers.run(LONG)
    assert THERE in servers.sent[0].message


def test_while_the_database_is_away_for_all_everybody_stays() -> None:
    servers = Servers()
    servers.trouble = servers.theirs[THERE] = "nobody listens there"
    servers.run(10 * LONG)
    servers.theirs.clear()
    servers.run(10 * LONG)
    assert not servers.sent


def test_a_database_that_is_back_is_not_noticed_by_all_at_once() -> None:
    servers = Servers()
    servers.trouble = servers.theirs[THERE] = "nobody listens there"
    servers.run(LONG)
    servers.theirs[THERE] = ""
    servers.run(LOOK_EVERY * (SURE - 1))
    servers.trouble = ""
    servers.run(LONG)
    servers.trouble = "nobody listens there"  # and the next time it begins anew
    servers.run(PATIENCE)
    assert not servers.sent


def test_while_all_is_well_nobody_is_asked() -> None:
    servers = Servers()
    servers.theirs.clear()
    servers.run(LONG)
    assert not servers.sent
