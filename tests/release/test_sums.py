"""SHA256SUMS: read strictly, believed only when it is signed."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Denied, Malformed
from teleport_lite.release.sums import (
    MAX_SUMS,
    NAMESPACE,
    program_name,
    read_sums,
    sbom_name,
    signed_sums,
)

ZERO = "0" * 64


def test_what_sha256sum_writes_is_read(tmp_path: Path) -> None:
    names = [program_name("1.2.3"), sbom_name("1.2.3-pre.1")]
    for name in names:
        (tmp_path / name).write_text(name)
    text = subprocess.run(["sha256sum", *names], cwd=tmp_path, check=True, capture_output=True)
    found = read_sums(text.stdout)
    assert list(found) == names
    for name in names:
        assert found[name] == hashlib.sha256(name.encode()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{ZERO}  a",  # cut off
        f"{ZERO}  a\n\n",
        f"\n{ZERO}  a\n",
        f"{ZERO} *a\n",
        f"{ZERO} a\n",
        f"{ZERO}\ta\n",
        f"{ZERO[1:]}  a\n",
        f"{ZERO}0  a\n",
        f"{'A' * 64}  a\n",
        f"{ZERO}  \n",
        f"{ZERO}  .\n",
        f"{ZERO}  ..\n",
        f"{ZERO}  .hidden\n",
        f"{ZERO}  -rf\n",
        f"{ZERO}  ../a\n",
        f"{ZERO}  /etc/passwd\n",
        f"{ZERO}  a/b\n",
        f"{ZERO}  a b\n",
        f"{ZERO}  a\\nb\n",
        f"{ZERO}  a\r\n",
        f"{ZERO}  a\0\n",
        f"{ZERO}  ä\n",
        f"{ZERO}  {'a' * 129}\n",
        f"{ZERO}  a\n{'1' * 64}  a\n",
        f"{ZERO}  a\x0b{ZERO}  b\n",
        f"{ZERO}  a\u2028{ZERO}  b\n",
        "<!DOCTYPE html>\n",
    ],
)
def test_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="SHA256SUMS"):
        read_sums(text.encode())


def test_a_list_without_end_is_refused_before_it_is_read() -> None:
    with pytest.raises(Malformed, match="the most is"):
        read_sums(b"x" * (MAX_SUMS + 1))
    with pytest.raises(Malformed, match="the most is 10"):
        read_sums(f"{ZERO}  a\n".encode(), 10)
    with pytest.raises(Malformed, match="the most is"):
        signed_sums(b"x" * (MAX_SUMS + 1), b"", [])


@given(st.binary(max_size=300) | st.text(alphabet="0 a\n", max_size=300).map(str.encode))
def test_any_bytes_are_a_list_or_malformed(data: bytes) -> None:
    try:
        found = read_sums(data)
    except Malformed:
        return
    assert "".join(f"{digest}  {name}\n" for name, digest in found.items()).encode() == data


def test_only_a_signed_list_is_believed(tmp_path: Path) -> None:
    key, sums = tmp_path / "key", tmp_path / "SHA256SUMS"
    keygen = ["ssh-keygen", "-q"]
    subprocess.run([*keygen, "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    sums.write_text(f"{ZERO}  a\n")
    subprocess.run([*keygen, "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(sums)], check=True)
    signature = (tmp_path / "SHA256SUMS.sig").read_bytes()
    keys = [(tmp_path / "key.pub").read_text()]
    assert signed_sums(sums.read_bytes(), signature, keys) == {"a": ZERO}
    with pytest.raises(Denied):
        signed_sums(sums.read_bytes().replace(b"a", b"b"), signature, keys)
    with pytest.raises(Denied):
        signed_sums(sums.read_bytes(), signature, [])
    with pytest.raises(Malformed, match="not text"):
        signed_sums(sums.read_bytes(), b"\xff" + signature, keys)
