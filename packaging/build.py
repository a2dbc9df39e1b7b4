#!/usr/bin/env python3
"""Write dist/teleport-lite.pyz: the whole program, with all it needs, in one executable file.

    python3 packaging/build.py            for this Python and this machine
    python3 packaging/build.py --all      for CPython 3.11 to 3.14 on x86_64 and aarch64 (needs uv)
    python3 packaging/build.py --release --sign KEY --base URL
                                          dist/release/: such a file as it is published, signed

Needs nothing but Python; wheels come by uv or pip from the index they are set up for, and only
those whose digest stands in lock.txt. The same sources give the same bytes. How the file starts
and how a release is made is told in README.md beside this script.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  people try it with what they have
    sys.exit("ERROR: the build needs Python 3.11 or newer, not " + sys.version.split()[0])

import argparse
import hashlib
import io
import json
import re
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# How a release looks is written down once, for who makes and who reads it.
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

import contents
import fetch
import release
from contents import Files
from fetch import Target

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EVERY_TARGET = [
    Target(python=f"3.{minor}", arch=arch)
    for arch in ("aarch64", "x86_64")
    for minor in (11, 12, 13, 14)
]
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold
ZEROS = b"0" * 64


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    began = time.monotonic()
    try:
        public, keys = release.trusted(options.sign, options.trust or [])
        written = publish(options, public, keys) if options.release else write(options, keys)
    except (fetch.Failed, release.Failed) as why:
        print(f"ERROR: {why}\n  try: {why.hint}", file=sys.stderr)
        return 1
    print(f"{written}, in {time.monotonic() - began:.1f} s")
    return 0


def write(options: argparse.Namespace, keys: Sequence[str]) -> str:
    """The file alone. Returns what to say of it. Raises fetch.Failed."""
    output = options.output or ROOT / "dist" / "teleport-lite.pyz"
    default = EVERY_TARGET if options.all else [Target.here()]
    whole, _ = built(options.target or default, keys)
    output.parent.mkdir(parents=True, exist_ok=True)
    put_in_place(output, whole)
    return f"{output}: {described(whole)}"


def publish(options: argparse.Namespace, public: str, keys: Sequence[str]) -> str:
    """A whole release. Returns what to say of it. Raises fetch.Failed, release.Failed."""
    made = release.Release(
        root=ROOT,
        output=options.output_dir or ROOT / "dist" / "release",
        version=contents.version(ROOT),
        base=options.base.rstrip("/"),
        key=options.sign,
        public=public,
        keys=keys,
    )
    made.check()
    whole, sites = built(options.target or EVERY_TARGET, keys)
    made.publish(made.files(whole, sites))
    notes = [] if options.sign else ["not signed (--sign)"]
    notes += [] if options.base else ["without install.sh (--base)"]
    notes += ["of sources that are not all committed"] if release.uncommitted(ROOT) else []
    return ", ".join([f"{made.output}/{made.version}: {described(whole)}", *notes])


def built(targets: Sequence[Target], keys: Sequence[str]) -> tuple[bytes, list[Path]]:
    """The bytes of the file, and the directories its wheels were installed into."""
    sites = {target: fetch.site(target, ROOT / "build") for target in sorted(targets, key=str)}
    ours = contents.ours(ROOT) | release.asset(keys)
    whole = assemble({str(t): contents.of_site(site) | ours for t, site in sites.items()})
    return whole, list(sites.values())


def described(whole: bytes) -> str:
    return f"{len(whole) / 1e6:.1f} MB, sha256 {hashlib.sha256(whole).hexdigest()}"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write the whole program into one file.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every supported Python and machine")
    which.add_argument("--target", action="append", type=Target.parse, metavar="cp312-aarch64")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: dist/")
    text = "another key that may sign releases, which the program and install.sh shall know"
    parser.add_argument("--trust", action="append", type=Path, metavar="KEY.pub", help=text)
    group = parser.add_argument_group("releases")
    text = "what is published: the file (--all unless --target), SBOM, digests, install.sh"
    group.add_argument("--release", action="store_true", help=text)
    text = "an Ed25519 key of OpenSSH; a public one if ssh-agent has the private half"
    group.add_argument("--sign", type=Path, metavar="KEY", help=text)
    group.add_argument("--base", default="", metavar="URL", help="where it will be found")
    group.add_argument("--output-dir", type=Path, metavar="DIR", help="default: dist/release")
    options = parser.parse_args(arguments)
    wrong = ["--output"] if options.release else ["--sign", "--base", "--output-dir"]
    for name in wrong:
        if getattr(options, name[2:].replace("-", "_")):
            goes = "does not go" if options.release else "goes"
            parser.error(f"{name} {goes} with --release")
    return options


def put_in_place(path: Path, data: bytes) -> None:
    """By rename, so that nobody starts half a file and no running one changes under its reader."""
    unready = path.with_name(f".{path.name}.new")
    unready.write_bytes(data)
    unready.chmod(0o755)
    unready.rename(path)


def assemble(sites: Mapping[str, Files]) -> bytes:
    """The bytes of the file, from what each target's tree shall hold."""
    parts = shared_parts(sites)
    payload = {name: packed(files) for name, (files, _) in parts.items()}
    digests = {name: hashlib.sha256(blob).hexdigest() for name, blob in payload.items()}
    boot = {p.name: p.read_text("utf-8") for p in sorted((HERE / "boot").glob("*.py"))}
    header = (HERE / "header.sh").read_text("utf-8")
    build = hashlib.sha256(json.dumps([digests, boot, header]).encode()).hexdigest()[:16]
    version = contents.version(ROOT)
    manifest = {
        "build": build,
        "version": version,
        "targets": {t: [n for n, (_, users) in parts.items() if t in users] for t in sites},
        "digests": digests,
    }
    members = {name: text.replace("@BUILD@", build).encode() for name, text in boot.items()}
    members["BUILD.json"] = json.dumps(manifest, indent=1, sort_keys=True).encode()
    members |= {f"payload/{name}.zip": blob for name, blob in payload.items()}
    header = header.replace("@BUILD@", build).replace("@VERSION@", version)
    size = 0
    while True:  # the header states the size of the whole, which depends on how long that number is
        whole = joined(header.replace("@SIZE@", str(size)), members)
        if len(whole) == size:
            return whole
        size = len(whole)


