"""The first process of a container, where nothing else has taken that place.

The kernel gives PID 1 duties that no daemon expects (pid_namespaces(7)): every orphan becomes its
child and stays a zombie until it asks for it, signals it has no handler for are dropped, and all
processes are killed when it ends. So PID 1 stays small: it starts the daemon as a child, hands on
signals, reaps whoever ends, and ends with the daemon's exit code.

    PID 1 --fork--> the daemon --> sessions, relays
      | TERM, INT, HUP...  ^
      '--------------------'
"""

import contextlib
import os
import signal

from teleport_lite.node.confine import name

# What `docker stop`, `docker kill -s`, a terminal and a supervisor send.
FORWARDED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    }
)
# Seconds for what is left when the daemon has ended, to write down how it ended. Engines give a
# container ten seconds in all, and the daemon had its part of them.
GRACE = 2.0
# Seconds between looks whether anybody is left.
LOOK = 0.05
_OURS = FORWARDED | {signal.SIGCHLD, signal.SIGALRM}


def begin() -> int | None:
    """Fork, if this is PID 1. None to whoever shall go on as the daemon, else its exit code.

    The code is 128+n when signal n ended it, as shells have it. Call it before there is a thread.
    """
    if os.getpid() != 1:
        return None
    # Nothing is lost between here and the loop: what is blocked waits (sigwaitinfo(2)).
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
    daemon = os.fork()
    if daemon == 0:
        _take_the_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    name("tl-init")
    code = _attend(daemon)
    _end_the_rest()
    return code


def _take_the_terminal() -> None:
    """A group of our own in its foreground, or a ^C would come twice: from it, and forwarded."""
    os.setpgid(0, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    with contextlib.suppress(OSError):  # stdin is no terminal, or not ours
        os.tcsetpgrp(0, os.getpgrp())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attend(daemon: int) -> int:
    while True:
        number = signal.sigwaitinfo(_OURS).si_signo
        if number in FORWARDED:
            os.kill(daemon, number)  # there, if only as a zombie, until we have asked for it
            if number == signal.SIGTERM:  # whoever was stopped by a ^Z hears nothing else
                os.kill(daemon, signal.SIGCONT)
        status = _reaped().get(daemon)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _reaped() -> dict[int, int]:
    """Everybody who has ended, and how (waitpid(2)). One SIGCHLD may stand for many."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    return ended


def _end_the_rest() -> None:
    """Sessions end with the container. Told so, they write it down; the kernel does not ask."""
    signal.setitimer(signal.ITIMER_REAL, GRACE)
    with contextlib.suppress(ProcessLookupError):  # nobody is left
        os.kill(-1, signal.SIGTERM)
    while _any_left():
        # Who came in from outside, as by `docker exec`, is nobody's child here and sends no signal.
        told = signal.sigtimedwait({signal.SIGCHLD, signal.SIGALRM}, LOOK)
        if told is not None and told.si_signo == signal.SIGALRM:
            return


def _any_left() -> bool:
    _reaped()
    try:
        os.kill(-1, 0)  # everybody but ourselves
    except ProcessLookupError:
        return False
    return True
