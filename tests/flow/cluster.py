"""A real cluster on loopback: real processes, real files, real clients."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import forked
from tests.support import eventually, free_port

CONFIG = """\
version: v3
teleport:
  nodename: auth-1
  data_dir: {data}
auth_service:
  enabled: yes
  cluster_name: {name}
  listen_addr: 127.0.0.1:{port}
  public_addr: 127.0.0.1:{port}
{extra}
proxy_service:
  enabled: no
ssh_service:
  enabled: no
"""


def teleport(*words: str) -> list[str]:
    return [sys.executable, "-m", "teleport_lite", *words]


class Running:
    """A daemon of ours, with its log in a file. Ended by its own PID, never by name."""

    def __init__(self, words: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        self._begin = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                list(words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(env)
            )

    def said(self) -> str:
        """By this process; the file may hold what others before it have said."""
        with self.log.open("rb") as log:
            log.seek(self._begin)
            return log.read().decode(errors="replace")

    def wait_for(self, words: str, *, seconds: float = 60) -> None:
        def found() -> bool:
            ended = self.process.poll()
            if words in self.said():
                return True
            assert ended is None, f"it ended: {self.said()}"
            return False

        eventually(found, seconds=seconds, what=f"{words!r} in the log")

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Cluster:
    """An auth server, and whatever a test starts beside it. A context manager."""

    def __init__(
        self,
        root: Path,
        *,
        name: str = "flow.example.com",
        extra: str = "",
        template: str = CONFIG,
    ) -> None:
        self.root, self.name, self.port = root, name, free_port()
        self.config = root / "auth.yaml"
        self.data = root / "auth"
        self.config.write_text(
            template.format(data=self.data, name=name, port=self.port, extra=extra)
        )
        self.config.chmod(0o600)
        self.env = {
            **os.environ,
            "TELEPORT_LITE_CONFIG": str(root / "none.yaml"),
            "TELEPORT_HOME": str(root / "tsh"),
        }
        self._running: list[Running] = []
        self.auth = self.start_auth()

    def words(self, *words: str) -> list[str]:
        """A command line of ours."""
        return teleport(*words)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start_auth(self) -> Running:
        self.auth = self._spawn(("start", "-c", str(self.config)), self.root / "auth.log")
        self.auth.wait_for("is running")
        return self.auth

    def start(self, *flags: str, name: str, env: Mapping[str, str] | None = None) -> Running:
        """`teleport-lite start` with a data directory of its own."""
        words = ("start", f"--nodename={name}", f"--data-dir={self.root / name}", *flags)
        return self._spawn(words, self.root / f"{name}.log", env)

    def start_words(self, *words: str, name: str, env: Mapping[str, str] | None = None) -> Running:
        """Any daemon, spelled out."""
        return self._spawn(words, self.root / f"{name}.log", env)

    def fails(self, *flags: str, name: str, env: Mapping[str, str] | None = None) -> Any:
        """The same, for a start that must refuse: what it said and its exit code."""
        words = ("start", f"--nodename={name}", f"--data-dir={self.root / name}", *flags)
        return self.run(*words, env=env)

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.words(*words),
            env={**self.env, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def faked(self, shift: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """The same with another wall clock (libfaketime)."""
        return subprocess.run(
            ["faketime", "-f", shift.replace(" hour", "h").replace(" ", ""), *teleport(*words)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def tctl(self, *words: str, stdin: str = "") -> str:
        """What a test arranges or looks at; `run` starts it as people do."""
        words = ("tctl", "-c", str(self.config), *words)
        if type(self).words is Cluster.words:
            done = forked.run(*words, env=self.env, stdin=stdin)
        else:  # another build
            done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.tctl(*words, "--format=json"))

    def token(self, types: str, *flags: str) -> str:
        return self.tctl("tokens", "add", f"--type={types}", "--format=text", *flags).strip()

    @property
    def pin(self) -> str:
        return str(self.json("status")["ca_pins"][0])

    def events(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("audit", "ls")
        return [event for event in found if event["event"] == kind]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as all_of_them:  # the next one, too, if one does not end
            for each in self._running:
                all_of_them.callback(each.stop)

    def _spawn(
        self, words: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> Running:
        running = Running(self.words(*words), log, {**self.env, **(env or {})})
        self._running.append(running)
        return running
