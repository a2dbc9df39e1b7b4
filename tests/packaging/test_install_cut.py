"""A download that was cut off: wherever, nothing of install.sh has run."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from teleport_lite.release.assets import text
from teleport_lite.release.script import Join, stamped

BASE = "https://proxy.example.com/webapi/releases"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "x" * 43
JOIN = Join("proxy.example.com:443", "token", ("sha256:" + "0f" * 32,), {"env": "prod"})
SCRIPTS = {
    "install.sh": lambda: stamped(text("install.sh"), base=BASE, keys=[KEY]),
    "install-node.sh": lambda: stamped(text("install.sh"), base=BASE, keys=[KEY], join=JOIN),
}
COMMANDS = [
    *("uname", "id", "mktemp", "rm", "curl", "wget", "python3", "ssh-keygen", "sha256sum", "cut"),
    *("tail", "tr", "sed", "sort", "readlink", "cp", "mv", "mkdir", "cat", "dirname", "grep"),
    *("systemctl", "teleport-lite"),
]


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """A PATH where every command that the script knows tells on it."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in COMMANDS:
        command = place / name
        command.write_text(f'#!/bin/sh\necho {name} >>"{tmp_path}/ran"\nexit 1\n')
        command.chmod(0o755)
    return place


def run(script: bytes, poisoned: Path) -> bytes:
    """Piped to a bash that has nothing but the poisoned commands. Returns what it said."""
    home = poisoned.parent / "home"
    home.mkdir(exist_ok=True)
    environ = {"PATH": str(poisoned), "HOME": str(home), "TMPDIR": str(home)}
    command = ["/bin/bash", "-s", "latest", "oss"]
    said = subprocess.run(command, input=script, env=environ, cwd=home, capture_output=True)
    return said.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_of_a_script_that_is_cut_off_at_200_places_nothing_runs(poisoned, name):
    whole = SCRIPTS[name]().encode()
    end = len(whole.rstrip())
    seed = int.from_bytes(os.urandom(4), "big")
    places = set(random.Random(seed).sample(range(end), 170))
    places |= {end - 1, end - 2, end - 7, whole.index(b"\n{ #") + 2, whole.index(b'\nmain "$@"')}
    first = whole.index(b"\n[ -n ")  # the one command outside of the braces
    places |= set(random.Random(seed).sample(range(first, first + 120), 20))
    places |= {whole.index(b"\n", place) + 1 for place in list(places)[:7]}  # at ends of lines
    places = {place for place in places if place < end}
    for place in places:
        said = run(whole[:place], poisoned)
        assert said == b"", f"seed {seed}, {place} bytes"
        assert not (poisoned.parent / "ran").exists(), f"seed {seed}, {place} bytes"
    assert list((poisoned.parent / "home").iterdir()) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_whole_script_would_have_told(poisoned, name):
    run(SCRIPTS[name]().encode().rstrip(), poisoned)
    assert (poisoned.parent / "ran").read_text().startswith("id\n")
