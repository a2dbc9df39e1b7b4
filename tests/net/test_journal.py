"""Standard error that is the journal, and standard error that is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.net.journal import ERROR, VARIABLE, is_journal, prefixed


def stream_of(descriptor: int) -> str:
    found = os.fstat(descriptor)
    return f"{found.st_dev}:{found.st_ino}"


def test_the_stream_that_systemd_names_is_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "file").open("w") as other:
        monkeypatch.setenv(VARIABLE, stream_of(stream.fileno()))
        assert is_journal(stream.fileno())
        assert not is_journal(other.fileno()), "somebody has led it elsewhere since"
        closed = other.fileno()
    assert not is_journal(closed)


@pytest.mark.parametrize("said", [None, "", "no:thing", "1:2:3"])
def test_without_systemd_nothing_is(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(VARIABLE, said)
    assert not is_journal(2)


def test_every_line_has_the_priority() -> None:
    assert prefixed("one\n  two\n<0>three", ERROR) == "<3>one\n<3>  two\n<3><0>three"


_CHILD = """
import os
from teleport_lite.net.journal import VARIABLE
from teleport_lite.node.processes import fork_child
found = os.fstat(2)
if {journal}: os.environ[VARIABLE] = f"{{found.st_dev}}:{{found.st_ino}}"
def body(): raise ValueError("a bug\\n<0>of ours")
os.waitpid(fork_child("tl-test", body, []), 0)
"""


@pytest.mark.parametrize("journal", [True, False])
def test_a_process_that_dies_of_a_bug_tells_the_journal_how_bad_it_is(journal: bool) -> None:
    code = _CHILD.format(journal=journal)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    assert lines[0].endswith("Traceback (most recent call last):")
    assert "ValueError: a bug" in done.stderr
    assert {line.startswith("<3>") for line in lines} == {journal}


def test_a_line_that_the_journal_would_break_can_not_choose_its_priority() -> None:
    """The rest of it would begin with what a stranger has put there (LineMax= of journald)."""
    for padding in (48 * 1024 - 3, 48 * 1024, 12 * 1024):
        lines = prefixed("\U0001f600" * padding + "<0>forged", 6).split("\n")
        assert all(len(line.encode()) < 48 * 1024 for line in lines)
        assert all(line.startswith("<6>") for line in lines)
    assert prefixed("a\n\nb", 4) == "<4>a\n<4>\n<4>b"
