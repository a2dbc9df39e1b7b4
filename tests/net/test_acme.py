"""When certificates are ordered, where they are kept, and what happens when none comes."""

import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Denied, NotFound, Unavailable
from teleport_lite.net.acme import FIRST_RETRY, LAST_RETRY, LOOK_EVERY, Acme
from teleport_lite.net.acme_client import Account, AcmeClient, Issued
from teleport_lite.pki.keys import new_tls_key
from teleport_lite.pki.web_cert import web_cert
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeChance, FakeClock

NAME = "tele.example.com"
HERE = "https://ca.example.com/directory"


class PaperAuthority:
    """Signs what it is asked for, unless told to fail."""

    def __init__(self) -> None:
        self.cluster = PaperCluster()
        self.fails: Exception | None = None
        self.accounts: list[str] = []
        self.orders: list[Sequence[str]] = []
        self.on_order: Callable[[Any], None] = lambda offer: None
        self.life = timedelta(days=9)

    def client(self, directory: str, account: Account, *, email: str) -> Any:
        return _Client(self, account)


class _Client:
    def __init__(self, authority: PaperAuthority, account: Account) -> None:
        self._authority, self._account = authority, account

    def register(self) -> str:
        self._authority.accounts.append(self._account.key.reveal())
        return self._account.uri or f"account-{len(self._authority.accounts)}"

    def order(self, names: Sequence[str], offer: Any) -> Issued:
        if self._authority.fails is not None:
            raise self._authority.fails
        self._authority.orders.append(names)
        self._authority.on_order(offer)
        held = self._authority.cluster.host("w", dns_names=tuple(names), life=self._authority.life)
        return Issued(chain=held.tls_cert, key=held.tls_private)


class Rig:
    def __init__(self, home: Path) -> None:
        self.home, self.authority = home, PaperAuthority()
        self.clock = FakeClock(self.authority.cluster.now)
        self.shown: list[str] = []

    def acme(self, *names: str, directory: str = HERE) -> Acme:
        """As after a start of the process, but for the thread."""
        found = Acme(
            names=names or (NAME,),
            data_dir=self.home,
            directory=directory,
            clock=self.clock,
            chance=FakeChance(),
            on_certificate=self._show,
            client=self.authority.client,
        )
        found.load()
        return found

    def _show(self, chain: str, key: Secret) -> None:
        assert key.reveal().startswith("-----BEGIN PRIVATE KEY-----")
        self.shown.append(chain)


@pytest.fixture
def rig(tmp_path) -> Rig:
    return Rig(tmp_path)


def test_the_first_one_is_ordered_at_once_and_kept(rig):
    acme = rig.acme()
    assert acme.turn() == LOOK_EVERY
    assert rig.authority.orders == [(NAME,)]
    assert len(rig.shown) == 1
    again = rig.acme()
    assert rig.shown[1] == rig.shown[0]
    assert again.turn() == LOOK_EVERY
    assert len(rig.authority.orders) == 1


def test_files_and_their_directory_are_private(rig):
    rig.acme().turn()
    home = rig.home / "acme"
    assert home.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in home.iterdir()} == {0o600}
    home.chmod(0o755)
    with pytest.raises(Denied):
        rig.acme()


def test_the_next_one_is_ordered_after_two_thirds_of_its_life(rig):
    acme = rig.acme()
    acme.turn()
    cert = web_cert(rig.shown[0])
    due = acme.due()
    assert due is not None
    assert due - cert.starts == (cert.ends - cert.starts) * 2 / 3
    rig.clock.set(due - timedelta(minutes=10))
    assert acme.turn() == 600
    rig.clock.set(due)
    acme.turn()
    assert len(rig.authority.orders) == 2
    assert len(rig.shown) == 2


def test_a_month_is_not_slept_through(rig):
    acme = rig.acme()
    acme.turn()
    assert acme.turn() == LOOK_EVERY


