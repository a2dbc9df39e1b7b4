"""From a file to a store, once: what `tctl backup restore` and `tctl import` have in common."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.ambient import SystemChance
from teleport_lite.auth.life import born
from teleport_lite.auth.restore import Found, Loader, check_fits, look, must_be_whole
from teleport_lite.cli.tctl.desk import Desk
from teleport_lite.cli.tctl.here import Here, here, passphrase_from, under
from teleport_lite.cli.tctl.progress import Progress
from teleport_lite.client.backup import opened
from teleport_lite.errors import Denied, NotFound
from teleport_lite.model.event import Event
from teleport_lite.pki.seal import Keyring
from teleport_lite.proto.backup_file import Reader
from teleport_lite.store.dump import Filling, check_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    file: Path
    uses: bool  # what can be used once comes along
    unsealed: bool
    passphrase: str  # where it comes from
    kind: str  # of the event that ends the trail
    code: str


def put_back(desk: Desk, wish: Wish) -> tuple[Loader, Found]:
    """Look at all of it, then make the store. What fails leaves no store, and may be tried again.

    Raises what `look`, `check_fits` and `Here.fill` raise.
    """
    place, where = here(desk), str(wish.file)
    place.must_be_free()
    with opened(wish.file) as raw, Progress() as progress:
        before = look(Reader(raw, where), None, lambda _: progress.bytes(raw.tell()))
    check_schema(before.header.schema, where)
    keyring = _keyring(place, before, wish)
    check_fits(before.header, cluster=place.config.auth.cluster_name, keys=keyring.ids, where=where)
    with opened(wish.file) as raw, Progress() as progress:
        found = look(Reader(raw, where), keyring, lambda _: progress.bytes(raw.tell()))
    if not wish.unsealed:
        must_be_whole(found, where)
    loader = Loader(
        event=lambda facts: _event(desk, wish, found, facts),
        life=lambda before: born(before, desk.clock, SystemChance()),
        digest=found.digest,
        shelf=place.shelf() if found.recordings else None,
        uses=wish.uses,
    )

    def fill(filling: Filling) -> None:
        with opened(wish.file) as raw, Progress() as progress:
            loader.told = lambda _: progress.bytes(raw.tell())
            loader.load(Reader(raw, where), keyring, filling)

    # Before the store: without it the store could not be opened, and alone it does no harm.
    if keyring.ids != _ids(place):
        keyring.save(place.keyring_path, place.custody)
    place.fill(keyring, found.header.schema, fill)
    return loader, found


def _keyring(place: Here, found: Found, wish: Wish) -> Keyring:
    """The one of this host; with what the file has of its own, if that is needed."""
    ours = place.keyring_or_none()
    if ours is not None and set(found.header.keys) <= set(ours.ids):
        return ours
    if found.keyring is None:
        if ours is None:
            raise NotFound(
                f"there is no keyring in {place.keyring_path}, and none in {wish.file}",
                hint="put the keyring of the cluster there: docs/backup.md",
            )
        return ours  # `check_fits` says which key is missing
    secret = passphrase_from(wish.passphrase, "Passphrase of the keyring in the backup")
    text = under(place.custody, lambda: secret).open(found.keyring, f"the keyring in {wish.file}")
    theirs = Keyring.parse(text, f"the keyring in {wish.file}")
    return theirs if ours is None else ours.added(theirs)


def _ids(place: Here) -> tuple[str, ...]:
    with suppress(NotFound, Denied):
        return place.keyring().ids
    return ()


def _event(desk: Desk, wish: Wish, found: Found, more: Mapping[str, str]) -> Event:
    header = found.header
    facts = {
        "user": "offline",
        "made": header.made,
        "version": header.version,
        "origin": header.origin,
        "rows": str(found.rows),
    }
    return Event(
        kind=wish.kind,
        code=wish.code,
        at=desk.clock.now(),
        outcome="ok",
        facts=facts | dict(more),
    )
