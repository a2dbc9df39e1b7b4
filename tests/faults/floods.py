"""Hundreds who open a connection and never say what they want, while others log in.

Half of them speak TLS and drip the head of a request, a line every two seconds; the others greet an
SSH server and fall silent. Whom a server closes tries again.
"""

import asyncio
import itertools
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from teleport_lite.errors import Error
from tests.faults.outages import World
from tests.faults.people import visitor
from tests.faults.report import Run
from tests.faults.warm import warm_for

REPO = Path(__file__).parent.parent.parent
# Goals of the plan: seconds, of nineteen logins out of twenty.
P95 = 2.0
DRIP, AGAIN = 2.0, 0.5  # seconds
GIVES_UP = 30.0  # seconds, of somebody who is turned away and tries again


def floods(run: Run) -> None:
    """From one address, and from hundreds."""
    count, logins = run.size(20, 500), run.size(3, 20)
    with warm_for(run) as warm:
        world = World(run, warm, direct=1, tunnels=1, hosts=1)
        alice = visitor(world.auth, world.proxy, "alice-2")
        ways: dict[str, Callable[[], object]] = {
            "password": alice.login,
            "ssh straight to a node": lambda: _comes_in(world, "direct-0"),
            "ssh through the proxy": lambda: _comes_in(world, "tunnel-0"),
        }
        for what, way in ways.items():
            _measure(run, f"{what}, without a flood", way, logins, goal=False)
        text = (world.root / "ssh_config").read_text()
        found = re.search(r"Host direct-0\n.*\n Port (\d+)", text)
        assert found is not None
        node = f"127.0.0.1:{found[1]}"
        for sources in (1, run.size(2, count)):
            from_ = f"from {sources} address{'es' if sources > 1 else ''}"
            with Flood(web=[world.proxy], ssh=[node, world.proxy], count=count, sources=sources):
                run.report.fault(f"silent connections {from_}", 2 * count)
                time.sleep(run.size(2.0, 10.0))
                for what, way in ways.items():
                    _measure(run, f"{what}, {from_}", way, logins, goal=True)
        daemons = [world.auth.daemon, *world.daemons]
        ended = [str(each.log) for each in daemons if each is not None and each.ended()]
        troubles = world.auth.troubles()
    run.report.none("daemons that have ended", ended, count=len(daemons))
    run.report.none("what is wrong in the store", troubles, count=logins)


def _comes_in(world: World, way: str) -> None:
    if not world.comes_in(way):
        raise ConnectionError("turned away")


def _measure(run: Run, what: str, way: Callable[[], object], logins: int, *, goal: bool) -> None:
    """Whoever is turned away tries again, and all of it counts."""
    took, turned_away = [], 0
    for _ in range(logins):
        began = time.monotonic()
        while True:
            try:
                way()
                break
            except (Error, OSError) as why:
                turned_away += 1
                if time.monotonic() > began + GIVES_UP:
                    run.report.none(f"{what}: given up", [why], count=logins)
                    break
        took.append(time.monotonic() - began)
    p95 = statistics.quantiles(took, n=20, method="inclusive")[18]
    if goal:
        run.report.at_most(f"{what}, p95", round(p95, 2), P95, "s", count=logins)
        run.report.told(f"{what}: turned away", turned_away, count=logins)
    else:
        run.report.told(f"{what}, p95", round(p95, 2), "s", count=logins)


class Flood:
    """`count` connections of each kind, by a process of its own. A context manager."""

    def __init__(self, *, web: list[str], ssh: list[str], count: int, sources: int) -> None:
        self._asked = {"web": web, "ssh": ssh, "count": count, "sources": sources}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.floods", json.dumps(self._asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": str(REPO)},
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"all have tried\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)


# --- the process of the flood


async def _main(asked: dict[str, Any]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    sources = itertools.cycle(_addresses(asked["sources"]))
    tried = asyncio.Semaphore(0)
    everybody = [
        asyncio.create_task(_again(host, next(sources), drip, tried))
        for number in range(asked["count"])
        for host, drip in (
            (asked["web"][number % len(asked["web"])], context),
            (asked["ssh"][number % len(asked["ssh"])], None),
        )
    ]
    for _ in everybody:
        await tried.acquire()
    print("all have tried", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


def _addresses(count: int) -> Iterator[str]:
    """Of loopback; 127.0.0.1 is that of the others."""
    for number in range(count):
        yield f"127.0.{1 + number // 250}.{1 + number % 250}"


async def _again(
    address: str, source: str, drip: ssl.SSLContext | None, tried: asyncio.Semaphore
) -> None:
    host, _, port = address.rpartition(":")
    first = True
    while True:
        try:
            async with asyncio.timeout(15 if first else None):
                how: dict[str, Any] = {"ssl": drip} if drip else {}
                reader, writer = await asyncio.open_connection(
                    host, int(port), local_addr=(source, 0), **how
                )
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" if drip else b"SSH-2.0-silent\r\n")
        except (OSError, TimeoutError):
            pass
        else:
            if first:
                tried.release()
                first = False
            await _stay(reader, writer, drips=drip is not None)
        if first:
            tried.release()
            first = False
        await asyncio.sleep(AGAIN)


async def _stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, drips: bool) -> None:
    """Until it is closed."""
    try:
        while True:
            try:
                async with asyncio.timeout(DRIP):
                    if not await reader.read(4096):
                        return
            except TimeoutError:
                if drips:
                    writer.write(b"X-More: x\r\n")
    except OSError:
        return
    finally:
        writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
