"""A street of machines: a bridge in a network namespace of its own, and a cable to each.

Namespaces here have no names. A sleeping process holds each, and dies with whoever made it, so
nothing is left even after kill -9 of the tests. Needs root and `ip`.
"""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import eventually

# The street's own end of the bridge, where tests serve what machines download.
STREET = "10.88.0.1"


class Namespace:
    """A network namespace, for as long as the process that holds it lives."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # ^C is for the tests, which then end us in order
        )
        self.pid = self._holder.pid
        self.path = Path(f"/proc/{self.pid}/ns/net")
        ours = os.readlink("/proc/self/ns/net")
        try:
            eventually(lambda: self._moved(ours), what="a network namespace")
        except BaseException:
            self.close()
            raise
        self.ip("link", "set", "lo", "up")

    def _moved(self, ours: str) -> bool:
        assert self._holder.poll() is None, "unshare --net was refused"
        return os.readlink(self.path) != ours and b"sleep" in _command(self.pid)

    def inside(self, *words: str) -> list[str]:
        return ["nsenter", f"--net={self.path}", *words]

    def ip(self, *words: str) -> None:
        done = subprocess.run(self.inside("ip", *words), capture_output=True, text=True)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


class Street:
    """The bridge. A context manager; ends all it started, by PID."""

    def __init__(self) -> None:
        self._spaces: list[Namespace] = []

    def __enter__(self) -> Self:
        self.hub = self._space()
        try:
            self.hub.ip("link", "add", "street", "type", "bridge")
            self.hub.ip("addr", "add", f"{STREET}/24", "dev", "street")
            self.hub.ip("link", "set", "street", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def cable(self, address: str) -> Namespace:
        """A namespace with `address` on e0, plugged into the bridge."""
        space = self._space()
        plug = f"p{address.rpartition('.')[2]}"
        self.hub.ip(
            *("link", "add", plug, "type", "veth"),
            *("peer", "name", "e0", "netns", str(space.pid)),
        )
        self.hub.ip("link", "set", plug, "master", "street", "up")
        space.ip("addr", "add", f"{address}/24", "dev", "e0")
        space.ip("link", "set", "e0", "up")
        space.ip("route", "add", "default", "via", STREET)
        return space

    def close(self) -> None:
        while self._spaces:
            self._spaces.pop().close()

    def _space(self) -> Namespace:
        self._spaces.append(Namespace())
        return self._spaces[-1]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
