"""Is the daemon alive? Systemd hears so as long as it is, and ends it when it is not.

A process that is there and does not turn is worse than none: systemd would start a new one. What
is looked at: the event loop turns (this runs in it), the store of auth writes, what forks sessions
lives, and every address is listened on.
"""

import asyncio
import logging
import select
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from teleport_lite.daemon.notify import Notify
from teleport_lite.daemon.summary import summary
from teleport_lite.net.listen import unheard

if TYPE_CHECKING:
    from teleport_lite.daemon.process import Process

log = logging.getLogger("teleport_lite.daemon")

# Seconds between two looks at what is told by `systemctl status`.
STATUS_EVERY = 3.0
# Hosts of a cluster are counted this often; for thousands it takes a while.
COUNT_EVERY = 60.0


class Ends(Protocol):
    """The other side of a line to a process."""

    def fileno(self) -> int: ...


class RoundTrip:
    """A question for another thread, which has to be answered in time. Asked again and again."""

    def __init__(self, ask: Callable[[], object], *, every: float, most: float) -> None:
        self._ask, self._every, self._most = ask, every, most
        self._thread: threading.Thread | None = None
        self._since = float("-inf")

    def overdue(self, now: float) -> bool:
        """Ask, if it is time and the last answer is here. True if that should be by now."""
        if self._thread is not None and self._thread.is_alive():
            return now - self._since >= self._most
        if now - self._since < self._every:
            return False
        self._since = now
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return False

    def _run(self) -> None:
        try:
            self._ask()
        except Exception as why:  # a full disk is an answer, too
            log.debug("the store answers: %s", why)

    def join(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(seconds)


class Watch:
    """Made and run in the event loop, from READY to STOPPING."""

    def __init__(self, process: "Process", notify: Notify) -> None:
        self._process, self._notify = process, notify
        self._now = asyncio.get_running_loop().time
        self._patience = notify.watchdog or COUNT_EVERY
        self._told = ""
        self._hosts, self._counted = 0, float("-inf")
        # A disk may have a bad time, and a new process would have the same disk: the store gets all
        # of the time between two signs, and systemd waits for as long again.
        self._writes = RoundTrip(self._write, every=self._patience / 2, most=self._patience)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._notify.there:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await asyncio.to_thread(self._writes.join, 1.0)

    async def _run(self) -> None:
        step = min(STATUS_EVERY, self._patience / 5)
        while True:
            try:
                self._notify.status(summary(self._process, hosts=self._hosts))
                self._look()
            except Exception:
                log.exception("internal error while looking after the daemon")
            await asyncio.sleep(step)

    def _look(self) -> None:
        trouble = "; ".join(self.troubles())
        if trouble and trouble != self._told:
            log.error("this process does not work any more, systemd is to end it: %s", trouble)
        elif self._told and not trouble:
            log.info("this process works again")
        self._told = trouble
        # More often than asked for: one may get lost where systemd has much to do, and what is well
        # again has to be told before it is too late.
        if not trouble and self._notify.watchdog:
            self._notify.pet()

    def troubles(self) -> Iterator[str]:
        """What does not live any more."""
        process = self._process
        if process.auth is not None and self._writes.overdue(self._now()):
            yield f"the store of auth has written nothing for {self._patience:.0f} s"
        if process.node is not None and ended(process.node.zygote):
            yield "the process that forks sessions has ended"
        if process.proxy is not None and ended(process.proxy.ssh.zygote):
            yield "the process that forks connections of the jump host has ended"
        for what in unheard():
            yield f"nobody listens on {what}"

    def _write(self) -> None:
        """A change without a change: it waits its turn, and is committed."""
        assert self._process.auth is not None
        store = self._process.auth.store
        store.write(lambda _tx: None)
        if self._now() - self._counted >= COUNT_EVERY:
            self._counted = self._now()
            self._hosts = len(store.hosts())


def ended(line: Ends) -> bool:
    """poll(2): POLLHUP and POLLERR are told without being asked for."""
    fd = line.fileno()
    if fd < 0:
        return True
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
