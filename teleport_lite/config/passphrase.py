"""Where a passphrase comes from: a file, the environment, systemd, or somebody who types it.

Never the config itself: it lies beside what the passphrase is to protect, and is copied around.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.errors import Malformed, NotFound
from teleport_lite.pki.keyfile import read_secret
from teleport_lite.secret import Secret

MAX_LENGTH = 1024
_EXAMPLES = "an absolute path, env:NAME, credential:NAME or - for standard input"
# Where systemd puts what LoadCredential= and LoadCredentialEncrypted= name (systemd.exec(5)).
CREDENTIALS = "CREDENTIALS_DIRECTORY"


@dataclass(frozen=True, slots=True)
class PassphraseSource:
    """`kind` is path, env, credential or stdin; `where` names the place and is safe to show."""

    kind: str
    where: str = ""

    @classmethod
    def parse(cls, text: str) -> "PassphraseSource":
        """Raises Malformed, without showing the text: it may be the passphrase."""
        if text == "-":
            return cls("stdin")
        if text.startswith("/"):
            return cls("path", text)
        kind, _, name = text.partition(":")
        if kind not in ("env", "credential"):
            raise Malformed(f"a passphrase is given by {_EXAMPLES}, never by itself")
        if not name or not name.replace("-", "_").replace(".", "_").isidentifier():
            raise Malformed(f"{kind}: must be followed by a name, like {kind}:KEYRING")
        return cls(kind, name)

    def read(self) -> Secret:
        """Raises NotFound, Denied or Malformed, naming the place."""
        if self.kind == "stdin":
            return self._clean(sys.stdin.readline(MAX_LENGTH + 2))
        if self.kind == "env":
            if self.where not in os.environ:
                raise NotFound(f"environment variable {self.where} is not set")
            return self._clean(os.environ[self.where])
        raw = read_secret(self._path(), limit=MAX_LENGTH + 2)
        return self._clean(raw.decode("utf-8", "replace"))

    def _path(self) -> Path:
        if self.kind == "path":
            return Path(self.where)
        directory = os.environ.get(CREDENTIALS)
        if not directory:
            raise NotFound(
                f"credential {self.where}: systemd has given none to this process",
                hint=f"LoadCredential={self.where}:/etc/teleport-lite/passphrase in the unit",
            )
        return Path(directory) / self.where

    def _clean(self, text: str) -> Secret:
        """One line; blanks within it count, the newline at its end does not."""
        line = text.removesuffix("\n").removesuffix("\r")
        if not line or len(line) > MAX_LENGTH or not line.isprintable():
            raise Malformed(f"the passphrase from {self} must be one line of printable characters")
        return Secret(line)

    def __str__(self) -> str:
        return {
            "stdin": "standard input",
            "env": f"env:{self.where}",
            "credential": f"credential:{self.where}",
        }.get(self.kind, self.where)
