"""A whole machine with a real systemd, in a container: booted in a second, gone without a trace.

    with Street() as street, Machine(image("bookworm"), street.cable("10.88.0.11"), "web1") as web1:
        assert web1.say("systemctl", "is-system-running") == "running"

Its disk is the image, with everything it writes kept in memory and lost. Each has control groups
of its own: nspawn would put all that one process starts into the same, where the systemd of one
would take the services of the others for its own.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.machines.wires import Namespace
from tests.support import eventually

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POWER_OFF = signal.SIGRTMIN + 14  # systemd(1): halt at once, stopping nothing
_NEEDED = ("systemd-nspawn", "nsenter", "setpriv", "unshare", "ip")
# Names of control groups; a PID follows.
_MARK = "tl-machine-"
_HIERARCHIES = [
    root
    for root in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"))
    if (root / "cgroup.procs").exists()
]


_running: "list[Machine]" = []


def running() -> "tuple[Machine, ...]":
    """For reports of what went wrong."""
    return tuple(_running)


def refusal() -> str:
    """Why there can be no machines here, "" if there can: containers may lack the right to them."""
    if os.geteuid() != 0:
        return "machines need root"
    for name in _NEEDED:
        if not shutil.which(name):
            return f"{name} is not installed"
    mount = "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w && "
    mount += "mount -t overlay -o lowerdir=/usr,upperdir=/mnt/u,workdir=/mnt/w o /mnt"
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--uts", "--ipc", "sh", "-c", mount]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        return f"no namespaces with mounts: {done.stderr.strip()}"
    try:
        with _groups(f"{_MARK}{os.getpid()}"):
            return ""
    except OSError as why:
        return f"no control groups: {why}"


class Machine:
    """Running from __enter__ to __exit__."""

    def __init__(
        self, root: Path, net: Namespace, name: str, *, hosts: str = "", binds: Sequence[str] = ()
    ) -> None:
        """`hosts`: lines for /etc/hosts. `binds`: host:machine, read-only."""
        self.name = name
        self._net, self._hosts = net, hosts
        self._stack = contextlib.ExitStack()
        self._command = [
            *("systemd-nspawn", "--quiet", f"--directory={root}", "--volatile=overlay", "--boot"),
            *("--register=no", f"--machine=tl-{net.pid}-{name}", "--console=pipe"),
            *("--resolv-conf=off", f"--network-namespace-path={net.path}"),
            *(f"--bind-ro={each}" for each in binds),
            *([] if _systemd_here() else ["--keep-unit"]),
            f"systemd.hostname={name}",
        ]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            groups = stack.enter_context(_groups(f"{_MARK}{self._net.pid}"))
            self._spawn(groups)
            stack.callback(self._end)
            self.pid = eventually(self._child, what="the machine's first process")
            self.root = Path(f"/proc/{self.pid}/root")
            eventually(self._booted, what=f"{self.name} to boot")
            self.write("/etc/hosts", f"127.0.0.1 localhost {self.name}\n{self._hosts}")
            _running.append(self)
            stack.callback(_running.remove, self)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if exc is not None:
            print(f"--- journal of {self.name}\n{self.journal(lines=80)}")
        self._stack.close()

    # --- what tests do

    def run(
        self, *words: str, stdin: str = "", timeout: float = 60, user: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.inside(*words, user=user),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def say(self, *words: str, stdin: str = "", timeout: float = 60, user: str = "") -> str:
        """What it says on stdout; a failure fails the test."""
        done = self.run(*words, stdin=stdin, timeout=timeout, user=user)
        assert done.returncode == 0, (
            f"{self.name}: {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout.strip()

    def bash(self, script: str, *, timeout: float = 60, user: str = "") -> str:
        """As a person would paste it, at root's prompt if no `user` is named."""
        return self.say("bash", "-c", script, timeout=timeout, user=user)

    @contextlib.contextmanager
    def going(self, *words: str) -> "Iterator[subprocess.Popen[bytes]]":
        """A command that goes on, with pipes. Killed at the end if it has not ended by itself."""
        with subprocess.Popen(
            self.inside("setpriv", "--pdeathsig", "KILL", *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        ) as process:
            try:
                yield process
            finally:
                process.kill()  # nsenter, and its child with it

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def unit(self, name: str, what: str) -> str:
        """A property of a unit, like `MainPID`."""
        return self.say("systemctl", "show", name, f"--property={what}", "--value")

    def journal(self, *words: str, lines: int = 0) -> str:
        options = [f"--lines={lines}"] if lines else []
        return self.run("journalctl", "--no-pager", *options, *words).stdout

    def inside(self, *words: str, user: str = "") -> list[str]:
        """The command that runs `words` in the machine, in an environment of root's own."""
        drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        home = f"/home/{user}" if user else "/root"
        env = ("env", "-i", f"--chdir={home}", f"PATH={PATH}", f"HOME={home}", "LANG=C.UTF-8")
        return ["nsenter", f"--target={self.pid}", "--all", *drop, *env, *words]

    # --- how

    def _spawn(self, groups: Sequence[Path]) -> None:
        # Joins its groups first, then becomes nspawn: the first process of a PID namespace, so that
        # whatever is in the machine ends with it. It dies with `unshare`, and that with us.
        join = 'for group do [ "$group" = -- ] && break; echo 0 >"$group/cgroup.procs"; shift; done'
        self._nspawn = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child"),
                *("sh", "-ec", f'{join}; shift; exec "$@"', "sh"),
                *map(str, groups),
                "--",
                *self._command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # ^C is for the tests, which then end us in order
            env={"PATH": PATH, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )

    def _child(self) -> int:
        assert self._nspawn.poll() is None, f"nspawn ended: exit {self._nspawn.returncode}"
        for nspawn in _children(self._nspawn.pid):
            for pid in _children(nspawn):
                if _own_id(pid) == 1:
                    return pid
        return 0

    def _booted(self) -> bool:
        assert self._nspawn.poll() is None, f"nspawn ended: exit {self._nspawn.returncode}"
        state = self.run("systemctl", "is-system-running").stdout.strip()
        assert state != "degraded", self.run("systemctl", "--failed").stdout
        return state == "running"

    def _end(self) -> None:
        if self._nspawn.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, _POWER_OFF)
        try:
            self._nspawn.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _own_id(pid: int) -> int:
    """The number by which a process is known in its own PID namespace."""
    with contextlib.suppress(FileNotFoundError):
        found = re.search(r"^NSpid:.*\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
        return int(found[1]) if found else 0
    return 0


def _systemd_here() -> bool:
    """Then nspawn asks it for a scope, which brings control groups of its own."""
    return Path("/run/systemd/system").is_dir()


@contextlib.contextmanager
def _groups(name: str) -> Iterator[list[Path]]:
    """Control groups of our own, empty and removed at the end."""
    made = [] if _systemd_here() else [root / name for root in _HIERARCHIES]
    _sweep()
    try:
        for group in made:
            group.mkdir()
        yield made
    finally:
        for group in made:
            eventually(lambda group=group: _removed(group), what=f"{group} to be empty")


def _sweep() -> None:
    """What tests that were killed have left: empty groups, named after a process that is gone."""
    for root in _HIERARCHIES:
        for group in root.glob(f"{_MARK}*"):
            if not Path(f"/proc/{group.name.removeprefix(_MARK)}").exists():
                _removed(group)


def _removed(group: Path) -> bool:
    with contextlib.suppress(OSError):  # busy while what was killed has not quite ended
        for place, _, _ in os.walk(group, topdown=False):
            os.rmdir(place)
    return not group.exists()
