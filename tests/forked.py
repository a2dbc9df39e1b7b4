"""Commands of ours in a process of their own, forked from one that has imported all.

    done = forked.run("tctl", "-c", "auth.yaml", "status", env=env)

What runs is `teleport-lite` from its `main` on, with its own environment, files and exit code; only
the exec and the imports are left out, which are most of what a command costs. For commands by which
a test arranges something or looks at it: what a test is about is started as people start it.
"""

import atexit
import functools
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

REPO = Path(__file__).parent.parent
LONGEST = 1 << 17  # bytes of a question: words and environment


def run(
    *words: str, env: Mapping[str, str], stdin: str = "", seconds: float = 60
) -> "subprocess.CompletedProcess[str]":
    """`teleport-lite WORDS`. Raises subprocess.TimeoutExpired."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as complained,
    ):
        given.write(stdin.encode())
        given.seek(0)
        files = [each.fileno() for each in (given, said, complained)]
        code = _run({"words": words, "env": dict(env), "cwd": os.getcwd()}, files, seconds)
        for each in (said, complained):
            each.seek(0)
        return subprocess.CompletedProcess(
            list(words), code, said.read().decode(), complained.read().decode()
        )


def _run(asked: Mapping[str, Any], files: Sequence[int], seconds: float) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            question = json.dumps(asked).encode()
            socket.send_fds(_forker(os.getpid()), [question], [*files, theirs.fileno()])
        pid = int(ours.recv(64))
        if not select.select([ours], [], [], seconds)[0]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(asked["words"], seconds)
        return int(ours.recv(64))


@functools.cache
def _forker(_ours: int) -> socket.socket:
    """Asks the process that forks, of this very process. It ends when nobody can ask any more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        words = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
        forker = subprocess.Popen(words, pass_fds=[theirs.fileno()], cwd=REPO)
    atexit.register(forker.wait)
    atexit.register(ours.close)  # before that
    return ours


# --- the process that forks


def _main(descriptor: int) -> None:
    control = socket.socket(fileno=descriptor)
    _import_all()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for a parent of commands
    while True:
        question, files, _, _ = socket.recv_fds(control, LONGEST, 4)
        if not question:
            return
        if os.fork() == 0:
            _parent(json.loads(question), files)
        for each in files:
            os.close(each)


def _import_all() -> None:
    import gc

    import teleport_lite.cli.main  # noqa: F401
    from teleport_lite.cli import tctl

    for each in pkgutil.iter_modules(tctl.__path__, f"{tctl.__name__}."):
        importlib.import_module(each.name)
    gc.collect()
    gc.freeze()


def _parent(asked: Mapping[str, Any], files: Sequence[int]) -> NoReturn:
    """Says who the command is, and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _command(asked, files[:3])
    os.write(files[3], str(pid).encode())
    _, status = os.waitpid(pid, 0)
    os.write(files[3], str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _command(asked: Mapping[str, Any], files: Sequence[int]) -> NoReturn:
    code = 70
    try:
        for target, source in enumerate(files):
            os.dup2(source, target)
        os.closerange(3, 256)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["env"])
        from teleport_lite.__main__ import main

        sys.argv = ["teleport-lite", *asked["words"]]
        code = main()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
