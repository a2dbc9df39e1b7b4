"""Daemons of ours that start in a tenth of a second: forked from one process that has imported all.

    with Warm() as warm:
        daemon = warm.start("start", "-c", "auth.yaml", log=root / "auth.log")
        daemon.kill()

What runs is `teleport-lite` from its `main` on, in a process of its own. Only the exec and the
imports are left out, which is what most of a start costs; a test that kills a hundred daemons would
be about nothing else.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from tests.faults.report import Run
from tests.support import eventually

REPO = Path(__file__).parent.parent.parent
RUNS = "is running"


class Daemon:
    """Ended by its own PID. Not for several threads."""

    def __init__(self, warm: "Warm", pid: int, log: Path, offset: int) -> None:
        self._warm, self.pid, self.log, self._offset = warm, pid, log, offset
        self.status: int | None = None

    def said(self) -> str:
        """What this one has logged; the file may hold what others before it have said."""
        with self.log.open("rb") as log:
            log.seek(self._offset)
            return log.read().decode(errors="replace")

    def ended(self) -> bool:
        if self.status is None:
            self.status = self._warm.poll(self.pid)
        return self.status is not None

    def wait_for(self, words: str = RUNS, *, seconds: float = 90) -> Self:
        def found() -> bool:
            ended = self.ended()
            if words in self.said():
                return True
            assert not ended, f"it ended with {self.status}: {self.said()[-2000:]}"
            return False

        eventually(found, seconds=seconds, what=f"{words!r} in {self.log}")
        return self

    def signal(self, number: int) -> None:
        """SIGSTOP: until it does stand still."""
        if not self.ended():
            os.kill(self.pid, number)
            if number == signal.SIGSTOP:
                eventually(lambda: self._state() in "TZ", what=f"{self.pid} to stand still")

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds: float = 90) -> int:
        """The status, as subprocess tells it: negative for a signal."""
        eventually(self.ended, seconds=seconds, what=f"the end of {self.pid}, {self.log}")
        assert self.status is not None
        return self.status


class Warm:
    """The process that forks. A context manager; ends what it started."""

    def __init__(self) -> None:
        self._guard = Lock()  # one question at a time
        self._running: list[Daemon] = []

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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
        self.end_all()
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(timeout=30)
        self._server.stdout.close()

    def end_all(self) -> None:
        """SIGKILL: what they would do on their way out is not asked for here."""
        for each in self._running:
            each.signal(signal.SIGKILL)
        for each in self._running:
            each.wait()
        self._running.clear()

    def start(
        self,
        *words: str,
        log: Path,
        env: Mapping[str, str] | None = None,
        gate: Path | None = None,
        inside: str = "",
    ) -> Daemon:
        """`gate`: it begins when that file is there, so that somebody can attach to it before.
        `inside`: in this network namespace."""
        log.touch(0o600)
        offset = log.stat().st_size
        asked = {
            "words": ["teleport-lite", *words],
            "log": str(log),
            "env": dict(env or {}),
            "gate": str(gate or ""),
            "inside": inside,
        }
        daemon = Daemon(self, self._ask(asked), log, offset)
        self._running.append(daemon)
        return daemon

    def poll(self, pid: int) -> int | None:
        found = self._ask({"poll": pid})
        return None if found is None else int(found)

    def _ask(self, asked: Mapping[str, Any]) -> Any:
        with self._guard:
            assert self._server.stdin
            assert self._server.stdout
            self._server.stdin.write(json.dumps(asked) + "\n")
            self._server.stdin.flush()
            line = self._server.stdout.readline()
        assert line, "the process that forks daemons has ended"
        return json.loads(line)


@contextmanager
def warm_for(run: Run) -> Iterator[Warm]:
    """The one of the run, if it has one, for as long as a scenario takes."""
    if run.warm is None:
        with Warm() as made:
            yield made
        return
    try:
        yield run.warm
    finally:
        run.warm.end_all()


# --- the process that forks


def _main() -> None:
    lines, answers = sys.stdin, os.dup(1)
    os.dup2(2, 1)  # nobody else is to say anything there
    _import_all()
    for line in lines:
        asked = json.loads(line)
        found = _poll(asked["poll"]) if "poll" in asked else _fork(asked, answers)
        os.write(answers, json.dumps(found).encode() + b"\n")


def _import_all() -> None:
    import gc

    import teleport_lite.cli.main
    import teleport_lite.cli.teleport.start
    import teleport_lite.daemon.auth_role
    import teleport_lite.daemon.metrics
    import teleport_lite.daemon.node_role
    import teleport_lite.daemon.proxy_role
    import teleport_lite.daemon.run
    import teleport_lite.daemon.tunnel_role
    import teleport_lite.net.diag  # noqa: F401

    gc.collect()
    gc.freeze()


def _poll(pid: int) -> int | None:
    """Nobody else waits for it, so until then the PID is its own."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _fork(asked: Mapping[str, Any], answers: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive the test
        os.close(answers)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        os.closerange(3, 64)
        os.environ.update(asked["env"])
        if asked["inside"]:
            _enter(asked["inside"])
        while asked["gate"] and not os.path.exists(asked["gate"]):
            time.sleep(0.001)
        from teleport_lite.__main__ import main

        sys.argv = asked["words"]
        code = main(asked["words"])
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _enter(name: str) -> None:
    space = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(space, 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")
    os.close(space)


if __name__ == "__main__":
    _main()
