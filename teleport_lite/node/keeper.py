"""The keeper of a PAM session: root, between monitor and broker, alive as long as the broker.

    monitor ── forks ──► keeper (root) ── forks ──► broker (the login user)

Modules put limits, a keyring, an audit session and a cgroup on the process that calls them, and
the broker inherits all of it. A module that crashes or hangs takes this process with it, and so
this one connection. The monitor says when it is over by closing the line.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from teleport_lite.errors import Error
from teleport_lite.node.account import Account
from teleport_lite.node.children import Children
from teleport_lite.node.confine import deaf_to_the_end, default_signals, no_terminal
from teleport_lite.node.pam import Pam
from teleport_lite.node.processes import fork_child
from teleport_lite.node.surroundings import login_umask
from teleport_lite.node.wire import Link
from teleport_lite.proto.codec import Message

# For a broker that has been killed to be gone.
_PATIENCE = 1.0


class Opened(Message, frozen=True):
    """The keeper's only word: there is a session and a broker in it, or why not."""

    ok: bool
    reason: str = ""  # for the visitor
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a keeper is told. `broker` is given the modules' variables and words."""

    title: str
    service: str
    account: Account
    host: str  # the visitor's address
    variables: Mapping[str, str]
    line: Link  # to the monitor
    broker: Callable[[Mapping[str, str], str], None]
    theirs: tuple[Link, ...]  # the broker's lines; the keeper lets go of them


def keep(errand: Errand) -> None:
    """Returns when the session is closed."""
    no_terminal()
    os.umask(login_umask())
    try:
        pam = Pam(errand.service, errand.account.name)
    except Error as why:
        _tell(errand.line, Opened(ok=False, reason=why.message, log=why.log or why.message))
        return
    try:
        _open_and_wait(errand, pam)
    finally:
        # Modules start programs and wait for them; our own handler is none of theirs.
        default_signals()
        deaf_to_the_end()
        pam.close()


def _open_and_wait(errand: Errand, pam: Pam) -> None:
    try:
        # Before the modules, since pam_group adds to what is there (as sshd does).
        os.initgroups(errand.account.name, errand.account.gid)
        pam.open(host=errand.host, variables=errand.variables)
    except Error as why:
        _tell(errand.line, Opened(ok=False, reason=why.message, log=why.log))
        return
    variables, words = pam.env(), pam.said()
    keep_fds = [link.fileno() for link in errand.theirs]
    children = Children()  # before there is one whose end could be missed
    pid = fork_child(errand.title, lambda: _be_broker(errand, variables, words), keep_fds)
    for link in errand.theirs:
        link.close()
    _tell(errand.line, Opened(ok=True))
    if not _wait_for_either(pid, children, errand.line):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _wait_for(pid, children)


def _be_broker(errand: Errand, variables: Mapping[str, str], words: str) -> None:
    deaf_to_the_end()
    errand.broker(variables, words)


def _wait_for_either(pid: int, children: Children, line: Link) -> bool:
    """True when the broker has ended, False when the monitor wants it to."""
    while True:
        ready = select.select([children.fileno(), line.fileno()], [], [])[0]
        if pid in children.ended():
            return True
        if line.fileno() in ready:
            return False


def _wait_for(pid: int, children: Children) -> None:
    deadline = time.monotonic() + _PATIENCE
    while pid not in children.ended() and (left := deadline - time.monotonic()) > 0:
        select.select([children], [], [], left)


def _tell(line: Link, said: Opened) -> None:
    with suppress(EOFError):
        line.send(said, wait=False)
