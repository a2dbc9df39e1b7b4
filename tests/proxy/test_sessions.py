"""Sessions through a proxy, where what was decided meets what has changed meanwhile."""

import asyncio
from typing import Any

import pytest

from teleport_lite.errors import Denied
from teleport_lite.model.lock import Target
from teleport_lite.proto.reach import ReachRequest
from teleport_lite.proto.stream import AgentEvent, Knowledge
from teleport_lite.proxy.access import Caller
from teleport_lite.proxy.reach import Client, Reached
from teleport_lite.proxy.sessions import Sessions
from tests.proxy.rig import ALICE, CLIENT, a_judge, a_lock, a_pair, knowledge, route, run

WISH = ReachRequest(host="web-1", login="root")


class Held:
    """A way to a node that has been dialled, and answers when it is let."""

    def __init__(self, reached: Reached) -> None:
        self.reached = reached
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def connect(self, request: ReachRequest, caller: Caller, client: Client) -> Reached:
        assert (request, caller, client) == (WISH, ALICE, CLIENT)
        self.asked.set()
        await self.answers.wait()
        return self.reached


NO_MORE = {
    "locked": knowledge(a_lock(Target.USER, "alice")),
    "without the role": knowledge(roles=()),
}


@pytest.mark.parametrize("leaf", ["", "leaf.example"])
@pytest.mark.parametrize("how", NO_MORE)
def test_who_is_allowed_no_more_while_the_node_is_dialled_does_not_get_there(
    how: str, leaf: str
) -> None:
    """Of roles at a leaf only the leaf knows; locks of ours hold for it, too."""
    known: Knowledge = NO_MORE[how]

    async def body() -> None:
        async with a_pair() as (transport, node):
            node_1: Any = route(1, labels={"env": "prod"})
            held = Held(Reached(transport=transport, route=node_1, via="direct", by="x", leaf=leaf))
            judge, events = a_judge(), list[AgentEvent]()
            sessions = Sessions(reach=held, judge=judge, clock=judge._clock, on_event=events.append)
            opening = asyncio.ensure_future(sessions.open(WISH, ALICE, CLIENT))
            await held.asked.wait()
            judge.learn(known)
            sessions.recheck()
            held.answers.set()
            if leaf and how != "locked":
                (await opening).abandon()
                return
            with pytest.raises(Denied):
                await opening
            assert await asyncio.get_running_loop().sock_recv(node, 1) == b""
            assert (len(sessions), sessions.opened, sessions.refused) == (0, 0, 1)
            assert not sessions._taken
            assert [(event.code, event.outcome) for event in events] == [("TSC01W", "denied")]
            await sessions.close()

    run("asyncio", body)
