"""Bytes through pipes, as people use ssh in them: whoever stops reading or writing is heard of."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.node.house import House


def pipeline(
    house: House, before: str, command: str, after: str
) -> subprocess.CompletedProcess[bytes]:
    ssh = shlex.join(house.visitor().command(command))
    line = " | ".join(filter(None, (before, ssh, after)))
    return subprocess.run(
        ["bash", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )


def test_a_client_that_stops_reading_ends_the_command(house: House) -> None:
    """eow@openssh.com: without it `yes` would go on for ever, into nothing."""
    assert pipeline(house, "", "yes", "head -n 2").stdout == b"y\ny\n"


def test_a_command_that_is_cut_off_hears_of_it_and_goes_on(house: House, tmp_path: Path) -> None:
    """The client shows nothing any more, but it waits for the end."""
    told = tmp_path / "told"
    pipeline(house, "", f"yes 2>/dev/null; echo $? >{told}", "head -n 1")
    assert told.read_text() == "141\n"  # 128 + SIGPIPE


@pytest.mark.parametrize("command", ["true", "exec 0<&-; sleep 0.2; echo done"])
def test_a_command_that_stops_reading_ends_the_client_s_input(house: House, command: str) -> None:
    done = pipeline(house, "yes", command, "")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_is_slow_gets_everything(house: House) -> None:
    command = "head -c 20000000 /dev/zero"
    done = pipeline(house, "", command, "(sleep 1; wc -c)")
    assert done.stdout.strip() == b"20000000"


def test_errors_and_output_by_the_megabyte(house: House) -> None:
    command = "head -c 3000000 /dev/zero >&2 & head -c 3000000 /dev/zero; wait"
    done = house.ssh(command)
    assert (len(done.stdout), len(done.stderr)) == (3_000_000, 3_000_000)


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-ctr"])
def test_new_keys_every_16_kb(house: House, cipher: str) -> None:
    """As OpenSSH's own rekey test has it; both ways at once."""
    data = os.urandom(3_000_000)
    options = ["-oRekeyLimit=16K", f"-oCiphers={cipher}"]
    done = house.visitor().ssh("cat", input=data, options=options)
    assert (done.returncode, done.stderr, done.stdout == data) == (0, b"", True)
