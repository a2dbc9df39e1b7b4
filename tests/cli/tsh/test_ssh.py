"""tsh ssh, scp, config and proxy ssh: OpenSSH's own client and server, our way in between."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from teleport_lite.client import profile
from teleport_lite.client.identity_file import IdentityFile
from teleport_lite.client.profile import Profile
from teleport_lite.testing.certs import PaperCluster
from tests.cli.tsh.node import BINARY, LOGIN, node
from tests.client.fake_proxy import CLUSTER, PASSWORD, FakeProxy, no_node, running, to_port
from tests.client.test_profile import credentials

pytestmark = pytest.mark.skipif(BINARY is None, reason="needs OpenSSH's sshd")
UUID = "0f9d2a54-1111-4222-8333-0123456789ab"
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Place:
    """A workstation that is logged in, a proxy, and a node behind it."""

    proxy: FakeProxy
    home: Path
    environment: dict[str, str]

    def tsh(self, *words: str, stdin: str = "", **changes: str) -> Done:
        command = [sys.executable, "-m", "teleport_lite", "tsh", *words]
        return self.run(command, stdin=stdin, **changes)

    def run(self, command: list[str], *, stdin: str = "", **changes: str) -> Done:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**self.environment, **changes},
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("ws with space")
    with (
        running(FakeProxy(logins=(LOGIN,))) as proxy,
        node(proxy.cluster, tmp_path_factory.mktemp("node")) as port,
    ):
        proxy.gate = to_port(port)
        home = directory / ".tsh"
        mine = Profile(
            proxy="localhost", user="alice", cluster=CLUSTER, web_proxy_addr=proxy.address
        )
        profile.save(home, mine, allowed(proxy.cluster))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "TELEPORT_HOME": str(home),
            "LANG": "C.UTF-8",
        }
        yield Place(proxy, home, environment)


def allowed(cluster: PaperCluster) -> IdentityFile:
    """Alice, who may log in as whoever runs this."""
    return credentials(cluster, "alice", logins=(LOGIN,))


def test_a_command_runs_on_the_node_and_its_status_is_ours(place: Place) -> None:
    done = place.tsh("ssh", f"{LOGIN}@web-1", "echo", "inside;", "exit", "7")
    assert (done.stdout, done.returncode) == ("inside\n", 7), done.stderr
    assert place.proxy.reached[-1] == {
        "host": "web-1",
        "port": 22,
        "login": LOGIN,
        "cluster": CLUSTER,
    }


def test_flags_stand_before_the_host_or_after_it_but_the_command_keeps_its_own(
    place: Place,
) -> None:
    done = place.tsh(
        "ssh", "-p", "3022", "--login", LOGIN, "web-1", "-o", "LogLevel=ERROR", "ls", "-d", "/"
    )
    assert (done.stdout, done.returncode) == ("/\n", 0), done.stderr
    assert place.proxy.reached[-1]["port"] == 3022
    done = place.tsh("ssh", f"{LOGIN}@web-1.{CLUSTER}", "--", "ls", "-d", "/")
    assert (done.stdout, done.returncode) == ("/\n", 0), done.stderr
    assert place.proxy.reached[-1]["host"] == "web-1"
    done = place.tsh("ssh", "web-1", "-t", "--nope")
    assert (done.returncode, "no such option" in done.stderr) == (2, True)


def test_the_only_login_needs_not_be_typed(place: Place) -> None:
    assert place.tsh("ssh", "web-1", "id", "-un").stdout == f"{LOGIN}\n"


def test_standard_input_and_megabytes_go_through(place: Place) -> None:
    text = "0123456789abcde\n" * (1 << 17)  # 2 MiB
    done = place.tsh("ssh", f"{LOGIN}@web-1", "cat", stdin=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout == text


def test_a_host_of_another_name_is_not_believed(place: Place) -> None:
    done = place.tsh("ssh", f"{LOGIN}@web-2", "true")  # the proxy leads us to web-1
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_a_host_of_another_cluster_is_not_believed(place: Place, tmp_path: Path) -> None:
    evil = PaperCluster(CLUSTER)
    with node(evil, tmp_path / "evil") as port:
        honest, place.proxy.gate = place.proxy.gate, to_port(port)
        done = place.tsh("ssh", "-o", "StrictHostKeyChecking=no", f"{LOGIN}@web-1", "true")
        place.proxy.gate = honest
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_a_refusal_of_the_proxy_is_read_by_people(place: Place) -> None:
    honest, place.proxy.gate = place.proxy.gate, no_node
    done = place.tsh("ssh", f"{LOGIN}@web-9", "true")
    place.proxy.gate = honest
    assert done.returncode == 255
    assert "ERROR: no node web-9\n  try: tsh ls\n" in done.stderr


def test_labels_mean_one_node_for_a_shell_and_many_for_a_command(place: Place) -> None:
    one = {"id": UUID, "hostname": "web-1", "address": "", "labels": {"env": "prod"}}
    place.proxy.answers["/v1/me/nodes"] = {"nodes": [one]}
    done = place.tsh("ssh", f"{LOGIN}@env=prod", "true")
    assert place.proxy.asked[-1][1] == {"labels": {"env": "prod"}, "search": ""}
    assert place.proxy.reached[-1]["host"] == UUID
    # The node's own certificate does not have that UUID: the name we were told is checked.
    assert "Host key verification failed" in done.stderr
    place.proxy.answers["/v1/me/nodes"] = {"nodes": [one, {**one, "hostname": "web-2"}]}
    done = place.tsh("ssh", f"{LOGIN}@env=prod")
    assert done.returncode == 1
    assert "2 nodes are env=prod: web-1, web-2" in done.stderr
    done = place.tsh("ssh", f"{LOGIN}@env=prod", "true")
    assert (done.returncode, done.stderr.count("verification failed")) == (255, 2)
    place.proxy.answers["/v1/me/nodes"] = {"nodes": []}
    done = place.tsh("ssh", f"{LOGIN}@env=prod", "true")
    assert (done.returncode, "no node is env=prod" in done.stderr) == (3, True)


@pytest.mark.parametrize("target", ["-oProxyCommand=x", "root@", "a b@web-1", "root@web 1", "$(x)"])
def test_nothing_that_a_shell_could_read_passes_as_a_target(place: Place, target: str) -> None:
    before = len(place.proxy.reached)
    assert place.tsh("ssh", "--", target, "true").returncode in (1, 2, 3)
    assert len(place.proxy.reached) == before


def test_scp_copies_both_ways(place: Place, tmp_path: Path) -> None:
    here, there, back = tmp_path / "here", tmp_path / "there", tmp_path / "back"
    here.mkdir()
    (here / "file").write_text("words")
    done = place.tsh("scp", "-r", "-p", str(here), f"{LOGIN}@web-1:{there}")
    assert done.returncode == 0, done.stderr
    assert (there / "file").read_text() == "words"
    done = place.tsh("scp", "-q", f"--login={LOGIN}", f"web-1:{there}/file", str(back))
    assert done.returncode == 0, done.stderr
    assert back.read_text() == "words"


def test_scp_without_a_node_says_how(place: Place) -> None:
    done = place.tsh("scp", "a", "./b:c")
    assert done.returncode == 1
    assert "try: tsh scp file.txt root@web-1:/tmp/" in done.stderr


@pytest.fixture
def tsh_on_path(place: Place, tmp_path: Path) -> Path:
    """An installed tsh, under a path that needs quoting."""
    path = tmp_path / "bin dir" / "tsh"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\nimport sys\nfrom teleport_lite.__main__ import main\n"
        "sys.exit(main(sys.argv))\n"
    )
    path.chmod(0o755)
    return path


def test_with_the_config_plain_ssh_works(place: Place, tsh_on_path: Path, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    done = place.run([str(tsh_on_path), "config"])
    assert done.returncode == 0, done.stderr
    assert f" '{tsh_on_path}' proxy ssh --proxy=" in done.stdout
    config.write_text(done.stdout)
    host = f"{LOGIN}@web-1.{CLUSTER}"
    done = place.run(["ssh", "-F", str(config), host, "echo", "plain"], TELEPORT_HOME="")
    assert (done.stdout, done.returncode) == ("plain\n", 0), done.stderr


def test_an_identity_file_does_all_of_it(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "ci identity"
    said = place.tsh(
        "login", f"--proxy={place.proxy.address}", "--user=alice", f"--out={path}",
        f"--ca-pin={place.proxy.pin}", stdin=PASSWORD,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    said = place.tsh(
        "ssh", "-i", str(path), f"--proxy={place.proxy.address}", f"{LOGIN}@web-1", "echo", "ci",
        TELEPORT_HOME=str(tmp_path / "nowhere"),
    )  # fmt: skip
    assert (said.stdout, said.returncode) == ("ci\n", 0), said.stderr
    said = place.tsh("ssh", "-i", str(path), "web-1", TELEPORT_HOME=str(tmp_path / "nowhere"))
    assert "does not say which proxy" in said.stderr


def test_proxy_ssh_in_every_form_carries_bytes(place: Place) -> None:
    for words in (
        [f"--proxy={place.proxy.address}", f"--cluster={CLUSTER}", "--user=alice"],
        ["--proxy", place.proxy.address],
        [],
    ):
        done = place.tsh("proxy", "ssh", *words, f"{LOGIN}@web-1.{CLUSTER}:22")
        assert done.stdout.startswith("SSH-2.0-OpenSSH"), (words, done.stderr)
        assert place.proxy.reached[-1] == {
            "host": "web-1",
            "port": 22,
            "login": LOGIN,
            "cluster": CLUSTER,
        }


def test_keys_that_others_can_read_are_refused_on_the_quick_way_too(place: Place) -> None:
    key = place.home / "keys/localhost/alice-x509.pem"
    key.chmod(0o644)
    words = [f"--proxy={place.proxy.address}", f"--cluster={CLUSTER}", "--user=alice"]
    done = place.tsh("proxy", "ssh", *words, f"{LOGIN}@web-1:22")
    key.chmod(0o600)
    assert done.returncode == 4
    assert "has mode 0644" in done.stderr


def test_without_openssh_there_is_a_word_about_it(place: Place, tmp_path: Path) -> None:
    done = place.tsh("ssh", f"{LOGIN}@web-1", PATH=str(tmp_path))
    assert done.returncode == 3
    assert "ssh is not installed" in done.stderr
