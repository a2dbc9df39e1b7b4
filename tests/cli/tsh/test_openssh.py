"""How the program calls itself again, from wherever it was called."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from teleport_lite.cli.tsh import openssh
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


def test_a_host_name_is_a_word_to_the_shell_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSH refuses such names since 9.6; before, a link in a web page could bring one."""
    monkeypatch.setattr(openssh, "program", lambda: ["echo"])
    person: Any = SimpleNamespace(
        ssh=SimpleNamespace(cert=tmp_path),
        papers=SimpleNamespace(user="alice"),
        through=lambda: "proxy.example.com:3080",
        cluster="test.example",
    )
    host = f"`touch {tmp_path}/a`$(touch {tmp_path}/b);touch {tmp_path}/c"
    command = openssh.proxy_command(person)
    for token, value in (("%r", "root"), ("%h", host), ("%p", "22"), ("%%", "%")):
        command = command.replace(token, value)
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert said.stdout.endswith(f" --user=alice root@{host}:22\n")
    assert list(tmp_path.iterdir()) == []
