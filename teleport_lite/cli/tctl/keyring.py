"""tctl keyring: ls, add, use, reseal, retire, seal."""

from typing import Annotated

import typer

from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, out, table
from teleport_lite.cli.tctl.desk import Desk, desk_of
from teleport_lite.cli.tctl.here import Here, here, passphrase_from, under
from teleport_lite.errors import Conflict, Error, Malformed
from teleport_lite.pki.custody import NO_CUSTODY
from teleport_lite.pki.custody import PLAIN as PLAIN_FILE
from teleport_lite.pki.keyfile import alone
from teleport_lite.pki.seal import Keyring, way_of

app = typer.Typer(help="The keys that seal what auth keeps.", **PLAIN)

_ID = Annotated[str, typer.Argument(metavar="ID", help="Of a key, or the beginning of it.")]


@app.command()
def ls(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List the keys of this host's keyring, and how much is sealed under each."""
    desk = desk_of(ctx)
    place = here(desk)
    keyring, counts = place.keyring(), _counts(desk)
    keys = [
        {
            "id": id,
            "seals": at == 0,
            "rows": None if counts is None else counts.get(id, 0),
        }
        for at, id in enumerate(keyring.ids)
    ]
    said = {"file": str(place.keyring_path), "sealed_by": way_of(place.keyring_path), "keys": keys}
    rows = [
        (str(key["id"]), "seals" if key["seals"] else "opens", _shown(key["rows"])) for key in keys
    ]
    emit(
        said,
        format,
        lambda: (
            f"{said['file']}, sealed by: {said['sealed_by']}\n\n"
            + table(("Key", "State", "Rows"), rows)
        ),
    )


@app.command()
def add(
    ctx: typer.Context,
    use: Annotated[
        bool, typer.Option("--use", help="Let it seal at once: for a cluster with one auth server.")
    ] = False,
) -> None:
    """Make a new key. It opens; it seals when every auth server has it and `use` names it."""
    place, fresh = here(desk_of(ctx)), Keyring.new()
    with alone(place.keyring_path):
        keyring = place.keyring().added(fresh)
        _save(place, keyring.preferring(fresh.ids[0]) if use else keyring)
    out(f"Key {fresh.ids[0]} has been added.")
    if use:
        out("It seals from the next start of auth on, or now: tctl keyring reseal")
    else:
        out(f"Copy {place.keyring_path} to every other auth server.")
        out(f"Then, on each of them: tctl keyring use {fresh.ids[0]}")


@app.command()
def use(ctx: typer.Context, id: _ID) -> None:
    """Let a key seal from now on. The others still open what they have sealed."""
    place = here(desk_of(ctx))
    with alone(place.keyring_path):
        keyring = place.keyring().preferring(id)
        _save(place, keyring)
    out(f"Key {keyring.ids[0]} seals from now on. What is there already: tctl keyring reseal")


@app.command()
def reseal(ctx: typer.Context) -> None:
    """Have auth read the keyring again, and seal everything under its first key."""
    done, counts = desk_of(ctx).backups().reseal()
    out(f"{done} rows have been sealed anew.")
    for id, count in counts.items():
        out(f"{count} rows are sealed under key {id}.")


@app.command()
def retire(ctx: typer.Context, id: _ID) -> None:
    """Take a key out of this host's keyring. Refused while anything is sealed under it."""
    desk = desk_of(ctx)
    place = here(desk)
    with alone(place.keyring_path):
        keyring = place.keyring()
        left = keyring.without(id)
        [gone] = set(keyring.ids) - set(left.ids)
        if count := desk.backups().keys().get(gone, 0):
            raise Conflict(f"{count} rows are sealed under key {gone}", hint="tctl keyring reseal")
        _save(place, left)
    out(f"Key {gone} has been taken out. Backups that are older need it: keep a copy.")


@app.command()
def seal(
    ctx: typer.Context,
    passphrase: Annotated[
        str, typer.Option(help="Under this one: an absolute path, env:NAME, or - for stdin.")
    ] = "",
    open: Annotated[
        bool, typer.Option("--open", help="Leave the file unsealed, guarded by its mode alone.")
    ] = False,
) -> None:
    """Write the keyring anew, sealed as the configuration says, or under another passphrase.

    What the configuration names has to open it now; afterwards it has to name the new one.
    """
    place = here(desk_of(ctx))
    custody = NO_CUSTODY if open else place.custody
    if passphrase and not open:
        secret = passphrase_from(passphrase, "New passphrase", twice=True)
        custody = under(custody, lambda: secret)
    if custody.way == PLAIN_FILE and not open:
        raise Malformed(
            "the configuration names nothing to seal the keyring with",
            hint="set teleport.storage.keyring_passphrase or keyring_plugin: docs/backup.md",
        )
    with alone(place.keyring_path):
        place.keyring().save(place.keyring_path, custody)
    out(f"{place.keyring_path} is sealed by: {way_of(place.keyring_path)}")


app.command("list", hidden=True)(ls)


def _save(place: Here, keyring: Keyring) -> None:
    """As it is sealed now, or as it should be: never less."""
    keyring.save(place.keyring_path, place.custody)


def _counts(desk: Desk) -> dict[str, int] | None:
    """None if auth can not be asked."""
    try:
        return desk.backups().keys()
    except Error:
        return None


def _shown(rows: object) -> str:
    return "?" if rows is None else str(rows)
