"""Labels of this host: fixed ones, and those that a command prints."""

import os
import signal
import subprocess  # commands of the config file, no shell
from collections.abc import Mapping, Sequence
from datetime import timedelta
from threading import Lock

from teleport_lite.ambient import Clock
from teleport_lite.model.labels import MAX_VALUE

# A label is a small fact; a command that needs longer is stuck.
COMMAND_TIMEOUT = 10.0
MIN_PERIOD = timedelta(seconds=1)


class LabelWatch:
    """`current()` from any thread; `run_due()` from one that may wait."""

    def __init__(
        self,
        clock: Clock,
        fixed: Mapping[str, str],
        commands: Sequence[tuple[str, tuple[str, ...], timedelta]],
    ) -> None:
        self._clock, self._fixed = clock, dict(fixed)
        self._commands = list(commands)
        self._due = {name: 0.0 for name, _, _ in commands}
        self._results: dict[str, str] = {}
        self._guard = Lock()  # guards _results

    def current(self) -> dict[str, str]:
        with self._guard:
            return {**self._fixed, **self._results}

    def run_due(self) -> bool:
        """Run what is due. True if any label changed."""
        before = self.current()
        now = self._clock.monotonic()
        for name, argv, period in self._commands:
            if now >= self._due[name]:
                result = label_of(argv)
                with self._guard:
                    self._results[name] = result
                self._due[name] = now + max(period, MIN_PERIOD).total_seconds()
        return self.current() != before

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
        try:
            said, _ = process.communicate(timeout=COMMAND_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"error: no answer within {COMMAND_TIMEOUT:.0f} s"
    if process.returncode:
        return f"error: exit status {process.returncode}"
    text = said.decode("utf-8", "replace").strip()[:MAX_VALUE]
    return "".join(char if char.isprintable() else " " for char in text)
