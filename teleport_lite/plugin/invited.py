"""Who the config file invites: directories and installed distributions, by name.

Each entry of `plugins.directories` is one plugin, a Python package named like its directory.
Each entry of `plugins.distributions` is an installed distribution whose entry points of the
group `teleport_lite` are plugins. Nothing else is ever imported.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from pathlib import Path
from types import ModuleType

from teleport_lite.errors import Denied, Error, Malformed, NotFound
from teleport_lite.plugin import fence
from teleport_lite.plugin.builtin import seat_builtin
from teleport_lite.plugin.ground import PAGE, check_ground
from teleport_lite.plugin.guests import Guest, Guests, State

GROUP = "teleport_lite"
TOP = Path("/")


@dataclass(frozen=True, slots=True)
class _Invitation:
    name: str
    source: str
    open: Callable[[], Iterator[tuple[str, object]]]  # imports: names and plugins


def gather(
    *, directories: Sequence[Path] = (), distributions: Sequence[str] = (), below: Path = TOP
) -> Guests:
    """Our own plugins and all that are invited, or the first error: start-up ends with it.

    Raises Malformed, NotFound, Denied, Conflict or Unavailable, naming plugin and cause.
    `below` is for tests, see `check_ground`.
    """
    guests = seat_builtin(Guests())
    for invitation in _invitations(directories, distributions, below):
        for name, plugin in invitation.open():
            guests.seat(name, plugin, source=invitation.source)
    return guests


def look(
    *, directories: Sequence[Path] = (), distributions: Sequence[str] = (), below: Path = TOP
) -> list[Guest]:
    """For `plugins ls`: everyone, with the reason for those who can not come, and those who are
    installed but not invited. Raises nothing that one plugin causes."""
    guests = seat_builtin(Guests())
    failed = []
    for each in _invitations(directories, distributions, below):
        try:
            for name, plugin in each.open():
                guests.seat(name, plugin, source=each.source)
        except Error as why:
            failed.append(
                Guest(name=each.name, source=each.source, state=State.FAILED, reason=why.message)
            )
    return [*guests, *failed, *uninvited(distributions)]


def uninvited(distributions: Sequence[str]) -> list[Guest]:
    """Installed plugins that the config file does not name. They are not imported."""
    invited = {_normal(name) for name in distributions}
    found: dict[tuple[str, str], Guest] = {}
    for point in metadata.entry_points(group=GROUP):
        if point.dist is None or _normal(point.dist.name) in invited:
            continue
        guest = Guest(
            name=point.name,
            source=_source(point.dist),
            state=State.UNINVITED,
            reason=f"{point.dist.name} is not in plugins.distributions",
        )
        found.setdefault((guest.name, guest.source), guest)
    return list(found.values())


def _invitations(
    directories: Sequence[Path], distributions: Sequence[str], below: Path
) -> Iterator[_Invitation]:
    for path in directories:
        yield _Invitation(path.name, str(path), partial(_from_directory, path, below))
    for name in distributions:
        yield _Invitation(name, f"distribution {name}", partial(_from_distribution, name, below))


def _from_directory(path: Path, below: Path) -> Iterator[tuple[str, object]]:
    check_ground(path, below=below)
    if not fence.WORD.fullmatch(path.name):
        raise Malformed(
            f"plugin directory {path} must be named like printer, its name is the plugin's",
            hint=PAGE,
        )
    if not (path / "__init__.py").is_file():
        raise NotFound(f"plugin directory {path} has no __init__.py", hint=PAGE)
    yield path.name, fence.load(path.name, partial(_import_package, path))


def _import_package(path: Path) -> ModuleType:
    """Import a package by its place; sys.path never learns of it, so it can shadow nothing."""
    name = f"teleport_lite_guest_{path.name.replace('-', '_')}"
    spec = util.spec_from_file_location(
        name, path / "__init__.py", submodule_search_locations=[str(path)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python package")
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: its own modules import it
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a running daemon leaves no code behind, .pyc files neither
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = writes
    return module


def _from_distribution(name: str, below: Path) -> Iterator[tuple[str, object]]:
    try:
        found = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError) as why:
        raise NotFound(
            f"distribution {name[:64]!a} is not installed here", hint=fence.LIST_THEM
        ) from why
    points = [point for point in found.entry_points if point.group == GROUP]
    if not points:
        raise Malformed(f"distribution {name} has no entry point of group {GROUP}", hint=PAGE)
    for point in points:
        _check_module(name, point.module.partition(".")[0], below)
        yield point.name, fence.load(point.name, point.load)


def _check_module(distribution: str, top: str, below: Path) -> None:
    """Look before importing: is this package on ground that only root or we can change?"""
    spec = util.find_spec(top)
    places = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
    if not places:
        raise NotFound(f"distribution {distribution} has no module {top}", hint=PAGE)
    loose = {Path(entry).resolve() for entry in _loose_paths()}
    for place in places:
        real = Path(place).resolve()
        if real.parent in loose:
            raise Denied(
                f"module {top} of distribution {distribution} would come from {real.parent},"
                " the working directory or PYTHONPATH",
                hint=PAGE,
            )
        check_ground(real, below=below)


def _loose_paths() -> Iterator[str]:
    """Where whoever starts us can put modules without being allowed to install any."""
    yield str(Path.cwd())
    yield from filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))


def _source(dist: metadata.Distribution) -> str:
    return f"distribution {dist.name} {dist.version}"


def _normal(name: str) -> str:
    """Distribution names compare like this (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
