"""Many hosts at once, each a process of its own: forked from one that has imported everything.

    racers.py ADDRESS TOKEN COUNT       one join each, all released together

It prints one line a process: "joined UUID" or "refused CODE MESSAGE".
"""

import os
import sys
import time

from teleport_lite.agent import join as agent_join
from teleport_lite.agent.join import JoinRequest, Keys, join
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Error, Unavailable
from teleport_lite.proto.join import token_name
from teleport_lite.secret import Secret
from tests.faults.crowd import Kept


def one(address: str, token: str, role: str, name: str) -> str:
    """Who is not answered in time asks again with the same keys, as `teleport-lite start` does:
    so many at once may be slow, and are to be told one thing or the other."""
    request = JoinRequest(
        servers=(address,),
        token=Secret(token),
        pins=(),
        roles=(role,),
        node_name=name,
        clock=SystemClock(),
        say=lambda _: None,
        keeper=Kept(Keys.new()),
    )
    while True:
        try:
            return join(request).host_id
        except Unavailable:
            time.sleep(0.2)


def race(address: str, token: str, count: int) -> None:
    gate_out, gate_in = os.pipe()
    # The slow hash is the hosts' own time, of which there is little on one machine.
    name = token_name(Secret(token))
    agent_join.token_name = lambda _: name  # type: ignore[attr-defined]
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(gate_in)
            os.read(gate_out, 1)  # end of file when the gate opens
            try:
                line = f"joined {one(address, token, 'Bot', f'racer-{number}')}"
            except Error as why:
                line = f"refused {why.code} {why.message}"
            os.write(1, f"{line}\n".encode())
            os._exit(0)
        children.append(pid)
    os.close(gate_in)
    for pid in children:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    race(sys.argv[1], sys.argv[2], int(sys.argv[3]))
