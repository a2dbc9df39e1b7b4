#!/usr/bin/env python3
"""Tunnels: bulk against `ssh -R`, set-up against direct TCP, idle cost, storms, and a mesh.

    .venv/bin/python -m benchmarks.tunnels [--rounds N] [ROW ...]

Proxies and agents are processes forked from this one, on the product's own code; many agents
share a process, so that thousands fit. Needs sshd, ssh and haproxy.
"""

import argparse
import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.tunnel_ends import Ends, Process, blast, free_port, wait_for_port

Figure = Callable[..., Any]
BULK = 256 << 20
SETUPS = 200
QUIET = 15.0  # seconds in which idle tunnels are watched


def rows(world: Any, rounds: int, figure: Figure) -> list[Any]:
    few = max(3, rounds // 3)
    return [
        *bulk(world, few, figure),
        *setup(world, few, figure),
        *keys(world, few, figure),
        *idle(world, few, figure),
        *storm(world, few, figure),
        *mesh(world, few, figure),
    ]


# --- bulk


def bulk(world: Any, rounds: int, figure: Figure) -> list[Any]:
    """MiB/s of one session: ratio above 1 is faster than ssh -R."""
    figures = []
    with Ends() as ends, SshReverse(world.root / "ssh-r") as peer:
        proxy, (agent,) = ends.proxy(), ends.agents(1, plain=True)
        ends.await_tunnels(proxy, 1)
        _move(lambda: ends.session(proxy, agent), b"D", BULK // 8)
        _move(peer.session, b"D", BULK // 8)
        for way, words in ((b"U", "to the host"), (b"D", "from the host")):
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(_move(lambda: ends.session(proxy, agent), way, BULK))
                theirs.append(_move(peer.session, way, BULK))
            figures.append(
                figure(
                    f"bulk through a tunnel, {words}",
                    "ssh -R through sshd, aes128-gcm",
                    ours,
                    theirs,
                    unit="MiB/s",
                    budget=">= 0.6",
                )
            )
    return figures


def _move(session: Callable[[], socket.socket], way: bytes, size: int) -> float:
    with session() as wire:
        began = time.perf_counter()
        wire.sendall(way + struct.pack(">Q", size))
        if way == b"D":
            memory, left = memoryview(bytearray(1 << 18)), size
            while left:
                got = wire.recv_into(memory)
                if not got:
                    raise SystemExit("the far end has closed")
                left -= got
        else:
            data, left = memoryview(bytes(1 << 18)), size
            while left:
                left -= wire.send(data[: min(left, len(data))])
            if wire.recv(1) != b"k":
                raise SystemExit("the far end has closed")
        return size / (1 << 20) / (time.perf_counter() - began)


class SshReverse:
    """sshd, and an ssh -R to it that leads to a server of the same kind as our far end."""

    def __init__(self, root: Path) -> None:
        self.root, self._running = root, []  # type: ignore[var-annotated]
        root.mkdir()

    def __enter__(self) -> "SshReverse":
        for name in ("host", "user"):
            command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / name))
            subprocess.run(command, check=True)
        (self.root / "authorized").write_text((self.root / "user.pub").read_text())
        port, target, self.port = free_port(), free_port(), free_port()
        self._target = Process.fork(lambda _: _serve_blast(target))
        config = self.root / "sshd_config"
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.root / 'host'}\n"
            f"AuthorizedKeysFile {self.root / 'authorized'}\nPidFile none\nUsePAM no\n"
            "PermitRootLogin yes\nStrictModes no\nPasswordAuthentication no\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        sshd = ["/usr/sbin/sshd", "-D", "-f", str(config)]
        self._running.append(subprocess.Popen(sshd, **quiet))  # type: ignore[call-overload]
        wait_for_port(port)
        # fmt: off
        ssh = [
            "ssh", "-F", "none", "-N", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes",
            "-o", "ExitOnForwardFailure=yes", "-c", "aes128-gcm@openssh.com",
            "-i", str(self.root / "user"), "-p", str(port),
            "-R", f"127.0.0.1:{self.port}:127.0.0.1:{target}", "127.0.0.1",
        ]
        # fmt: on
        self._running.append(subprocess.Popen(ssh, **quiet))  # type: ignore[call-overload]
        wait_for_port(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._target.stop()
        for process in reversed(self._running):
            process.terminate()
            process.wait(timeout=20)

    def session(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port))


