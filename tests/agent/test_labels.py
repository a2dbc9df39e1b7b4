"""Labels of this host: fixed ones, and those that a command prints."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from teleport_lite.agent import labels
from teleport_lite.agent.labels import LabelWatch, label_of
from teleport_lite.model.labels import MAX_VALUE, check_labels
from teleport_lite.testing.fakes import FakeClock
from tests.support import eventually

MINUTE = timedelta(minutes=1)


def says(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


@pytest.mark.parametrize(
    ("script", "label"),
    [
        ("echo prod", "prod"),
        ("printf '  a b \\n\\n'", "a b"),
        ("true", ""),
        ("printf 'a\\nb'", "a b"),
        ("printf '\\033[2Jx'", " [2Jx"),
        ("printf '\\377'", "\ufffd"),
        ("echo no >&2; exit 3", "error: exit status 3"),
        ("kill -9 $$", "error: exit status -9"),
        ("cat", ""),
    ],
)
def test_what_a_command_prints_is_the_label(script: str, label: str) -> None:
    assert label_of(says(script)) == label
    check_labels({"x": label_of(says(script))})


def test_a_long_answer_is_cut() -> None:
    assert label_of(says("head -c 100000 /dev/zero | tr '\\0' x")) == "x" * MAX_VALUE


def test_a_command_that_never_stops_talking_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "COMMAND_TIMEOUT", 0.5)
    assert label_of(("/usr/bin/yes",)) == "error: no answer within 0 s"


def test_a_command_that_closes_its_output_is_waited_for() -> None:
    assert label_of(says("echo a; exec >&-; sleep 0.2; exit 3")) == "error: exit status 3"


def test_a_program_that_is_not_there_is_the_label_too() -> None:
    assert label_of(("/no/such/program",)) == "error: No such file or directory"


def test_a_command_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "COMMAND_TIMEOUT", 0.2)
    assert label_of(("/bin/sleep", "60")) == "error: no answer within 0 s"


def test_what_a_command_has_started_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    note = tmp_path / "pid"

    def late(_: object) -> None:
        """The time is up, and the command has come to what it does."""
        eventually(lambda: note.exists() and note.read_text().endswith("\n"))

    monkeypatch.setattr(labels, "_answer", late)
    script = f"sleep 60 & echo $! > {note}; sleep 60"
    assert label_of(says(script)) == "error: no answer within 10 s"
    child = Path("/proc") / note.read_text().strip() / "stat"
    eventually(lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z")


def test_no_shell_reads_the_words() -> None:
    assert label_of(("/bin/echo", "$(id)", ";", "id")) == "$(id) ; id"


# When


def test_fixed_labels_are_there_before_any_command_ran() -> None:
    watch = LabelWatch(FakeClock(), {"env": "prod"}, [("now", says("echo 1"), MINUTE)])
    assert watch.current() == {"env": "prod"}
    assert watch.run_due()
    assert watch.current() == {"env": "prod", "now": "1"}


def test_a_command_runs_when_it_is_due_and_tells_of_changes_only(tmp_path: Path) -> None:
    clock, file = FakeClock(), tmp_path / "value"
    file.write_text("1")
    watch = LabelWatch(clock, {}, [("now", ("/bin/cat", str(file)), MINUTE)])
    assert watch.next_due() == 0
    assert watch.run_due()
    file.write_text("2")
    assert not watch.run_due()
    assert watch.next_due() == 60
    clock.tick(seconds=60)
    assert watch.run_due()
    clock.tick(seconds=60)
    assert not watch.run_due()
    assert watch.current() == {"now": "2"}


def test_a_command_wins_over_a_fixed_label_of_the_same_name() -> None:
    watch = LabelWatch(FakeClock(), {"env": "a"}, [("env", says("echo b"), MINUTE)])
    watch.run_due()
    assert watch.current() == {"env": "b"}


def test_commands_that_are_due_run_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other one."""
    monkeypatch.setattr(labels, "COMMAND_TIMEOUT", 60.0)
    pipes = [tmp_path / "a", tmp_path / "b"]
    for pipe in pipes:
        os.mkfifo(pipe)
    commands = [
        ("a", says(f"echo 1 > {pipes[0]}; cat {pipes[1]}"), MINUTE),
        ("b", says(f"cat {pipes[0]}; echo 2 > {pipes[1]}"), MINUTE),
    ]
    watch = LabelWatch(FakeClock(), {}, commands)
    assert watch.run_due()
    assert watch.current() == {"a": "2", "b": "1"}


def test_the_value_of_before_holds_until_the_command_has_run() -> None:
    before = {"now": "old", "env": "old", "gone": "old"}
    watch = LabelWatch(
        FakeClock(), {"env": "x"}, [("now", says("echo new"), MINUTE)], before=before
    )
    assert watch.current() == {"env": "x", "now": "old"}
    assert watch.run_due()
    assert watch.current() == {"env": "x", "now": "new"}


def test_no_command_runs_in_a_spin() -> None:
    watch = LabelWatch(FakeClock(), {}, [("now", says("true"), timedelta())])
    watch.run_due()
    assert watch.next_due() == 1


def test_without_commands_there_is_nothing_to_wait_for() -> None:
    assert LabelWatch(FakeClock(), {}, []).next_due() == float("inf")
