#!/usr/bin/env python3
"""Pass-through: what the proxy does with a connection to auth, against haproxy in TCP mode.

    .venv/bin/python benchmarks/passthrough.py [--rounds N] [--mib N]

Both are one process with one thread, pinned to the same core if there are two; the load, client
and server, runs on the other. Ours is net/port.py and net/splice.py as the proxy uses them.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
if not __package__:  # run as a file
    sys.path.insert(0, str(ROOT))

MIB = 1 << 20
# Bytes each way for one figure. What a Port lets through has to begin like something it knows.
SIZE = 1024 * MIB
HELLO = b"SSH-2.0-bench\r\n"
TRIPS = 400
HAPROXY = """\
global
  maxconn 1000
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  {option}
listen bench
  bind 127.0.0.1:{port}
  server load 127.0.0.1:{target}
"""


def rows(_: object, rounds: int, figure: Callable[..., Any], *, size: int = SIZE) -> list[Any]:
    """The shape that benchmarks/bench.py wants; a world is not needed."""
    with ExitStack() as stack:
        load = stack.enter_context(Load.running(size))
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tl-pass-")))
        relays = {
            "ours": stack.enter_context(ours(load.port)),
            "haproxy": stack.enter_context(haproxy(root, load.port, "")),
            "splicing": stack.enter_context(haproxy(root, load.port, "option splice-auto")),
        }
        taken: dict[tuple[str, str], list[float]] = {}
        for turn in range(rounds + 1):
            for name, relay in relays.items():
                for what, value in measure(load, relay).items():
                    if turn:  # the first round is for warming up
                        taken.setdefault((name, what), []).append(value)
    return list(_figures(taken, figure))


def _figures(
    taken: dict[tuple[str, str], list[float]], figure: Callable[..., Any]
) -> Iterator[Any]:
    wanted = [
        ("speed up", "pass-through, client to server", "MiB/s", ">= 0.9 x"),
        ("speed down", "pass-through, server to client", "MiB/s", ">= 0.9 x"),
        ("cpu up", "CPU of it, client to server", "s/GiB", "<= 0.7 x"),
        ("cpu down", "CPU of it, server to client", "s/GiB", "<= 0.7 x"),
        ("trip", "a byte there and back", "us", ""),
    ]
    peers = {"haproxy": "haproxy, mode tcp", "splicing": "haproxy, option splice-auto"}
    for peer, name in peers.items():
        for what, words, unit, budget in wanted:
            mine, theirs = taken["ours", what], taken[peer, what]
            limit = budget if peer == "haproxy" else ""
            yield figure(words, name, mine, theirs, unit=unit, budget=limit)


# --- the load


class Load:
    """Both ends of every connection, in this process. Bytes come from a file and are dropped."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._file = os.memfd_create("load")
        os.ftruncate(self._file, 16 * MIB)
        os.pwrite(self._file, os.urandom(16 * MIB), 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    @classmethod
    @contextmanager
    def running(cls, size: int) -> "Iterator[Load]":
        load = cls(size)
        try:
            yield load
        finally:
            load._listener.close()
            os.close(load._file)

    def through(self, port: int) -> tuple[socket.socket, socket.socket]:
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(HELLO)
        server, _ = self._listener.accept()
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = 0
        while got < len(HELLO):
            got += len(server.recv(len(HELLO) - got))
        return client, server

    def send(self, wire: socket.socket) -> None:
        left = self.size
        while left:
            left -= os.sendfile(wire.fileno(), self._file, 0, min(left, 16 * MIB))

    def discard(self, wire: socket.socket) -> None:
        """MSG_TRUNC on TCP (tcp(7)): bytes are dropped in the kernel."""
        left, room = self.size, bytearray(4 * MIB)
        while left:
            got = wire.recv_into(room, min(left, len(room)), socket.MSG_TRUNC)
            if not got:
                raise SystemExit("the relay has closed the connection")
            left -= got


def measure(load: Load, relay: "Relay") -> dict[str, float]:
    found = {}
    for name in "up", "down":
        client, server = load.through(relay.port)
        source, sink = (client, server) if name == "up" else (server, client)
        spent, began = relay.cpu(), time.perf_counter()
        sender = threading.Thread(target=load.send, args=(source,))
        sender.start()
        load.discard(sink)
        wall = time.perf_counter() - began
        sender.join()
        client.close()
        server.close()
        found[f"speed {name}"] = load.size / MIB / wall
        found[f"cpu {name}"] = (relay.cpu() - spent) / (load.size / (1 << 30))
    found["trip"] = _trips(load, relay)
    return found


def _trips(load: Load, relay: "Relay") -> float:
    client, server = load.through(relay.port)
    times = []
    for _ in range(TRIPS):
        began = time.perf_counter()
        client.sendall(b"x")
        server.recv(1)
        server.sendall(b"y")
        client.recv(1)
        times.append((time.perf_counter() - began) * 1e6)
    client.close()
    server.close()
    return statistics.median(times)


# --- the relays


class Relay:
    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process, self.port = process, port

    def cpu(self) -> float:
        """Seconds on a processor, to the nanosecond, in the kernel too (proc(5), schedstat)."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9


@contextmanager
def running(command: list[str], port: int) -> Iterator[Relay]:
    process = subprocess.Popen(command, preexec_fn=lambda: pin(0))
    try:
        _wait_for(port)
        yield Relay(process, port)
    finally:
        process.terminate()
        process.wait(timeout=20)


def ours(target: int) -> Any:
    port = _free_port()
    return running([sys.executable, __file__, "--relay", str(port), str(target)], port)


def haproxy(root: Path, target: int, option: str) -> Any:
    port = _free_port()
    config = root / f"{port}.cfg"
    config.write_text(HAPROXY.format(port=port, target=target, option=option))
    return running(["haproxy", "-q", "-db", "-f", str(config)], port)


def pin(core: int) -> None:
    if len(cores := sorted(os.sched_getaffinity(0))) > 1:
        os.sched_setaffinity(0, {cores[core]})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    """Listening; a connection would be passed on to the load."""
    wanted, deadline = f"0100007F:{port:04X} 00000000:0000 0A", time.monotonic() + 20
    while wanted not in Path("/proc/net/tcp").read_text():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing listens on port {port}")
        time.sleep(0.02)


def relay(port: int, target: int) -> None:
    """Ours, until it is ended."""
    import uvloop

    from teleport_lite.net.port import Arrival, Port
    from teleport_lite.net.splice import connect, splice

    async def route(arrival: Arrival) -> None:
        server = await connect([f"127.0.0.1:{target}"], timeout=5)
        await splice(arrival.socket, server, idle=60)

    async def serve() -> None:
        Port(route=route).listen(socket.create_server(("127.0.0.1", port)))
        await asyncio.Event().wait()

    uvloop.run(serve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--mib", type=int, default=SIZE // MIB, help="each way and round")
    parser.add_argument("--relay", nargs=2, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.relay:
        relay(*asked.relay)
        return
    from benchmarks.bench import figure, show

    pin(-1)
    show(rows(None, asked.rounds, figure, size=asked.mib * MIB))


if __name__ == "__main__":
    main()
