"""Versions of this program: three numbers, and for what comes before a release a tail."""

import re
from dataclasses import dataclass
from functools import total_ordering

from teleport_lite.errors import Malformed

# Also the name of a directory and a part of a URL, so nothing else may be in it.
_SHAPE = re.compile(r"(\d{1,5})\.(\d{1,5})\.(\d{1,5})(-[0-9A-Za-z.]{1,32})?", re.ASCII)


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """Ordered as in semver.org, 11: 1.2.0-pre.2 < 1.2.0-pre.10 < 1.2.0 < 1.10.0."""

    numbers: tuple[int, int, int]
    tail: str = ""  # with its hyphen

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Of "v1.2.3" or "1.2.3-pre.1". Raises Malformed; "01.2.3" is no name for 1.2.3."""
        found = _SHAPE.fullmatch(text.removeprefix("v"))
        if found is not None:
            numbers = int(found[1]), int(found[2]), int(found[3])
            version = cls(numbers, found[4] or "")
            if str(version) == text.removeprefix("v"):
                return version
        raise Malformed(f"{text[:48]!a} is not a version, like 1.2.3")

    def __str__(self) -> str:
        return "{}.{}.{}".format(*self.numbers) + self.tail

    def __lt__(self, other: "Version") -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[tuple[int, int, int], bool, list[tuple[bool, int, str]]]:
        """A release comes after all that have a tail; numbers in tails come before words."""
        words = self.tail[1:].split(".") if self.tail else []
        parts = [(not w.isdigit(), int(w) if w.isdigit() else 0, w) for w in words]
        return self.numbers, not self.tail, parts
