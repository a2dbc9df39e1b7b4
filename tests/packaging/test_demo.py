"""`install.sh --demo`: a cluster, a node that joins, a session by the system's ssh; no trace."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import eventually

SESSION = re.compile(r"^hello from /dev/pts/\d+, as \w+", re.MULTILINE)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("demo")
    yield place
    for pid in processes(place):  # only after a failure
        os.kill(pid, 9)


def demo(checkout: Path, place: Path, *words: str) -> str:
    said = subprocess.run(
        ["bash", str(checkout / "install.sh"), "--demo", *words],
        env=os.environ | {"TMPDIR": str(place), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def processes(place: Path) -> list[int]:
    """Whoever was started from below this directory."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(place).encode() in each.read_bytes():
                found.append(int(each.parent.name))
        except OSError:  # it has just ended
            continue
    return found


def test_the_demo_shows_sessions_without_trust_on_first_use_and_goes_on_if_it_is_told_to(
    checkout, place
):
    said = demo(checkout, place, "--keep")
    assert SESSION.search(said)
    assert "\x1b" not in said
    shown, _ = [line for line in said.splitlines() if line.startswith("$ ssh ")]
    assert "-o StrictHostKeyChecking=yes" in shown
    assert "far says hello to bob" in said
    assert "and once more to bob" in said
    assert "--ca-pin=sha256:" in said
    [directory] = place.iterdir()
    assert processes(place)
    advice = [line.strip() for line in said.splitlines() if line.startswith("    ")]
    enter, through, ssh, _, stop = advice[-5:]
    script = f"{enter} && {through} true && {ssh} exit 7"
    again = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert again.returncode == 7, again.stderr
    assert stop == f"bash {directory}/stop"
    subprocess.run(stop.split(), check=True, timeout=60)
    assert list(place.iterdir()) == []
    assert eventually(lambda: processes(place) == [])


def test_without_keep_nothing_is_left(checkout, place, tmp_path):
    """Of a demo that ends once its node has joined: the rest, and the build, are shown above."""
    (tmp_path / "packaging").mkdir()
    (tmp_path / "packaging" / "build.py").touch()
    for name in ("install.sh", "packaging/needs.sh", "packaging/demo.sh"):
        text = (checkout / name).read_text()
        (tmp_path / name).write_text(text.replace("  demo_session\n", "  return\n"))
    (tmp_path / "dist").symlink_to(checkout / "dist")
    said = demo(tmp_path, place)
    assert "\nnode-1 " in said
    assert "$ ssh " not in said
    assert list(place.iterdir()) == []
    assert eventually(lambda: processes(place) == [])
