"""tctl backup: create, verify, restore."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, line, out, pairs
from teleport_lite.cli.tctl.desk import Desk, desk_of
from teleport_lite.cli.tctl.progress import Progress
from teleport_lite.errors import Error, Unavailable
from teleport_lite.model.size import show_size

app = typer.Typer(help="A cluster in one file: made while it runs, looked at, put back.", **PLAIN)

_FILE = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the backup.")]
_PASSPHRASE = Annotated[
    str,
    typer.Option(
        help="Of the keyring in the file: an absolute path, env:NAME, or - for stdin. "
        "Asked for if none is named."
    ),
]


@app.command()
def create(
    ctx: typer.Context,
    file: _FILE,
    with_recordings: Annotated[
        bool, typer.Option("--with-recordings", help="With the recordings of sessions.")
    ] = False,
    with_keyring: Annotated[
        bool,
        typer.Option("--with-keyring", help="With the keyring, sealed under a passphrase."),
    ] = False,
    passphrase: _PASSPHRASE = "",
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Make a backup, of a running cluster or, with -c, of one that has stopped."""
    from teleport_lite.client.backup import save

    desk = desk_of(ctx)
    keyring = _sealed_keyring(desk, passphrase) if with_keyring else None
    with _source(desk, recordings=with_recordings) as (expected, pieces), Progress() as progress:
        saved = save(file, pieces, keyring, progress.bytes)
    if saved.missing:
        warn(f"{saved.missing} recordings are not on this host, and not in the backup")
    said = {
        "file": str(file),
        "size": saved.size,
        "cluster": expected["cluster"],
        "rows": expected["rows"],
        "recordings": expected["recordings"] - saved.missing,
    }
    emit(said, format, lambda: _made(file, said))


