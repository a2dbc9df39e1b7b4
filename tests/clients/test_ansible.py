"""Ansible, as it comes: `ping` runs a module it has copied there, `copy` moves a file."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_openssh import noise, options
from tests.node.house import ME, House

pytestmark = pytest.mark.timeout(240)  # it forks a lot, and the machine may be busy
ANSIBLE = Path(sys.executable).parent / "ansible"


@pytest.fixture
def env(house: House, short: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """It keeps its connection for later commands; the end of the test ends that."""
    visitor = house.visitor()
    control = short / "control"
    keep = ["-oControlMaster=auto", "-oControlPersist=30s", f"-oControlPath={control}"]
    (tmp_path / "ansible.cfg").touch()
    yield {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote"),
        "ANSIBLE_SSH_ARGS": " ".join([*options(visitor), *keep]),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal",
    }
    bye = visitor.command(options=[f"-oControlPath={control}", "-Oexit"])
    subprocess.run(bye, capture_output=True, timeout=30)


def ansible(house: House, env: dict[str, str], module: str, *more: str) -> dict[str, Any]:
    facts = {
        "ansible_user": ME,
        "ansible_port": house.port,
        "ansible_python_interpreter": sys.executable,
    }
    words = [ANSIBLE, "all", "-i", "127.0.0.1,", "-e", json.dumps(facts), "-m", module, *more]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout[done.stdout.index("{") :]))


def test_ping(house: House, env: dict[str, str]) -> None:
    assert ansible(house, env, "ping")["ping"] == "pong"


def test_copy_and_nothing_more_the_second_time(
    house: House, env: dict[str, str], tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(noise((1 << 20) + 3))
    words = ("-a", f"src={source} dest={target} mode=0640")
    assert ansible(house, env, "copy", *words)["changed"] is True
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o640
    assert ansible(house, env, "copy", *words)["changed"] is False
