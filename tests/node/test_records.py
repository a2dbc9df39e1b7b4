"""How much room recordings may take."""

import os
from pathlib import Path

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.node.records import Records


def spool(tmp_path: Path, quota: int) -> Records:
    return Records(tmp_path, quota=quota, floor=0)


def test_small_recordings_count_for_what_they_take_of_the_disk(tmp_path: Path) -> None:
    """A thousand sessions of a moment are megabytes, though each says next to nothing."""
    records = spool(tmp_path, 200_000)
    for number in range(33):
        file = records.begin(f"session-{number}")
        os.write(file, b"a line")
        os.close(file)
    with pytest.raises(Unavailable, match="recording_spool_quota"):
        records.begin("session-33")


def test_a_disk_without_room_for_files_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    fields = [*real]
    fields[5:8] = [100_000, 500, 500]  # files in all, that are free, and for us
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(fields))
    with pytest.raises(Unavailable, match="room for more files"):
        spool(tmp_path, 1 << 30).begin("session")
