"""Lives of a cluster: each store that was founded, restored or imported is one of its own.

Several auth servers of one store are one life, and so is a store before and after a power cut. Two
lives at once are two clusters with the same CAs, of which neither hears what the other one locks.
"""

import re
from dataclasses import dataclass
from datetime import datetime

_WORD = re.compile(r"[1-9][0-9]{0,8}-[0-9a-f]{8,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    id: str  # random
    number: int  # 1 when the cluster is founded; one more than that of the life it was made from
    began: datetime

    @property
    def word(self) -> str:
        """As hosts are told: "2-5f0c..."."""
        return f"{self.number}-{self.id}"


def is_word(text: str) -> bool:
    return _WORD.fullmatch(text) is not None


def number_of(word: str) -> int:
    """Of a cluster from before lives were counted, 1."""
    return int(word.partition("-")[0]) if is_word(word) else 1
