"""The auth service's own desks behind the fake's socket: what tctl says, answered for real."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from teleport_lite.ambient import Clock, SystemChance, SystemClock
from teleport_lite.auth.api import ROUTES, answer
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.desks import Desks, build
from teleport_lite.auth.start import found_cluster
from teleport_lite.net.problems import problem
from teleport_lite.plugin.builtin import builtin_book
from teleport_lite.store.memory import MemoryStore
from tests.cli.fake_auth import FakeAuth

CLUSTER = "tele.example.com"
ADDRESS = "10.12.0.6:3025"
ADMIN = Caller(kind=Kind.ADMIN, name="root", address="local")


class Problem(dict[str, Any]):
    def __init__(self, why: Exception) -> None:
        self.status, body = problem(why, "t1")
        super().__init__(body)


class Late(SystemClock):
    """A clock that is `behind`: what is signed by it has expired already."""

    def __init__(self, behind: timedelta) -> None:
        self._behind = behind

    def now(self) -> datetime:
        return super().now() - self._behind


def desks(clock: Clock | None = None, cluster: str = CLUSTER) -> Desks:
    store, clock, chance = MemoryStore(), clock or SystemClock(), SystemChance()
    found_cluster(store, name=cluster, clock=clock, chance=chance)
    return build(
        clock=clock,
        chance=chance,
        store=store,
        book=builtin_book(),
        cluster=cluster,
        version="0.1.0",
        auth_address=ADDRESS,
    )


def put_behind(fake: FakeAuth, made: Desks, caller: Caller = ADMIN) -> None:
    for path in ROUTES:
        fake.answers[path] = _answering(made, path, caller)


def _answering(
    made: Desks, path: str, caller: Caller
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def respond(asked: dict[str, Any]) -> dict[str, Any]:
        try:
            found = answer(made, path, caller, json.dumps(asked).encode())
        except Exception as why:  # as the server does it: a bug is an answer too
            return Problem(why)
        assert isinstance(found, dict)
        return found

    return respond
