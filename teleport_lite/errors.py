"""Every failure a caller can act on, on one screen.

    Error
      Malformed         what you sent cannot be read
      Unauthenticated   we do not know who you are
      Denied            we know who you are, and the answer is no
      NotFound          the thing you named does not exist
      Conflict          it exists already, or someone changed it first
      Unavailable       not now: try again later, or somewhere else

Any other exception that reaches an edge is a bug. Edges log it under a trace id and say
"internal error"; `net/problems.py` (HTTP) and `cli/exit.py` (terminal) hold the only
translations.

Wording, decided once: `message` is lower case without a full stop, names the thing at
fault and the cause. `hint` is what to type or read next. `log` is for us alone and never
leaves the process that raised it.
"""

from typing import ClassVar


class Error(Exception):
    """A failure we expected, worded for the person who will read it."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", log: str = "") -> None:
        super().__init__(message)
        self.message, self.hint, self.log = message, hint, log


class Malformed(Error):
    code = "malformed"


class Unauthenticated(Error):
    code = "unauthenticated"


class Denied(Error):
    code = "denied"


class NotFound(Error):
    code = "not_found"


class Conflict(Error):
    code = "conflict"


class Unavailable(Error):
    code = "unavailable"


KINDS: dict[str, type[Error]] = {
    kind.code: kind
    for kind in (Malformed, Unauthenticated, Denied, NotFound, Conflict, Unavailable)
}
