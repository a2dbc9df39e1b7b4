"""A release: what is in it, that it is signed, and that others can make the very same one."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teleport_lite import __version__
from teleport_lite.pki.sshsig import verify
from teleport_lite.release.sums import NAMESPACE, program_name, sbom_name, signed_sums
from tests.packaging.conftest import ROOT, copy_sources
from tests.packaging.test_build import members

sys.path.insert(0, str(ROOT / "packaging"))

import sbom
import signing
from fetch import Target
from release import Release, trusted, uncommitted

BASE = "https://releases.example.com/teleport-lite"


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "a release", "-f", str(path)]
    subprocess.run(words, check=True, timeout=60)
    return path


def public(key: Path) -> str:
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


def release(checkout: Path, *words: object, **env: str) -> None:
    """For this Python and this machine alone, to be quick."""
    command = [sys.executable, str(checkout / "packaging" / "build.py"), "--release"]
    command += ["--base", BASE, "--target", str(Target.here()), *map(str, words)]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, timeout=110)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def released(checkout: Path) -> Path:
    """dist/release of a checkout, signed by `key` beside it; `next` may sign releases too."""
    place = checkout.parent / "released"
    with (checkout.parent / "released.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            place.mkdir()
            one, other = make_key(place / "key"), make_key(place / "next")
            words = ["--sign", one, "--trust", f"{other}.pub", "--output-dir", place / "out"]
            release(checkout, *words)
    return place / "out"


@pytest.fixture
def version(released: Path) -> Path:
    return released / __version__


# What is published


def test_a_release_is_laid_out_as_install_sh_and_proxies_expect(released, version):
    assert sorted(path.name for path in released.iterdir()) == sorted(
        ["install.sh", "latest", __version__]
    )
    names = {program_name(__version__), sbom_name(__version__), "SHA256SUMS", "SHA256SUMS.sig"}
    assert {path.name for path in version.iterdir()} == names
    assert (released / "latest").read_text() == f"v{__version__}\n"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in released.rglob("*")}
    assert {name for name, mode in modes.items() if mode & 0o111} == {
        *("install.sh", __version__, program_name(__version__))
    }
    assert not [name for name, mode in modes.items() if mode & 0o022 or not mode & 0o004]


def test_every_file_is_listed_and_the_list_is_signed(released, version):
    keys = [public(released.parent / "key")]
    text, signature = [(version / name).read_bytes() for name in ("SHA256SUMS", "SHA256SUMS.sig")]
    sums = signed_sums(text, signature, keys)
    assert set(sums) == {program_name(__version__), sbom_name(__version__)}
    for name, digest in sums.items():
        assert sha256(version / name) == digest
    subprocess.run(
        ["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=version, check=True
    )


def test_the_program_and_the_script_know_who_may_sign(released, version):
    keys = sorted(public(released.parent / name) for name in ("key", "next"))
    held = members(version / program_name(__version__))["teleport_lite/assets/release-keys.pub"]
    assert held.decode().splitlines() == keys
    script = (released / "install.sh").read_text()
    assert "\nkeys='" + "\n".join(keys) + "'\n" in script
    assert f"\nbase='{BASE}'\n" in script


def test_a_build_without_keys_trusts_nobody(built):
    assert "teleport_lite/assets/release-keys.pub" not in members(built)
    assert "teleport_lite/assets/install.sh" in members(built)


def test_somebody_else_elsewhere_makes_the_very_same_release(released, version, tmp_path):
    """In another directory, of copies made in another order, under other settings."""
    checkout = tmp_path / "another place"
    copy_sources(checkout)
    package = checkout / "teleport_lite"
    package.rename(checkout / "away")
    package.mkdir(mode=0o700)
    for path in sorted((checkout / "away").iterdir(), reverse=True):
        path.rename(package / path.name)
    (package / "errors.py").chmod(0o600)
    (package / "errors.py~").write_text("of an editor")
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "stray.txt").write_text("of a tool")
    other = {"TZ": "Asia/Tokyo", "LC_ALL": "POSIX", "PYTHONHASHSEED": "7", "PYTHONUTF8": "0"}
    keys = [
        word for name in ("next", "key") for word in ("--trust", released.parent / f"{name}.pub")
    ]
    old = os.umask(0o077)
    try:
        release(checkout, *keys, "--output-dir", tmp_path / "out", **other)
    finally:
        os.umask(old)
    again = tmp_path / "out" / __version__
    assert not (again / "SHA256SUMS.sig").exists()  # they have no private key
    for name in (program_name(__version__), sbom_name(__version__), "SHA256SUMS"):
        assert (again / name).read_bytes() == (version / name).read_bytes(), name
        assert (again / name).stat().st_mode == (version / name).stat().st_mode
    assert (tmp_path / "out" / "install.sh").read_bytes() == (released / "install.sh").read_bytes()
    home = str(checkout).encode()
    assert home not in (again / sbom_name(__version__)).read_bytes()


def test_a_release_made_anew_leaves_nothing_of_the_one_before(tmp_path):
    made = Release(
        root=ROOT, output=tmp_path, version="1.2.3", base="", key=None, public="", keys=[]
    )
    made.publish({"SHA256SUMS": b"old", "SHA256SUMS.sig": b"old"})
    made.publish({"SHA256SUMS": b"new"})
    assert [path.name for path in (tmp_path / "1.2.3").iterdir()] == ["SHA256SUMS"]
    assert not (tmp_path / "install.sh").exists()  # nobody knows where it would download from


def test_a_release_of_what_nobody_else_can_have_says_so(tmp_path):
    assert not uncommitted(tmp_path)  # no repository: sources that were unpacked
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "install.sh").touch()
    assert uncommitted(tmp_path)


# The bill of materials


def test_the_bill_of_materials_names_every_locked_package(version):
    whole = json.loads((version / sbom_name(__version__)).read_text())
    assert (whole["bomFormat"], whole["specVersion"], whole["version"]) == ("CycloneDX", "1.5", 1)
    assert "serialNumber" not in whole
    lock = (ROOT / "packaging" / "lock.txt").read_text()
    parts = {part["name"]: part for part in whole["components"]}
    assert {f"{part['name']}=={part['version']}" for part in parts.values()} == set(
        re.findall(r"^[^ ;#]+==[^ ;]+", lock, re.MULTILINE)
    )
    hashes = [each["content"] for part in parts.values() for each in part["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"--hash=sha256:(\w+)", lock))
    assert parts["aiohttp"]["purl"] == f"pkg:pypi/aiohttp@{parts['aiohttp']['version']}"
    # For Windows alone: nothing of them is in the file, nor on the machine that builds it.
    bare = [name for name, part in parts.items() if "licenses" not in part]
    assert bare == ["colorama", "tzdata"]
    excluded = {name for name, part in parts.items() if part["scope"] == "excluded"}
    assert excluded >= {"colorama", "tzdata", "invoke", "markdown-it-py", "rich"}
    assert not excluded & {"aiohttp", "cryptography", "paramiko", "typer"}


def test_the_bill_of_materials_says_what_it_is_of_and_what_needs_what(version):
    whole = json.loads((version / sbom_name(__version__)).read_text())
    ours = whole["metadata"]["component"]
    assert (ours["name"], ours["version"]) == ("teleport-lite", __version__)
    assert sha256(version / program_name(__version__)) == ours["hashes"][0]["content"]
    needs = {each["ref"]: each["dependsOn"] for each in whole["dependencies"]}
    known = {part["bom-ref"] for part in whole["components"]} | {ours["bom-ref"]}
    assert set(needs) <= known
    assert {name for names in needs.values() for name in names} <= known
    [paramiko] = [ref for ref in needs if "/paramiko@" in ref]
    assert paramiko in needs[ours["bom-ref"]]
    assert [name for name in needs[paramiko] if "/cryptography@" in name]
    assert "timestamp" not in whole["metadata"]


def test_a_time_is_told_only_where_the_build_was_given_one(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert sbom.timestamp() == {}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert sbom.timestamp() == {"timestamp": "2023-11-14T22:13:20Z"}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert sbom.timestamp() == {}


# Keys


def no_terminal(code: str, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process that has none, whoever runs the tests."""
    code = f"import sys, signing; from pathlib import Path; {code}"
    path = f"{ROOT / 'packaging'}:{ROOT}"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=os.environ | {"PYTHONPATH": path} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )


