"""Where the connection string of the database comes from: written out, or from where only its
reader gets to, because there may be a password in it.

A string itself never stands in a message.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.config.passphrase import CREDENTIALS
from teleport_lite.errors import Malformed, NotFound
from teleport_lite.pki.keyfile import read_secret
from teleport_lite.secret import Secret

MAX_LENGTH = 4096
EXAMPLE = "postgresql://teleport@db.example.com/teleport?sslmode=verify-full"
# A URI, or words like host=db. libpq reads them (its manual, "Connection Strings").
_STRING = re.compile(r"postgres(ql)?://\S+|[a-z_]+ *= *\S.*")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True, slots=True)
class ConnString:
    """`kind` is value, path, env or credential; `where` names the place and is safe to show."""

    kind: str
    where: str = ""
    value: Secret | None = None

    @classmethod
    def parse(cls, text: str) -> "ConnString":
        """A connection string, an absolute path, env:NAME or credential:NAME. Raises Malformed."""
        if text.startswith("/"):
            return cls("path", text)
        kind, _, name = text.partition(":")
        if kind in ("env", "credential"):
            if not _NAME.fullmatch(name):
                raise Malformed(f"{kind}: must be followed by a name, like {kind}:DATABASE")
            return cls(kind, name)
        return cls("value", "the config", _checked(text, "it"))

    def read(self) -> Secret:
        """Raises NotFound, Denied or Malformed, naming the place."""
        if self.value is not None:
            return self.value
        if self.kind == "env":
            if self.where not in os.environ:
                raise NotFound(f"environment variable {self.where} is not set")
            return _checked(os.environ[self.where], str(self))
        raw = read_secret(self._path(), limit=MAX_LENGTH)
        return _checked(raw.decode("utf-8", "replace"), str(self))

    def _path(self) -> Path:
        if self.kind == "path":
            return Path(self.where)
        directory = os.environ.get(CREDENTIALS)
        if not directory:
            raise NotFound(
                f"credential {self.where}: systemd has given none to this process",
                hint=f"LoadCredential={self.where}:/etc/teleport-lite/database in the unit",
            )
        return Path(directory) / self.where

    def __str__(self) -> str:
        return self.where if self.kind in ("path", "value") else f"{self.kind}:{self.where}"


def _checked(text: str, named: str) -> Secret:
    text = text.strip()
    if len(text) > MAX_LENGTH or not text.isprintable() or not _STRING.fullmatch(text):
        raise Malformed(f"{named} holds no connection string of PostgreSQL", hint=EXAMPLE)
    return Secret(text)
