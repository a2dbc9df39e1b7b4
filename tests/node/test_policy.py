"""What we speak, judged by ssh-audit; and that we really speak all of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.net import ssh_policy
from tests.node.house import House
from tests.node.test_abuse import PATIENCE, Client, output

POLICY = Path(__file__).with_name("ssh-audit-policy")
AUDIT = shutil.which("ssh-audit", path=str(Path(sys.executable).parent)) or shutil.which(
    "ssh-audit"
)
needs_audit = pytest.mark.skipif(AUDIT is None, reason="needs ssh-audit")
# ssh-audit's exit statuses.
GOOD, WARNINGS = 0, 2


def audit(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    assert AUDIT
    command = [AUDIT, "--no-colors", "--skip-rate-test", "-t", "60", *words, "-p", str(house.port)]
    return subprocess.run([*command, "127.0.0.1"], capture_output=True, text=True, timeout=110)


@needs_audit
def test_ssh_audit_finds_nothing_that_fails(house: House) -> None:
    """It warns about the older key exchanges: clients without a newer one need them."""
    done = audit(house)
    assert done.returncode in (GOOD, WARNINGS), done.stdout
    assert "[fail]" not in done.stdout
    warned = [line.split()[1] for line in done.stdout.splitlines() if "[warn]" in line]
    assert set(warned) == set(ssh_policy.KEX[1:])


@needs_audit
def test_the_node_passes_its_own_policy(house: House) -> None:
    done = audit(house, "--policy", str(POLICY))
    assert done.returncode == GOOD, done.stdout
    assert "Passed" in done.stdout


@needs_audit
def test_the_policy_would_notice_a_difference(house: House, tmp_path: Path) -> None:
    other = tmp_path / "policy"
    other.write_text(POLICY.read_text().replace("aes128-ctr\n", "aes128-ctr, 3des-cbc\n"))
    assert audit(house, "--policy", str(other)).returncode not in (GOOD, WARNINGS)


def test_the_policy_file_and_the_code_say_the_same() -> None:
    lines = [line.split(" = ") for line in POLICY.read_text().splitlines() if " = " in line]
    said = dict(lines)
    strict = "kex-strict-s-v00@openssh.com"
    assert said["key exchanges"].split(", ") == [*ssh_policy.KEX, strict]
    assert said["ciphers"].split(", ") == list(ssh_policy.CIPHERS)
    assert said["macs"].split(", ") == list(ssh_policy.MACS)
    assert said["host keys"].split(", ") == [ssh_policy.HOST_KEY, ssh_policy.HOST_CERT]
    assert said["banner"] == f'"SSH-2.0-{ssh_policy.BANNER}"'


def known_to_ssh(kind: str) -> set[str]:
    return set(subprocess.run(["ssh", "-Q", kind], capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("cipher", ssh_policy.CIPHERS)
@pytest.mark.parametrize("mac", ssh_policy.MACS)
def test_every_cipher_works_with_openssh(house: House, cipher: str, mac: str) -> None:
    options = [f"-oCiphers={cipher}", f"-oMACs={mac}"]
    assert (
        house.visitor().ssh("cat", input=b"x" * 100_000, options=options).stdout == b"x" * 100_000
    )


@pytest.mark.parametrize("kex", ssh_policy.KEX)
def test_every_key_exchange_works(house: House, kex: str) -> None:
    if kex in known_to_ssh("kex"):
        done = house.visitor().ssh("echo hello", options=[f"-oKexAlgorithms={kex}"])
        assert done.stdout == b"hello\n"
    else:
        client = Client(house, kex=kex)
        channel = client.transport.open_session(timeout=PATIENCE)
        channel.exec_command("echo hello")
        assert output(channel) == b"hello\n"
        client.transport.close()
        client.transport.join(10)


@pytest.mark.parametrize("algorithm", [ssh_policy.HOST_KEY, ssh_policy.HOST_CERT])
def test_both_host_keys_can_be_had(house: House, algorithm: str, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    ca, own = house.cluster.host_ca.public.ssh_key, house.host.ssh_public
    line = f"@cert-authority * {ca}" if algorithm == ssh_policy.HOST_CERT else f"* {own}"
    known.write_text(line + "\n")
    options = [f"-oHostKeyAlgorithms={algorithm}", f"-oUserKnownHostsFile={known}"]
    assert house.visitor().ssh("echo hello", options=options).stdout == b"hello\n"


@pytest.mark.parametrize(
    "option",
    [
        "Ciphers=aes128-cbc",
        "Ciphers=chacha20-poly1305@openssh.com",
        "MACs=hmac-sha1",
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "KexAlgorithms=ecdh-sha2-nistp256",
        "HostKeyAlgorithms=rsa-sha2-512",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256",
    ],
)
def test_nothing_else_is_spoken(house: House, option: str) -> None:
    options = [f"-o{option}", "-oLogLevel=INFO"]
    if option.startswith("MACs"):
        options.append("-oCiphers=aes128-ctr")
    done = house.visitor().ssh("true", options=options)
    assert done.returncode == 255
    assert b"no matching" in done.stderr


def test_compression_is_not_offered(house: House) -> None:
    options = ["-oCompression=yes", "-oLogLevel=DEBUG"]
    assert b"compression: none" in house.visitor().ssh("true", options=options).stderr
