"""What a scenario finds: how many faults it made, and its figures beside their goals.

The one who was answered keeps what was answered, a checker compares it with what is there
afterwards. A scenario that has made no fault has shown nothing, and fails.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tests.faults.warm import Warm

from tests.postgres import Postgres

T = TypeVar("T")
# A small round runs beside the rest of the suite, on a machine that stands still now and then: so
# many times slower it may be. What the goals promise is measured alone, by `benchmarks.faults`.
BESIDE = 5.0
# Of what should not be there, so many are shown.
EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    what: str
    count: int  # of how many
    value: float
    unit: str
    goal: str = ""  # "" for what is only told
    reached: bool = True
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = f"{self.value:.4g} {self.unit}".strip()
        goal = f", goal {self.goal}" if self.goal else ""
        found = "".join(f"\n    {each}" for each in self.examples)
        return f"{self.what}: {shown} (N = {self.count}{goal}){found}"


@dataclass(slots=True)
class Report:
    """Of one scenario. A figure beyond its goal is kept, not raised: the rest is worth knowing.
    Goals in seconds are multiplied by `slower`."""

    scenario: str
    slower: float = 1.0
    faults: Counter[str] = field(default_factory=Counter)
    figures: list[Figure] = field(default_factory=list)

    def fault(self, kind: str, count: int = 1) -> None:
        self.faults[kind] += count

    def at_most(self, what: str, value: float, goal: float, unit: str = "", *, count: int) -> None:
        if unit in ("s", "ms"):
            goal *= self.slower
        self._add(what, value, unit, count, f"<= {goal:g} {unit}".strip(), value <= goal)

    def at_least(self, what: str, value: float, goal: float, unit: str = "", *, count: int) -> None:
        self._add(what, value, unit, count, f">= {goal:g} {unit}".strip(), value >= goal)

    def none(self, what: str, found: Collection[object], *, count: int) -> None:
        """Nothing of the kind may be there."""
        examples = tuple(str(each)[:400] for each in list(found)[:EXAMPLES])
        self._add(what, len(found), "", count, "0", not found, examples)

    def told(self, what: str, value: float, unit: str = "", *, count: int = 1) -> None:
        self._add(what, value, unit, count, "", True)

    def slowest(self, what: str, seconds: Sequence[float], goal: float) -> None:
        """The largest of them, in seconds. None at all is a miss."""
        largest = max(seconds, default=float("inf"))
        self.at_most(what, round(largest, 3), goal, "s", count=len(seconds))

    @property
    def missed(self) -> list[str]:
        found = [str(each) for each in self.figures if not each.reached]
        if not sum(self.faults.values()):
            found.append("no fault was made, so nothing was shown")
        if not any(each.goal for each in self.figures):
            found.append("nothing was measured against a goal")
        return found

    def _add(
        self,
        what: str,
        value: float,
        unit: str,
        count: int,
        goal: str,
        reached: bool,
        examples: tuple[str, ...] = (),
    ) -> None:
        # Zero of nothing is no merit.
        reached = reached and (count > 0 or not goal)
        self.figures.append(
            Figure(
                what=what,
                count=count,
                value=value,
                unit=unit,
                goal=goal,
                reached=reached,
                examples=examples,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One go at a scenario: where it may write, how much of it, and its own chance."""

    root: Path
    report: Report
    full: bool = False
    minutes: float = 0.0  # how long a load is kept up, of a full one; 0: as the scenario says
    seed: int = 7
    postgres: Postgres | None = None  # one to share; else a scenario that needs it has its own
    warm: "Warm | None" = None  # the same of what forks daemons

    def size(self, small: T, full: T) -> T:
        return full if self.full else small

    def seconds(self, small: float, full: float) -> float:
        if not self.full:
            return small
        return self.minutes * 60 or full

    @property
    def chance(self) -> random.Random:
        return random.Random(self.seed)

    def directory(self, name: str) -> Path:
        made = self.root / name
        made.mkdir(parents=True)
        return made


Scenario = Callable[[Run], None]


def run_small(
    scenario: Scenario, root: Path, warm: "Warm", *, postgres: Postgres | None = None
) -> Report:
    """For tests: everything it was to reach, it has reached."""
    report = Report(scenario.__name__, slower=BESIDE)
    scenario(Run(root=root, report=report, warm=warm, postgres=postgres))
    assert not report.missed, "\n".join(report.missed)
    return report