def test_other_names_or_another_authority_need_another_one(rig):
    rig.acme().turn()
    for other in (rig.acme(NAME, "b.example.com"), rig.acme(directory=HERE + "2")):
        assert other.due() is None
        other.turn()
    assert rig.authority.orders == [(NAME,), (NAME, "b.example.com"), (NAME,)]


def test_an_account_is_made_once_for_each_authority(rig):
    for directory in (HERE, HERE, HERE + "2"):
        rig.authority.life = timedelta(minutes=1)
        rig.acme(directory=directory).turn()
        rig.clock.tick(minutes=5)
    first, second, other = rig.authority.accounts
    assert first == second != other


def test_an_account_that_was_forgotten_is_made_again(rig):
    acme = rig.acme()
    acme.turn()
    rig.authority.fails = NotFound("does not know our account")
    rig.clock.tick(days=8)
    acme.turn()
    kept = next((rig.home / "acme").glob("account-*")).read_text()
    assert '"uri":""' in kept


def test_failures_are_told_and_tried_again_more_and_more_rarely(rig, caplog):
    rig.authority.fails = Unavailable("the authority is away")
    acme = rig.acme()
    waits = [acme.turn() for _ in range(12)]
    assert 0.8 * FIRST_RETRY <= waits[0] <= 1.2 * FIRST_RETRY
    assert waits[:6] == sorted(waits[:6])
    assert max(waits) <= 1.2 * LAST_RETRY
    assert min(waits[9:]) >= 0.8 * LAST_RETRY
    assert f"no certificate for {NAME} by ACME: the authority is away (next try in" in caplog.text
    rig.authority.fails = None
    assert acme.turn() == LOOK_EVERY
    assert rig.shown


def test_the_old_one_stays_while_no_new_one_comes(rig):
    rig.acme().turn()
    rig.authority.fails = Unavailable("the authority is away")
    rig.clock.tick(days=8)
    rig.acme().turn()
    assert len(rig.shown) == 2
    assert rig.shown[0] == rig.shown[1]


def test_one_that_has_ended_is_not_shown_again(rig):
    rig.acme().turn()
    rig.clock.tick(days=10)
    rig.acme()
    assert len(rig.shown) == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"nonsense", b'{"chain": 1}'])
def test_a_damaged_file_is_told_and_replaced(rig, content, caplog):
    rig.acme().turn()
    file = rig.home / "acme" / "certificate.json"
    file.write_bytes(content)
    acme = rig.acme()
    assert f"{file} is not used" in caplog.text
    acme.turn()
    assert len(rig.authority.orders) == 2


def test_an_authority_is_answered_while_it_asks_and_only_then(rig):
    acme = rig.acme()
    seen = []

    def look(offer):
        withdraw = offer(NAME, b"\x07" * 32)
        context = acme.responder(NAME.upper())
        assert context is not None
        seen.append(shown_by(context))
        withdraw()

    rig.authority.on_order = look
    assert acme.responder(NAME) is None
    acme.turn()
    assert acme.responder(NAME) is None
    assert seen == ["acme-tls/1"]


def shown_by(context: ssl.SSLContext) -> str | None:
    """The protocol that is agreed on by a server with this context."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    asking.set_alpn_protocols(["acme-tls/1"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname=NAME)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.selected_alpn_protocol()


def test_a_bug_does_not_end_the_thread(rig, caplog):
    rig.authority.fails = RuntimeError("a bug")
    acme = rig.acme()
    with pytest.raises(RuntimeError):
        acme.turn()
    assert acme.turn_safely() == LAST_RETRY
    assert "internal error while a certificate was ordered" in caplog.text


@pytest.mark.parametrize(
    "directory", ["https://127.0.0.1:1/dir", "https://name.invalid/dir", "https://["]
)
def test_an_authority_that_is_not_there_is_unavailable(directory):
    with pytest.raises(Unavailable, match="can not be used"):
        AcmeClient(directory, Account(key=new_tls_key()))
