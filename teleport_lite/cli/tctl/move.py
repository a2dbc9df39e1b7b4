"""tctl export, tctl import: a cluster moves from one kind of storage to another."""

from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.show import out
from teleport_lite.cli.tctl.desk import desk_of


def export_cluster(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    with_recordings: Annotated[
        bool, typer.Option("--with-recordings", help="With the recordings of sessions.")
    ] = False,
) -> None:
    """Write all of a cluster that has stopped, for `tctl import` under another configuration.

    Auth must not run: what it did after this would be lost.
    """
    from teleport_lite.cli.tctl.backup import offline
    from teleport_lite.cli.tctl.progress import Progress
    from teleport_lite.client.backup import save

    desk = desk_of(ctx)
    with (
        offline(desk, "export", recordings=with_recordings) as (expected, pieces),
        Progress() as progress,
    ):
        save(file, pieces, None, progress.bytes)
    out(f"Cluster {expected['cluster']}: {expected['rows']} rows are in {file}.")
    out(f"Now change teleport.storage, keep the keyring, and: tctl import {file}")


def import_cluster(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of tctl export.")],
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="Take one that was made without the keyring.")
    ] = False,
) -> None:
    """Make the store that the configuration names from an export. It must be empty."""
    from teleport_lite.cli.tctl.restoring import Wish, put_back
    from teleport_lite.errors import Conflict

    desk = desk_of(ctx)
    if _origin(file) != "export":
        raise Conflict(
            f"{file} is a backup: the cluster may have gone on since it was made",
            hint=f"tctl backup restore {file}",
        )
    wish = Wish(
        file=file,
        uses=True,
        unsealed=unsealed,
        passphrase="",
        kind="cluster.import",
        code="TLB02I",
    )
    loader, found = put_back(desk, wish)
    out(f"Cluster {found.header.cluster}: {found.rows} rows, {loader.recordings} recordings.")
    out("The old store is as it was: start auth only with the new configuration.")


def _origin(file: Path) -> str:
    from teleport_lite.client.backup import opened
    from teleport_lite.proto.backup_file import Reader

    with opened(file) as raw:
        return Reader(raw, str(file)).header.origin
