"""Which columns hold something sealed, and what each is sealed for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from teleport_lite.errors import Unavailable
from teleport_lite.store.protocols import Sealer
from teleport_lite.store.statements import (
    ca_purpose,
    invite_purpose,
    password_purpose,
    token_purpose,
    trusted_purpose,
)

TRAIL_KEY, TRAIL_PURPOSE = "trail", "store/trail-key"

# Table → its columns that name what a row is sealed for, and that purpose. `sealed` has it.
SEALED: Mapping[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "keys": (("name",), lambda name: f"store/{name}-key"),
    "cas": (("type", "id"), ca_purpose),
    "trusted": (("name",), trusted_purpose),
    "passwords": (("user",), password_purpose),
    "invites": (("name",), invite_purpose),
    "tokens": (("name",), token_purpose),
}


def purpose_of(table: str, columns: Sequence[str], row: Sequence[Any]) -> tuple[bytes, str] | None:
    """What is sealed in a row, and what for; None where nothing is."""
    if table not in SEALED:
        return None
    names, purpose = SEALED[table]
    found = dict(zip(columns, row, strict=True))
    sealed = found.get("sealed")
    return sealed if isinstance(sealed, bytes) else b"", purpose(*(found.get(n) for n in names))


def reseal(
    rows: Callable[[str, Sequence[Any]], list[Any]],
    change: Callable[[str, Sequence[Any]], object],
    sealer: Sealer,
) -> int:
    """Seal under the first key of the keyring what is sealed under another one. How many rows.

    Raises Unavailable for a row that does not open; then nothing may be kept of it.
    """
    done = 0
    for table, (names, purpose) in SEALED.items():
        columns = [f'"{name}"' for name in names]
        where = " AND ".join(f"{column} = ?" for column in columns)
        for *key, sealed in rows(f"SELECT {', '.join(columns)}, sealed FROM {table}", ()):  # noqa: S608  # names of ours
            if sealer.current(sealed):
                continue
            try:
                fresh = sealer.seal(sealer.unseal(sealed, purpose(*key)), purpose(*key))
            except ValueError as why:
                raise Unavailable(
                    f"a row of {table} does not open with the keyring: {why}",
                    hint="docs/backup.md",
                ) from None
            change(f"UPDATE {table} SET sealed = ? WHERE {where}", (fresh, *key))  # noqa: S608  # names of ours
            done += 1
    return done
