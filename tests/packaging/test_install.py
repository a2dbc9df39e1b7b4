"""install.sh from a checkout: install, install again, remove; and what it leaves alone."""

import os
import subprocess
from pathlib import Path

import pytest

from teleport_lite import __version__
from tests.packaging.conftest import ROOT

NAMES = ["tbot", "tctl", "teleport-lite", "tsh"]


def install(*words: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(root / "install.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def everything(prefix: Path) -> dict[str, tuple[int, int]]:
    """Every path under the prefix, with what changes when a file is written anew."""
    found = {}
    for path in prefix.rglob("*"):
        facts = path.lstat()
        found[str(path.relative_to(prefix))] = (facts.st_ino, facts.st_mtime_ns)
    return found


def test_install_then_again_then_remove(checkout, tmp_path):
    prefix = tmp_path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "tsh").write_text("somebody else's tsh\n")
    first = install("--prefix", str(prefix), root=checkout)
    assert first.returncode == 0, first.stderr
    assert "left " in first.stdout
    assert sorted(path.name for path in (prefix / "bin").iterdir()) == NAMES
    said = subprocess.run([prefix / "bin" / "tctl", "version", "--raw"], capture_output=True)
    assert said.stdout.decode().strip() == __version__

    before = everything(prefix)
    again = install(f"--prefix={prefix}", root=checkout)
    assert again.returncode == 0, again.stderr
    assert everything(prefix) == before
    assert "is this build already" in again.stdout

    gone = install("--uninstall", "--prefix", str(prefix), root=checkout)
    assert gone.returncode == 0, gone.stderr
    assert sorted(path.name for path in prefix.rglob("*")) == ["bin", "lib", "tsh"]
    assert (prefix / "bin" / "tsh").read_text() == "somebody else's tsh\n"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--frobnicate"], "unknown option: --frobnicate"),
        (["--keep"], "--keep goes with --demo"),
        (["--prefix"], "--prefix needs a directory"),
        (["--prefix", "relative"], "--prefix: relative is not an absolute path"),
    ],
)
def test_a_wrong_command_line_is_refused_with_the_usage(words, cause):
    said = install(*words)
    assert said.returncode == 2
    assert said.stderr.startswith(f"ERROR: {cause}\nusage: ")


def test_help_says_what_it_does_and_does_nothing(tmp_path):
    said = install("--help", "--prefix", str(tmp_path))
    assert said.returncode == 0
    assert "does not download releases" in said.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_script_that_was_cut_off_does_nothing(tmp_path):
    whole = (ROOT / "install.sh").read_text()
    cut = tmp_path / "install.sh"
    for share in (0.3, 0.6, 0.99):
        cut.write_text(whole[: int(len(whole) * share)])
        said = subprocess.run(["bash", str(cut), "--help"], capture_output=True, text=True)
        assert said.returncode != 0
        assert said.stdout == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_without_the_right_to_write_it_says_what_to_do():
    said = install("--prefix", "/usr/local")
    assert said.returncode == 1
    assert "ERROR: can not write to /usr/local\n  try: sudo" in said.stderr
