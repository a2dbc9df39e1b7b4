"""Backups: what tctl asks of auth. The file that comes of it: `backup_file.py`."""

from teleport_lite.proto.codec import Message

# Of the file, in one answer: some milliseconds of auth's time, and a quarter of a second on a
# slow line.
MAX_PIECE = 2 * 1024 * 1024


class BackupBegin(Message, frozen=True):
    """Hold on to the cluster as it is now."""

    recordings: bool = False


class BackupRead(Message, frozen=True):
    """The next piece. `at` is where it begins; the piece before may be asked for once more."""

    id: str
    at: int = 0


class BackupEnd(Message, frozen=True):
    """It is not needed any more."""

    id: str


class KeyringLook(Message, frozen=True):
    """How much is sealed under which key."""


class KeyringReseal(Message, frozen=True):
    """Read the keyring again, and seal everything under its first key."""
