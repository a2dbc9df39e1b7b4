"""Copying files with the stock clients: sftp, and scp in both of its protocols."""

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from teleport_lite.model.user import Options, Role
from teleport_lite.node import commands
from tests.node.house import ME, ROLE, House

# More than a channel's window, and no multiple of a packet.
SIZE = (5 << 20) + 4321


def copy(house: House, words: Sequence[str], *paths: str) -> "subprocess.CompletedProcess[bytes]":
    """`words` are scp and its flags; the rest of the options are those of the ssh of tests."""
    ssh = house.visitor().command()
    options = [word for word in ssh if word.startswith("-o")]
    command = [*words, "-F", "none", *options, "-P", str(house.port), *paths]
    return subprocess.run(command, capture_output=True, timeout=60)


@pytest.mark.parametrize("protocol", ["-s", "-O"])
def test_scp_both_ways(house: House, tmp_path: Path, protocol: str) -> None:
    sent, there, back = (tmp_path / name for name in ("sent", "there", "back"))
    sent.write_bytes(hashlib.shake_128(b"some file").digest(SIZE))
    up = copy(house, ["scp", protocol, "-p"], str(sent), f"{ME}@127.0.0.1:{there}")
    assert up.returncode == 0, up.stderr
    down = copy(house, ["scp", protocol], f"{ME}@127.0.0.1:{there}", str(back))
    assert down.returncode == 0, down.stderr
    assert back.read_bytes() == sent.read_bytes()


def test_sftp_renames_lists_and_removes(house: House, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    (tmp_path / "old").write_text("x")
    batch.write_text(f"cd {tmp_path}\nrename old new\nls -1\nmkdir d\nrmdir d\nrm new\n")
    done = copy(house, ["sftp", "-b", str(batch)], f"{ME}@127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert b"new" in done.stdout
    assert not (tmp_path / "new").exists()


def test_the_trail_says_that_it_was_sftp(house: House) -> None:
    house.visitor().ssh("sftp", options=["-s"])
    assert house.event("T2000I", command=commands.sftp_server().decode())


def test_a_role_can_forbid_it(house: House) -> None:
    house.roles = [ROLE, Role(name="no-files", options=Options(file_copy=False))]
    house.save_knowledge()
    papers = house.cluster.user(logins=(ME,), roles=("access", "no-files"))
    done = house.visitor(papers).ssh("sftp", options=["-s"])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"teleport-lite: the role forbids copying files\r\n"


def test_a_host_without_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "SFTP_SERVERS", ("/nonexistent/sftp-server",))
    with pytest.raises(commands.Refusal, match="no sftp-server"):
        commands.sftp_server()
