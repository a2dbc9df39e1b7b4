"""What the daemon says: one line a thing, whatever strangers put into it."""

import errno
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from teleport_lite.config.model import LogConfig
from teleport_lite.daemon import logs
from teleport_lite.daemon.logs import JournalLines, JsonLines, TextLines, plain
from teleport_lite.errors import Unavailable

HOSTILE = "web\n2026-01-01T00:00:00Z INFO [AUTH] all is well\x1b[2J\x07\u2028\u202e"


def record(message: str, *args: object, failed: bool = False, level: int = logging.INFO):
    info = None
    if failed:
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            info = sys.exc_info()
    made = logging.LogRecord("teleport_lite.auth", level, "f", 1, message, args, info)
    made.created = 1_000_000_000.5
    return made


def test_a_line_has_time_level_and_component() -> None:
    line = TextLines().format(record("host %s joined", "web-1"))
    assert line == "2001-09-09T01:46:40Z INFO [AUTH] host web-1 joined"


@pytest.mark.parametrize(
    ("level", "word"),
    [(logging.WARNING, "WARN"), (logging.CRITICAL, "ERROR"), (logging.DEBUG, "DEBUG")],
)
def test_levels_have_the_names_people_know(level: int, word: str) -> None:
    assert f" {word} [AUTH] " in TextLines().format(record("x", level=level))


def test_names_of_strangers_cannot_forge_a_line() -> None:
    line = TextLines().format(record("host %s", HOSTILE))
    assert len(line.splitlines()) == 1
    assert all(char.isprintable() for char in line)
    assert r"web\n2026-01-01" in line


def test_a_traceback_cannot_forge_a_line_either() -> None:
    first, *rest = TextLines().format(record("internal error", failed=True)).split("\n")
    assert first.endswith("internal error")
    assert any("Traceback" in line for line in rest)
    for line in rest:
        assert line.startswith("    ")
        assert all(char.isprintable() for char in line)


def test_json_is_one_object_a_line() -> None:
    said = json.loads(JsonLines().format(record("host %s", HOSTILE, failed=True)))
    assert set(said) == {"timestamp", "level", "component", "message", "trace"}
    assert said["component"] == "AUTH"
    assert "\n" not in JsonLines().format(record("x", failed=True))
    assert "\x1b" not in said["message"] + said["trace"]
    assert said["trace"].count("\n") > 2


def test_a_line_is_not_endless() -> None:
    assert len(plain("x" * 100_000)) == 8192


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before, level = list(logger.handlers), logger.level
    yield logger
    for handler in [each for each in logger.handlers if each not in before]:
        logger.removeHandler(handler)
        handler.close()
    for handler in [each for each in before if each not in logger.handlers]:
        logger.addHandler(handler)
    logger.setLevel(level)


def test_setting_up_replaces_what_was_there(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    for _ in range(2):
        logs.set_up(LogConfig(), debug=False)
    logging.getLogger("teleport_lite.auth").info("hello")
    logging.getLogger("teleport_lite.auth").debug("not this")
    logging.getLogger("paramiko.transport").error("nor this")
    assert said.getvalue().count("hello") == 1
    assert "this" not in said.getvalue()


def test_debug_says_everything(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stdout", said)
    logs.set_up(LogConfig(output="stdout", severity="ERROR", format="json"), debug=True)
    logging.getLogger("teleport_lite.auth").debug("hello")
    assert json.loads(said.getvalue())["message"] == "hello"


@pytest.mark.parametrize("severity", ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"])
def test_every_severity_of_the_config_is_one(
    root: logging.Logger, severity: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    logs.set_up(LogConfig(output=str(path), severity=severity), debug=False)
    logging.getLogger("teleport_lite.auth").error("hello")
    assert path.read_text().endswith("ERROR [AUTH] hello\n")
    assert path.stat().st_mode & 0o027 == 0, "names of people and hosts are nobody else's business"


def test_a_file_that_cannot_be_written_is_an_error_we_mean(
    root: logging.Logger, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=r"log\.output"):
        logs.set_up(LogConfig(output=str(tmp_path / "no" / "log")), debug=False)


# In the journal


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.CRITICAL, 3),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
        (logging.DEBUG, 7),
    ],
)
def test_the_journal_is_told_a_priority_and_no_time(level: int, priority: int) -> None:
    line = JournalLines().format(record("host %s joined", "web-1", level=level))
    word = {3: "ERROR", 4: "WARN", 6: "INFO", 7: "DEBUG"}[priority]
    assert line == f"<{priority}>{word} [AUTH] host web-1 joined"


def test_every_line_of_a_traceback_has_the_priority() -> None:
    lines = JournalLines().format(record("bug", failed=True, level=logging.ERROR)).split("\n")
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


@pytest.mark.parametrize(
    ("form", "begins"), [("text", "<4>WARN [AUTH] hello"), ("json", '{"timestamp":')]
)
def test_standard_error_that_is_the_journal_is_seen(
    root: logging.Logger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    begins: str,
) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up(LogConfig(format=form), debug=False)
        logging.getLogger("teleport_lite.auth").warning("hello")
    assert (tmp_path / "stream").read_text().startswith(begins)


def test_a_file_of_ours_is_no_journal(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    logs.set_up(LogConfig(output=str(tmp_path / "log")), debug=False)
    logging.getLogger("teleport_lite.auth").warning("hello")
    assert "Z WARN [AUTH] hello" in (tmp_path / "log").read_text()


def test_a_full_disk_stops_nothing_and_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path, room, real = tmp_path / "log", [10_000], os.write

    def write(file: int, raw: bytes) -> int:
        taken = raw[: max(0, room[0])]
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= len(taken)
        return real(file, taken)

    logs.set_up(LogConfig(output=str(path)), debug=False)
    log = logging.getLogger("teleport_lite.test")
    log.info("first")
    monkeypatch.setattr(logs.os, "write", write)
    room[0] = 10
    for number in range(3):
        log.info("lost %d", number)
    room[0] = 10_000
    log.info("back")
    monkeypatch.undo()
    lines = path.read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "first",
        "",
        "back",
        "3 lines are missing here, the disk was full",
    ]
    assert capfd.readouterr().err == "", "no traceback instead"


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_stderr_does_not_take_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", FullDisk())
        logs.set_up(LogConfig(), debug=False)
    try:
        logging.getLogger("teleport_lite.auth").info("a line")
    finally:
        root.handlers[:], root.level = before
    assert capsys.readouterr().err == ""
