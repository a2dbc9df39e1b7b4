"""What auth last told this host, on disk."""

from pathlib import Path

import pytest

from teleport_lite.agent import knowledge
from teleport_lite.errors import Denied, Malformed
from teleport_lite.proto.stream import Knowledge
from tests.auth.bench import Bench


def a_lesson() -> Knowledge:
    return Bench().desks.teacher.lesson()


def test_a_lesson_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    lesson = a_lesson()
    knowledge.save(tmp_path, lesson)
    assert knowledge.load(tmp_path) == lesson
    assert (tmp_path / knowledge.FILE).stat().st_mode & 0o777 == 0o600


def test_labels_come_back_as_they_were_saved(tmp_path: Path) -> None:
    knowledge.save_labels(tmp_path, {"env": "prod", "note": "\u00fc"})
    assert knowledge.load_labels(tmp_path) == {"env": "prod", "note": "\u00fc"}


def test_before_the_first_word_there_is_nothing(tmp_path: Path) -> None:
    assert knowledge.load(tmp_path) is None
    assert knowledge.load_labels(tmp_path) == {}


@pytest.mark.parametrize("name", [knowledge.FILE, knowledge.LABELS_FILE])
def test_what_is_damaged_or_open_to_others_is_not_believed(tmp_path: Path, name: str) -> None:
    def look() -> None:
        knowledge.load(tmp_path)
        knowledge.load_labels(tmp_path)

    (tmp_path / name).write_text("{")
    (tmp_path / name).chmod(0o600)
    with pytest.raises(Malformed):
        look()
    (tmp_path / name).chmod(0o666)
    with pytest.raises(Denied):
        look()
