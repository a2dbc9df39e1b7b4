"""What is remembered of upgrades that failed, and of one under way."""

from datetime import UTC, datetime
from pathlib import Path

from teleport_lite.release import attempts
from teleport_lite.release.attempts import Attempt

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_failed_version_is_remembered_with_when_and_why_and_once(tmp_path: Path) -> None:
    assert attempts.failed(tmp_path) == {}
    attempts.remember(tmp_path, "1.0.0", "first", NOW)
    attempts.remember(tmp_path, "1.0.1", "a\nb\x1b[31m", NOW)
    attempts.remember(tmp_path, "1.0.0", "again", NOW)
    assert attempts.failed(tmp_path) == {
        "1.0.1": "2030-01-02T03:04:05Z a b [31m",
        "1.0.0": "2030-01-02T03:04:05Z again",
    }
    attempts.forget(tmp_path, "1.0.1")
    attempts.forget(tmp_path, "9.9.9")
    assert list(attempts.failed(tmp_path)) == ["1.0.0"]


def test_the_list_does_not_grow_for_ever(tmp_path: Path) -> None:
    for number in range(60):
        attempts.remember(tmp_path, f"1.0.{number}", "x" * 1000, NOW)
    found = attempts.failed(tmp_path)
    assert len(found) == 50
    assert "1.0.59" in found
    assert max(map(len, found.values())) < 400


def test_a_list_that_a_person_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / attempts.FAILED).write_text("\n 1.2.3\n1.2.4   not on this host\n")
    assert set(attempts.failed(tmp_path)) == {"1.2.3", "1.2.4"}


def test_an_upgrade_under_way_is_read_back_until_it_ended(tmp_path: Path) -> None:
    attempt = Attempt(old="1.0.0", new="1.0.1", units=("teleport-lite-auth.service",))
    assert attempts.under_way(tmp_path) is None
    attempts.begin(tmp_path, attempt)
    assert attempts.under_way(tmp_path) == attempt
    attempts.end(tmp_path)
    attempts.end(tmp_path)
    assert attempts.under_way(tmp_path) is None
