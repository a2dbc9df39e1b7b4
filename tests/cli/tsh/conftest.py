"""tsh as people run it, against a fake proxy with a fake auth service behind it."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teleport_lite.client import profile
from teleport_lite.client.profile import Profile
from tests.cli.conftest import Run, Tool
from tests.client.fake_proxy import CLUSTER, FakeProxy, running
from tests.client.test_profile import credentials

Tsh = Callable[..., Run]
VARIABLES = ("PROXY", "USER", "LOGIN", "CLUSTER", "IDENTITY_FILE", "ADD_KEYS_TO_AGENT")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def home(run: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An account of nobody's: no agent, no profile. After `run`, which has a home too."""
    monkeypatch.setenv("TELEPORT_HOME", str(tmp_path / ".tsh"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SSH_AUTH_SOCK", *(f"TELEPORT_{each}" for each in VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".tsh"


@pytest.fixture
def proxy() -> Iterator[FakeProxy]:
    with running(FakeProxy()) as made:
        yield made


@pytest.fixture
def tsh(run: Tool, home: Path, monkeypatch: pytest.MonkeyPatch) -> Tsh:
    def program(*words: str, stdin: str = "", terminal: bool = False) -> Run:
        monkeypatch.setattr("sys.stdin", Terminal() if terminal else io.StringIO(stdin))
        return run("tsh", *words)

    return program


@pytest.fixture
def alice(home: Path, proxy: FakeProxy) -> Profile:
    """Logged in, without having typed a password."""
    made = Profile(proxy="localhost", user="alice", cluster=CLUSTER, web_proxy_addr=proxy.address)
    profile.save(home, made, credentials(proxy.cluster, "alice"))
    return made
