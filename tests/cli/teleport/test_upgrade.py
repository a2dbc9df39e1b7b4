"""install self, upgrade and uninstall as people type them, with two real builds of the program."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from teleport_lite.agent import knowledge
from teleport_lite.cli.teleport.upgrade import proxies_of
from teleport_lite.config.load import Flags, for_start
from teleport_lite.plugin.builtin import builtin_book
from teleport_lite.proto.stream import Knowledge, ProxyPlace
from teleport_lite.release.layout import alone
from tests.flow.upgrades import Sources
from tests.packaging.published import Published, public, published

CHANNEL = "/v1/webapi/automaticupgrades/channel/default"
CONFIG = """\
version: v3
teleport:
  nodename: here
  data_dir: {data}
  proxy_server: localhost:{port}
auth_service: {{enabled: no}}
proxy_service: {{enabled: no}}
ssh_service: {{enabled: yes}}
"""


class Machine:
    """A home with a prefix in it, and a proxy that serves releases."""

    def __init__(self, home: Path, site: Published, old: Path) -> None:
        self.home, self.site, self.old = home, site, old
        self.prefix, self.config = home / "prefix", home / "teleport-lite.yaml"
        self.lib = self.prefix / "lib/teleport-lite"
        self.config.write_text(CONFIG.format(data=home / "data", port=site.port))

    def run(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        env = self.env() | more
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=110)

    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TELEPORT_LITE_PYTHON": sys.executable,
            "TELEPORT_LITE_CONFIG": str(self.config),
        }

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The installed program."""
        return self.run(self.prefix / "bin/teleport-lite", *words)

    def install(self) -> None:
        """9.0.1, and nothing that was before."""
        shutil.rmtree(self.lib, ignore_errors=True)
        self.lib.mkdir(parents=True)
        words = ("install", "self", f"--prefix={self.prefix}")
        placed = self.run(self.old, *words, TELEPORT_LITE_ROOT=str(self.lib))
        assert placed.returncode == 0, placed
        assert f"switched {self.lib}/current to 9.0.1" in placed.stdout
        again = self.call(*words)
        assert (again.returncode, again.stdout) == (0, "nothing changed\n")

    def begin(self) -> None:
        """With 9.0.1 in use, whichever test was before."""
        shutil.rmtree(self.lib / "9.0.2", ignore_errors=True)
        (self.lib / "failed").unlink(missing_ok=True)
        is_linked = os.path.lexists(self.prefix / "bin/teleport-lite")
        if not is_linked or os.readlink(self.lib / "current") != "9.0.1":
            self.install()

    def wants(self, version: str, critical: str = "no") -> None:
        self.site.answers[f"{CHANNEL}/version"] = 200, {}, version.encode()
        self.site.answers[f"{CHANNEL}/critical"] = 200, {}, critical.encode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Its build trusts the keys of the site, which has 9.0.2."""
    place = tmp_path_factory.mktemp("machine")
    (place / "home").mkdir()
    with published(place) as site:
        sources = Sources(place)
        keys = sources.package / "assets/release-keys.pub"
        keys.parent.mkdir(exist_ok=True)
        keys.write_text(public(site.key) + "\n")
        old = sources.build("9.0.1")
        site.release("9.0.2", program=sources.build("9.0.2").read_bytes())
        (site.directory / "webapi").mkdir()
        (site.directory / "webapi/releases").symlink_to("../releases")
        yield Machine(place / "home", site, old)


@pytest.fixture
def machine(made: Machine) -> Machine:
    made.begin()
    return made


def test_the_program_knows_in_every_start_where_it_is_installed(machine: Machine) -> None:
    machine.wants("v9.0.1")
    name = str(machine.prefix / "bin/teleport-lite")
    launch = next(machine.lib.glob("*-cp*/_launch.py"))
    python = [sys.executable, "-I", "-S"]
    check = ["upgrade", "--check", "--format=json"]
    starts = ([name], [*python, name], [*python, str(launch), name],
              [*python, str(launch), "/bin/sh"])  # fmt: skip
    for start in starts:
        found = machine.run(*start, *check)
        assert found.returncode == 0, (start, found)
        assert json.loads(found.stdout)["current"] == "9.0.1"
    loose = machine.run(machine.old, *check, TELEPORT_LITE_ROOT=str(machine.lib))
    assert loose.returncode == 3
    assert "this program is not installed" in loose.stderr


def test_check_says_what_is_wanted_and_ends_with_10_if_it_is_newer(machine: Machine) -> None:
    machine.wants("v9.0.2", "yes")
    found = machine.call("upgrade", "--check", "--format=json")
    assert found.returncode == 10, found
    assert json.loads(found.stdout) == {
        "current": "9.0.1",
        "wanted": "9.0.2",
        "critical": True,
        "from": f"localhost:{machine.site.port}",
        "state": "upgrade",
    }
    machine.wants("none")
    found = machine.call("upgrade", "--check")
    assert found.returncode == 0
    assert "no version in particular is wanted" in found.stdout


def test_a_timer_says_nothing_if_there_is_nothing_and_gives_way(machine: Machine) -> None:
    machine.wants("v9.0.1")
    quiet = machine.call("upgrade", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    machine.wants("v9.0.2")
    with alone(machine.lib):
        busy = machine.call("upgrade", "--quiet")
        assert busy.returncode == 0
        assert "another install or upgrade is at work" in busy.stdout
        assert "ERROR: another install" in machine.call("upgrade").stderr


def test_a_configuration_that_the_next_version_refuses_keeps_it_away(machine: Machine) -> None:
    machine.wants("v9.0.2")
    would = machine.call("upgrade", "--dry-run")
    assert f"would switch {machine.lib}/current to 9.0.2 from 9.0.1" in would.stdout
    good = machine.config.read_text()
    machine.config.write_text(good + "surprise: yes\n")
    refused = machine.call("upgrade", f"--base={machine.site.base}")
    machine.config.write_text(good)
    assert refused.returncode == 1, refused
    assert "ERROR: version 9.0.2 is not in use: it refuses the configuration" in refused.stderr
    assert "surprise" in refused.stderr
    assert not (machine.lib / "9.0.2").exists()
    assert "tried here and failed" in machine.call("upgrade").stdout


def test_an_upgrade_comes_to_its_end_when_the_connection_it_was_typed_in_does_not(
    machine: Machine,
) -> None:
    """Who went away in the middle left a version that may not start, and nobody to go back."""
    words = [str(machine.prefix / "bin/teleport-lite"), "upgrade", "--version=9.0.2"]
    with subprocess.Popen(
        words, env=machine.env(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"upgrade from 9.0.1 to 9.0.2\n"
        process.stdout.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(110) == 0
    assert machine.call("version", "--raw").stdout == "9.0.2\n"
    back = machine.run(machine.lib / "9.0.1/teleport-lite.pyz", "install", "self",
                       f"--prefix={machine.prefix}")  # fmt: skip
    assert back.returncode == 0, back
    assert machine.call("version", "--raw").stdout == "9.0.1\n"


def test_from_one_version_to_the_next_and_away(machine: Machine) -> None:
    done = machine.call("upgrade", "--version=9.0.2")
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[0] == "upgrade from 9.0.1 to 9.0.2"
    assert "the signature is good" in done.stdout
    assert machine.call("version", "--raw").stdout == "9.0.2\n"
    older = machine.call("upgrade", "--version=9.0.1")
    assert (older.returncode, "--allow-downgrade" in older.stderr) == (4, True)
    gone = machine.call("uninstall")  # not what is in ~/.local, nor in /usr/local
    assert gone.returncode == 0, gone
    assert f"removed {machine.lib}/9.0.2" in gone.stdout
    assert not machine.lib.exists()
    assert list((machine.prefix / "bin").iterdir()) == []
    assert machine.config.exists()


def test_a_proxy_is_known_from_the_configuration_or_from_what_auth_said_last(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(data=tmp_path / "data", port=3080))
    config = for_start(file, Flags(), builtin_book())
    assert proxies_of(config) == ["localhost:3080"]
    file.write_text(file.read_text().replace("  proxy_server: localhost:3080\n", ""))
    config = for_start(file, Flags(), builtin_book())
    assert proxies_of(config) == []
    (tmp_path / "data").mkdir(mode=0o700)
    balanced = ProxyPlace(address="10.0.0.7:3024", public=["a.example.com:443", "b.example.com"])
    said = Knowledge(
        cluster="c", serial=1, host_cas=[], ssh_host_cas=[], ssh_user_cas=[], user_cas=[],
        roles=[], locks=[], proxies=[balanced, ProxyPlace(address="10.0.0.8:3080"), balanced],
    )  # fmt: skip
    knowledge.save(tmp_path / "data", said)
    assert proxies_of(config) == ["a.example.com:443", "b.example.com:3080", "10.0.0.8:3080"]
