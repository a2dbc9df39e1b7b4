"""A process that stays behind for the sessions that go through this one, and nothing else.

Sessions of a node have processes of their own. Those that are only relayed, from a tunnel to the
node or through a proxy, end with whoever moves their bytes. So a daemon that stops while it has
some leaves a copy of itself: everything is closed by then but these relays. The daemon's own
process ends at once, so that whoever watches it can start the next one.

    SIGTERM --> retire: nothing new, everybody told --fork--> the parent ends
                                                        └---> the child relays until the last
                                                              session is over, or a second signal
"""

import asyncio
import logging
import os
import signal
import sys
from typing import Protocol

from teleport_lite.node.confine import name

log = logging.getLogger("teleport_lite.daemon")

# Seconds. No certificate lives longer, so who is still here has outlived their own.
LONGEST = 30 * 3600.0
# Seconds between looks: are there sessions left, have locks changed?
LOOK = 0.5
TITLE = "tl-relay"


class Relays(Protocol):
    """What is left of a daemon that has retired."""

    @property
    def relayed(self) -> int:
        """Sessions that end with this process."""

    def look_again(self) -> None:
        """See whether locks or roles have changed."""

    async def close(self) -> None: ...


async def leave_behind(relays: Relays, *, code: int) -> None:
    """Fork. Neither process returns: the parent ends with `code`, the child after the sessions.

    There must be no other thread any more, and nothing open that may not be shared.
    """
    loop = asyncio.get_running_loop()
    await loop.shutdown_default_executor()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        _end_as_parent(child, relays.relayed, code)
    # Until the parent is gone, which is now, both look at one epoll set; it touches it no more.
    try:
        _begin_as_child(loop)
        await _outlast(relays, _signals(loop))
    except BaseException:
        log.exception("internal error in the process that relays sessions")
    finally:
        os._exit(0)


def _end_as_parent(child: int, count: int, code: int) -> None:
    """Not a word to the event loop, which is the child's."""
    sessions = "1 session goes" if count == 1 else f"{count} sessions go"
    words = f"{sessions} on in process {child}"
    log.info("%s", words)
    if not any(_shows(handler) for handler in logging.getLogger().handlers):
        sys.stderr.write(f"{words} (to end them: kill {child})\n")
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def _shows(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    return stream is sys.stderr and logging.getLogger().isEnabledFor(logging.INFO)


def _begin_as_child(loop: asyncio.AbstractEventLoop) -> None:
    # asyncio asks for the process id, so that nobody goes on with a parent's loop by mistake.
    asyncio._set_running_loop(loop)
    os.setsid()  # a ^C, or the end of the terminal, is not meant for people's sessions
    name(TITLE)
    for word in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(word, None)  # systemd watches over the next daemon


def _signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        loop.add_signal_handler(number, told.set)
    loop.remove_signal_handler(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return told


async def _outlast(relays: Relays, told: asyncio.Event, *, longest: float = LONGEST) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + longest
    why = "its last session is over"
    while relays.relayed:
        if told.is_set():
            why = "it was told to end"
            break
        if loop.time() >= until:
            why = f"{longest / 3600:.0f} h are over"
            break
        await _either(told, LOOK)
        relays.look_again()
    left = relays.relayed
    log.info("process %d ends, %s%s", os.getpid(), why, f"; {left} are cut" if left else "")
    await relays.close()


async def _either(told: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await told.wait()
    except TimeoutError:
        return
