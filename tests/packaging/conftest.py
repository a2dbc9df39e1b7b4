"""The single file, built once for a whole run of tests however many workers there are."""

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ["install.sh", "LICENSE", "packaging", "plugins", "pyproject.toml", "systemd"]
SOURCES.append("teleport_lite")
NOBODY = 65534


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the file is built from, which no editor changes during the tests.

    With dist/teleport-lite.pyz, built by the interpreter that runs the tests.
    """
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):  # a worker's own; above it is what they share
        shared = shared.parent
    return _once(shared, "checkout")


@pytest.fixture(scope="session")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a build of its own: root has not unpacked it to where everybody looks."""
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):
        shared = shared.parent
    return _once(shared, "unknown") / "dist" / "teleport-lite.pyz"


def _once(shared: Path, name: str) -> Path:
    copy = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            copy_sources(copy)
            with (copy / "LICENSE").open("a") as file:
                file.write("" if name == "checkout" else f"\n{name} {secrets.token_hex(8)}\n")
            build(copy)
    return copy


@pytest.fixture
def outside() -> Iterator[Path]:
    """A directory that other users can reach, unlike tmp_path."""
    place = Path(tempfile.mkdtemp(prefix="tests-packaging-"))
    place.chmod(0o755)
    yield place
    subprocess.run(["chmod", "-R", "u+rwX", str(place)], check=True)
    shutil.rmtree(place)


@pytest.fixture
def stranger(unknown: Path, outside: Path) -> dict[str, Any]:
    """How to run the file as somebody who owns nothing: `start(**stranger)`."""
    shutil.copy(unknown, outside / "file.pyz")
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    same = f"import sys; assert sys.version_info[:2] == {sys.version_info[:2]}"
    for python in (sys.executable, "/usr/bin/python3"):  # root's own may be closed to others
        with contextlib.suppress(OSError):
            if subprocess.run([python, "-c", same], capture_output=True, **who).returncode == 0:
                env = {"TELEPORT_LITE_PYTHON": python}
                return {"file": outside / "file.pyz", "env": env, **who}
    pytest.skip("no Python of this version that others may run")


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
