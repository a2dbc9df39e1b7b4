"""What was done to files, for the trail: sftp as it is told by the broker, scp by its command.

A copy of a hundred thousand files must not push everything else out of sight: each kind of action
has an allowance, and what is past it is counted, and told as a sum. So a flood of one kind hides
nothing of another.
"""

import shlex
import time
from dataclasses import dataclass, field

from teleport_lite.node.story import Story
from teleport_lite.node.wire import FileOp, Moved

# Teleport's, with I or E behind.
CODES = {
    "open": "TS001",
    "close": "TS002",
    "setstat": "TS007",
    "opendir": "TS009",
    "remove": "TS011",
    "mkdir": "TS012",
    "rmdir": "TS013",
    "rename": "TS016",
    "symlink": "TS018",
    "link": "TS019",
}
SUMMARY = "TS021I"
DOWNLOAD, UPLOAD = "T3004", "T3005"
# Events of each action that a connection may cause at once, and how many more a second.
BURST, A_SECOND = 200, 2.0
# How often the sum of the rest is told.
_SUM_TIME = 60.0
_MOST_NAME = 1024


@dataclass(slots=True)
class _Allowance:
    left: float = BURST
    at: float = 0.0
    # What was not told one by one since the last sum.
    count: int = 0
    failed: int = 0
    read: int = 0
    written: int = 0

    def take(self, now: float) -> bool:
        self.left = min(BURST, self.left + (now - self.at) * A_SECOND)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class FileStory:
    """Of one connection."""

    story: Story
    _allowances: dict[str, _Allowance] = field(default_factory=dict)
    _sum_at: float | None = None

    def tell(self, op: FileOp) -> None:
        """The broker belongs to the user: what it says is bounded, and about that user."""
        if op.action not in CODES:
            return
        now = time.monotonic()
        allowance = self._allowances.setdefault(op.action, _Allowance(at=now))
        if not allowance.take(now):
            allowance.count += 1
            allowance.failed += bool(op.error)
            allowance.read += max(0, op.read)
            allowance.written += max(0, op.written)
            self._sum_at = self._sum_at or now + _SUM_TIME
            return
        facts = {"sid": op.sid[:64], "action": op.action, "path": op.path[:_MOST_NAME]}
        facts |= {"target": op.target[:_MOST_NAME]} if op.target else {}
        facts |= {"flags": op.flags[:64]} if op.flags else {}
        facts |= {"error": op.error[:64]} if op.error else {}
        if op.action == "close":
            facts |= {"bytes_read": str(op.read), "bytes_written": str(op.written)}
        self._event(CODES[op.action], facts, failed=bool(op.error))

    def patience(self) -> float | None:
        """Seconds until `tick` has something to do."""
        return None if self._sum_at is None else max(0.0, self._sum_at - time.monotonic())

    def tick(self) -> None:
        if self._sum_at is not None and time.monotonic() >= self._sum_at:
            self.sum()

    def sum(self) -> None:
        """Tell what has been left out so far."""
        self._sum_at = None
        for action, allowance in self._allowances.items():
            if not allowance.count:
                continue
            facts = {
                "action": action,
                "left_out": str(allowance.count),
                "failed": str(allowance.failed),
                "bytes_read": str(allowance.read),
                "bytes_written": str(allowance.written),
            }
            self.story.tell("sftp", SUMMARY, "ok", **facts)
            allowance.count = allowance.failed = allowance.read = allowance.written = 0

    def _event(self, code: str, facts: dict[str, str], *, failed: bool) -> None:
        outcome = "failed" if failed else "ok"
        self.story.tell("sftp", code + ("E" if failed else "I"), outcome, **facts)


def tell_scp(story: Story, *, sid: str, command: str, worked: bool, moved: Moved | None) -> None:
    """An event for the other end of `scp -O`, which is a command (scp(1), options -t and -f)."""
    found = scp(command)
    if found is None:
        return
    code, direction, path = found
    facts = {"sid": sid, "direction": direction, "path": path[:_MOST_NAME]}
    if moved is not None:
        facts |= {"bytes_up": str(moved.up), "bytes_down": str(moved.down)}
    outcome = "ok" if worked else "failed"
    story.tell("scp", code + ("I" if worked else "E"), outcome, **facts)


def scp(command: str) -> tuple[str, str, str] | None:
    """Code, direction and path; None if it is something else."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if len(words) < 2 or words[0].rpartition("/")[2] != "scp":
        return None
    flags, paths = "", []
    for at, word in enumerate(words[1:], 1):
        if word == "--":
            paths = words[at + 1 :]
            break
        if not word.startswith("-") or paths:
            paths.append(word)
        else:
            flags += word
    if "t" in flags:
        return UPLOAD, "upload", " ".join(paths)
    return (DOWNLOAD, "download", " ".join(paths)) if "f" in flags else None
