"""teleport-lite install systemd: print the units of this host, or write them."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.show import out
from teleport_lite.config.path import absolute_path
from teleport_lite.errors import Conflict, Malformed
from teleport_lite.pki.keyfile import write_public
from teleport_lite.release.unit_files import is_ours
from teleport_lite.release.units import PREFIX, Wish, names, units_of

Roles = Annotated[
    str,
    typer.Option(
        "-r", "--roles", help="What this host does: auth, proxy, node. [default: its settings]"
    ),
]
Output = Annotated[
    str,
    typer.Option("-o", "--output", help="stdout, file (the usual places) or a directory: /a/path."),
]
TeleportPath = Annotated[
    str, typer.Option(help="The program. [default: /usr/local/bin/teleport-lite]")
]
EnvFile = Annotated[str, typer.Option(help="File with environment variables, read if it is there.")]
FdLimit = Annotated[
    int | None, typer.Option(help="How many descriptors it may have. [default: 524288]")
]
PidFile = Annotated[
    str, typer.Option(help="Taken for compatibility: systemd knows the process without.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be written.")]


def systemd(
    roles: Roles = "",
    output: Output = "stdout",
    teleport_path: TeleportPath = "",
    env_file: EnvFile = "",
    fd_limit: FdLimit = None,
    pid_file: PidFile = "",
    dry_run: DryRun = False,
) -> None:
    """Print the systemd units of this host, or write them. Their comments say what is for what."""
    if pid_file:
        warn("--pid-file: not in the units, systemd knows the process (Type=notify)")
    wanted = frozenset(each.strip() for each in roles.split(",")) if roles else frozenset()
    wish = Wish(
        program=absolute_path(teleport_path) if teleport_path else PREFIX / "bin/teleport-lite",
        env_file=absolute_path(env_file) if env_file else None,
        fd_limit=fd_limit,
    )
    texts = units_of(wanted, wish)
    where = _places(output, list(texts))
    if where is None:
        for path, text in texts.items():
            out(f"# {path}\n{text}")
    else:
        _write({where[path]: text for path, text in texts.items()}, dry_run)
    if where is None or output == "file":
        typer.echo(_next(names(wanted)[0], written=where is not None and not dry_run), err=True)


def _places(output: str, paths: list[Path]) -> dict[Path, Path] | None:
    """From the usual place of each to the one that is wanted; None is standard output."""
    if output in ("", "stdout"):
        return None
    if output == "file":
        return {path: path for path in paths}
    if not output.startswith(("file:///", "/")):
        raise Malformed(f"--output: {output[:80]!a} is not stdout, file or a directory like /tmp/x")
    directory = absolute_path(output.removeprefix("file://"))
    if not directory.is_dir():
        hint = f"mkdir {shlex.quote(str(directory))}"
        raise Malformed(f"--output: {directory} is no directory", hint=hint)
    # Two of them have one name in their own places.
    return {path: directory / _name(path) for path in paths}


def _name(path: Path) -> str:
    return path.name if path.suffix != ".conf" else f"{path.parent.name}-{path.name}"


def _write(texts: dict[Path, str], dry_run: bool) -> None:
    """All or nothing, as far as somebody else's files are in the way."""
    for path in texts:
        if os.path.lexists(path) and not is_ours(path):
            word = shlex.quote(str(path))
            raise Conflict(f"{path} is there and not ours", hint=f"mv {word} {word}.old")
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        out(f"{'would write' if dry_run else 'wrote'} {path}")
        if not dry_run:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_public(path, text.encode())


def _next(unit: str, *, written: bool) -> str:
    first = "" if written else "teleport-lite install systemd -o file && "
    return (
        f"Next:\n  {first}systemd-sysusers && systemd-tmpfiles --create && "
        f"systemctl daemon-reload && systemctl enable --now {unit.removesuffix('.service')}"
    )
