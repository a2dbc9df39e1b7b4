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
    assert sorted(path.name for path in (prefix / "bin").iterdir()) == NAMES
    said = subprocess.run([prefix / "bin" / "tctl", "version", "--raw"], capture_output=True)
    assert said.stdout.decode().strip() == __version__
    assert (prefix / "lib/teleport-lite/current").readlink() == Path(__version__)

    before = everything(prefix)
    again = install(f"--prefix={prefix}", root=checkout)
    assert again.returncode == 0, again.stderr
    assert everything(prefix) == before
    assert "\nnothing changed\n" in again.stdout

    gone = install("--uninstall", "--prefix", str(prefix), root=checkout)
    assert gone.returncode == 0, gone.stderr
    assert sorted(path.name for path in prefix.rglob("*") if path.is_file()) == ["tsh"]
    assert (prefix / "bin" / "tsh").read_text() == "somebody else's tsh\n"

    once_more = install("--uninstall", f"--prefix={prefix}", root=checkout)
    assert once_more.returncode == 0
    assert once_more.stdout == f"==> nothing changed: there is no teleport-lite in {prefix}\n"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--frobnicate"], "unknown option: --frobnicate"),
        (["--keep"], "--keep goes with --demo"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--prefix"], "--prefix needs a value"),
        (["--prefix", "relative"], "--prefix: relative is not a plain absolute path"),
        (["--prefix", "/a\nb"], "--prefix: /a?b is not a plain absolute path"),
        (["1.2.3"], "a checkout installs what it is, and takes no version"),
        (["1.2.3;id"], "1.2.3;id is no version like 1.2.3"),
        (["latest", "home"], "home is not oss, enterprise or cloud"),
        (["latest", "oss", "\x1b[2J"], "one word too many: ?[2J"),
        (["--no-start"], "this script joins no cluster, and --labels, --nodename and --no-start"),
    ],
)
def test_a_wrong_command_line_is_refused_with_the_usage(words, cause):
    said = install(*words)
    assert said.returncode == 2
    assert said.stderr.startswith(f"ERROR: {cause}")
    assert "\nusage: " in said.stderr
    assert said.stdout == ""


def test_help_says_what_it_does_and_does_nothing(tmp_path):
    said = install("--help", "--prefix", str(tmp_path))
    assert said.returncode == 0
    assert said.stdout.startswith("usage: curl -fsSL https://HOST/install.sh | bash -s -- ")
    assert list(tmp_path.iterdir()) == []


def test_where_it_may_not_write_it_says_what_to_do(checkout, tmp_path):
    (tmp_path / "file").touch()  # no directory can be below this, not even for root
    said = install(f"--prefix={tmp_path}/file", root=checkout)
    assert said.returncode == 1
    cause = f"ERROR: can not write to {tmp_path}/file\n"
    way = "sudo bash install.sh" if os.geteuid() else f"findmnt -T {tmp_path}/file"
    assert said.stderr == f"{cause}  try: {way}, or --prefix DIR\n"
