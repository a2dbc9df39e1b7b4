"""Which files of which versions a proxy hands out, and which never."""

import hashlib
import logging
import os
from pathlib import Path

import pytest

from teleport_lite.errors import NotFound
from teleport_lite.proxy.releases import Loose, Releases, Shelf

PROGRAM, SBOM = "teleport-lite-{0}.pyz", "teleport-lite-{0}.cdx.json"


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def publish(root: Path, version: str, *, sums: bool = True, sbom: bool = True) -> Path:
    """A release as a static server has it."""
    where = root / version
    where.mkdir(parents=True)
    files = {PROGRAM.format(version): f"program {version}".encode()}
    if sbom:
        files[SBOM.format(version)] = b"{}"
    for name, raw in files.items():
        (where / name).write_bytes(raw)
    if sums:
        lines = "".join(f"{digest(raw)}  {name}\n" for name, raw in files.items())
        (where / "SHA256SUMS").write_text(lines)
        (where / "SHA256SUMS.sig").write_text(f"signature of {version}\n")
    return where


def install(lib: Path, version: str, *, sums: bool = True) -> Path:
    """A release as `install self` places it."""
    where = publish(lib, version, sums=sums, sbom=False)
    (where / PROGRAM.format(version)).rename(where / "teleport-lite.pyz")
    return where


def read(releases: Releases, version: str, name: str) -> bytes:
    opened = releases.open(version, name.format(version))
    with opened.file as file:
        raw = file.read() or b""
    assert (len(raw), digest(raw)) == (opened.size, opened.digest)
    return raw


def refused(releases: Releases, version: str, name: str = PROGRAM) -> str:
    with pytest.raises(NotFound) as why:
        releases.open(version, name.format(version))
    return why.value.message


def test_a_published_version_is_handed_out_whole(tmp_path):
    publish(tmp_path, "1.2.3")
    releases = Releases(Shelf(tmp_path))
    assert releases.versions() == ["1.2.3"]
    assert read(releases, "1.2.3", PROGRAM) == b"program 1.2.3"
    assert read(releases, "1.2.3", SBOM) == b"{}"
    assert read(releases, "1.2.3", "SHA256SUMS.sig") == b"signature of 1.2.3\n"
    said = read(releases, "1.2.3", "SHA256SUMS").decode()
    assert said == (tmp_path / "1.2.3" / "SHA256SUMS").read_text()


def test_an_installed_version_has_its_published_name(tmp_path):
    install(tmp_path, "1.2.3")
    (tmp_path / "current").symlink_to("1.2.3")
    (tmp_path / "0123456789abcdef-cp311-x86_64").mkdir()
    releases = Releases(Shelf(tmp_path, placed=True))
    assert releases.versions() == ["1.2.3"]
    assert read(releases, "1.2.3", PROGRAM) == b"program 1.2.3"
    assert "not this file" in refused(releases, "1.2.3", SBOM)
    assert "no such file" in refused(releases, "current", "teleport-lite.pyz")
    assert "no such file" in refused(releases, "1.2.3", "teleport-lite.pyz")


def test_versions_are_told_the_newest_first(tmp_path):
    for version in ("1.9.0", "1.10.0", "1.10.0-rc.1"):
        publish(tmp_path, version)
    publish(tmp_path, "v2.0.0")
    publish(tmp_path, "02.0.0")
    (tmp_path / "3.0.0").mkdir()
    releases = Releases(Shelf(tmp_path))
    assert releases.versions() == ["1.10.0", "1.10.0-rc.1", "1.9.0"]
    assert refused(releases, "9.9.9") == (
        "this proxy has no such file of a release, versions here: 1.10.0, 1.10.0-rc.1, 1.9.0"
    )
    assert refused(Releases(), "9.9.9").endswith(", it has none")


def test_a_list_that_is_missing_is_made_up_and_nobody_has_signed_it(tmp_path):
    install(tmp_path, "1.2.3", sums=False)
    releases = Releases(Shelf(tmp_path, placed=True))
    for _ in range(2):
        assert read(releases, "1.2.3", "SHA256SUMS").decode() == (
            f"{digest(b'program 1.2.3')}  teleport-lite-1.2.3.pyz\n"
        )
    refused(releases, "1.2.3", "SHA256SUMS.sig")
    (tmp_path / "1.2.3" / "SHA256SUMS.sig").write_text("of what?")
    refused(releases, "1.2.3", "SHA256SUMS.sig")


def test_a_program_is_read_once_for_its_digest_until_it_changes(tmp_path, monkeypatch):
    where = install(tmp_path, "1.2.3", sums=False)
    releases, count, sha256 = Releases(Shelf(tmp_path, placed=True)), [], hashlib.sha256

    def counted(*raw: bytes) -> "hashlib._Hash":
        count.append(raw)
        return sha256(*raw)

    monkeypatch.setattr(hashlib, "sha256", counted)
    for _ in range(3):
        read(releases, "1.2.3", PROGRAM)
    assert count.count(()) == 1
    (where / "teleport-lite.pyz").write_bytes(b"another one")
    assert digest(b"another one") in read(releases, "1.2.3", "SHA256SUMS").decode()


