"""Put a version into its place, and let go of those that nobody needs: the story of an install.

In an order that is safe to stop anywhere: the file, its tree, the units, and only then `current`.
What has to follow a step (systemd reads its units anew, daemons restart) is noted before that
step, so the next run does it if this one is cut short.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from teleport_lite.errors import Malformed, NotFound, Unavailable
from teleport_lite.release.here import FILE, TREE, stated
from teleport_lite.release.layout import (
    LAUNCH,
    MAKING,
    NAMES,
    Layout,
    alone,
    handed_on,
    make_lib,
    point,
    settle,
    told_as_errors,
    trees_in_use,
)
from teleport_lite.release.sums import SIGNATURE, SUMS, program_name, read_sums
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.unit_files import note_restart, put_units, restart_running
from teleport_lite.release.work import Work

_CHUNK = 1 << 20
# Unpacking and compiling takes 2 s; a slow disk under load may take a hundred times as long.
PATIENCE = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is to be placed: the file of a version, and the signed list it is in, if any."""

    version: str
    file: Path
    sums: bytes = b""
    signature: bytes = b""


def source_in(directory: Path, version: str) -> Source:
    """As install.sh downloads it. Raises NotFound, Malformed if the file is not the listed one."""
    file = directory / program_name(version)
    return _source(file, version, directory)


def source_of(file: Path, version: str) -> Source:
    """A file by itself, or one that is in its place already."""
    return _source(file, version, file.parent)


def _source(file: Path, version: str, directory: Path) -> Source:
    said = stated(file)
    if said is None:
        raise NotFound(f"{file} is not there, or not a file of teleport-lite", hint=f"ls -l {file}")
    if said[0] != version:
        raise Malformed(f"{file} is version {said[0][:48]!a}, not {version}")
    sums, signature = _small(directory / SUMS), _small(directory / SIGNATURE)
    if sums and program_name(version) not in read_sums(sums):
        sums = signature = b""  # of something else that lies in the same directory
    return Source(version=version, file=file, sums=sums, signature=signature if sums else b"")


def _small(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_CHUNK)
    except OSError:
        return b""


def place(
    source: Source,
    layout: Layout,
    *,
    work: Work,
    units: Mapping[Path, str],
    systemd: Systemd | None,
    restart: bool = True,
) -> None:
    """Make `source` the version in use under the prefix. Says nothing if it is already.

    `systemd` None: units are not looked at. With it, they are written, and what runs is
    restarted if `restart` and the version moved. Nothing is enabled or started. Raises Conflict
    while another install runs; Denied, Malformed, Unavailable. The old version works on then.
    """
    with told_as_errors("the program can not be placed", "teleport-lite install self"):
        if work.dry_run:
            return _place(source, layout, work, units, systemd, restart)
        make_lib(layout.lib)
        with alone(layout.lib):
            sweep(layout.lib)
            return _place(source, layout, work, units, systemd, restart)


def _place(
    source: Source,
    layout: Layout,
    work: Work,
    units: Mapping[Path, str],
    systemd: Systemd | None,
    restart: bool,
) -> None:
    changed = _put_files(source, layout, work)
    _unpack(source, layout, work)
    if systemd is not None:
        put_units(units, layout.lib, work, systemd)
    moved = layout.current() != source.version
    due = restart and systemd is not None and (moved or changed)
    if due and not work.dry_run:
        note_restart(layout.lib)
    if moved:
        old = layout.current()
        said = f"{layout.lib / 'current'} to {source.version}" + (f" from {old}" if old else "")
        work.do("switch", said, lambda: layout.switch(source.version))
    _link(layout, work)
    if systemd is not None and restart:
        restart_running(layout.lib, work, systemd, due=due)
    prune(layout, work, keep={source.version})


# The file


def _put_files(source: Source, layout: Layout, work: Work) -> bool:
    """The directory of the version. Returns whether the program was not there, or was another."""
    final = layout.lib / source.version
    beside = {SUMS: source.sums, SIGNATURE: source.signature}
    if not final.is_dir():
        work.do("install", str(final / FILE), lambda: _make(final, source, beside))
        return True
    changed = False
    if not _same(source.file, final / FILE):
        work.do("install", str(final / FILE), lambda: _replace(final, source))
        changed = True
    for name, data in beside.items():
        if _small(final / name) != data:
            verb = "write" if data else "remove"
            work.do(verb, str(final / name), partial(_write, final / name, data))
    return changed


def _make(final: Path, source: Source, beside: Mapping[str, bytes]) -> None:
    making = final.with_name(f"{MAKING}{final.name}")
    making.mkdir(mode=0o755)
    _copy(source, making / FILE)
    for name, data in beside.items():
        _write(making / name, data)
    settle(making)
    making.rename(final)
    settle(final.parent)


def _replace(final: Path, source: Source) -> None:
    """Another build of the same version: of a checkout, mostly."""
    unready = final.with_name(f"{MAKING}{final.name}.pyz")
    _copy(source, unready)
    unready.rename(final / FILE)
    settle(final)


def _copy(source: Source, to: Path) -> None:
    """Raises Malformed if what arrives is not what the list says."""
    digest = hashlib.sha256()
    with source.file.open("rb") as old, to.open("xb") as new:
        while chunk := old.read(_CHUNK):
            digest.update(chunk)
            new.write(chunk)
        os.fchmod(new.fileno(), 0o755)
        new.flush()
        os.fsync(new.fileno())
    listed = read_sums(source.sums)[program_name(source.version)] if source.sums else ""
    if listed and digest.hexdigest() != listed:
        to.unlink()
        raise Malformed(
            f"{source.file} is not the file that {SUMS} beside it lists", hint="download it again"
        )


