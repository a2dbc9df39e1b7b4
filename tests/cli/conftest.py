"""tctl as people run it, against a fake auth service on a socket of its own."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from teleport_lite.__main__ import main
from tests.cli.fake_auth import FakeAuth, running


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str


Tool = Callable[..., Run]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Short, because a socket's path has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="tl"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def auth(data_dir: Path) -> Iterator[FakeAuth]:
    with running(data_dir / "auth.sock") as fake:
        yield fake


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Tool:
    """Any program: run("tsh", "ssh", "root@web-1")."""
    monkeypatch.setenv("TELEPORT_HOME", str(tmp_path / "no-profile"))
    monkeypatch.delenv("TELEPORT_CONFIG_FILE", raising=False)
    monkeypatch.setenv("TELEPORT_LITE_CONFIG", str(tmp_path / "no-config.yaml"))

    def program(*argv: str) -> Run:
        capsys.readouterr()
        code = main(argv)
        said = capsys.readouterr()
        return Run(code, said.out, said.err)

    return program


@pytest.fixture
def tctl(run: Tool, data_dir: Path) -> Tool:
    return lambda *words: run("tctl", *words, f"--data-dir={data_dir}")
