"""Where a token comes from: written out, in a file, in the environment, or typed.

Nothing here ever puts the text of a token, or a line of a file, into a message: a path that
was mistaken for a token file may lead to any other secret of the machine.
"""

import logging
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.config.path import opened, read_up_to
from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.secret import Secret

Say = Callable[[str], None]

# The longest token is 128 characters; a file of more than a page is not a token file.
MAX_FILE = 4096
# Static tokens never end, so there is all the time in the world to guess a short one.
MIN_STATIC = 16


def _log(line: str) -> None:
    logging.getLogger("teleport_lite.config").warning(line)


@dataclass(frozen=True, slots=True)
class TokenSource:
    """`kind` is value, path, env or stdin; `where` names the place and is safe to show."""

    kind: str
    where: str = ""
    value: Secret | None = None

    @classmethod
    def parse(cls, text: str) -> "TokenSource":
        """A value, an absolute path, `env:NAME`, or `-` for standard input.

        Raises Malformed for what can be none of these; the text itself is not shown.
        """
        if text == "-":
            return cls("stdin", "standard input")
        if text.startswith("/"):
            return cls("path", text)
        if text.startswith("env:"):
            name = text.removeprefix("env:")
            if not name.isidentifier() or not name.isascii():
                raise Malformed("env: must be followed by the name of a variable, like env:TOKEN")
            return cls("env", name)
        if "/" in text:
            raise Malformed("a token file is given by its absolute path, like /etc/token.file")
        return cls("value", "the command line or config", Secret(_clean(text, "the token")))

    def read(self, say: Say = _log) -> Secret:
        """The token. `say` gets a line when its file can be read by others.

        Raises NotFound, Denied or Malformed, naming the file or variable and the cause.
        """
        if self.value is not None:
            return self.value
        if self.kind == "stdin":
            return Secret(_clean(sys.stdin.readline(MAX_FILE + 1), "the token on standard input"))
        if self.kind == "env":
            if self.where not in os.environ:
                raise NotFound(f"environment variable {self.where} is not set")
            return Secret(_clean(os.environ[self.where], f"environment variable {self.where}"))
        return Secret(_read_file(Path(self.where), say))

    def __str__(self) -> str:
        return {"value": "a value", "env": f"env:{self.where}", "stdin": "-"}.get(
            self.kind, self.where
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticToken:
    """A token of the config file of auth: who may join with it, and where its text is."""

    roles: tuple[str, ...]  # canonical names
    source: TokenSource
    weak_ok: bool = False

    def read(self, say: Say = _log) -> Secret:
        """As TokenSource.read; Malformed too for a token that is short enough to guess."""
        secret = self.source.read(say)
        if len(secret.reveal()) < MIN_STATIC and not self.weak_ok:
            raise Malformed(
                f"static token from {self.source} is shorter than {MIN_STATIC} characters",
                hint="tctl tokens add",
            )
        return secret


def _read_file(path: Path, say: Say) -> str:
    named = f"token file {path}"
    try:
        _check_link(path, named)
        with opened(path) as descriptor:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise Malformed(f"{named} is not a regular file")
            raw = read_up_to(descriptor, MAX_FILE)
    except FileNotFoundError:
        raise NotFound(f"{named} does not exist") from None
    except PermissionError:
        raise Denied(f"{named} may not be read by uid {os.geteuid()}") from None
    except (OSError, ValueError) as why:
        raise Malformed(f"{named} cannot be opened", log=repr(why)) from None
    if stat.S_IMODE(mode) & 0o077:
        say(f"{named} can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600")
    if len(raw) > MAX_FILE:
        raise Malformed(f"{named} is larger than {MAX_FILE} bytes")
    return _clean(raw.decode("utf-8", "replace"), named)


def _check_link(path: Path, named: str) -> None:
    """A link that somebody else placed could lead a root process to any file."""
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode) and facts.st_uid not in (0, os.geteuid()):
        raise Denied(f"{named} is a symbolic link of uid {facts.st_uid}")


def _clean(text: str, named: str) -> str:
    text = text.strip()
    if not text:
        raise Malformed(f"{named} is empty")
    if len(text.splitlines()) > 1:
        raise Malformed(f"{named} has more than one line")
    if len(text) > MAX_FILE:
        raise Malformed(f"{named} is larger than {MAX_FILE} bytes")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Malformed(f"{named} holds characters that no token has")
    return text
