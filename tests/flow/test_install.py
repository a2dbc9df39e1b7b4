"""A proxy that runs from the single file hands out that file, and hosts that join by it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from teleport_lite import __version__
from tests.flow.cluster import Running
from tests.flow.proxied import Proxied
from tests.packaging.conftest import built, checkout  # noqa: F401  # fixtures
from tests.support import eventually

NO_SUCH_PAGE = 22  # of curl -f


class Installing(Proxied):
    """The proxy is the file itself, which lies somewhere, and shows a certificate of its own."""

    def __init__(self, root: Path, file: Path) -> None:
        self.file, self.certificate = file, root / "web.pem"
        key = root / "web.key"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        named = "-subj /CN=proxy -addext subjectAltName=IP:127.0.0.1"
        files = ("-keyout", str(key), "-out", str(self.certificate))
        subprocess.run((*f"{command} {named}".split(), *files), check=True, capture_output=True)
        pairs = f"[{{key_file: {key}, cert_file: {self.certificate}}}]"
        super().__init__(root, proxy_extra=f"  https_keypairs: {pairs}\n")

    def _spawn(self, words: Sequence[str], log: Path, env: object = None) -> Running:
        assert env is None
        if log.stem != "proxy-1":
            return super()._spawn(words, log)
        trees = {"TELEPORT_LITE_ROOT": str(self.root / "trees")}
        running = Running([sys.executable, "-I", str(self.file), *words], log, self.env | trees)
        self._running.append(running)
        return running

    def host(self, name: str) -> "Host":
        return Host(self, self.root / name)


class Host:
    """A machine, as far as directories make one."""

    def __init__(self, cluster: Installing, home: Path) -> None:
        home.mkdir()
        self.cluster, self.home, self.prefix = cluster, home, home / "prefix"
        self.config, self.lib = home / "node.yaml", self.prefix / "lib/teleport-lite"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "CURL_CA_BUNDLE": str(cluster.certificate),
            "SSL_CERT_FILE": str(cluster.certificate),
            "TELEPORT_LITE_CONFIG": str(self.config),
            "TELEPORT_LITE_PYTHON": sys.executable,
        }

    def bash(self, line: str) -> "subprocess.CompletedProcess[str]":
        """A line as people type it."""
        words = ("bash", "-o", "pipefail", "-c", line)
        return subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
    built: Path,  # noqa: F811
) -> Iterator[Installing]:
    root = tmp_path_factory.mktemp("installing")
    file = root / "anything.pyz"
    file.write_bytes(built.read_bytes())
    with Installing(root, file) as running:
        yield running


@pytest.fixture(scope="module")
def host(cluster: Installing) -> Host:
    return cluster.host("host")


def test_one_line_installs_what_the_proxy_is(cluster: Installing, host: Host) -> None:
    line = f"curl -fsSL https://{cluster.proxy}/install.sh | bash -s -- --prefix={host.prefix}"
    done = host.bash(line)
    assert done.returncode == 0, done.stderr
    assert os.readlink(host.lib / "current") == __version__
    assert (host.lib / __version__ / "teleport-lite.pyz").read_bytes() == cluster.file.read_bytes()
    said = subprocess.check_output([host.prefix / "bin/tsh", "version"], text=True, env=host.env)
    assert __version__ in said


def test_a_token_of_the_cluster_makes_it_a_node(cluster: Installing, host: Host) -> None:
    made = cluster.json("tokens", "add", "--type=node", "--labels=env=flow")
    url, token = made["install_script"], made["token"]
    assert url == f"https://{cluster.proxy}/scripts/{token}/install-node.sh"
    words = f"--prefix={host.prefix} --nodename=installed"
    done = host.bash(f"curl -fsSL {url} | bash -s -- {words}")
    assert done.returncode == 0, done.stderr
    assert token not in done.stdout + done.stderr + host.config.read_text()
    program = (sys.executable, str(host.lib / "current/teleport-lite.pyz"))
    data = f"--data-dir={host.home / 'data'}"
    node = Running(
        (*program, "start", f"--config={host.config}", data), host.home / "log", host.env
    )
    try:
        eventually(lambda: cluster.tunnelled("installed"), what="installed in nodes ls")
        [listed] = [it for it in cluster.json("nodes", "ls") if it["hostname"] == "installed"]
        assert listed["labels"]["env"] == "flow"
    finally:
        node.stop()
    [event] = [it for it in cluster.events("join_token.look") if it["outcome"] == "ok"]
    assert event["code"] == "TJT02I"
    assert event["addr.remote"] == "127.0.0.1"
    for log in cluster.root.glob("*.log"):
        assert token not in log.read_text(), log


@pytest.mark.parametrize("types", ["", "proxy", "node,proxy", "removed"])
def test_any_other_token_gives_no_script(cluster: Installing, host: Host, types: str) -> None:
    token = "there-is-no-such-token"
    if types:
        token = cluster.token(types.replace("removed", "node"))
    if types == "removed":
        cluster.tctl("tokens", "rm", token)
    url = f"https://{cluster.proxy}/scripts/{token}/install-node.sh"
    refused = host.bash(f"curl -fsSL {url} >{host.home}/script")
    assert refused.returncode == NO_SUCH_PAGE
    assert (host.home / "script").read_text() == ""
    without_f = host.bash(f"curl -sSL {url} | bash -s -- --prefix={host.prefix}")
    assert without_f.returncode == 1
    assert "ERROR: this link does not work" in without_f.stderr


def test_a_version_that_is_not_there_is_said(cluster: Installing, host: Host) -> None:
    line = (
        f"curl -fsSL https://{cluster.proxy}/install-v9.9.9.sh | bash -s -- --prefix={host.prefix}"
    )
    refused = host.bash(f"{line} 9.9.9")
    assert refused.returncode == 1
    assert f"can not download https://{cluster.proxy}/webapi/releases/9.9.9/" in refused.stderr
    said = host.bash(f"curl -sSL https://{cluster.proxy}/webapi/releases/9.9.9/SHA256SUMS").stdout
    assert f"versions here: {__version__}" in said


def test_agents_are_told_that_there_is_something_to_upgrade_to(
    cluster: Installing, host: Host
) -> None:
    asked = f"https://{cluster.proxy}/v1/webapi"
    line = (
        f"curl -sSf {asked}/ping | jq -r .auto_update.agent_auto_update,.auto_update.agent_version"
    )
    assert host.bash(line).stdout.split() == ["true", __version__]
    assert host.bash(f"curl -sSf {asked}/releases/latest").stdout == f"v{__version__}\n"
