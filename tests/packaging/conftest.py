"""The single file, built once for a whole run of tests however many workers there are."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From the sources as they are now, by the interpreter that runs the tests."""
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):  # a worker's own; above it is what they share
        shared = shared.parent
    file = shared / "built" / "teleport-lite.pyz"
    with (shared / "built.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            build(file)
    return file


def build(output: Path, *more: str, root: Path = ROOT) -> None:
    command = [sys.executable, str(root / "packaging" / "build.py"), "--output", str(output), *more]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
