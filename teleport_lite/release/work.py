"""One thing after the other, each told in a line: what was done, or what would be."""

from collections.abc import Callable
from dataclasses import dataclass, field

_PAST = {
    "install": "installed",
    "link": "linked",
    "reload": "reloaded",
    "remove": "removed",
    "restart": "restarted",
    "stop and disable": "stopped and disabled",
    "switch": "switched",
    "unpack": "unpacked",
    "write": "wrote",
}


@dataclass(slots=True, kw_only=True)
class Work:
    """Does things and says them. In a dry run it only says them, with "would" before each."""

    say: Callable[[str], None]
    dry_run: bool = False
    done: list[str] = field(default_factory=list)

    def do(self, verb: str, what: str, act: Callable[[], object]) -> None:
        """`verb` is of the table above: "link" is told as "linked X" or "would link X"."""
        if not self.dry_run:
            act()
        told = f"would {verb} {what}" if self.dry_run else f"{_PAST[verb]} {what}"
        self.done.append(told)
        self.say(told)

    def left(self, why: str) -> None:
        """For what is not ours to change."""
        self.say(f"left {why}")
