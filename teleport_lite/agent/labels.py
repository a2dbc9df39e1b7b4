"""Labels of this host: fixed ones, and those that a command prints."""

import os
import select
import signal
import subprocess  # commands of the config file, no shell
from collections.abc import Mapping, Sequence
from datetime import timedelta
from threading import Lock, Thread

from teleport_lite.ambient import Clock, SystemClock
from teleport_lite.model.labels import MAX_VALUE

# A label is a small fact; a command that needs longer is stuck.
COMMAND_TIMEOUT = 10.0
MIN_PERIOD = timedelta(seconds=1)
# Four bytes for a character, and blanks around it.
_MOST = 8 * MAX_VALUE
_PART = 64 * 1024


class LabelWatch:
    """`current()` from any thread; `run_due()` from one that may wait."""

    def __init__(
        self,
        clock: Clock,
        fixed: Mapping[str, str],
        commands: Sequence[tuple[str, tuple[str, ...], timedelta]],
        *,
        before: Mapping[str, str] | None = None,
    ) -> None:
        """`before`: what labels were when this host was last running. Those of commands hold
        until the command has run again, so that no role misses one for the time of a start."""
        self._clock, self._fixed = clock, dict(fixed)
        self._commands = list(commands)
        self._due = {name: 0.0 for name, _, _ in commands}
        self._results = {
            name: (before or {})[name] for name, _, _ in commands if name in (before or {})
        }
        self._guard = Lock()  # guards _results

    def current(self) -> dict[str, str]:
        with self._guard:
            return {**self._fixed, **self._results}

    def run_due(self) -> bool:
        """Run what is due, all at once: one that is stuck makes no other late. True if any
        label changed."""
        before = self.current()
        now = self._clock.monotonic()
        threads = []
        for name, argv, period in self._commands:
            if now >= self._due[name]:
                self._due[name] = now + max(period, MIN_PERIOD).total_seconds()
                threads.append(Thread(target=self._run, args=(name, argv), name=f"label-{name}"))
                threads[-1].start()
        for thread in threads:
            thread.join()
        return self.current() != before

    def _run(self, name: str, argv: tuple[str, ...]) -> None:
        result = label_of(argv)
        with self._guard:
            self._results[name] = result

    def next_due(self) -> float:
        """Seconds until something is due; infinite without commands."""
        if not self._due:
            return float("inf")
        return max(0.0, min(self._due.values()) - self._clock.monotonic())


def label_of(argv: Sequence[str]) -> str:
    """What the command prints, trimmed; a failure becomes the label, so that people see it."""
    try:
        process = subprocess.Popen(  # noqa: S603  # argv comes from the root-owned config file
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts can be ended with it
        )
    except OSError as why:
        return f"error: {why.strerror}"
    with process:
        said = _answer(process)
        if said is None:
            os.killpg(process.pid, signal.SIGKILL)
            return f"error: no answer within {COMMAND_TIMEOUT:.0f} s"
    if process.returncode:
        return f"error: exit status {process.returncode}"
    text = said.decode("utf-8", "replace").strip()[:MAX_VALUE]
    return "".join(char if char.isprintable() else " " for char in text)


def _answer(process: subprocess.Popen[bytes]) -> bytes | None:
    """The beginning of what it prints, None if it has not ended in time. The rest is read and
    forgotten: a command that never stops talking must not fill our memory."""
    assert process.stdout is not None
    clock, fd, said = SystemClock(), process.stdout.fileno(), b""
    deadline = clock.monotonic() + COMMAND_TIMEOUT
    while (left := deadline - clock.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            break
        part = os.read(fd, _PART)
        if not part:
            break
        said = (said + part)[:_MOST]
    try:
        process.wait(max(0.0, deadline - clock.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    return said