def joined(header: str, members: Mapping[str, bytes]) -> bytes:
    """Header and zip. The digest stands in the header: Python 3.6 finds no zip with a comment."""
    before, after = header.encode().split(b"@DIGEST@")
    out = io.BytesIO()
    out.write(before + ZEROS + after)
    with zipfile.ZipFile(out, "a") as archive:
        for name, data in members.items():
            archive.writestr(entry(name), data)
    whole = out.getvalue()
    digest = hashlib.sha256(whole).hexdigest().encode()
    return before + digest + whole[len(before) + len(digest) :]


def shared_parts(sites: Mapping[str, Files]) -> dict[str, tuple[Files, frozenset[str]]]:
    """Files grouped by the targets that hold the very same bytes, each group with those targets."""
    holders: dict[tuple[str, bytes], set[str]] = {}
    for target, files in sites.items():
        for name, data in files.items():
            holders.setdefault((name, data), set()).add(target)
    groups: dict[frozenset[str], Files] = {}
    for (name, data), targets in holders.items():
        groups.setdefault(frozenset(targets), {})[name] = data
    ordered = sorted(groups.items(), key=lambda group: (-len(group[0]), sorted(group[0])))
    return {part_name(users, len(sites)): (files, users) for users, files in ordered}


def part_name(users: frozenset[str], every: int) -> str:
    if len(users) == every:
        return "common"
    pythons, machines = zip(*(user.split("-") for user in sorted(users)), strict=True)
    if len(set(machines)) == 1:
        return f"{'+'.join(pythons)}-{machines[0]}"
    return "+".join(sorted(users))


def packed(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files):
            library = re.search(r"\.so(\.\d+)*$", name) is not None
            info = entry(name, 0o755 if library else 0o644)
            # 9 is half a percent smaller, and takes most of the time of a build.
            archive.writestr(info, files[name], zipfile.ZIP_DEFLATED, 6)
    return out.getvalue()


def entry(name: str, mode: int = 0o644) -> zipfile.ZipInfo:
    """A zip entry that says nothing of when and where it was made."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3
    info.external_attr = (0o100000 | mode) << 16
    return info


if __name__ == "__main__":
    sys.exit(main())
