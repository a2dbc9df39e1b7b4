"""How the keyring of this host is opened: what the config says, as `pki/custody.py` wants it."""

import logging
from functools import cache
from pathlib import Path

from teleport_lite.config.model import Config
from teleport_lite.errors import Error
from teleport_lite.pki.custody import Custody
from teleport_lite.pki.seal import Keyring, way_of
from teleport_lite.plugin.guests import Guests

log = logging.getLogger("teleport_lite.auth")


def custody_of(config: Config, guests: Guests) -> Custody:
    """Asks nobody yet. Raises NotFound for a plugin that is not invited."""
    storage = config.storage
    source, plugin = storage.keyring_passphrase, storage.keyring_plugin
    settings = config.plugins.settings.get(plugin, {})
    return Custody(
        # Once: standard input has it once, and a keyring may be read again.
        passphrase=cache(source.read) if source is not None else None,
        wrapper=guests.wrapper(plugin, settings) if plugin else None,
    )


def keyring_of(path: Path, custody: Custody) -> Keyring:
    """The keyring of auth, made if there is none. Raises as `Keyring.load_or_make`."""
    ring = Keyring.load_or_make(path, custody)
    warn_if_open(path, custody)
    return ring


def warn_if_open(path: Path, custody: Custody) -> None:
    """Somebody has configured a way to seal it, and it lies there in the clear."""
    try:
        found = way_of(path)
    except Error:
        return
    if found != custody.way:
        log.warning(
            "keyring %s is sealed by: %s, the configuration says: %s; tctl keyring seal",
            path,
            found,
            custody.way,
        )
