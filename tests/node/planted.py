"""A node with a fault planted in it: whoever sends the right words has code of theirs run.

In the worker that is bytes on a channel, in the broker a command: the places where the bytes of
a stranger end up. The code tries what an intruder would, and reports to a port of the test what
of it worked. Used like `daemon_child`, which it runs.
"""

import ctypes
import json
import os
import runpy
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from teleport_lite.net.ssh_channels import Channels
from teleport_lite.node import zygote
from teleport_lite.node.broker import Broker

WORKER_WORDS, BROKER_WORDS = b"worker, do this: ", b"broker, do this: "
_END = b"\n"
_PTRACE_SEIZE, _PTRACE_INTERRUPT, _PTRACE_DETACH = 0x4206, 0x4207, 17
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # the same number everywhere
_REPO = str(Path(__file__).parent.parent.parent)
_libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def ptraced(pid: int) -> bool:
    if _libc.ptrace(_PTRACE_SEIZE, pid, None, None) != 0:
        return False
    _libc.ptrace(_PTRACE_INTERRUPT, pid, None, None)
    os.waitpid(pid, 0x40000000)  # __WALL; only who stands still can be let go
    _libc.ptrace(_PTRACE_DETACH, pid, None, None)
    return True


def read_by_vm(pid: int) -> bool:
    """Everybody is forked from the zygote, so an address of ours is one of theirs."""
    there = ctypes.create_string_buffer(8)
    here = ctypes.create_string_buffer(8)
    size = ctypes.sizeof(there)
    local = _Vector(ctypes.addressof(here), size)
    remote = _Vector(ctypes.addressof(there), size)
    got = _libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    # EFAULT: allowed, but nothing is mapped there.
    return bool(got >= 0 or ctypes.get_errno() == 14)


def stole_descriptor(pid: int) -> bool:
    pidfd = _libc.syscall(_PIDFD_OPEN, pid, 0)
    return any(_libc.syscall(_PIDFD_GETFD, pidfd, number, 0) >= 0 for number in range(10))


def opened(path: str, mode: int = os.O_RDONLY) -> bool:
    os.close(os.open(path, mode))
    return True


def listed(path: str) -> bool:
    return bool(os.listdir(path))


def signalled(pid: int) -> bool:
    os.kill(pid, 0)
    return True


def tries(facts: dict[str, Any]) -> dict[str, Callable[[], bool]]:
    """Each is true if it worked."""
    found: dict[str, Callable[[], bool]] = {}
    for path in facts["files"]:
        found[f"read {path}"] = lambda path=path: opened(path)
        found[f"write {path}"] = lambda path=path: opened(path, os.O_WRONLY | os.O_APPEND)
    for name, pid in facts["processes"].items():
        for file in ("mem", "environ", "maps"):
            found[f"{file} of {name}"] = lambda pid=pid, file=file: opened(f"/proc/{pid}/{file}")
        found[f"descriptors of {name}"] = lambda pid=pid: listed(f"/proc/{pid}/fd")
        found[f"ptrace {name}"] = lambda pid=pid: ptraced(pid)
        found[f"process_vm_readv of {name}"] = lambda pid=pid: read_by_vm(pid)
        found[f"pidfd_getfd of {name}"] = lambda pid=pid: stole_descriptor(pid)
        found[f"signal {name}"] = lambda pid=pid: signalled(pid)
    return found


def intrude(facts: dict[str, Any]) -> None:
    worked, failed = [], 0
    for what, attempt in tries(facts).items():
        try:
            done = attempt()
        except OSError:
            done = False
        worked += [what] if done else []
        failed += not done
    said = {"uid": os.getuid(), "pid": os.getpid(), "worked": worked, "failed": failed}
    with socket.create_connection(("127.0.0.1", facts["report"]), timeout=30) as line:
        line.sendall(json.dumps(said).encode())


def asked_for(raw: bytes, words: bytes) -> dict[str, Any] | None:
    _, found, rest = raw.partition(words)
    return dict(json.loads(rest.partition(_END)[0])) if found else None


def plant() -> None:
    deliver, start = Channels.deliver, Broker._start

    def faulty_deliver(self: Channels, kind: int, body: memoryview) -> None:
        if facts := asked_for(bytes(body), WORKER_WORDS):
            intrude(facts)
        deliver(self, kind, body)

    def faulty_start(self: Broker, asked: Any) -> tuple[int, ...]:
        if facts := asked_for(asked.command or b"", BROKER_WORDS):
            intrude(facts)
        return start(self, asked)

    Channels.deliver = faulty_deliver  # type: ignore[method-assign]
    Broker._start = faulty_start  # type: ignore[method-assign]


def main() -> None:
    """`-c` in place of what `House` would run; it has been given as a word behind that."""
    sys.path.insert(0, _REPO)
    begin = "from tests.node.planted import plant\nplant()\nmain("
    zygote._CODE = zygote._CODE.replace("main(", begin)
    sys.argv = sys.argv[2:]
    runpy.run_module("tests.node.daemon_child", run_name="__main__", alter_sys=True)
