"""Many hosts at once, each a process of its own: forked from one that has imported everything.

    racers.py race  ADDRESS TOKEN COUNT       one join each, all released together
    racers.py flood ADDRESS TOKEN WORKERS LOG joins in a loop until stdin closes

`race` prints one line a process: "joined UUID" or "refused CODE MESSAGE". `flood` appends the
UUID of every answered join to LOG, with one write(2) each.
"""

import os
import select
import sys

from teleport_lite.agent.join import JoinRequest, join
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Error, Unavailable
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


def flood(address: str, token: str, workers: int, path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    parent = os.getpid()
    children = []
    for number in range(workers):
        pid = os.fork()
        if pid == 0:
            turn = 0
            while os.getppid() == parent:
                turn += 1
                try:
                    host_id = one(address, token, "App", f"flood-{number}-{turn}")
                except Unavailable:
                    select.select([], [], [], 0.02)
                    continue
                os.write(log, f"{host_id}\n".encode())
            os._exit(0)
        children.append(pid)
    sys.stdin.read()
    for pid in children:
        os.kill(pid, 15)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    if sys.argv[1] == "race":
        race(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        flood(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
