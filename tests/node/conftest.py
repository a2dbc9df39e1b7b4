"""One running node for each file that does not need its own, and somebody who is not root."""

import os
import pwd
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.house import House, running
from tests.support import eventually


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="session")
def other() -> Iterator[str]:
    """A throw-away account, with a home and a shell."""
    if os.getuid() != 0:
        pytest.skip("only root can make accounts")
    name = f"tlt{uuid.uuid4().hex[:8]}"
    make = ["useradd", "--create-home", "--shell", "/bin/bash", name]
    # Another worker may hold the lock on /etc/passwd.
    eventually(lambda: subprocess.run(make, capture_output=True).returncode in (0, 9))
    yield name
    drop = ["userdel", "--remove", name]
    eventually(lambda: subprocess.run(drop, capture_output=True).returncode in (0, 12))


@pytest.fixture
def others_home(other: str) -> Path:
    return Path(pwd.getpwnam(other).pw_dir)
