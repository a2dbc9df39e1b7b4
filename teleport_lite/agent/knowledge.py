"""What auth last told this host, on disk, so that it can decide by itself while auth is away.

The SSH monitors read these files for every connection; nothing else tells them anything.
"""

from pathlib import Path

from teleport_lite.errors import NotFound
from teleport_lite.model.labels import Labels
from teleport_lite.pki.keyfile import read_secret, write_secret
from teleport_lite.proto.codec import Statement, read, write
from teleport_lite.proto.stream import Knowledge

FILE = "knowledge.json"
LABELS_FILE = "labels.json"
# A thousand roles and locks; the frame it arrives in has the same limit.
MAX_SIZE = 1024 * 1024


class _Labels(Statement, frozen=True):
    labels: dict[str, str]


def load(data_dir: Path) -> Knowledge | None:
    """None before the first word from auth."""
    try:
        return read(Knowledge, read_secret(data_dir / FILE, limit=MAX_SIZE), limit=MAX_SIZE)
    except NotFound:
        return None


def mark(data_dir: Path) -> tuple[int, ...]:
    """Changes when what is known changes; () while there is nothing."""
    try:
        stat = (data_dir / FILE).stat()
    except OSError:
        return ()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def save(data_dir: Path, knowledge: Knowledge) -> None:
    write_secret(data_dir / FILE, write(knowledge))


def load_labels(data_dir: Path) -> dict[str, str]:
    """The host's labels as they are now, static and from commands."""
    try:
        raw = read_secret(data_dir / LABELS_FILE, limit=MAX_SIZE)
    except NotFound:
        return {}
    return read(_Labels, raw, limit=MAX_SIZE).labels


def save_labels(data_dir: Path, labels: Labels) -> None:
    write_secret(data_dir / LABELS_FILE, write(_Labels(labels=dict(labels))))