def _serve_blast(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            wire, _ = listener.accept()
            with wire:
                blast(wire)


# --- set-up


def setup(_: Any, rounds: int, figure: Figure) -> list[Any]:
    """Milliseconds from connect to the first byte back; the far end is a server in the agent."""
    with Ends() as ends:
        proxy, (agent,) = ends.proxy(), ends.agents(1, echo=True, plain=True)
        ends.await_tunnels(proxy, 1)
        direct = ends.echo_port
        ours, theirs = [], []
        for number in range(rounds + 1):
            through = statistics.median(
                _first_byte(lambda: ends.session(proxy, agent)) for _ in range(SETUPS)
            )
            straight = statistics.median(
                _first_byte(lambda: socket.create_connection(("127.0.0.1", direct)))
                for _ in range(SETUPS)
            )
            if number:
                ours.append(through)
                theirs.append(straight)
        added = statistics.median(a - b for a, b in zip(ours, theirs, strict=True))
        return [
            figure(
                f"session set-up through a tunnel (+{added:.2f} ms)",
                "direct TCP to the same process",
                ours,
                theirs,
                unit="ms",
                budget="+3 ms",
            )
        ]


def _first_byte(session: Callable[[], socket.socket]) -> float:
    began = time.perf_counter()
    with session() as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(b"x")
        wire.recv(1)
        return (time.perf_counter() - began) * 1000


# --- keys


def keys(_: Any, __: int, figure: Figure) -> list[Any]:
    """Milliseconds for a keystroke and its echo on a line of 2 MiB/s and 20 ms each way."""
    with Ends() as ends:
        proxy = ends.proxy()
        line = ends.link(proxy.port, rate=2 << 20, delay=0.02)
        (agent,) = ends.agents(1, plain=True, via=line)
        ends.await_tunnels(proxy, 1)
        with ends.session(proxy, agent) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.sendall(b"E" + struct.pack(">Q", 1 << 40))
            idle_line = _keystrokes(wire)
            busy = [
                threading.Thread(target=_keep_busy, args=(ends, proxy, agent, way), daemon=True)
                for way in (b"D", b"U")
            ]
            for each in busy:
                each.start()
            time.sleep(2)
            beside = _keystrokes(wire)
        return [
            figure(
                "keystroke beside bulk both ways, 2 MiB/s, median",
                "the same on the idle line",
                [statistics.median(beside)],
                [statistics.median(idle_line)],
                unit="ms",
                budget="300 ms",
            )
        ]


def _keep_busy(ends: Ends, proxy: Any, host_id: str, way: bytes) -> None:
    with suppress(OSError, SystemExit):  # in the end nobody is there any more
        _move(lambda: ends.session(proxy, host_id), way, 256 << 20)


def _keystrokes(wire: socket.socket) -> list[float]:
    took = []
    for _ in range(40):
        began = time.perf_counter()
        wire.sendall(b"k")
        wire.recv(1)
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(0.1)
    return took


# --- idle


def idle(_: Any, __: int, figure: Figure) -> list[Any]:
    """KiB for each tunnel in the proxy, and how much of a core all of them take."""
    figures, sizes = [], []
    with Ends() as ends:
        proxy = ends.proxy()
        empty, before = proxy.rss_kib(), 0
        for count in (1000, 5000):
            ends.agents(count - before)
            ends.await_tunnels(proxy, count)
            before = count
            time.sleep(2)
            share = proxy.cpu_share(QUIET)
            each = (proxy.rss_kib() - empty) / count
            sizes.append(proxy.rss_kib())
            figures += [
                figure(
                    f"an idle tunnel on the proxy, {count} of them",
                    "ssh -R process pair, 3.3 MiB (earlier)",
                    [each],
                    [3.3 * 1024],
                    unit="KiB",
                    budget="60 KiB",
                ),
                figure(
                    f"idle CPU of the proxy, {count} tunnels",
                    "one core",
                    [share * 100],
                    [100],
                    unit="%",
                    budget="6 % at 5,000",
                ),
            ]
        grown = (sizes[1] - sizes[0]) / 4000
        print(f"growth from 1,000 to 5,000 tunnels: {grown:.1f} KiB each", file=sys.stderr)
    return figures


# --- storm


def storm(_: Any, __: int, figure: Figure) -> list[Any]:
    """Seconds from the moment the proxy listens again until the last tunnel is back."""
    figures = []
    for count in (1000, 2000):
        with Ends() as ends:
            proxy = ends.proxy()
            ends.agents(count)
            ends.await_tunnels(proxy, count)
            proxy.kill()
            time.sleep(5)
            again = ends.proxy(like=proxy)
            began = time.perf_counter()
            half = ends.await_tunnels(again, count // 2) - began
            took = ends.await_tunnels(again, count) - began
            figures.append(
                figure(
                    f"{count} tunnels back after a proxy restart (half in {half:.1f} s)",
                    "budget of 10 s",
                    [took],
                    [10],
                    unit="s",
                    budget="10 s",
                )
            )
    return figures


# --- mesh


def mesh(world: Any, __: int, figure: Figure) -> list[Any]:
    """Seconds until 200 hosts that know one address each have a tunnel to all of 3 proxies."""
    with Ends() as ends:
        proxies = [ends.proxy(passes_on=True) for _ in range(3)]
        ends.tell_places(proxies)
        port = free_port()
        config = world.root / "haproxy.cfg"
        servers = "\n".join(
            f"  server p{n} 127.0.0.1:{each.port}" for n, each in enumerate(proxies)
        )
        config.write_text(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen tunnels\n  bind 127.0.0.1:{port}\n  maxconn 4000\n"
            f"  balance roundrobin\n{servers}\n"
        )
        haproxy = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(config)])
        try:
            wait_for_port(port)
            began = time.perf_counter()
            ends.agents(200, proxies=proxies, shared=f"127.0.0.1:{port}")
            for each in proxies:
                took = ends.await_tunnels(each, 200) - began
            # Making 200 agents in one process is part of it.
        finally:
            haproxy.terminate()
            haproxy.wait(timeout=20)
        return [
            figure(
                "mesh of 200 hosts and 3 proxies, round robin only",
                "budget of 10 s",
                [took],
                [10],
                unit="s",
                budget="10 s",
            )
        ]


ROWS = {"bulk": bulk, "setup": setup, "keys": keys, "idle": idle, "storm": storm, "mesh": mesh}


def main() -> int:
    from benchmarks.bench import figure, show

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all if none is given")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="tl-tunnels-") as root:
        world = SimpleNamespace(root=Path(root), python=os.path.realpath(sys.executable))
        for name in asked.rows or ROWS:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures += ROWS[name](world, max(3, asked.rounds // 3), figure)
    show(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
