"""tsh through a rotation of the host CA, as a process of its own."""

import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.cli.tsh.catch_up import look
from teleport_lite.client import profile
from teleport_lite.client.profile import Files, Profile
from teleport_lite.pki.pin import pin_of
from teleport_lite.proto.ca_digest import digest_of
from teleport_lite.testing.certs import PaperCluster
from tests.cli.tsh.conftest import Tsh
from tests.client.fake_proxy import CLUSTER, PASSWORD, FakeProxy
from tests.client.test_profile import credentials
from tests.support import eventually

NEW = PaperCluster(CLUSTER)


def both(proxy: FakeProxy) -> dict[str, list[str]]:
    """The CAs of a rotation."""
    return {
        "host_cas": [*NEW.host_cas, *proxy.cluster.host_cas],
        "ssh_host_cas": [each.host_ca.public.ssh_key for each in (NEW, proxy.cluster)],
    }


def proxy_ssh(proxy: FakeProxy, home: Path) -> "subprocess.CompletedProcess[str]":
    """As OpenSSH runs it."""
    words = ["proxy", "ssh", f"--proxy={proxy.address}", f"--cluster={CLUSTER}", "--user=alice"]
    return subprocess.run(
        [sys.executable, "-m", "teleport_lite", "tsh", *words, f"root@web-1.{CLUSTER}:22"],
        env={**os.environ, "TELEPORT_HOME": str(home)},
        input="",
        capture_output=True,
        text=True,
        timeout=60,
    )


def tells(digest: str) -> Any:
    """A gate that names its CAs, and whose node has nothing to say."""

    def serve(wire: ssl.SSLSocket, asked: dict[str, Any]) -> None:
        del asked
        wire.sendall(b'{"ok": true, "host_name": "web-1", "cas": "%s"}\nhello' % digest.encode())

    return serve


def test_a_profile_knows_that_it_knows_what_the_proxy_tells(
    proxy: FakeProxy, home: Path, alice: Profile
) -> None:
    cas = str(Files(home, alice).cas)
    ssh = [proxy.cluster.host_ca.public.ssh_key]
    assert not look(cas, CLUSTER, digest_of(proxy.cluster.host_cas, ssh))
    two = both(proxy)
    assert look(cas, CLUSTER, digest_of(two["host_cas"], two["ssh_host_cas"]))
    told = profile.identity(home, alice).tls_cert
    turned = reversed(two["host_cas"])
    assert profile.trust(home, alice, turned, two["ssh_host_cas"], told=told)
    assert not look(cas, CLUSTER, digest_of(two["host_cas"], two["ssh_host_cas"]))
    assert not look(str(home / "nothing.pem"), CLUSTER, "x"), "somebody else tells"


def test_the_first_ssh_of_a_rotation_brings_the_new_ca(
    proxy: FakeProxy, home: Path, alice: Profile
) -> None:
    two = both(proxy)
    proxy.answers["/v1/me/cas"] = two
    proxy.gate = tells(digest_of(two["host_cas"], two["ssh_host_cas"]))
    done = proxy_ssh(proxy, home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")
    eventually(lambda: len(profile.identity(home, alice).host_cas) == 2)
    assert proxy_ssh(proxy, home).returncode == 0
    assert [path for path, _ in proxy.asked] == ["/v1/me/cas"], "once"


def test_who_can_not_be_asked_is_no_matter_for_the_connection(
    proxy: FakeProxy, home: Path, alice: Profile
) -> None:
    proxy.gate = tells("0123456789abcdef")
    done = proxy_ssh(proxy, home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")
    assert len(profile.identity(home, alice).host_cas) == 1


def missed(proxy: FakeProxy, home: Path) -> None:
    """Alice's profile is of the generation before."""
    made = Profile(proxy="localhost", user="alice", cluster=CLUSTER, web_proxy_addr=proxy.address)
    profile.save(home, made, credentials(NEW, "alice"))
    gone = {"pin": pin_of(NEW.host_cas[0]), "at": 1772368200.0}
    proxy.answers["/v1/ca"] = {**proxy._bundle({}), "retired": [gone]}


WORDS = f"the host CA of cluster {CLUSTER} was rotated on 2026-03-01 12:30 UTC"


def test_after_it_ssh_says_what_happened_and_what_to_type(proxy: FakeProxy, home: Path) -> None:
    missed(proxy, home)
    done = proxy_ssh(proxy, home)
    assert done.returncode != 0
    assert WORDS in done.stderr
    assert "tsh login" in done.stderr


@pytest.mark.parametrize("words", [("ls",), ("config",), ("clusters",)])
def test_after_it_every_command_says_so(
    tsh: Tsh, proxy: FakeProxy, home: Path, words: tuple[str, ...]
) -> None:
    missed(proxy, home)
    said = tsh(*words)
    assert said.code != 0
    assert WORDS in said.err
    assert "tsh login" in said.err


def test_a_login_that_still_lasts_is_no_reason_not_to_log_in(
    tsh: Tsh, proxy: FakeProxy, home: Path
) -> None:
    missed(proxy, home)
    said = tsh("login", stdin=PASSWORD)
    assert said.code != 0
    assert "--ca-pin" in said.err
    said = tsh("login", f"--ca-pin={proxy.pin}", stdin=PASSWORD)
    assert said.code == 0, said.err
    known = profile.current(home)
    assert known is not None
    assert pin_of(profile.identity(home, known).host_cas[0]) == proxy.pin


def test_tsh_config_brings_the_cas_of_now(
    tsh: Tsh, proxy: FakeProxy, home: Path, alice: Profile
) -> None:
    proxy.answers["/v1/me/cas"] = both(proxy)
    assert tsh("config").code == 0
    assert len(profile.identity(home, alice).host_cas) == 2


def test_tsh_config_needs_nobody(tsh: Tsh, proxy: FakeProxy, home: Path, alice: Profile) -> None:
    assert tsh("config").code == 0
    assert len(profile.identity(home, alice).host_cas) == 1
