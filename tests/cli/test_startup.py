"""What a command may import. Modules, not milliseconds: they do not depend on the day.

A heavy module on a hot path costs every caller of it 10 to 100 ms (benchmarks/README.md).
"""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.client import profile
from teleport_lite.client.profile import Profile
from tests.cli import answers
from tests.cli.fake_auth import FakeAuth
from tests.client.fake_proxy import CLUSTER, FakeProxy, running
from tests.client.test_profile import credentials

HEAVY = {
    "argon2",
    "aiohttp",
    "asyncio",
    "cryptography",
    "http.client",
    "importlib.metadata",
    "msgspec",
    "paramiko",
    "pluggy",
    "pydantic",
    "rich",
    "ssl",
    "yaml",
}
_REPORT = """
import sys
from teleport_lite.__main__ import main
code = main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""


def modules(*argv: str, **environment: str) -> set[str]:
    """What is loaded when the command has ended well."""
    command = [sys.executable, "-c", _REPORT, *argv]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TELEPORT_HOME": "/nonexistent", **environment},
    )
    assert done.returncode == 0, done.stderr[:2000]
    return set(done.stderr.split())


@pytest.mark.parametrize("name", ["teleport-lite", "tctl", "tsh", "tbot"])
@pytest.mark.parametrize("words", [["--version"], ["version"], ["version", "--raw"]])
def test_a_version_imports_nothing_of_ours_but_the_entry(name: str, words: list[str]) -> None:
    ours = {each for each in modules(name, *words) if each.split(".")[0] in {"teleport_lite"}}
    assert ours == {"teleport_lite", "teleport_lite.__main__", "teleport_lite.cli"}


@pytest.mark.parametrize(
    "words",
    [
        ["tctl", "status"],
        ["tctl", "tokens", "ls"],
        ["tctl", "tokens", "add", "--type=node"],
        ["tctl", "nodes", "ls"],
        ["tctl", "users", "ls"],
    ],
    ids=" ".join,
)
def test_asking_the_local_socket_stays_light(
    auth: FakeAuth, data_dir: Path, words: list[str]
) -> None:
    auth.answers |= {
        "/v1/status": answers.status(),
        "/v1/tokens/add": answers.invitation(),
        "/v1/tokens/list": {"tokens": []},
        "/v1/nodes/list": {"nodes": []},
        "/v1/users/list": {"users": []},
    }
    assert HEAVY & modules(*words, f"--data-dir={data_dir}") == set()


def test_yaml_is_loaded_only_for_yaml(auth: FakeAuth, data_dir: Path) -> None:
    auth.answers["/v1/status"] = answers.status()
    loaded = modules("tctl", "status", "--format=yaml", f"--data-dir={data_dir}")
    assert HEAVY & loaded == {"yaml"}


def test_help_imports_no_command() -> None:
    for name in ("teleport-lite", "tctl", "tsh"):
        loaded = modules(name, "--help")
        assert HEAVY & loaded == set()
        assert not {"teleport_lite.cli.tctl.tokens", "teleport_lite.cli.teleport.start"} & loaded


def test_a_command_loads_its_own_module_only(auth: FakeAuth, data_dir: Path) -> None:
    auth.answers["/v1/status"] = answers.status()
    loaded = modules("tctl", "status", f"--data-dir={data_dir}")
    commands = {each for each in loaded if each.startswith("teleport_lite.cli.tctl.")}
    assert commands == {f"teleport_lite.cli.tctl.{each}" for each in ("main", "desk", "status")}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FakeProxy]:
    """With a profile in `tmp_path` of somebody who is logged in there."""
    with running(FakeProxy(gate=_greet)) as made:
        made.answers = {"/v1/me/nodes": {"nodes": []}, "/v1/status": answers.status()}
        mine = Profile(
            proxy="localhost", user="alice", cluster=CLUSTER, web_proxy_addr=made.address
        )
        profile.save(tmp_path / ".tsh", mine, credentials(made.cluster, "alice"))
        yield made


def _greet(wire: ssl.SSLSocket, asked: dict[str, Any]) -> None:
    wire.sendall(b'{"ok": true}\nSSH-2.0-x\r\n')


def test_what_stands_behind_every_ssh_loads_next_to_nothing(
    proxy: FakeProxy, tmp_path: Path
) -> None:
    words = [f"--proxy={proxy.address}", f"--cluster={CLUSTER}", "--user=alice", "root@web-1:22"]
    loaded = modules("tsh", "proxy", "ssh", *words, TELEPORT_HOME=str(tmp_path / ".tsh"))
    assert HEAVY & loaded == {"ssl"}
    assert not {"typer", "dataclasses", "pathlib", "uuid", "hashlib"} & loaded
    ours = {each for each in loaded if each.startswith("teleport_lite.")}
    assert ours == {
        f"teleport_lite.{each}"
        for each in (
            "__main__", "cli", "cli.tsh", "cli.tsh.quick", "client", "client.reach", "errors"
        )
    }  # fmt: skip


@pytest.mark.parametrize("words", [["tsh", "ls"], ["tctl", "status"]], ids=" ".join)
def test_asking_through_a_proxy_adds_tls_and_nothing_else(
    proxy: FakeProxy, tmp_path: Path, words: list[str]
) -> None:
    home = str(tmp_path / ".tsh")
    loaded = modules(*words, TELEPORT_HOME=home, TELEPORT_LITE_CONFIG=str(tmp_path / "none"))
    assert HEAVY & loaded == {"ssl"}


def test_who_one_is_is_read_without_cryptography(proxy: FakeProxy, tmp_path: Path) -> None:
    home = str(tmp_path / ".tsh")
    for words in (["status"], ["version", "--client"]):
        assert HEAVY & modules("tsh", *words, TELEPORT_HOME=home) == set()


@pytest.mark.parametrize("words", [["teleport-lite", "start"], ["tbot", "start"], ["tsh", "ls"]])
def test_garbage_is_collected_again_once_the_command_is_loaded(words: list[str]) -> None:
    """It is put off while modules load; a daemon must not run so for ever."""
    code = "import gc, sys; from teleport_lite.__main__ import main; code = main(sys.argv[1:]); "
    code += "sys.exit(code or not gc.isenabled() or not gc.get_freeze_count())"
    command = [sys.executable, "-c", code, *words, "--help"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
