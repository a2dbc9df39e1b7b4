"""Starting a shell or a command as the user this process has already become."""

import fcntl
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teleport_lite.errors import Malformed
from teleport_lite.model.env_names import ACCEPTED, accepts
from teleport_lite.net.ssh_policy import MAX_COMMAND
from teleport_lite.node.account import Account
from teleport_lite.node.tty import set_modes, set_size
from teleport_lite.node.wire import Pty

# They say which session to join, and as what (`join@teleport-lite`); no shell gets them.
_OURS = ("TELEPORT_SESSION", "TELEPORT_JOIN_MODE")
_MAX_ENV = 32
_MAX_ENV_VALUE = 1024
_TERM = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
# Bulk data waits in pipes of this size, not in our memory; Linux gives 64 KiB unasked.
_PIPE_SIZE = 1 << 18
_F_SETPIPE_SZ = 1031  # asm-generic/fcntl.h; in `fcntl` from Python 3.10 on, but not on musl
# RFC 4254 §6.10 names, without SIG.
SIGNALS = {
    number.name[3:]: number
    for number in (
        signal.SIGABRT,
        signal.SIGALRM,
        signal.SIGFPE,
        signal.SIGHUP,
        signal.SIGILL,
        signal.SIGINT,
        signal.SIGKILL,
        signal.SIGPIPE,
        signal.SIGQUIT,
        signal.SIGSEGV,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    )
}
# Python and we ignore or catch these; a shell wants to find them as after a boot.
_PLAIN_SIGNALS = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGCHLD,
)


@dataclass(slots=True)
class Preparation:
    """What a channel has asked for before its shell starts."""

    accept: tuple[str, ...] = ACCEPTED  # names of variables that the client may set
    pty: Pty | None = None
    env: dict[bytes, bytes] = field(default_factory=dict)

    def set_env(self, name: bytes, value: bytes) -> bool:
        known = name in self.env or len(self.env) < _MAX_ENV
        sound = len(value) <= _MAX_ENV_VALUE and b"\0" not in value
        text = name.decode("ascii", "replace")
        if not (known and sound and (text in _OURS or accepts(self.accept, text))):
            return False
        self.env[name] = value
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A shell that has started. `fds` are ours: the pty master, or stdin, stdout and stderr."""

    pid: int
    fds: tuple[int, ...]
    tty: str = ""  # where the pty is, like /dev/pts/3
    relay: int = -1  # with a log: where to write what the client is to read in standard error

    @property
    def pty(self) -> bool:
        return bool(self.tty)


def spawn(
    account: Account,
    command: bytes | None,
    preparation: Preparation,
    env: dict[bytes, bytes],
    greeting: bytes = b"",
    log: int | None = None,
    *,
    direct: bool = False,
) -> Running:
    """Start `command`, or a login shell for None, in a session of its own. The client reads
    `greeting` first, on the terminal or in standard error. With a `log`, that is where standard
    error goes, if there is no terminal. `direct`: no shell reads the words of the command, nor
    the start-up files of the user's.

    Raises Malformed for a command that cannot be one, OSError if the system refuses.
    """
    if command is not None and (len(command) > MAX_COMMAND or b"\0" in command):
        raise Malformed("command is too long or holds a NUL")
    if direct and command is not None:
        words: list[str | bytes] = [*command.split()]
        return _on_pipes(os.fsdecode(words[0]), words, env, greeting, log)
    base = Path(account.shell).name
    # A dash in front makes it a login shell (bash(1), "INVOCATION").
    argv: list[str | bytes] = [f"-{base}"] if command is None else [base, "-c", command]
    if preparation.pty is not None:
        return _on_a_terminal(account.shell, argv, env, preparation.pty, greeting)
    env.pop(b"TERM", None)
    return _on_pipes(account.shell, argv, env, greeting, log)


def _on_a_terminal(
    shell: str, argv: list[str | bytes], env: dict[bytes, bytes], pty: Pty, greeting: bytes
) -> Running:
    # devpts makes the slave ours (mode 0620, group tty): nobody has to be root for it.
    master, slave = os.openpty()
    try:
        path = os.ttyname(slave)
        set_size(slave, pty.columns, pty.rows, pty.width, pty.height)
        set_modes(slave, pty.modes)
        _say(slave, greeting)
        env[b"SSH_TTY"] = os.fsencode(path)
        if _TERM.fullmatch(pty.term):
            env[b"TERM"] = pty.term
        # POSIX_SPAWN_SETSID comes before the file actions, so that opening the slave makes it
        # the controlling terminal of the new session (tty(4) on Linux).
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, path, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]
        pid = _posix_spawn(shell, argv, env, actions)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return Running(pid=pid, fds=(master,), tty=path)


def _on_pipes(
    shell: str,
    argv: list[str | bytes],
    env: dict[bytes, bytes],
    greeting: bytes,
    log: int | None,
) -> Running:
    pipes = [os.pipe(), os.pipe(), os.pipe()]
    (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = pipes
    for fd in (to_stdin, from_stdout):
        _widen(fd)
    _say(stderr, greeting)
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_DUP2, stdout, 1),
        (os.POSIX_SPAWN_DUP2, stderr if log is None else log, 2),
    ]
    pid = 0
    try:
        pid = _posix_spawn(shell, argv, env, actions)
    except BaseException:
        for fd in (to_stdin, from_stdout, from_stderr):
            os.close(fd)
        raise
    finally:
        for fd in (stdin, stdout):
            os.close(fd)
        if log is None or not pid:
            os.close(stderr)
    fds = (to_stdin, from_stdout, from_stderr)
    return Running(pid=pid, fds=fds, relay=-1 if log is None else stderr)


def _posix_spawn(
    shell: str,
    argv: list[str | bytes],
    env: dict[bytes, bytes],
    actions: list[tuple[Any, ...]],
) -> int:
    return os.posix_spawn(
        shell,
        argv,
        env,
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        setsigdef=_PLAIN_SIGNALS,
    )


def _say(fd: int, greeting: bytes) -> None:
    """As much as fits: nobody reads yet. Then as it was, since the shell gets this very file."""
    if not greeting:
        return
    os.set_blocking(fd, False)
    try:
        os.write(fd, greeting)
    except OSError:
        return  # a terminal that is stopped, or a quota of pipe pages; the shell matters more
    finally:
        os.set_blocking(fd, True)


def _widen(fd: int) -> None:
    try:
        fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:
        return  # the user's quota of pipe pages is used up (pipe(7)); slower, not wrong
