"""Where a file is told to be installed, by its place and by what it states."""

import sys
from pathlib import Path

import pytest

import teleport_lite
from teleport_lite.release.here import Installation, installation_of, installed, own_file, stated
from tests.release.stand_ins import Rig, build_of, stand_in


def test_a_checkout_is_no_installation() -> None:
    assert own_file() is None
    assert installed() is None


def test_a_file_in_its_place_is_an_installation(rig: Rig) -> None:
    rig.place("1.0.0")
    file = rig.layout.file("1.0.0")
    assert installation_of(file) == Installation(
        prefix=rig.layout.prefix, lib=rig.layout.lib, version="1.0.0", file=file
    )
    assert stated(file) == ("1.0.0", build_of("1.0.0"))


@pytest.mark.parametrize(
    "place",
    [
        "teleport-lite.pyz",
        "lib/teleport-lite/teleport-lite.pyz",
        "lib/other/1.0.0/teleport-lite.pyz",
        "lib/teleport-lite/current/teleport-lite.pyz",
        "lib/teleport-lite/1.0.0/other.pyz",
    ],
)
def test_a_file_anywhere_else_is_none(tmp_path: Path, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(stand_in("1.0.0"))
    assert installation_of(file) is None


@pytest.mark.parametrize(
    "text", ["", "#!/bin/sh\n", "#!/bin/sh\n# teleport-lite 1.0.0 (build x)\n"]
)
def test_what_states_nothing_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lib/teleport-lite/1.0.0/teleport-lite.pyz"
    assert installation_of(file) is None
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert installation_of(file) is None


def test_the_running_file_is_the_one_that_states_the_build_of_our_tree(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever argv[0] says, and when the file it names was replaced since."""
    rig.place("1.0.0")
    tree = rig.layout.lib / f"{build_of('1.0.0')}-cp311-x86_64/teleport_lite"
    monkeypatch.setattr(teleport_lite, "__file__", str(tree / "__init__.py"))
    monkeypatch.setattr(teleport_lite, "__version__", "1.0.0")
    name = rig.layout.bin / "tctl"
    for called in (str(name), "/bin/sh", "tctl", ""):
        monkeypatch.setattr(sys, "argv", [called])
        assert own_file() == rig.layout.file("1.0.0").resolve()
    rig.place("1.0.1")  # under us: current leads elsewhere now
    monkeypatch.setattr(sys, "argv", [str(name)])
    assert own_file() == rig.layout.file("1.0.0").resolve()
    found = installed()
    assert found is not None
    assert found.version == "1.0.0"
    rig.layout.file("1.0.0").write_bytes(stand_in("1.0.1"))
    assert own_file() is None
    monkeypatch.setattr(sys.modules["__main__"], "FILE", str(rig.loose("1.0.0")), raising=False)
    assert own_file() == rig.loose("1.0.0")
    assert installed() is None
