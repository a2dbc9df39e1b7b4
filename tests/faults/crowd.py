"""Hosts that join, one after the other, while somebody breaks what they join; each writes down
what it was answered.

    with Crowd(servers, token, root / "joins", workers=4, rate=20) as crowd:
        ...
    crowd.answered()

A host that is not answered asks again with the same key, as `teleport-lite start` does.
"""

import json
import os
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from teleport_lite.agent import join as agent_join
from teleport_lite.agent.join import JoinRequest, Keys, join
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Error, Unavailable
from teleport_lite.proto.join import token_name
from teleport_lite.secret import Secret

REPO = Path(__file__).parent.parent.parent
PAUSE = 0.05  # seconds between two tries


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One host, and how it ended for it."""

    token: int  # number of the token in the order they were given
    host_id: str = ""  # "": refused
    refusal: str = ""
    at: float = 0.0  # monotonic
    took: float = 0.0  # seconds, of the try that was answered
    tries: int = 1
    trouble: float = 0.0  # seconds from the first try that failed to the answer
    told: str = ""  # what the first of them was told


class Crowd:
    """A context manager. On the way out everybody gets an answer first, if there is one."""

    def __init__(
        self,
        servers: Sequence[str],
        tokens: Sequence[str] | str,
        path: Path,
        *,
        workers: int = 3,
        rate: float = 0.0,
        role: str = "App",
        pins: Sequence[str] = (),
        patient: bool = False,
    ) -> None:
        """`rate` joins a second in all; 0: as fast as they can. With a single token it is used
        again and again; several are for once each, and all workers race for each of them.
        `patient`: whatever they are told, they try again."""
        self.path = path
        self._asked = {
            "servers": list(servers),
            "tokens": [tokens] if isinstance(tokens, str) else list(tokens),
            "path": str(path),
            "workers": workers,
            "rate": rate,
            "role": role,
            "pins": list(pins),
            "patient": patient,
        }

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crowd", json.dumps(self._asked)],
            stdin=subprocess.PIPE,
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": str(REPO)},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=110)
        self.ended = time.monotonic()

    def done(self) -> bool:
        """Of a race: is every token decided?"""
        return self._process.poll() is not None

    def count(self) -> int:
        return len(self._lines())

    def answers(self) -> list[Answer]:
        return [Answer(**json.loads(each)) for each in self._lines()]

    def _lines(self) -> list[str]:
        """That are written to their end: somebody may be about to."""
        text = self.path.read_text() if self.path.exists() else ""
        return text.splitlines()[: text.count("\n")]

    def answered(self) -> list[str]:
        return [each.host_id for each in self.answers() if each.host_id]


class Kept:
    """The key of a join stays the same until it is answered."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def take(self) -> Keys:
        return self._keys

    def keep(self, keys: Keys) -> None:
        del keys

    def drop(self) -> None:
        return


def _once(
    asked: dict[str, Any], name: str, number: int, goes_on: Callable[[], bool]
) -> Answer | None:
    servers, keeper = list(asked["servers"]), Kept(Keys.new())
    failed_at, told, tries = 0.0, "", 0
    while True:
        tries += 1
        began = time.monotonic()
        request = JoinRequest(
            servers=tuple(servers),
            token=Secret(asked["tokens"][number]),
            pins=tuple(asked["pins"]),
            roles=(asked["role"],),
            node_name=name,
            clock=SystemClock(),
            say=lambda _: None,
            keeper=keeper,
        )
        try:
            host_id, refusal = join(request).host_id, ""
        except Unavailable as why:
            failed_at, told = failed_at or began, told or why.message
            if not goes_on():
                return None
            servers.append(servers.pop(0))
            select.select([], [], [], PAUSE)
            continue
        except Error as why:
            if asked["patient"] and goes_on():
                failed_at, told = failed_at or began, told or why.message
                continue
            host_id, refusal = "", f"{why.code}: {why.message}"
        now = time.monotonic()
        return Answer(
            token=number,
            host_id=host_id,
            refusal=refusal,
            at=now,
            took=now - began,
            tries=tries,
            trouble=now - failed_at if failed_at else 0.0,
            told=told,
        )


def _work(asked: dict[str, Any], worker: int, log: int, goes_on: Callable[[], bool]) -> None:
    """The servers in another order for each, so that all of them have something to do."""
    turn = worker % len(asked["servers"])
    asked = {**asked, "servers": asked["servers"][turn:] + asked["servers"][:turn]}
    pause = asked["workers"] / asked["rate"] if asked["rate"] else 0.0
    count, number = len(asked["tokens"]), 0
    due = time.monotonic() + pause * worker / asked["workers"]
    while goes_on() and (count == 1 or number < count):
        select.select([], [], [], max(0.0, due - time.monotonic()))
        due = max(due + pause, time.monotonic() - 1)
        answer = _once(asked, f"crowd-{worker}-{number}", number % count, goes_on)
        if answer is not None:
            os.write(log, json.dumps(asdict(answer)).encode() + b"\n")
        number += 1


def _main() -> None:
    asked = json.loads(sys.argv[1])
    names = {each: token_name(Secret(each)) for each in asked["tokens"]}
    # The slow hash is the hosts' own time, of which there is little on one machine.
    agent_join.token_name = lambda token: names[token.reveal()]  # type: ignore[attr-defined]
    log = os.open(asked["path"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    parent, (end, ours) = os.getpid(), os.pipe()
    children = []
    for worker in range(asked["workers"]):
        pid = os.fork()
        if pid == 0:
            os.close(ours)

            def goes_on() -> bool:
                return os.getppid() == parent and not select.select([end], [], [], 0)[0]

            try:
                _work(asked, worker, log, goes_on)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        children.append(pid)
    os.close(end)
    _until_done_or_told(len(asked["tokens"]) > 1, children)
    os.close(ours)
    for pid in children:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _until_done_or_told(race: bool, children: Sequence[int]) -> None:
    left = set(children)
    while left:
        if select.select([sys.stdin], [], [], 0.1)[0]:
            return
        for pid in list(left) if race else ():
            if os.waitpid(pid, os.WNOHANG)[0]:
                left.discard(pid)


if __name__ == "__main__":
    _main()
