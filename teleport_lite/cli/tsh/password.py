"""Asking for a password: at the terminal, or on standard input when that is none.

Never as an argument and never from the environment: both are seen by others.
"""

import sys

from teleport_lite.errors import Malformed
from teleport_lite.secret import Secret

# A password of a thousand characters has been pasted by mistake.
MAX = 1024


def ask_password(user: str) -> Secret:
    """Raises Malformed if there is none."""
    try:
        typed = _typed(user) if at_terminal() else _line()
    except EOFError:
        typed = ""
    except UnicodeDecodeError:
        raise Malformed("the password is not text in this terminal's encoding") from None
    if not typed:
        raise Malformed(
            f"no password for {user} was given",
            hint="tsh login at a terminal, or with the password as the line on standard input",
        )
    if len(typed) > MAX:
        raise Malformed(f"the password is longer than {MAX} characters")
    return Secret(typed)


def at_terminal() -> bool:
    """Is there somebody to ask?"""
    return sys.stdin is not None and sys.stdin.isatty()


def _typed(user: str) -> str:
    import getpass

    return getpass.getpass(f"Enter password for Teleport user {user}: ")


def _line() -> str:
    return "" if sys.stdin is None else sys.stdin.readline(MAX + 2).rstrip("\r\n")
