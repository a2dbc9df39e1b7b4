"""Keys of a join, or of a renewal, that was asked for and whose answer may have been lost.

A token that works once is spent when auth answers. If the answer never arrives, the same host
may ask again with the same key for ten minutes (auth/join.py), so the key has to survive.

A renewal makes auth know the host by new keys before the host has heard of it. Killed in between,
and then away until its certificates are of a CA that is gone, it could not show those keys, and
would be a new host. So they are on the disk before auth is asked, and the same until it answers.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import Keys
from teleport_lite.errors import Error
from teleport_lite.pki.keyfile import make_private_dir, read_secret, write_secret
from teleport_lite.proto.codec import Statement, read, write
from teleport_lite.secret import Secret

FILE = "join-pending.json"
RENEWAL_FILE = "renewal-pending.json"
MAX_SIZE = 16 * 1024


class _Stored(Statement, frozen=True):
    token: str  # a digest: tells whether the keys belong to the token, or host, we have now
    ssh_private: str
    ssh_public: str
    tls_private: str


class PendingKeys:
    """One directory's unanswered join."""

    def __init__(
        self,
        data_dir: Path,
        token: Secret,
        *,
        make: Callable[[], Keys] = Keys.new,
        file: str = FILE,
    ) -> None:
        self._make = make
        self._path = data_dir / file
        self._made_dir = False
        self._digest = hashlib.sha256(token.reveal().encode()).hexdigest()[:16]

    def take(self) -> Keys:
        """The keys of the unanswered join with this token, or new ones."""
        return self.kept() or self._make()

    def kept(self) -> Keys | None:
        try:
            kept = read(_Stored, read_secret(self._path, limit=MAX_SIZE), limit=MAX_SIZE)
        except Error:
            return None
        if kept.token != self._digest:
            return None
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


class PendingRenewal:
    """The keys of a renewal that auth has not answered, of the host with this identity. For one
    thread at a time."""

    def __init__(self, data_dir: Path, identity: Identity) -> None:
        self._pending = PendingKeys(data_dir, Secret(identity.host_id), file=RENEWAL_FILE)
        self.saved(identity)  # it may have been answered, and there was no time to say so

    def kept(self) -> Keys | None:
        """None if no renewal is unanswered."""
        return self._pending.kept()

    def take(self) -> Keys:
        """Those to ask with. A full disk is no reason not to: then they are in memory alone."""
        keys = self._pending.take()
        with suppress(Error):
            self._pending.keep(keys)
        return keys

    def saved(self, identity: Identity) -> None:
        """It is on the disk. If it has these keys, they have their answer."""
        known = self.kept()
        if known is not None and known.ssh_public == identity.ssh_public:
            self.drop()

    def drop(self) -> None:
        """Auth knows this host by the keys of its identity."""
        with suppress(OSError):
            self._pending.drop()
