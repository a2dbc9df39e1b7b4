"""Reading a secret from where the config says that it stands."""

import os
from pathlib import Path

from teleport_lite.errors import NotFound
from teleport_lite.pki.keyfile import read_secret

# Where systemd puts what LoadCredential= and LoadCredentialEncrypted= name (systemd.exec(5)).
_CREDENTIALS = "CREDENTIALS_DIRECTORY"


def read_place(kind: str, where: str, *, limit: int, file: str) -> str:
    """`kind` is path, env or credential; a file has at most `limit` bytes. `file` is an example of
    one, for the hint. Raises NotFound, Denied or Malformed, naming the place."""
    if kind == "env":
        if where not in os.environ:
            raise NotFound(f"environment variable {where} is not set")
        return os.environ[where]
    path = Path(where)
    if kind == "credential":
        directory = os.environ.get(_CREDENTIALS)
        if not directory:
            raise NotFound(
                f"credential {where}: systemd has given none to this process",
                hint=f"LoadCredential={where}:{file} in the unit",
            )
        path = Path(directory) / where
    return read_secret(path, limit=limit).decode("utf-8", "replace")