SIGN = """
key = Path(sys.argv[1])
try: print(signing.sign(b'message', key, signing.public_key(key)).decode(), end='')
except signing.Failed as why: sys.exit(f'{why} / {why.hint}')
"""


def test_a_key_with_a_passphrase_fails_at_once_where_nobody_can_type_it(tmp_path):
    key = make_key(tmp_path / "key", passphrase="a long secret")
    gone = {"SSH_AUTH_SOCK": "", "DISPLAY": ":0", "SSH_ASKPASS": "/bin/cat"}
    said = no_terminal(f"exec({SIGN!r})", key, **gone)
    assert said.returncode == 1
    assert f"ssh-keygen sign failed with {key}: " in said.stderr
    assert f"/ ssh-add {key}" in said.stderr


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Gives a key to an ssh-agent of ours, and returns its socket."""
    path = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()  # it listens

    def add(key: Path) -> str:
        env = os.environ | {"SSH_AUTH_SOCK": path}
        subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, timeout=60)
        return path

    yield add
    process.send_signal(signal.SIGTERM)
    process.wait()
    process.stdout.close()


def test_the_private_half_may_be_in_an_agent(tmp_path, agent):
    key = make_key(tmp_path / "key")
    socket = agent(key)
    key.unlink()
    said = no_terminal(f"exec({SIGN!r})", f"{key}.pub", SSH_AUTH_SOCK=socket)
    assert said.returncode == 0, said.stderr
    line = public(key)
    assert verify(b"message", said.stdout, keys=[line], namespace=NAMESPACE) == line


def test_a_public_key_alone_signs_nothing_and_says_so(tmp_path):
    key = make_key(tmp_path / "key")
    key.unlink()
    said = no_terminal(f"exec({SIGN!r})", f"{key}.pub", SSH_AUTH_SOCK="")
    assert said.returncode == 1
    assert f"ssh-keygen sign failed with {key}.pub" in said.stderr


def test_a_pub_file_of_another_key_is_noticed(tmp_path):
    """ssh-keygen reads NAME.pub before NAME, and so may say another key than it signs by."""
    key, other = make_key(tmp_path / "key"), make_key(tmp_path / "other")
    shutil.copy(f"{other}.pub", f"{key}.pub")
    with pytest.raises(signing.Failed, match="ssh-keygen"):
        signing.sign(b"message", key, signing.public_key(key))


@pytest.mark.parametrize("passphrase", ["", "a long secret"])
def test_the_public_half_of_a_private_key_is_known_without_asking(tmp_path, passphrase):
    key = make_key(tmp_path / "key", passphrase=passphrase)
    line = public(key)
    Path(f"{key}.pub").unlink()
    assert signing.public_key(key) == line


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_key_of_another_type_is_refused_by_name(tmp_path, kind):
    key = make_key(tmp_path / "key", kind)
    for path in (key, Path(f"{key}.pub")):
        with pytest.raises(signing.Failed, match=f"is a key of type (ssh-{kind}|{kind}-sha2-)"):
            signing.public_key(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43 + " x\nssh-ed25519 AAAA",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----",
    ],
)
def test_what_is_no_key_of_openssh_is_refused(tmp_path, text):
    (tmp_path / "key").write_text(text)
    with pytest.raises(signing.Failed):
        signing.public_key(tmp_path / "key")
    with pytest.raises(signing.Failed, match="No such file"):
        signing.public_key(tmp_path / "none")


def test_a_key_named_twice_is_trusted_once(tmp_path):
    key = make_key(tmp_path / "key")
    line = public(key)
    assert trusted(key, [Path(f"{key}.pub"), key]) == (line, [line])


# What can not be released


@pytest.mark.parametrize(
    "version", ["0.1.0+dirty", "0.1.0.dev1", "0.1", "1.2.3-", "v1.2.3", "1.2.3-a_b", "0.1.0rc1"]
)
def test_a_version_that_is_none_is_refused_before_anything_is_built(tmp_path, version):
    made = Release(
        root=ROOT, output=tmp_path, version=version, base="", key=None, public="", keys=[]
    )
    with pytest.raises(signing.Failed, match="can not be released"):
        made.check()


def test_a_wrong_command_line_is_refused(checkout, tmp_path):
    (tmp_path / "key").write_text("ssh-rsa AAAA\n")
    for words, cause in {
        ("--sign", "KEY"): "--sign goes with --release",
        ("--base", BASE): "--base goes with --release",
        ("--release", "--output", "x"): "--output does not go with --release",
        ("--release", "--base", "http://example.com"): "can not be the address of the releases",
        ("--release", "--sign", str(tmp_path / "key")): "is a key of type ssh-rsa",
    }.items():
        command = [sys.executable, str(checkout / "packaging" / "build.py"), *words]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert said.returncode in (1, 2)
        assert cause in said.stderr
        assert "Traceback" not in said.stderr


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
