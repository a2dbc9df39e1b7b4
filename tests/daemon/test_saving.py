"""What can not be written now is written later, and nobody is stopped by it."""

import pytest

from teleport_lite.daemon.saving import Saving
from teleport_lite.errors import Unavailable
from teleport_lite.testing.fakes import FakeClock


class Disk:
    def __init__(self) -> None:
        self.full = False
        self.files: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        if self.full:
            raise Unavailable(f"cannot write /x/{name}: no space left on device")
        self.files[name] = text


def test_what_does_not_fit_is_written_when_there_is_room() -> None:
    disk, told, then = Disk(), list[str](), list[str]()
    saving = Saving(FakeClock(), told.append)

    def save(text: str) -> None:
        saving.save("knowledge", lambda: disk.write("k", text), lambda: then.append(text))

    save("1")
    assert (disk.files, then, told) == ({"k": "1"}, ["1"], [])
    disk.full = True
    save("2")
    save("3")
    assert told == ["knowledge can not be kept: cannot write /x/k: no space left on device"]
    disk.full = False
    saving.retry()
    assert (disk.files, then) == ({"k": "3"}, ["1", "3"]), "the latest, and no other"
    assert told[-1] == ""
    saving.retry()
    assert then == ["1", "3"]


def test_one_that_fails_does_not_keep_another(caplog: pytest.LogCaptureFixture) -> None:
    disk, clock = Disk(), FakeClock()
    saving = Saving(clock)

    def fail() -> None:
        raise Unavailable("no")

    saving.save("a", fail)
    saving.save("b", lambda: disk.write("b", "1"))
    assert disk.files == {"b": "1"}
    for _ in range(30):
        saving.retry()
        clock.tick(seconds=1)
    assert caplog.text.count("a can not be kept: no") == 3, "a line every ten seconds"


def test_a_mistake_of_ours_is_not_hidden() -> None:
    def wrong() -> None:
        raise TypeError

    with pytest.raises(TypeError):
        Saving(FakeClock()).save("a", wrong)
