"""Where the connection string of the database comes from: written out, or from where only its
reader gets to, because there may be a password in it.

A string itself never stands in a message.
"""

import re
from dataclasses import dataclass

from teleport_lite.config.secret_place import read_place
from teleport_lite.errors import Malformed
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
        file = "/etc/teleport-lite/database"
        return _checked(read_place(self.kind, self.where, limit=MAX_LENGTH, file=file), str(self))

    def __str__(self) -> str:
        return self.where if self.kind in ("path", "value") else f"{self.kind}:{self.where}"


def _checked(text: str, named: str) -> Secret:
    text = text.strip()
    if len(text) > MAX_LENGTH or not text.isprintable() or not _STRING.fullmatch(text):
        raise Malformed(f"{named} holds no connection string of PostgreSQL", hint=EXAMPLE)
    return Secret(text)
