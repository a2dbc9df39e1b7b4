"""The single file, built once for a whole run of tests however many workers there are."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ["install.sh", "LICENSE", "packaging", "plugins", "pyproject.toml", "systemd"]
SOURCES.append("teleport_lite")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the file is built from, which no editor changes during the tests.

    With dist/teleport-lite.pyz, built by the interpreter that runs the tests.
    """
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):  # a worker's own; above it is what they share
        shared = shared.parent
    copy = shared / "checkout"
    with (shared / "checkout.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            copy_sources(copy)
            build(copy)
    return copy


@pytest.fixture(scope="session")
def built(checkout: Path) -> Path:
    return checkout / "dist" / "teleport-lite.pyz"


def copy_sources(place: Path) -> None:
    place.mkdir()
    skip = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=skip)
        else:
            shutil.copy(ROOT / name, place / name)
    (ROOT / "build").mkdir(exist_ok=True)
    (place / "build").symlink_to(ROOT / "build")  # wheels that were fetched before


def build(root: Path, *words: str) -> None:
    command = [sys.executable, str(root / "packaging" / "build.py"), *words]
    subprocess.run(command, check=True, capture_output=True, timeout=110)
