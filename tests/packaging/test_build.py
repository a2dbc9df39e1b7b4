"""What goes into the single file. That others make the same one is shown in test_release.py."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, build, copy_sources

sys.path.insert(0, str(ROOT / "packaging"))  # its scripts import each other by bare names

import contents
import fetch
from build import shared_parts


def members(file: Path) -> dict[str, bytes]:
    """Name and bytes of every file that a start would find in its tree."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(file) as whole:
        for part in (name for name in whole.namelist() if name.startswith("payload/")):
            with zipfile.ZipFile(io.BytesIO(whole.read(part))) as inner:
                found |= {name: inner.read(name) for name in inner.namelist()}
    return found


def test_nothing_in_the_file_says_where_it_was_built(checkout, built):
    home = str(checkout).encode()
    assert [name for name, data in members(built).items() if home in data] == []
    assert home not in built.read_bytes()


def test_the_file_holds_our_packages_and_their_metadata(built):
    names = members(built).keys()
    plugins = {f"{path.name}/__init__.py" for path in ROOT.glob("plugins/*/teleport_lite_*")}
    assert len(plugins) == 6
    assert {"teleport_lite/__main__.py", *plugins} <= names
    assert f"teleport_lite-{contents.version(ROOT)}.dist-info/METADATA" in names


def test_what_no_start_needs_is_left_out(built):
    names = members(built).keys()
    assert not [name for name in names if name.split("/")[0] in contents.LEFT_OUT]
    assert not [name for name in names if name.endswith((".pyi", ".pyc", ".pyx"))]
    assert [name for name in names if "LICENSE" in name]  # the file is passed on


def test_a_library_without_its_debug_information_is_still_whole_for_the_loader():
    code = bytearray(b"\x7fELF\x02\x01" + bytes(58) + bytes(56) + b"code" + b"debug information")
    code[32:40] = (64).to_bytes(8, "little")  # program headers follow the header,
    code[40:48] = (130).to_bytes(8, "little")  # sections stand where the debug information is
    code[54:58] = (56).to_bytes(2, "little") + (1).to_bytes(2, "little")
    code[64 + 8 : 64 + 16] = (120).to_bytes(8, "little")
    code[64 + 32 : 64 + 40] = (4).to_bytes(8, "little")
    trimmed = contents.trimmed(bytes(code))
    assert trimmed[120:] == b"code"
    assert trimmed[40:48] == bytes(8)
    assert contents.trimmed(b"\x7fELF\x01\x01 32 bits") == b"\x7fELF\x01\x01 32 bits"


def test_what_several_targets_share_is_stored_once():
    parts = shared_parts(
        {
            "cp311-x86_64": {"a.py": b"same", "lib.so": b"eleven", "abi3.so": b"x86"},
            "cp312-x86_64": {"a.py": b"same", "lib.so": b"twelve", "abi3.so": b"x86"},
            "cp311-aarch64": {"a.py": b"same", "lib.so": b"arm", "abi3.so": b"arm"},
        }
    )
    assert parts["common"][0] == {"a.py": b"same"}
    assert parts["cp311+cp312-x86_64"][0] == {"abi3.so": b"x86"}
    assert parts["cp312-x86_64"] == ({"lib.so": b"twelve"}, frozenset({"cp312-x86_64"}))


def test_the_locks_name_every_dependency_and_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = pins(ROOT / "packaging" / "lock.txt")
    for wish in project["dependencies"]:
        assert wish.split(">")[0].lower() in locked
    assert locked.items() <= pins(ROOT / "packaging" / "lock-dev.txt").items()


def pins(lock: Path) -> dict[str, str]:
    lines = [line.split() for line in lock.read_text().splitlines() if "==" in line.split(";")[0]]
    return dict(words[0].split("==") for words in lines)


def test_a_wheel_with_another_digest_than_the_lock_says_is_refused(tmp_path):
    copy_sources(tmp_path / "checkout")
    lock = tmp_path / "checkout" / "packaging" / "lock.txt"
    text = lock.read_text()
    first = re.match(r"\S.*\n(?:  .*\n)*", text)  # pip fetches in this order
    assert first
    changed = re.sub(r"sha256:\w{8}", "sha256:00000000", first[0])
    lock.write_text(changed + text[first.end() :])
    with pytest.raises(subprocess.CalledProcessError) as refused:
        build(tmp_path / "checkout")
    assert b"ERROR: pip could not fetch what lock.txt names" in refused.value.stderr
    assert not (tmp_path / "checkout" / "dist").exists()


def test_a_file_that_was_changed_after_it_was_installed_is_noticed(tmp_path):
    """Two environments may share files with the cache of an installer, and so with each other."""
    (tmp_path / "a-1.dist-info").mkdir()
    lines = ["a.py", "b,b.py", "gone.py", "../../bin/a", "a-1.dist-info/RECORD"]
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"right").digest()).decode().rstrip("=")
    rows = [f'"{name}",sha256={digest},5\n' for name in lines]
    (tmp_path / "a-1.dist-info" / "RECORD").write_text("".join(rows))
    for name in ("a.py", "b,b.py", "gone.py"):
        (tmp_path / name).write_text("right")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "a").write_text("made by the installer")
    assert fetch.altered(tmp_path) == []
    (tmp_path / "b,b.py").write_text("wrong")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "planted.py").write_text("right")
    assert fetch.altered(tmp_path) == ["gone.py", "b,b.py", "planted.py"]


def test_the_manifest_names_the_parts_of_each_target(built):
    with zipfile.ZipFile(built) as whole:
        manifest = json.loads(whole.read("BUILD.json"))
        stored = {name[8:-4] for name in whole.namelist() if name.startswith("payload/")}
    [parts] = manifest["targets"].values()
    assert set(parts) == set(manifest["digests"]) == stored
