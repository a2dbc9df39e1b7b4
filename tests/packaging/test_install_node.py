"""install.sh with a join token in it: makes the machine a node, and keeps the token to itself."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from teleport_lite.release.script import Join
from tests.packaging.published import Published, published

PIN, PIN2 = "sha256:" + "0f" * 32, "sha256:" + "e1" * 32
TOKEN = "abcdef0123456789abcdef0123456789"
JOIN = Join("proxy.example.com:3080", TOKEN, (PIN, PIN2), {"env": "prod", "team": "x y"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with published(tmp_path_factory.mktemp("published")) as site:
        site.release("1.2.3")
        yield site


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    place = tmp_path / "e t c"
    place.mkdir()
    return place


@pytest.fixture
def piped(site, etc, tmp_path):
    site.log.unlink(missing_ok=True)

    def piped(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        config = {"TELEPORT_LITE_CONFIG": f"{etc}/teleport-lite.yaml"}
        return site.piped(
            tmp_path / "home", *words, script=site.script(join=JOIN), **config, **more
        )

    return piped


def test_the_machine_gets_its_settings_and_a_token_nobody_else_can_read(site, piped, etc):
    said = piped("--labels", "rack=3,note=$(id)`id`", "--nodename=n1")
    assert said.returncode == 0, said.stderr
    token = etc / "teleport-lite" / "token"
    assert token.read_text() == TOKEN + "\n"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert [path.name for path in token.parent.iterdir()] == ["token"]
    assert site.calls()[-1]["words"] == [
        *("node", "configure", f"--token={token}", "--proxy=proxy.example.com:3080"),
        *("--node-name=n1", "--labels=env=prod,team=x y,rack=3,note=$(id)`id`"),
        *(f"--ca-pin={PIN}", f"--ca-pin={PIN2}", "--silent", "-o"),
        f"file://{etc}/teleport-lite.yaml",
    ]
    assert TOKEN not in said.stdout + said.stderr + json.dumps(site.calls())
    start = f"/prefix/bin/teleport-lite start --config={etc}/teleport-lite.yaml\n"
    assert f"{start}==> who administers the cluster sees it then: tctl nodes ls\n" in said.stdout


def test_settings_that_are_there_stay(site, piped, etc):
    (etc / "teleport-lite.yaml").write_text("version: v3\n")
    said = piped()
    assert said.returncode == 0, said.stderr
    assert f"kept {etc}/teleport-lite.yaml, which says what cluster to join" in said.stdout
    assert (etc / "teleport-lite.yaml").read_text() == "version: v3\n"
    assert not (etc / "teleport-lite").exists()
    assert "configure" not in json.dumps(site.calls())


def test_a_newer_token_replaces_one_that_nobody_joined_with(piped, etc):
    piped()
    (etc / "teleport-lite" / "token").write_text("expired\n")
    assert piped().returncode == 0
    assert (etc / "teleport-lite" / "token").read_text() == TOKEN + "\n"


def test_a_dry_run_writes_no_settings(piped, etc):
    said = piped("--dry-run")
    assert said.returncode == 0
    assert "and join proxy.example.com:3080" in said.stdout
    assert list(etc.iterdir()) == []


def test_where_another_program_would_be_started_nothing_joins(piped, etc, tmp_path):
    name = tmp_path / "home/prefix/bin/teleport-lite"
    name.parent.mkdir(parents=True)
    name.write_text("#!/bin/sh\n")
    said = piped()
    assert said.returncode == 1
    assert f"ERROR: {name} is another program, and the service would start that" in said.stderr
    assert list(etc.iterdir()) == []


def test_it_removes_too(site, piped, tmp_path):
    piped()
    assert piped("--uninstall", "--purge", "--dry-run").returncode == 0
    prefix = f"--prefix={tmp_path}/home/prefix"
    assert site.calls()[-1]["words"] == ["uninstall", prefix, "--purge", "--dry-run"]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else, who is not root")
def test_only_root_makes_a_machine_a_node_and_nothing_escalates(site, tmp_path):
    said = subprocess.run(
        ["bash", "-s"],
        input=site.script(join=JOIN),
        env=site.environment(tmp_path),
        user="nobody",
        capture_output=True,
        text=True,
    )
    assert said.returncode == 1
    assert said.stderr == (
        "ERROR: only root makes a machine a node\n  try: the same with: | sudo bash\n"
    )


def test_the_real_program_installs_from_a_release_and_writes_settings_that_load(
    site, piped, built, etc, tmp_path
):
    """One line, from the download to a file that `start` would take."""
    [_, _, version] = built.read_text(errors="replace").split("\n", 2)[1].split()[:3]
    site.release(version, program=built.read_bytes())
    said = piped("--labels=rack=3")
    assert said.returncode == 0, said.stderr
    program = tmp_path / "home/prefix/bin/teleport-lite"
    config = etc / "teleport-lite.yaml"
    test = subprocess.run([program, "configure", "--test", config], capture_output=True, text=True)
    assert test.returncode == 0, test.stderr
    assert f"token_name: {etc}/teleport-lite/token" in config.read_text()
    assert TOKEN not in config.read_text()
    for line in ("proxy_server: proxy.example.com:3080", PIN, PIN2, "team: x y", "rack:"):
        assert line in config.read_text()
    again = piped("v" + version, "cloud")
    assert again.returncode == 0, again.stderr
    assert "\nnothing changed\n" in again.stdout
    gone = piped("--uninstall")
    assert gone.returncode == 0, gone.stderr
    assert not program.is_symlink()
    assert config.exists()