@pytest.mark.parametrize("what", ["flipped", "not listed", "unreadable list", "list is a link"])
def test_what_is_not_as_its_list_says_is_not_handed_out(tmp_path, caplog, what):
    where = publish(tmp_path, "1.2.3")
    if what == "flipped":
        (where / PROGRAM.format("1.2.3")).write_bytes(b"Program 1.2.3")
    elif what == "not listed":
        (where / "SHA256SUMS").write_text(f"{digest(b'{}')}  {SBOM.format('1.2.3')}\n")
    elif what == "unreadable list":
        (where / "SHA256SUMS").write_text("no digests\n")
    else:
        (where / "SHA256SUMS").rename(tmp_path / "elsewhere")
        (where / "SHA256SUMS").symlink_to(tmp_path / "elsewhere")
    releases = Releases(Shelf(tmp_path))
    for _ in range(3):
        refused(releases, "1.2.3")
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1


def test_no_link_leads_out(tmp_path):
    shelf, other = tmp_path / "shelf", tmp_path / "other"
    publish(other, "1.2.3")
    shelf.mkdir()
    (shelf / "1.2.3").symlink_to(other / "1.2.3")
    where = publish(shelf, "1.2.4")
    (where / PROGRAM.format("1.2.4")).unlink()
    (where / PROGRAM.format("1.2.4")).symlink_to("/etc/passwd")
    publish(shelf, "1.2.5")
    (shelf / "1.2.5" / "SHA256SUMS.sig").unlink()
    (shelf / "1.2.5" / "SHA256SUMS.sig").symlink_to("/etc/passwd")
    releases = Releases(Shelf(shelf))
    assert releases.versions() == ["1.2.5"]
    for version in ("1.2.3", "1.2.4"):
        refused(releases, version)
    refused(releases, "1.2.5", "SHA256SUMS.sig")
    (tmp_path / "link").symlink_to(shelf)  # the operator's own way to it may be one
    assert Releases(Shelf(tmp_path / "link")).versions() == ["1.2.5"]


@pytest.mark.parametrize("what", ["pipe", "directory", "open to all", "open directory"])
def test_nothing_but_plain_files_that_not_everybody_can_write(tmp_path, what):
    where = publish(tmp_path, "1.2.3")
    program = where / PROGRAM.format("1.2.3")
    if what == "open to all":
        program.chmod(0o666)
    elif what == "open directory":
        where.chmod(0o777)
    else:
        program.unlink()
        os.mkfifo(program) if what == "pipe" else program.mkdir()
    releases = Releases(Shelf(tmp_path))
    assert releases.versions() == []
    refused(releases, "1.2.3")


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("..", "1.2.3"),
        ("1.2.3", "../1.2.3/SHA256SUMS"),
        ("1.2.3", "/etc/passwd"),
        ("1.2.3", ""),
        ("1.2.3", "SHA256SUMS\0"),
        ("1.2.3\0", "SHA256SUMS"),
        ("1.2.3/", "SHA256SUMS"),
        ("./1.2.3", "SHA256SUMS"),
        ("v1.2.3", "SHA256SUMS"),
        ("1.2.3\n", "SHA256SUMS"),
        ("\uff11.2.3", "SHA256SUMS"),
        ("1.2.3", "teleport-lite-1.2.4.pyz"),
        ("1.2.3", "sha256sums"),
        ("1" * 10_000, "SHA256SUMS"),
    ],
)
def test_names_are_taken_to_the_letter(tmp_path, version, name):
    publish(tmp_path, "1.2.3")
    assert refused(Releases(Shelf(tmp_path)), version, name).endswith("versions here: 1.2.3")


def test_all_files_of_a_version_come_from_the_first_place_that_has_it(tmp_path):
    published, lib = tmp_path / "published", tmp_path / "lib"
    publish(published, "1.2.3", sums=False)
    install(lib, "1.2.3")
    install(lib, "1.2.4")
    (published / "1.2.4").mkdir()
    releases = Releases(Shelf(published), Shelf(lib, placed=True))
    assert releases.versions() == ["1.2.4", "1.2.3"]
    refused(releases, "1.2.3", "SHA256SUMS.sig")  # that of the other place is not about this one
    assert read(releases, "1.2.4", "SHA256SUMS.sig")


def test_a_loose_file_believes_a_list_beside_it_only_if_it_agrees(tmp_path):
    file = tmp_path / "anything.pyz"
    file.write_bytes(b"program")
    releases = Releases(Loose(file, "1.2.3"))
    made_up = f"{digest(b'program')}  teleport-lite-1.2.3.pyz\n"
    sums = tmp_path / "SHA256SUMS"
    (tmp_path / "SHA256SUMS.sig").write_text("signed\n")
    for beside in (None, "rubbish", f"{'0' * 64}  teleport-lite-1.2.3.pyz\n"):
        if beside is not None:
            sums.write_text(beside)
        assert read(releases, "1.2.3", "SHA256SUMS").decode() == made_up
        assert read(releases, "1.2.3", PROGRAM) == b"program"
        refused(releases, "1.2.3", "SHA256SUMS.sig")
    sums.write_text(f"{made_up}{'0' * 64}  more\n")
    assert read(releases, "1.2.3", "SHA256SUMS").decode() == sums.read_text()
    assert read(releases, "1.2.3", "SHA256SUMS.sig") == b"signed\n"
    assert refused(releases, "1.2.4").endswith("versions here: 1.2.3")
