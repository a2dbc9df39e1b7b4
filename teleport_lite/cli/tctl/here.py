"""The auth service of this host, without it running: its config, its keyring, its store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from teleport_lite.auth.shelf import Shelf
from teleport_lite.cli.tctl.desk import Desk
from teleport_lite.client.doors import UnixDoor
from teleport_lite.client.find import SOCKET
from teleport_lite.config.flags import Flags
from teleport_lite.config.load import for_start
from teleport_lite.config.load import invited as invited_by
from teleport_lite.config.model import Config
from teleport_lite.config.passphrase import PassphraseSource
from teleport_lite.daemon.custody import custody_of
from teleport_lite.errors import Conflict, Error, Malformed, NotFound
from teleport_lite.model.system_role import AUTH
from teleport_lite.pki.custody import Custody, checked_passphrase
from teleport_lite.pki.keyfile import make_private_dir
from teleport_lite.pki.seal import Keyring
from teleport_lite.plugin.guests import Guests
from teleport_lite.plugin.invited import gather
from teleport_lite.secret import Secret
from teleport_lite.store.dump import Fill
from teleport_lite.store.moving import check_free, fill_store, snapshot_at_rest
from teleport_lite.store.protocols import Sealer, Snapshot

RECORDS = "records"


@dataclass(frozen=True, slots=True)
class Here:
    """Made by `here`."""

    config: Config
    guests: Guests
    custody: Custody

    @property
    def keyring_path(self) -> Path:
        return self.config.storage.keyring

    def keyring(self) -> Keyring:
        """Raises NotFound, Denied, Malformed."""
        return Keyring.load(self.keyring_path, self.custody)

    def keyring_or_none(self) -> Keyring | None:
        """None if there is none. Raises Denied for one that does not open, Malformed."""
        try:
            return self.keyring()
        except NotFound:
            return None

    @contextmanager
    def snapshot(self, sealer: Sealer | None, *, alone: bool) -> Iterator[Snapshot]:
        """Of a store that no auth service of this host uses; `alone`: nor of another one. Raises
        Unavailable."""
        with snapshot_at_rest(self.config.storage, sealer, alone=alone) as found:
            yield found

    def must_be_free(self) -> None:
        """Raises Conflict if the store that the config names is there, or auth runs on another one
        that was moved away under it: what it does until it ends would be lost."""
        if self._auth_runs():
            raise Conflict("auth runs on this host", hint="systemctl stop teleport-lite")
        check_free(self.config.storage)

    def _auth_runs(self) -> bool:
        try:
            UnixDoor(self.config.data_dir / SOCKET).open().close()
        except Error:
            return False
        return True

    def fill(self, sealer: Sealer, schema: int, fill: Fill) -> None:
        """Make the store that the config names. Raises Conflict if there is one."""
        make_private_dir(self.config.data_dir)
        fill_store(self.config.storage, sealer, schema, fill)

    def shelf(self) -> Shelf:
        """Where recordings are kept. Raises Denied, Unavailable."""
        make_private_dir(self.config.data_dir)
        return Shelf(self.config.data_dir / RECORDS)


def here(desk: Desk) -> Here:
    """By the config file that was named, or the usual one. Raises as `config.load.for_start`, and
    Malformed where it does not run auth."""
    path = Path(desk.config) if desk.config else None
    invited = invited_by(path)
    guests = gather(directories=invited.directories, distributions=invited.distributions)
    config = for_start(path, Flags(data_dir=desk.data_dir), guests.book)
    if AUTH not in config.roles:
        raise Malformed(
            f"{config.source or 'the configuration'} does not run auth on this host",
            hint="tctl -c /etc/teleport-lite.yaml, on the auth host",
        )
    return Here(config, guests, custody_of(config, guests))


def under(custody: Custody, passphrase: Callable[[], Secret]) -> Custody:
    """The same, with a passphrase and nothing else."""
    return replace(custody, passphrase=passphrase, wrapper=None)


def passphrase_from(text: str, prompt: str, *, twice: bool = False) -> Secret:
    """From where `text` says; asked for if it says nothing.

    Raises NotFound, Denied, Malformed; with `twice` it is a new one, and must be long enough.
    """
    if text:
        secret = PassphraseSource.parse(text).read()
    else:
        import sys

        import typer

        if not sys.stdin.isatty():
            raise Malformed("a passphrase is needed", hint="--passphrase=env:NAME, or a file")
        said: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)
        secret = Secret(said)
    return checked_passphrase(secret) if twice else secret
