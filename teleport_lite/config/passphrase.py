"""Where a passphrase comes from: a file, the environment, systemd, or somebody who types it.

Never the config itself: it lies beside what the passphrase is to protect, and is copied around.
"""

import sys
from dataclasses import dataclass

from teleport_lite.config.secret_place import read_place
from teleport_lite.errors import Malformed
from teleport_lite.secret import Secret

MAX_LENGTH = 1024
_EXAMPLES = "an absolute path, env:NAME, credential:NAME or - for standard input"


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
        if not name.replace("-", "_").replace(".", "_").isidentifier():
            raise Malformed(f"{kind}: must be followed by a name, like {kind}:KEYRING")
        return cls(kind, name)

    def read(self) -> Secret:
        """Raises NotFound, Denied or Malformed, naming the place."""
        if self.kind == "stdin":
            return self._clean(sys.stdin.readline(MAX_LENGTH + 2))
        file, limit = "/etc/teleport-lite/passphrase", MAX_LENGTH + 2
        return self._clean(read_place(self.kind, self.where, limit=limit, file=file))

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
