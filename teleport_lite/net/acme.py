"""A certificate for the web port that gets and renews itself (ACME, RFC 8555).

A thread of its own orders one at the start, and again when two thirds of its life are over.
Nothing waits for it: until there is a certificate the port shows what it has.

    data_dir/acme/<authority>.json     account key and where it is registered
    data_dir/acme/certificate.json     chain and key
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Error, NotFound
from teleport_lite.net.acme_client import Account, AcmeClient, Issued
from teleport_lite.net.tls import Context, web_context
from teleport_lite.pki.acme_keys import challenge_cert
from teleport_lite.pki.keyfile import make_private_dir, read_secret, write_secret
from teleport_lite.pki.keys import new_tls_key
from teleport_lite.pki.web_cert import web_cert
from teleport_lite.proto.alpn import ACME
from teleport_lite.proto.codec import Statement, read, write
from teleport_lite.secret import Secret

log = logging.getLogger("teleport_lite.acme")

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
# Clocks are set and machines sleep: never trust a wait of a month.
LOOK_EVERY = 3600.0
# Let's Encrypt takes five failures an hour for each name and account.
FIRST_RETRY, LAST_RETRY = 120.0, 6 * 3600.0
CERTIFICATE = "certificate.json"
MAX_FILE = 256 * 1024
OnCertificate = Callable[[str, Secret], None]  # chain and key; from the thread


class _KeptAccount(Statement, frozen=True):
    directory: str
    key: str
    uri: str


class _KeptCertificate(Statement, frozen=True):
    directory: str
    names: list[str]
    chain: str
    key: str


class Acme:
    """`start` it once the port listens; `stop` returns at once."""

    def __init__(
        self,
        *,
        names: Sequence[str],
        data_dir: Path,
        directory: str = "",
        email: str = "",
        clock: Clock,
        chance: Chance,
        on_certificate: OnCertificate,
        client: Callable[..., AcmeClient] = AcmeClient,
    ) -> None:
        """Raises Denied for a directory that others could read."""
        self._client = client
        self._names, self._email = tuple(names), email
        self._directory = directory or LETS_ENCRYPT
        self._home = data_dir / "acme"
        self._clock, self._chance, self._on_certificate = clock, chance, on_certificate
        self._offers: dict[str, Context] = {}
        self._look = threading.Event()
        self._stopping = False
        self._failures = 0
        self._kept: _KeptCertificate | None = None
        make_private_dir(self._home)

    def start(self) -> None:
        self.load()
        threading.Thread(target=self._run, name="acme", daemon=True).start()

    def load(self) -> None:
        """Show what was kept, if it still serves."""
        self._kept = self._load()
        if self._kept is not None:
            self._on_certificate(self._kept.chain, Secret(self._kept.key))

    def stop(self) -> None:
        """An order that is under way ends with the process."""
        self._stopping = True
        self._look.set()

    def look(self) -> None:
        """See now whether a certificate is due."""
        self._look.set()

    def responder(self, name: str) -> Context | None:
        """What to show to an authority that asks for `name` with ALPN acme-tls/1. Any thread."""
        return self._offers.get(name.lower())

    def due(self) -> datetime | None:
        """When the next certificate is ordered. None: now, there is none that fits."""
        kept = self._kept
        if kept is None or set(kept.names) != set(self._names) or kept.directory != self._directory:
            return None
        cert = web_cert(kept.chain)
        return cert.starts + (cert.ends - cert.starts) * 2 / 3

    def turn(self) -> float:
        """Order a certificate if one is due. Returns the seconds until the next look."""
        due, now = self.due(), self._clock.now()
        if due is not None and now < due:
            return min((due - now).total_seconds(), LOOK_EVERY)
        try:
            self._order()
        except Error as why:
            wait = min(FIRST_RETRY * 2.0 ** min(self._failures, 16), LAST_RETRY)
            wait *= self._chance.uniform(0.8, 1.2)
            self._failures += 1
            log.warning(
                "no certificate for %s by ACME: %s (next try in %s)",
                ", ".join(self._names),
                why.message,
                timedelta(seconds=round(wait)),
            )
            return wait
        self._failures = 0
        return LOOK_EVERY

    def turn_safely(self) -> float:
        """A thread that dies would let the certificate end unnoticed."""
        try:
            return self.turn()
        except Exception:
            log.exception("internal error while a certificate was ordered")
            return LAST_RETRY

    def _run(self) -> None:
        while not self._stopping:
            self._look.wait(self.turn_safely())
            self._look.clear()

    def _order(self) -> None:
        log.info("ordering a certificate for %s from %s", ", ".join(self._names), self._directory)
        file, account = self._account()
        client = self._client(self._directory, account, email=self._email)
        uri = client.register()
        if uri != account.uri:
            self._keep_account(file, Account(key=account.key, uri=uri))
        try:
            issued = client.order(self._names, self._offer)
        except NotFound:
            self._keep_account(file, Account(key=account.key))  # registers anew with the next try
            raise
        self._use(issued)
        cert = web_cert(issued.chain)
        log.info("a certificate for %s is here, until %s", ", ".join(self._names), cert.ends)

    def _use(self, issued: Issued) -> None:
        kept = _KeptCertificate(
            directory=self._directory,
            names=list(self._names),
            chain=issued.chain,
            key=issued.key.reveal(),
        )
        self._on_certificate(issued.chain, issued.key)  # refuses what does not fit together
        write_secret(self._home / CERTIFICATE, write(kept))
        self._kept = kept

    def _offer(self, name: str, digest: bytes) -> Callable[[], None]:
        chain, key = challenge_cert(name, digest, self._clock.now())
        context = web_context(chain, key)
        context.set_alpn_protocols([ACME])
        self._offers[name.lower()] = context

        def withdraw() -> None:
            self._offers.pop(name.lower(), None)

        return withdraw

    def _account(self) -> tuple[Path, Account]:
        """Ours with this authority; a key is made and kept before it is ever used."""
        name = hashlib.sha256(self._directory.encode()).hexdigest()[:16]
        file = self._home / f"account-{name}.json"
        try:
            kept = read(_KeptAccount, read_secret(file, limit=MAX_FILE), limit=MAX_FILE)
            return file, Account(key=Secret(kept.key), uri=kept.uri)
        except NotFound:
            account = Account(key=new_tls_key())
            self._keep_account(file, account)
            return file, account

    def _keep_account(self, file: Path, account: Account) -> None:
        kept = _KeptAccount(directory=self._directory, key=account.key.reveal(), uri=account.uri)
        write_secret(file, write(kept))

    def _load(self) -> _KeptCertificate | None:
        """None if it is damaged, past its end, or of other names."""
        file = self._home / CERTIFICATE
        try:
            kept = read(_KeptCertificate, read_secret(file, limit=MAX_FILE), limit=MAX_FILE)
            cert = web_cert(kept.chain)
        except NotFound:
            return None
        except Error as why:
            log.warning("%s is not used: %s", file, why.message)
            return None
        fits = all(cert.covers(name) for name in self._names)
        return kept if fits and self._clock.now() < cert.ends else None