@app.command()
def verify(
    ctx: typer.Context,
    file: _FILE,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Read all of it: is it whole, and does the keyring of this host open what is sealed?"""
    from teleport_lite.auth.restore import look
    from teleport_lite.client.backup import opened
    from teleport_lite.proto.backup_file import Reader

    keyring = _keyring_here(desk_of(ctx))
    with opened(file) as raw, Progress() as progress:
        found = look(Reader(raw, str(file)), keyring, lambda _: progress.bytes(raw.tell()))
    emit(_facts(found), format, lambda: pairs(_lines(found)))
    _warn_of_trail(found)


@app.command()
def restore(
    ctx: typer.Context,
    file: _FILE,
    keep_tokens: Annotated[
        bool,
        typer.Option(
            "--keep-tokens",
            help="With unused one-time tokens and links: they may have been used since.",
        ),
    ] = False,
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="Take one that was made without the keyring.")
    ] = False,
    passphrase: _PASSPHRASE = "",
) -> None:
    """Make the store that the configuration names from a backup. Auth must not run."""
    from teleport_lite.cli.tctl.restoring import Wish, put_back

    desk = desk_of(ctx)
    wish = Wish(
        file=file,
        uses=keep_tokens,
        unsealed=unsealed,
        passphrase=passphrase,
        kind="backup.restore",
        code="TLB01I",
    )
    loader, found = put_back(desk, wish)
    made = line(found.header.made)
    out(f"Cluster {found.header.cluster} is back as of {made}: {found.rows} rows.")
    _warn_of_trail(found)
    if found.recordings:
        out(f"{loader.recordings} recordings are back.")
    for table, count in loader.dropped.items():
        what = {"tokens": "one-time tokens", "invites": "links for passwords"}.get(table, table)
        out(f"{count} {what} stayed behind: they may have been used since.")
    out("Start auth, then look: tctl audit verify")


def _made(file: Path, said: dict[str, Any]) -> str:
    return (
        f"Backup of cluster {said['cluster']}: {said['rows']} rows, {said['recordings']} "
        f"recordings, {show_size(said['size'])}\n"
        f"It was read back. To look at it again: tctl backup verify {file}\n"
    )


def _warn_of_trail(found: Any) -> None:
    if found.broken_at is not None:
        warn(f"the audit trail in it does not fit from event {found.broken_at} on")


def _facts(found: Any) -> dict[str, Any]:
    header = found.header
    return {
        "cluster": header.cluster,
        "made": header.made,
        "version": header.version,
        "origin": header.origin,
        "rows": found.rows,
        "tables": {name: table.rows for name, table in header.tables.items()},
        "recordings": found.recordings,
        "recordings_missing": found.missing,
        "events": found.events,
        "broken_at": found.broken_at,
        "keys": list(header.keys),
        "opened": found.opened,
        "vouched": found.vouched,
        "with_keyring": found.keyring is not None,
        "life": header.life,
    }


def _lines(found: Any) -> list[tuple[str, str]]:
    header = found.header
    missing = f", {found.missing} were missing" if found.missing else ""
    broken = found.broken_at
    vouched = {
        None: "there is none here: what is sealed was not looked at",
        False: "the backup was made without it: nobody vouches for what is in it",
        True: f"it made the backup, and opens all {found.opened} secrets in it",
    }
    return [
        ("Cluster", header.cluster),
        ("Made", f"{header.made}, by teleport-lite {header.version} ({header.origin})"),
        ("Rows", str(found.rows)),
        ("Recordings", f"{found.recordings}, {show_size(header.recordings_size)}{missing}"),
        (
            "Audit trail",
            f"{found.events} events, "
            + ("the chain is whole" if broken is None else f"the chain breaks at {broken}"),
        ),
        ("Keyring", vouched[found.vouched]),
        ("In the file", "the keyring, sealed" if found.keyring is not None else "no keyring"),
        ("Life", line(header.life) or "not known, the program was an older one"),
        ("Digest", "every byte fits"),
    ]


@contextmanager
def _source(desk: Desk, *, recordings: bool) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    """What to expect, and the bytes. Of auth, or of its store if auth is away and -c was said."""
    try:
        client = desk.backups()
        begun = client.begin(recordings=recordings)
    except Unavailable as why:
        if not desk.config:
            raise Unavailable(
                why.message, hint="tctl backup create -c /etc/teleport-lite.yaml FILE"
            ) from why
        with offline(desk, "backup", recordings=recordings) as found:
            yield found
        return
    id = begun.text("id")
    try:
        yield dict(begun.plain), client.pieces(id)
    finally:
        with suppress(Error):  # the file is whole without it, and auth lets go by itself
            client.end(id)


@contextmanager
def offline(
    desk: Desk, origin: str, *, recordings: bool
) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    """The same of a store that nobody uses. Raises Unavailable if somebody does."""
    from teleport_lite.auth.backup import cluster_of, header_of, parts
    from teleport_lite.cli.tctl.here import here
    from teleport_lite.proto.resource import moment

    place = here(desk)
    keyring = place.keyring_or_none()
    if keyring is None:
        warn(f"there is no keyring in {place.keyring_path}: nobody will vouch for this file")
    with place.snapshot(keyring, alone=origin == "export") as snapshot:
        header = header_of(
            snapshot,
            cluster=cluster_of(snapshot),
            made=moment(desk.clock.now()) or "",
            origin=origin,
            recordings=recordings,
        )
        read: Callable[[str], Iterator[bytes]] | None = place.shelf().raw if recordings else None
        expected = {
            "cluster": header.cluster,
            "rows": sum(table.rows for table in header.tables.values()),
            "recordings": header.recordings,
        }
        yield expected, parts(snapshot, header, read)


def _sealed_keyring(desk: Desk, source: str) -> bytes:
    """Raises NotFound on a host without one: it is not asked for over the network."""
    from teleport_lite.cli.tctl.here import here, passphrase_from, under

    place = here(desk)
    keyring = place.keyring()
    secret = passphrase_from(source, "Passphrase for the keyring in the backup", twice=True)
    return under(place.custody, lambda: secret).close(keyring.text())


def _keyring_here(desk: Desk) -> Any:
    """None on a host that has none, or where nobody said that it should have one."""
    from teleport_lite.cli.tctl.here import here

    try:
        return here(desk).keyring_or_none()
    except Error:
        if desk.config:
            raise
        return None
