"""What systemd hears from the daemon: sd_notify(3). Without systemd nothing happens.

STATUS and EXTEND_TIMEOUT_USEC while it starts, READY, then STATUS and WATCHDOG (watch.py),
RELOADING and READY for a SIGHUP (reload.py), and STOPPING.
"""

import os
from collections.abc import Mapping

import sdnotify

# Seconds. A systemd that reads nothing must not keep us from serving.
_PATIENCE = 1.0
# systemctl shows one line.
_MAX_STATUS = 300


class Notify:
    """For the main thread, and the event loop in it."""

    def __init__(self) -> None:
        self.there = bool(os.environ.get("NOTIFY_SOCKET"))
        # Seconds within which WATCHDOG=1 is expected, 0 if nobody waits for it.
        self.watchdog = _watchdog(os.environ) if self.there else 0.0
        self._status = ""

    def __call__(self, words: str) -> None:
        """Lines of NAME=value."""
        if not self.there:
            return
        notifier = sdnotify.SystemdNotifier()
        if notifier.socket is None:
            return
        with notifier.socket as sock:
            sock.settimeout(_PATIENCE)
            notifier.notify(words)

    def status(self, words: str) -> None:
        """What `systemctl status` shows. Said only when it has changed."""
        words = "".join(char if char.isprintable() else " " for char in words)[:_MAX_STATUS]
        if words != self._status:
            self._status = words
            self(f"STATUS={words}")

    def wait(self, words: str, seconds: float) -> None:
        """Still starting, because of `words`; there will be more to say within `seconds`."""
        self(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")
        self.status(words)

    def ready(self) -> None:
        self("READY=1")

    def stopping(self) -> None:
        self("STOPPING=1")
        self.status("stopping")

    def pet(self) -> None:
        """All is well, look away for another `watchdog` seconds."""
        self("WATCHDOG=1")


def _watchdog(environ: Mapping[str, str]) -> float:
    """sd_watchdog_enabled(3): for this process, or for whoever reads it."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1e6
