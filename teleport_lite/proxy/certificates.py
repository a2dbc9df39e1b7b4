"""Which certificate the web port shows: configured files, else that of ACME, else our own.

Contexts are looked up for each connection, so a new certificate is used by the next one while
the open ones go on. Files are looked at again now and then; a new pair that is broken is told
once, and the old one stays.
"""

import logging
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from teleport_lite.ambient import Clock
from teleport_lite.config.model import KeyPair
from teleport_lite.errors import Denied, Error, Malformed, NotFound
from teleport_lite.net.tls import Context, web_context
from teleport_lite.pki.web_cert import WebCert, web_cert
from teleport_lite.secret import Secret

log = logging.getLogger("teleport_lite.proxy")

# A chain of four RSA certificates takes 8 KiB.
MAX_FILE = 256 * 1024
ENDS_SOON = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Shown:
    """`trusted`: of a certificate authority that browsers may know, not of our own."""

    context: Context
    cert: WebCert
    trusted: bool


# Modification time, size and inode of both files.
Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """`load` first. `reload` may run in another thread than the rest."""

    def __init__(self, pairs: Sequence[KeyPair], clock: Clock) -> None:
        self._pairs, self._clock = tuple(pairs), clock
        self._stamps: dict[KeyPair, Stamp] = {}
        self._files: dict[KeyPair, Shown] = {}
        self._acme: Shown | None = None
        self._own: Shown | None = None

    def load(self) -> None:
        """Read the files. Raises NotFound, Denied or Malformed naming the one that is wrong."""
        for pair in self._pairs:
            self._stamps[pair] = _stamp(pair)
            self._files[pair] = self._read(pair)

    def reload(self) -> int:
        """Read again what has changed. Returns how many pairs are new."""
        found = 0
        for pair in self._pairs:
            try:
                stamp, missing = _stamp(pair), None
            except Error as why:
                stamp, missing = (), why
            if stamp == self._stamps.get(pair):
                continue  # also what is broken is told once, until it changes again
            self._stamps[pair] = stamp
            try:
                if missing is not None:
                    raise missing
                self._files[pair] = self._read(pair)
            except Error as why:
                log.error("the web certificate was not replaced, the old one stays: %s", why)
                continue
            found += 1
            cert = self._files[pair].cert
            log.info("%s was read again: %s until %s", pair.cert_file, _names(cert), cert.ends)
        return found

    def use_acme(self, chain_pem: str, key: Secret) -> None:
        """Raises Malformed."""
        self._acme = Shown(web_context(chain_pem, key), web_cert(chain_pem), True)

    def use_own(self, cert_pem: str, key: Secret) -> None:
        """The host's own certificate, for when there is no other. Raises Malformed."""
        self._own = Shown(web_context(cert_pem, key), web_cert(cert_pem), False)

    def show(self, name: str = "") -> Shown:
        """What to show to somebody who asks for `name` (SNI). Raises Malformed before any is there.

        Among several files the first that covers the name, else the first.
        """
        files = [self._files[pair] for pair in self._pairs if pair in self._files]
        fitting = (each for each in files if name and each.cert.covers(name))
        shown = next(fitting, None) or (files[0] if files else self._acme or self._own)
        if shown is None:
            raise Malformed("there is no certificate to show yet")
        return shown

    @property
    def trusted(self) -> bool:
        """Whether what we show by default is of somebody browsers may know."""
        return bool(self._files) or self._acme is not None

    def ends(self) -> datetime | None:
        """When the first of those in use ends."""
        used = [each.cert.ends for each in self._files.values()]
        if not used and (one := self._acme or self._own):
            used = [one.cert.ends]
        return min(used, default=None)

    def _read(self, pair: KeyPair) -> Shown:
        chain, key = _text(pair.cert_file), Secret(_text(pair.key_file))
        cert = web_cert_of(pair.cert_file, chain)
        try:
            context = web_context(chain, key)
        except Malformed:
            raise Malformed(
                f"{pair.key_file}: is not the (unencrypted) key of {pair.cert_file}",
                hint=f"openssl x509 -noout -subject -in {pair.cert_file}",
            ) from None
        now = self._clock.now()
        if now >= cert.ends:
            log.warning("%s: the certificate ended at %s", pair.cert_file, cert.ends)
        elif now + ENDS_SOON >= cert.ends:
            log.warning("%s: the certificate ends at %s", pair.cert_file, cert.ends)
        return Shown(context, cert, True)


def web_cert_of(path: Path, chain: str) -> WebCert:
    try:
        return web_cert(chain)
    except Malformed as why:
        raise Malformed(f"{path}: {why.message}") from None


def _stamp(pair: KeyPair) -> Stamp:
    found = []
    for path in (pair.cert_file, pair.key_file):
        try:
            facts = path.stat()
        except OSError as why:
            raise _unreadable(path, why) from None
        found.append((facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(found)


def _text(path: Path) -> str:
    """Anybody's file: /etc/letsencrypt has links, and a group that may read keys."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as why:
        raise _unreadable(path, why) from None
    try:
        if len(raw) > MAX_FILE:
            raise ValueError
        return raw.decode("ascii")
    except ValueError:
        raise Malformed(f"{path}: is no PEM file") from None


def _unreadable(path: Path, why: OSError) -> Error:
    if isinstance(why, FileNotFoundError):
        return NotFound(f"{path}: does not exist", hint="docs/config.md, https_keypairs")
    if isinstance(why, PermissionError):
        who, name = os.geteuid(), shlex.quote(str(path))
        return Denied(
            f"{path}: may not be read by uid {who}",
            hint=f"setfacl -m u:{who}:r {name}, or chgrp {os.getegid()} {name} && chmod g+r {name}",
        )
    return Malformed(f"{path}: can not be read: {why.strerror}")


def _names(cert: WebCert) -> str:
    return ", ".join(cert.names) or "no name"
