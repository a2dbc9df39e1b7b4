"""Keys of a join that was asked for and whose answer may have been lost on the way.

A token that works once is spent when auth answers. If the answer never arrives, the same host
may ask again with the same key for ten minutes (auth/join.py), so the key has to survive.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from teleport_lite.agent.join import Keys
from teleport_lite.errors import Error
from teleport_lite.pki.keyfile import make_private_dir, read_secret, write_secret
from teleport_lite.proto.codec import Statement, read, write
from teleport_lite.secret import Secret

FILE = "join-pending.json"
MAX_SIZE = 16 * 1024


class _Stored(Statement, frozen=True):
    token: str  # a digest: tells whether the keys belong to the token we have now
    ssh_private: str
    ssh_public: str
    tls_private: str


class PendingKeys:
    """One directory's unanswered join."""

    def __init__(
        self, data_dir: Path, token: Secret, *, make: Callable[[], Keys] = Keys.new
    ) -> None:
        self._make = make
        self._path = data_dir / FILE
        self._made_dir = False
        self._digest = hashlib.sha256(token.reveal().encode()).hexdigest()[:16]

    def take(self) -> Keys:
        """The keys of the unanswered join with this token, or new ones."""
        try:
            kept = read(_Stored, read_secret(self._path, limit=MAX_SIZE), limit=MAX_SIZE)
        except Error:
            return self._make()
        if kept.token != self._digest:
            return self._make()
        return Keys(
            ssh_private=Secret(kept.ssh_private),
            ssh_public=kept.ssh_public,
            tls_private=Secret(kept.tls_private),
        )

    def keep(self, keys: Keys) -> None:
        """Before the last question is sent."""
        self._made_dir = not self._path.parent.exists()
        make_private_dir(self._path.parent)
        stored = _Stored(
            token=self._digest,
            ssh_private=keys.ssh_private.reveal(),
            ssh_public=keys.ssh_public,
            tls_private=keys.tls_private.reveal(),
        )
        write_secret(self._path, write(stored))

    def drop(self) -> None:
        """It was answered, with yes or no. Leaves nothing behind, not even a directory we made."""
        self._path.unlink(missing_ok=True)
        if self._made_dir and not any(self._path.parent.iterdir()):
            self._path.parent.rmdir()
