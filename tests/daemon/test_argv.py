"""Tokens do not stay in the process list."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.daemon.argv import secrets
from tests.net.servers import Little, silence
from tests.support import eventually

SECRET = "secret-value-of-ours"
SHOW = """
import sys
from teleport_lite.daemon.argv import scrub
scrub()
print(open("/proc/self/cmdline").read().replace("\\0", " "))
print(sys.argv)
"""


def shown(tmp_path: Path, *words: str) -> tuple[str, str]:
    """What the process list shows of a process after it has scrubbed, and what it still knows."""
    script = tmp_path / "show.py"
    script.write_text(SHOW)
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    listed, knows = done.stdout.splitlines()
    return listed.partition("show.py")[2].strip(), knows


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (("start", f"--token={SECRET}", "-d"), f"start --token={'x' * 20} -d"),
        (("start", "--token", SECRET, "-d"), f"start --token {'x' * 20} -d"),
        (("start", f"--token={SECRET}"), f"start --token={'x' * 20}"),
        (
            ("start", f"--token={SECRET}", "--token=another-one"),
            f"start --token={'x' * 20} --token={'x' * 11}",
        ),
        (("--roles=node", "--token=node", "node"), "--roles=node --token=xxxx node"),
        (("--token=",), "--token="),
        (("--token",), "--token"),
        (("--token", "--token", "x"), "--token xxxxxxx x"),
        (("--tokens=abc", "--join-token=abc"), "--tokens=abc --join-token=abc"),
        (("--token=\u00fc",), "--token=xx"),
    ],
)
def test_only_what_stands_behind_the_flag_is_overwritten(
    words: tuple[str, ...], seen: str, tmp_path: Path
) -> None:
    listed, knows = shown(tmp_path, *words)
    assert listed == seen
    assert repr(words[-1]) in knows, "the process itself still has it"


@pytest.mark.parametrize("words", [(f"--token={SECRET}",), ("--token", SECRET)])
def test_a_daemon_that_starts_hides_its_token(words: tuple[str, ...], tmp_path: Path) -> None:
    with Little(silence) as server:
        command = [sys.executable, "-m", "teleport_lite", "start", "--roles=app", *words]
        command += [f"--auth-server={server.address}", f"--data-dir={tmp_path / 'data'}"]
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TELEPORT_LITE_CONFIG": str(tmp_path / "none.yaml")},
        ) as process:
            try:
                eventually(lambda: server.met, seconds=30, what="it asks auth")
                listed = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            finally:
                process.kill()
    assert SECRET.encode() not in listed
    assert b"--token" in listed
    assert server.address.encode() in listed


def test_where_the_values_are() -> None:
    line = b"python\0-m\0--token=abc\0--token\0defg\0x\0"
    assert [line[at : at + size] for at, size in secrets(line)] == [b"abc", b"defg"]
