"""What the two databases that speak SQL have in common, as far as we go.

Statements are written once, with `?` and `:name` for values, and in words that both understand:
no booleans, no scalar min(), `user` in quotes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from teleport_lite.errors import Unavailable


class Answer(Protocol):
    """What an `execute` returns. Rows that are not asked for are dropped."""

    @property
    def rowcount(self) -> int:
        """Rows that a statement has changed."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """A connection. Transactions are ours to begin and end."""

    def execute(self, statement: str, values: Any = (), /) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a library says that something went wrong."""

    error: type[Exception]  # all that it raises
    # Our own mistakes: they concern one change. Everything else is about the database, and then
    # nobody in the batch can be told that all is well.
    is_bug: Callable[[Exception], bool]
    # Place, verb (read, write, open) and cause -> what it means to the one who waits.
    unavailable: Callable[[str, str, BaseException], Unavailable]


class Ledger(Protocol):
    """The connection that writes, one batch of changes at a time.

    `begin`, `commit` and `execute` raise what the library raises, or Unavailable.
    """

    dialect: Dialect

    def begin(self) -> None:
        """From now on nobody else writes, in this process or another. A savepoint called `change`
        is there for the first one."""

    def execute(self, statement: str, values: Any = (), /) -> Answer: ...

    def script(self, *statements: str) -> object:
        """Several that need no values, in one go."""

    def commit(self, topics: Sequence[str]) -> None:
        """Durable when it returns. `topics`, as `Store.watch` names them, are told to others."""

    def rollback(self) -> None:
        """Whatever state it is in."""

    def close(self) -> None: ...
