"""Every shell script is clean for shellcheck, and no file of ours names this or that machine."""

import os
import subprocess
from pathlib import Path

from tests.packaging.conftest import ROOT


def scripts() -> list[str]:
    """Tracked files that a shell runs, by their name or their first line."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return [name for name in names if is_script(ROOT / name)]


def is_script(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(80)
    return path.suffix == ".sh" or (first.startswith(b"#!") and first.strip().endswith(b"sh"))


def test_all_shell_files_are_clean_for_shellcheck():
    found = scripts()
    assert {"install.sh", "tests/run", ".ci/run", "packaging/header.sh"} <= set(found)
    others = [name for name in found if name != "packaging/header.sh"]
    check("-x", *others)
    # A template: what stands between the at signs is filled in when the file is built.
    check("-e", "SC1091,SC2170", "packaging/header.sh")


def check(*words: str) -> None:
    said = subprocess.run(["shellcheck", *words], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_scripts_that_people_start_can_be_started():
    for name in ("install.sh", "tests/run", ".ci/run", "packaging/build.py"):
        assert os.access(ROOT / name, os.X_OK) or name == "install.sh", name


def test_the_unit_is_one_that_systemd_would_load():
    text = (ROOT / "systemd" / "teleport-lite.service").read_text()
    assert text.startswith("# teleport-lite: installed by install.sh\n")  # how uninstall knows it
    assert "ExecStart=/usr/local/bin/teleport-lite start " in text
    assert "KillMode=process\n" in text  # sessions outlive a restart
