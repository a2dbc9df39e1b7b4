"""A release as it is published: the layout that install.sh and every proxy expect.

latest                                 "v1.2.3"
install.sh                             with the address and the keys in it
1.2.3/teleport-lite-1.2.3.pyz          the program
1.2.3/teleport-lite-1.2.3.cdx.json     what it is made of
1.2.3/SHA256SUMS, SHA256SUMS.sig       digests of the two, and who vouches for them
"""

import hashlib
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import contents
import fetch
import sbom
import signing
from signing import Failed
from teleport_lite.errors import Malformed
from teleport_lite.release.script import stamped
from teleport_lite.release.sums import SIGNATURE, SUMS, program_name, sbom_name
from teleport_lite.release.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What one is asked to be. `key` signs it; all of `keys` may sign those that follow."""

    root: Path  # of the checkout
    output: Path
    version: str
    base: str  # URL where `output` will be found; "" makes no install.sh
    key: Path | None
    public: str  # of `key`
    keys: Sequence[str]

    def check(self) -> None:
        """Before minutes are spent on a build. Raises Failed."""
        try:
            if str(Version.parse(self.version)) != self.version:
                raise Malformed("it begins with v")
        except Malformed as why:
            raise Failed(
                f"version {self.version!r} can not be released: like 1.2.3 or 1.2.3-pre.1",
                "edit teleport_lite/__init__.py",
            ) from why
        self.script()

    def script(self) -> bytes:
        """install.sh for this release. Raises Failed."""
        text = (self.root / "install.sh").read_text(encoding="utf-8")
        if not self.base:
            return b""
        try:
            return stamped(text, base=self.base, keys=self.keys).encode()
        except Malformed as why:
            raise Failed(why.message, "--base=https://releases.example.com") from why

    def files(self, program: bytes, sites: Iterable[Path]) -> dict[str, bytes]:
        """All that goes into the directory of the version, by name. Raises Failed."""
        project = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        parts = sbom.document(
            project=project["project"],
            version=self.version,
            digest=hashlib.sha256(program).hexdigest(),
            lock=fetch.LOCK.read_text(encoding="utf-8"),
            sites=sites,
        )
        files = {program_name(self.version): program, sbom_name(self.version): parts}
        lines = [
            f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())
        ]
        files[SUMS] = "".join(lines).encode()
        if self.key:
            files[SIGNATURE] = signing.sign(files[SUMS], self.key, self.public)
        return files

    def publish(self, files: dict[str, bytes]) -> None:
        """Write them. `latest` comes last: who follows it finds a whole release."""
        make(self.output)
        place, unready = self.output / self.version, self.output / f".new-{self.version}"
        shutil.rmtree(unready, ignore_errors=True)
        make(unready)
        for name, data in files.items():
            write(unready / name, data, mode=0o755 if name.endswith(".pyz") else 0o644)
        shutil.rmtree(place, ignore_errors=True)
        unready.rename(place)
        if script := self.script():
            write(self.output / "install.sh", script, mode=0o755)
        write(self.output / "latest", f"v{self.version}\n".encode(), mode=0o644)


def trusted(sign: Path | None, trust: Iterable[Path]) -> tuple[str, list[str]]:
    """Public half of the key that signs, and all keys in one order. Raises Failed."""
    public = signing.public_key(sign) if sign else ""
    keys = {signing.public_key(path) for path in trust} | ({public} if public else set())
    return public, sorted(keys)


def asset(keys: Sequence[str]) -> contents.Files:
    """What teleport_lite/release/assets.py reads."""
    text = "".join(f"{key}\n" for key in keys)
    return {"teleport_lite/assets/release-keys.pub": text.encode()} if keys else {}


def uncommitted(root: Path) -> bool:
    """Whether others could not get at these sources; False where there is no git to ask."""
    command = ["git", "status", "--porcelain", "--", "teleport_lite", "plugins", "packaging"]
    command += ["systemd", "install.sh", "pyproject.toml"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0 and bool(done.stdout)


def make(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o755)


def write(path: Path, data: bytes, *, mode: int) -> None:
    """By rename, so that nobody reads half of it; a web server may be reading now."""
    unready = path.with_name(f".{path.name}.new")
    unready.write_bytes(data)
    unready.chmod(mode)
    with unready.open("rb") as file:
        os.fsync(file.fileno())
    unready.rename(path)


__all__ = ["Failed", "Release", "asset", "trusted", "uncommitted"]