def _write(path: Path, data: bytes) -> None:
    if not data:
        return path.unlink(missing_ok=True)
    unready = path.with_name(f"{MAKING}{path.name}")
    with unready.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unready.rename(path)
    return settle(path.parent)


def _same(one: Path, other: Path) -> bool:
    try:
        with one.open("rb") as first, other.open("rb") as second:
            if os.path.samestat(os.fstat(first.fileno()), os.fstat(second.fileno())):
                return True
            while chunk := first.read(_CHUNK):
                if second.read(_CHUNK) != chunk:
                    return False
            return not second.read(1)
    except OSError:
        return False


# Its tree, and the names to call it by


def _unpack(source: Source, layout: Layout, work: Work) -> None:
    """Services then need no cache, and every start takes the header's short cut."""
    said = stated(source.file)
    assert said is not None
    if _launches(layout, said[1]):
        return
    work.do("unpack", f"{layout.lib}/{said[1]}-*", lambda: unpack(layout, source.version))


def _launches(layout: Layout, build: str) -> bool:
    """Is there a tree, and still the Python it was compiled for?"""
    text = _small(layout.lib / f"launch-{build}").decode(errors="replace")
    try:
        said = dict(word.partition("=")[::2] for word in shlex.split(text))
    except ValueError:
        return False
    return os.access(said.get("py", ""), os.X_OK) and Path(said.get("main", "")).is_file()


def unpack(layout: Layout, version: str) -> None:
    """`self unpack` of the placed file. Raises Unavailable with what it said."""
    ended = run_file(layout.file(version), layout, "self", "unpack", str(layout.lib))
    if ended.returncode != 0:
        raise Unavailable(
            f"version {version} can not unpack itself ({said_by(ended)})",
            hint=f"{layout.file(version)} self unpack {layout.lib}",
        )


def run_file(
    file: Path,
    layout: Layout,
    *words: str,
    lock: int | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """A command of any version, by the Python we run on. Raises Unavailable if it takes too long.

    Not by its launch file: it must also work before there is one. With `lock` it works under ours.
    """
    shared = {} if lock is None else handed_on(lock)
    try:
        return subprocess.run(  # noqa: S603 - the Python we run on, and a file that was verified
            [sys.executable, "-I", "-S", str(file), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            cwd="/",
            env={**os.environ, "TELEPORT_LITE_ROOT": str(layout.lib), **shared},
            pass_fds=() if lock is None else (lock,),
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{file} {words[0]} did not end within {PATIENCE:.0f} s") from None


def said_by(ended: "subprocess.CompletedProcess[bytes]") -> str:
    """The last thing a program said, on one line."""
    lines = (ended.stderr or ended.stdout).decode(errors="replace").split("\n")
    told = [line.strip() for line in lines if line.strip()]
    first = next((line for line in told if line.startswith("ERROR:")), told[-1] if told else "")
    return first.removeprefix("ERROR:").strip()[:300] or f"exit code {ended.returncode}"


def _link(layout: Layout, work: Work) -> None:
    for name in NAMES:
        link = layout.bin / name
        if os.path.lexists(link) and not is_ours(link):
            use = f"{layout.lib}/current/{FILE}" + ("" if name == NAMES[0] else f" {name}")
            work.left(f"{link} alone: it is not ours (use: {use})")
        elif not os.path.lexists(link) or str(link.readlink()) != LINK:
            work.do("link", str(link), partial(_make_link, link))


LINK = f"../lib/teleport-lite/current/{FILE}"


def is_ours(link: Path) -> bool:
    """A link to something in PREFIX/lib/teleport-lite, be it only what somebody once put there."""
    try:
        leads = os.path.normpath(link.parent / link.readlink())
    except OSError:
        return False
    return Path(leads).is_relative_to(Layout(link.parent.parent).lib)


def _make_link(link: Path) -> None:
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    point(link, LINK)


# What nobody needs any more


def prune(layout: Layout, work: Work, *, keep: Collection[str] = ()) -> None:
    """Keep the current and the previous version, and what processes run from; the rest goes."""
    current, previous = layout.current(), layout.previous()
    kept = {current, previous, *keep} - {""}
    others = [str(each) for each in layout.versions() if str(each) not in kept]
    if current == previous:  # cut short in a switch: nobody knows which one it was
        kept.update(others[-1:])
    used = trees_in_use(layout.lib)
    trees = layout.trees()
    busy = {trees[name] for name in used if name in trees}
    for version in others:
        if version not in kept and layout.build(version) not in busy:
            remove_tree(layout.lib / version, work)
    builds = {layout.build(str(each)) for each in layout.versions()} | busy
    for name, build in trees.items():
        if build not in builds:
            remove_tree(layout.lib / name, work)
    for entry in sorted(layout.lib.glob("launch-*")):
        found = LAUNCH.fullmatch(entry.name)
        if found and found[1] not in builds:
            work.do("remove", str(entry), entry.unlink)


def remove_tree(tree: Path, work: Work) -> None:
    work.do("remove", str(tree), partial(_remove_tree, tree))


def _remove_tree(tree: Path) -> None:
    """What code is loaded from goes in one step: half of it would be started, and fail."""
    if TREE.fullmatch(tree.name):
        aside = tree.with_name(f"{MAKING}gone-{tree.name}")
        shutil.rmtree(aside, ignore_errors=True)
        tree = tree.rename(aside)
    shutil.rmtree(tree)


def sweep(lib: Path) -> None:
    """What earlier installs left half made. Only under the lock: then nobody is at it."""
    for entry in lib.glob(f"{MAKING}*"):
        found = re.fullmatch(re.escape(MAKING) + r"[0-9a-f]{16}-cp.*|.*aside.*", entry.name)
        if found:
            continue  # of packaging/boot, which has a lock of its own
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
