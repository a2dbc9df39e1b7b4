"""How the program calls itself again, from wherever it was called."""

import sys
from pathlib import Path

import pytest

from teleport_lite.cli.tsh.openssh import program


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("tsh", 0o755, ["{path}"]),
        ("tsh.pyz", 0o644, ["{python}", "{path}"]),
        ("teleport-lite", 0o755, ["{path}", "tsh"]),
        ("teleport-lite.pyz", 0o644, ["{python}", "{path}", "tsh"]),
        ("__main__.py", 0o755, ["{python}", "-m", "teleport_lite", "tsh"]),
    ],
)
def test_the_way_it_was_called_is_the_way_it_calls_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int, expected: list[str]
) -> None:
    path = tmp_path / name
    path.touch(mode=mode)
    path.chmod(mode)
    words = [each.format(path=path, python=sys.executable) for each in expected]
    monkeypatch.setattr(sys, "argv", [str(path)])
    assert program() == words
    if mode == 0o755:  # found by its name alone
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(sys, "argv", [name])
        assert program() == words
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"./{name}"])
    assert program() == words
