"""Many hosts at once, each a process of its own: forked from one that has imported everything.

    racers.py ADDRESS TOKEN COUNT       one join each, all released together

It prints one line a process: "joined UUID" or "refused CODE MESSAGE".
"""

import os
import sys

from teleport_lite.agent.join import JoinRequest, join
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Error
from teleport_lite.secret import Secret


def one(address: str, token: str, role: str, name: str) -> str:
    request = JoinRequest(
        servers=(address,),
        token=Secret(token),
        pins=(),
        roles=(role,),
        node_name=name,
        clock=SystemClock(),
        say=lambda _: None,
    )
    return join(request).host_id


def race(address: str, token: str, count: int) -> None:
    gate_out, gate_in = os.pipe()
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
