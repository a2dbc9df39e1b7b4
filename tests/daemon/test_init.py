"""The first process of a container: in a PID namespace, as a container is one."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teleport_lite.daemon import init
from tests.support import eventually

ROOT = Path(__file__).parent.parent.parent
_BEGIN = """\
import os, signal, sys, time
sys.path.insert(0, {root!r})
from teleport_lite.daemon import init
code = init.begin()
if code is not None:
    sys.exit(code)
{daemon}
"""
Container = Callable[[str], "subprocess.Popen[str]"]
# Killed with the test; a user namespace, so that nobody has to be root.
_CONTAINER = ("setpriv", "--pdeathsig", "KILL", "unshare", "--user", "--map-root-user", "--pid")
_CONTAINER += ("--fork", "--kill-child", "--mount-proc")


@pytest.fixture(autouse=True)
def _can() -> None:
    done = subprocess.run([*_CONTAINER, "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no PID namespaces here: {done.stderr.strip()}")


@pytest.fixture
def container() -> Iterator[Container]:
    """Starts one with what its daemon does; ends all of them."""
    with contextlib.ExitStack() as stack:

        def start(daemon: str) -> "subprocess.Popen[str]":
            words = (
                *_CONTAINER,
                sys.executable,
                "-c",
                _BEGIN.format(root=str(ROOT), daemon=daemon),
            )
            process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            stack.enter_context(process)  # closes its pipes
            stack.callback(process.kill)
            return process

        yield start


def first(process: "subprocess.Popen[str]") -> int:
    """PID 1 of the container, seen from here. `unshare` itself only waits for it."""
    return children(process.pid)[0]


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_it_is_nobody_elses_business() -> None:
    assert os.getpid() != 1
    assert init.begin() is None


@pytest.mark.parametrize(
    ("daemon", "code"),
    [
        ("pass", 0),
        ("sys.exit(7)", 7),
        (
            "signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGTERM)",
            143,
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
    ],
)
def test_the_container_ends_as_the_daemon_does(
    container: Container, daemon: str, code: int
) -> None:
    process = container(daemon)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "")


@pytest.mark.parametrize("number", sorted(init.FORWARDED), ids=lambda each: each.name)
def test_signals_reach_the_daemon(container: Container, number: signal.Signals) -> None:
    process = container(
        f"signal.signal({number:d}, lambda *_: sys.exit(40 + {number:d}))\n"
        "assert not signal.pthread_sigmask(signal.SIG_BLOCK, []), 'a mask is left'\n"
        "print(os.getpid(), os.getppid(), flush=True)\n"
        "time.sleep(60)"
    )
    assert line(process) == "2 1"
    os.kill(first(process), number)
    assert process.wait(timeout=60) == 40 + number


def test_every_orphan_is_reaped(container: Container) -> None:
    """Forty grandchildren whose parent is gone; none is left as a zombie, and none is missed."""
    process = container(
        "for _ in range(40):\n"
        "    if os.fork() == 0:\n"
        "        os.fork()\n"
        "        os._exit(0)\n"
        "for _ in range(40): os.wait()\n"
        "def zombies():\n"
        "    each = [open(f'/proc/{p}/stat').read() for p in os.listdir('/proc') if p.isdigit()]\n"
        "    return [e for e in each if e.rpartition(')')[2].split()[0] == 'Z']\n"
        "def others(): return [p for p in os.listdir('/proc') if p.isdigit() and int(p) > 2]\n"
        "until = time.monotonic() + 30\n"
        "while others() and time.monotonic() < until: time.sleep(0.01)\n"
        "print(others(), flush=True)\n"
    )
    assert line(process) == "[]"
    assert process.wait(timeout=60) == 0


def test_what_is_left_is_told_before_it_ends(container: Container) -> None:
    """Somebody's session: it has left the daemon's group, and is let finish its last words."""
    process = container(
        "ready, tell = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    signal.signal(signal.SIGTERM, lambda *_: (print('told', flush=True), os._exit(0)))\n"
        "    os.write(tell, b'1')\n"
        "    time.sleep(60)\n"
        "os.read(ready, 1)"
    )
    assert line(process) == "told"
    assert process.wait(timeout=60) == 0


def test_who_does_not_listen_does_not_hold_the_container_up(container: Container) -> None:
    process = container(
        "ready, tell = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    os.write(tell, b'1')\n"
        "    time.sleep(600)\n"
        "os.read(ready, 1)"
    )
    assert process.wait(timeout=60) == 0


def test_who_was_stopped_at_the_terminal_ends_when_told(container: Container) -> None:
    process = container(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "print('here', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
        "time.sleep(600)"
    )
    assert line(process) == "here"
    stat = Path(f"/proc/{children(first(process))[0]}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    os.kill(first(process), signal.SIGTERM)
    assert process.wait(timeout=30) == 9


def test_a_terminals_interrupt_comes_once() -> None:
    """The daemon has the foreground: a second signal would make it end what it shall outlive."""
    master, slave = os.openpty()
    daemon = (
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
        "print(os.tcgetpgrp(0) == os.getpgrp() != 1, flush=True)\n"
        "signal.sigwait({signal.SIGINT})\n"
        "print('interrupted', flush=True)\n"
        "input()\n"
        "print(signal.sigpending(), flush=True)\n"
    )
    script = _BEGIN.format(root=str(ROOT), daemon=daemon)
    process = subprocess.Popen(
        [
            *_CONTAINER,
            "setsid",
            "--ctty",
            "sh",
            "-c",
            'exec "$@"',
            "sh",
            sys.executable,
            "-c",
            script,
        ],
        stdin=slave,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(slave)
    try:
        assert line(process) == "True"
        os.write(master, b"\x03")
        assert line(process) == "interrupted"
        os.write(master, b"word\n")
        assert process.wait(timeout=60) == 0
        assert process.stdout
        assert process.stdout.read() == "set()\n"
    finally:
        os.close(master)
        process.kill()
        process.communicate()
