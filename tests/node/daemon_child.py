"""A daemon that is only a node: what daemon/ wires for real, in a process of its own.

Arguments: data directory, file for events, JSON of Settings and Limits to change, and of a file
for the names of modules that children of the zygote import. Prints one
JSON line when it listens, then obeys words on stdin: recheck, counters, sessions,
parties, close, quit.
"""

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.net.ssh_limits import Limits
from teleport_lite.net.ssh_listen import SshListener
from teleport_lite.node import zygote
from teleport_lite.node.settings import Settings
from teleport_lite.proto.codec import write
from teleport_lite.proto.stream import AgentEvent

# Runs in the zygote before its own code. What is imported in its children is written down in
# memory that all share, for workers may write to no file.
WATCH = """\
import mmap, os, sys
with open({path!r}, "r+b") as file:
    written = mmap.mmap(file.fileno(), 0)
def watch(event, arguments, born=os.getpid(), pid=os.getpid, frame=sys._getframe):
    if event != "import" or pid() == born:
        return
    caller = frame(1)
    while caller is not None and "importlib" in caller.f_code.co_filename:
        caller = caller.f_back
    where = f"{{caller.f_code.co_filename}}:{{caller.f_lineno}}" if caller else ""
    line = f"{{arguments[0]}} at {{where}}\\n".encode()
    at = int.from_bytes(written[:4], "big") or 4
    if at + len(line) < len(written):
        written[at : at + len(line)] = line
        written[:4] = (at + len(line)).to_bytes(4, "big")
sys.addaudithook(watch)
def control():
    try:
        import no_such_module
    except ImportError:
        pass
os.register_at_fork(after_in_child=control)
"""


async def serve(born: zygote.Zygote, data_dir: Path, events: Path, changes: dict[str, Any]) -> None:
    limits = changes.get("limits", {})
    if limits.pop("punish_everybody", False):
        limits["exempt"] = ()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def keep(event: AgentEvent) -> None:
        with events.open("ab") as file:
            file.write(write(event) + b"\n")

    listener = SshListener(
        sockets=[listening],
        zygote=born,
        on_event=keep,
        clock=SystemClock(),
        chance=SystemChance(),
        on_lost=lambda: say(lost=True),
        limits=Limits(**limits),
        returns=data_dir,
    )
    await listener.start()
    say(port=listening.getsockname()[1], zygote=born.pid)
    words = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    while word := (await words.readline()).decode().strip():
        if word == "recheck":
            listener.recheck()
        elif word == "counters":
            fields = listener.counters.__slots__
            say(**{name: getattr(listener.counters, name) for name in fields})
        elif word == "sessions":
            say(sessions=[each.command for each in listener.sessions()])
        elif word == "parties":
            facts = {each.sid: each for each in listener.sessions()}
            say(
                **{
                    sid: {"parties": each.parties, "recorded": each.recorded}
                    for sid, each in facts.items()
                }
            )
        elif word == "close":
            await listener.close()
            say(closed=True)
        elif word == "quit":
            break


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    data_dir, events, changes = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    if "watch_imports" in changes:
        zygote._CODE = WATCH.format(path=changes["watch_imports"]) + zygote._CODE
    zygote_first = zygote.start(Settings(data_dir=data_dir, **changes.get("settings", {})))
    zygote_first.settle()
    asyncio.run(serve(zygote_first, data_dir, events, changes))
