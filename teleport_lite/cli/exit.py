"""How commands end: the only translation of our errors to a terminal and an exit code.

    0  done            3  not found                    130  interrupted
    1  error           4  denied, or not signed in     141  nobody reads our output any more
    2  usage           5  unreachable or unavailable       10  an upgrade is there (--check)

Rules, after which there is nothing left to decide for each message:
  - Answers go to stdout, everything else to stderr.
  - "ERROR: ", then lower case, no full stop, and the thing at fault by name.
  - "  try: ", then a command to type or a page to read, never advice.
  - What a server said is shown with its control characters escaped.
"""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer

from teleport_lite import errors
from teleport_lite.cli.show import Unread, discard, flush, safe
from teleport_lite.net import journal

CODE: dict[type[errors.Error], int] = {
    errors.Malformed: 1,
    errors.Conflict: 1,
    errors.NotFound: 3,
    errors.Unauthenticated: 4,
    errors.Denied: 4,
    errors.Unavailable: 5,
}
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
UNREAD = 141  # 128 + SIGPIPE


def guarded(work: Callable[[], object], *, debug: bool = False) -> int:
    """Run a command to its end and return the exit code. Nothing is raised through here."""
    try:
        code = work()
        flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Unread, BrokenPipeError):
        return _unread()
    except errors.Error as error:
        return _ended(error, debug)
    except typer.TyperException as wrong:
        return _misused(wrong)
    except typer.Abort:
        return 1
    except typer.Exit as wish:
        return wish.exit_code
    except SystemExit as wish:  # typer's way to end when a reader went away
        return wish.code if isinstance(wish.code, int) else 1
    except Exception as bug:
        return _bug(bug, debug)
    return code if isinstance(code, int) else 0


def explain(error: errors.Error) -> int:
    """Print the block of an expected error; returns its exit code."""
    complain(error.message, error.hint)
    return CODE.get(type(error), 1)


def complain(message: str, hint: str = "") -> None:
    _say(f"{_red('ERROR:')} {safe(message)}\n")
    if hint:
        _say(f"  try: {safe(hint)}\n")


def warn(message: str) -> None:
    """For what does not stop the command."""
    _say(f"WARN: {safe(message)}\n", journal.WARNING)


def _ended(error: errors.Error, debug: bool) -> int:
    if debug:
        _say(f"DEBUG: {safe(error.log)}\n" if error.log else "", journal.DEBUG)
        _say(safe("".join(traceback.format_exception(error))), journal.DEBUG)
    return explain(error)


def _misused(wrong: typer.TyperException) -> int:
    """Typer's words in our form: first letter small, no full stop, help as the hint."""
    text = wrong.format_message().strip().removesuffix(".")
    ctx: Any = getattr(wrong, "ctx", None)
    complain(
        text[:1].lower() + text[1:],
        f"{ctx.command_path} --help" if ctx is not None else "",
    )
    return USAGE


def _bug(bug: Exception, debug: bool) -> int:
    """Something we did not expect. The traceback may hold secrets, so only on request."""
    if debug:
        _say(safe("".join(traceback.format_exception(bug))))
    complain(
        f"internal error ({type(bug).__name__}), this is a bug in teleport-lite",
        "the same command with --debug, and report what it prints, see docs/operations.md",
    )
    return 1


def _unread() -> int:
    """The reader is gone (`tctl get nodes | head`)."""
    discard()
    return UNREAD


def _red(word: str) -> str:
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return f"\033[31m{word}\033[0m"
    return word


def _say(text: str, priority: int = journal.ERROR) -> None:
    if journal.is_journal(2):  # why a daemon does not start
        text = f"{journal.prefixed(text, priority)}\n" if text else ""
    with suppress(OSError, ValueError):  # stderr is closed; there is nowhere left to say it
        sys.stderr.write(text)
