"""Talking to systemd, by systemctl and its kin: fixed words, no shell, a deadline for each."""

import os
import re
import select
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from teleport_lite.ambient import Clock, SystemClock
from teleport_lite.errors import Unavailable

# What runs the program for long. Not the sessions: those are never restarted.
DAEMONS = tuple(
    f"teleport-lite{roles}.service" for roles in ("", "-auth", "-proxy", "-node", "-auth-proxy")
)
# Seconds for an answer that waits for nothing. A machine that boots may be busy.
_PATIENCE = 60.0
_STEP = 0.25  # seconds between two looks at a unit that shall stay as it is
_LAST_LINES = 12  # enough for an error, its hint and what systemd says of the end
# ActiveState, systemd's D-Bus interface: these have processes, or will have.
_ALIVE = ("active", "reloading", "activating", "refreshing")


def _pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def _cause(said: str) -> str:
    """Of "Job for X.service failed because of Y.\\nSee ..." only Y: we show the log ourselves."""
    first = said.split("\n", 1)[0].strip()
    return re.sub(r"^Job for \S+ failed( because)?\s*", "", first).strip(" .")


@dataclass(frozen=True, slots=True, kw_only=True)
class Systemd:
    """The system's manager. Tests give other programs, and another sign that it runs."""

    systemctl: str = "systemctl"
    journalctl: str = "journalctl"
    sysusers: str = "systemd-sysusers"
    tmpfiles: str = "systemd-tmpfiles"
    booted: Path = Path("/run/systemd/system")  # sd_booted(3)
    clock: Clock = field(default_factory=SystemClock)
    pause: Callable[[float], None] = _pause

    def runs(self) -> bool:
        return self.booted.is_dir()

    def alive(self, units: Sequence[str] = DAEMONS) -> list[str]:
        """Those of `units` that run, or are on their way to."""
        return [unit for unit in units if self._facts(unit).get("ActiveState") in _ALIVE]

    def uses(self, unit: str) -> bool:
        """Whether it runs, has failed, or would start by itself."""
        facts = self._facts(unit)
        state = facts.get("ActiveState", "inactive")
        return state != "inactive" or facts.get("UnitFileState", "").startswith("enabled")

    def daemon_reload(self) -> None:
        """Raises Unavailable, like all that follow."""
        self._done(self.systemctl, "daemon-reload")

    def make_users(self, conf: Path) -> None:
        self._done(self.sysusers, str(conf))

    def make_files(self, conf: Path) -> None:
        self._done(self.tmpfiles, "--create", str(conf))

    def disable(self, unit: str) -> None:
        """Stop it too. Processes of sessions stay, as the unit says."""
        self._done(self.systemctl, "disable", "--now", unit, patience=2 * _PATIENCE)

    def try_restart(self, unit: str) -> None:
        self._done(self.systemctl, "try-restart", unit, patience=2 * _PATIENCE)

    def restarted(self, unit: str, *, ready: float, stays: float) -> str:
        """Restart and watch: "" if it was ready in time and then stayed, else what went wrong.

        With Type=notify the restart returns when the daemon says READY=1, so `ready` seconds
        are all it gets; after that the same process must still be there `stays` seconds later,
        however long a look takes.
        """
        self._run(self.systemctl, "reset-failed", unit)  # else its limit of starts may be reached
        try:
            code, said = self._run(self.systemctl, "restart", unit, patience=ready)
        except subprocess.TimeoutExpired:
            return f"{unit} was not ready within {ready:.0f} s"
        if code != 0:
            return f"{unit} did not start ({_cause(said) or f'systemctl ended with {code}'})"
        first = self._facts(unit)
        if first.get("ActiveState") != "active":
            return f"{unit} is {first.get('ActiveState', 'gone')} after its restart"
        end, late = self.clock.monotonic() + stays, False
        while not late:
            self.pause(_STEP)
            late = self.clock.monotonic() >= end
            facts = self._facts(unit)
            if facts.get("ActiveState") not in ("active", "reloading"):
                return f"{unit} was ready, and then {facts.get('ActiveState', 'gone')}"
            if facts.get("MainPID") != first.get("MainPID"):
                return f"{unit} was ready, and its process ended soon after"
        return ""

    def last_lines(self, unit: str) -> list[str]:
        """Of its log, the newest last; [] if it can not be read."""
        words = ("--unit", unit, "--lines", str(_LAST_LINES), "--no-pager", "--output=cat")
        try:
            code, said = self._run(self.journalctl, *words, "--quiet")
        except (Unavailable, subprocess.TimeoutExpired):
            return []
        return said.splitlines()[-_LAST_LINES:] if code == 0 else []

    def _facts(self, unit: str) -> dict[str, str]:
        words = ("show", "--property=ActiveState,MainPID,UnitFileState", unit)
        with suppress(subprocess.TimeoutExpired):
            code, said = self._run(self.systemctl, *words)
            if code == 0:
                return dict(line.partition("=")[::2] for line in said.splitlines())
        return {}

    def _done(self, *words: str, patience: float = _PATIENCE) -> None:
        try:
            code, said = self._run(*words, patience=patience)
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"{words[0]} did not end within {patience:.0f} s", hint="systemctl list-jobs"
            ) from None
        if code != 0:
            raise Unavailable(f"{' '.join(words)} failed ({said or code})", hint="journalctl -xe")

    def _run(self, *words: str, patience: float = _PATIENCE) -> tuple[int, str]:
        """Exit code, and what was said. Raises Unavailable if there is no such program."""
        try:
            ended = subprocess.run(  # noqa: S603 - fixed words and names of our units
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=patience,
                check=False,
                env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
            )
        except OSError as why:
            raise Unavailable(f"{words[0]}: {why.strerror}", hint=f"command -v {words[0]}") from why
        said = (ended.stdout or ended.stderr).decode(errors="replace").strip()
        return ended.returncode, said
