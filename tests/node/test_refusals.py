"""Who must stay outside, offered by OpenSSH's client or, byte for byte, by a raw one."""

import base64
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from teleport_lite.model.lock import Target
from teleport_lite.model.user import Condition, Role
from teleport_lite.pki.keys import ssh_line
from teleport_lite.testing.certs import (
    HOST,
    PaperCluster,
    Papers,
    SshForgery,
    options,
    ssh_signature,
)
from tests.node.house import ME, ROLE, House, Visitor, running
from tests.pki import forgeries
from tests.pki.forgeries import MATRIX
from tests.pki.sshd import RawClient, RawKey
from tests.support import eventually

# What lets a forged certificate in, if it is good enough otherwise.
ALLOWED = options(
    (b"teleport-roles", b'{"version":"v1","roles":["access"]}'),
    (b"teleport-traits", b'{"logins":["%s"]}' % ME.encode()),
)


PLAIN = "a plain key, and only certificates are accepted"


def refused(visitor: Visitor, login: str = ME) -> str:
    """Why it was, "" if it was not. The client hears nothing of it, the trail does."""
    house = visitor.house
    before = len(house.events())
    done = visitor.ssh("true", login=login)
    if done.returncode == 0:
        return ""
    assert b"Permission denied (publickey)" in done.stderr

    def told() -> list[str]:
        new = [e["facts"] for e in house.events()[before:] if e["code"] == "T3007W"]
        # The plain key of the client is told at the end. What is told of earlier connections may
        # still come in between.
        ours = next((each["addr.remote"] for each in new if each["reason"] == PLAIN), "")
        return [each["reason"] for each in new if each["addr.remote"] == ours]

    reasons = eventually(told, what="the refusal in the trail")
    return reasons[0]


def test_a_good_certificate_gets_in(house: House) -> None:
    """Else every test below would pass for no reason."""
    assert not refused(house.visitor())


def test_an_expired_certificate(house: House) -> None:
    past = PaperCluster(now=house.cluster.now - timedelta(hours=2))
    past.authority = house.cluster.authority
    papers = past.user(logins=(ME,), life=timedelta(hours=1))
    assert refused(house.visitor(papers)) == "expired or not yet valid"


def test_a_certificate_of_another_ca(house: House) -> None:
    papers = PaperCluster().user(logins=(ME,))
    assert refused(house.visitor(papers)) == "signed by a CA we do not trust"


def test_a_host_certificate(house: House) -> None:
    """OpenSSH's client does not send one, so the raw one does."""
    forged = house.cluster.forgery(
        forgeries.ed_key(), type=HOST, principals=(ME.encode(),), extensions=ALLOWED
    )
    client = RawClient(house.port)
    assert not client.accepts(raw_key(forged))
    house.event("T3007W", reason="not a user certificate")
    own = paramiko.pkey.PublicBlob.from_string(house.host.ssh_cert).key_blob
    assert not client.accepts(RawKey(forgeries.ED, own, lambda _data: b""))
    house.event("T3007W", reason="signed by a CA we do not trust")
    client.close()


def test_another_principal(house: House) -> None:
    papers = house.cluster.user(logins=("somebody",))
    assert "not among the principals" in refused(house.visitor(papers))


def test_a_plain_key(house: House) -> None:
    papers = replace(house.cluster.user(logins=(ME,)), ssh_cert="")
    assert refused(house.visitor(papers)) == PLAIN


def test_an_unknown_critical_option(house: House) -> None:
    papers = forged_user(house, critical=options((b"new-rule@example.com", b"x")))
    assert "new-rule@example.com" in refused(house.visitor(papers))


def test_an_address_the_certificate_does_not_name(house: House) -> None:
    papers = house.cluster.user(logins=(ME,), source_address="192.0.2.0/24")
    assert refused(house.visitor(papers)) == "not from 127.0.0.1"
    papers = house.cluster.user(logins=(ME,), source_address="127.0.0.0/8")
    assert not refused(house.visitor(papers))


def test_a_certificate_without_roles(house: House) -> None:
    papers = house.cluster.user(logins=(ME,), roles=())
    assert refused(house.visitor(papers)) == f"no role allows login {ME} here"


def test_an_account_that_does_not_exist(house: House) -> None:
    papers = house.cluster.user(logins=("no-such-account",))
    visitor = house.visitor(papers)
    assert refused(visitor, login="no-such-account") == "no account no-such-account"


@pytest.mark.parametrize(
    "login", ["-oops", "0", "*", "ro ot", "", "root\0", "\u202eroot", "A" * 9999]
)
def test_a_login_that_is_none(house: House, login: str) -> None:
    client = RawClient(house.port)
    forged = house.cluster.forgery(
        forgeries.ed_key(), principals=(login.encode(), ME.encode()), extensions=ALLOWED
    )
    assert not client.accepts(raw_key(forged), login)
    client.close()


def test_a_key_that_is_not_the_certificate_s(house: House) -> None:
    mine, theirs = house.cluster.user(logins=(ME,)), house.cluster.user(logins=(ME,))
    key = paramiko.Ed25519Key.from_private_key(Readable(mine.ssh_private.reveal()))
    blob = paramiko.pkey.PublicBlob.from_string(theirs.ssh_cert).key_blob
    raw = RawKey(forgeries.ED, blob, lambda data: key.sign_ssh_data(data).asbytes())
    client = RawClient(house.port)
    assert not client.accepts(raw)
    client.close()
    house.event("T3007W", reason="the signature does not fit the certificate")


def test_a_signature_over_another_session(house: House) -> None:
    """A server that somebody has logged in to cannot use the signature here."""
    forged = house.cluster.forgery(
        forgeries.ed_key(), principals=(ME.encode(),), extensions=ALLOWED
    )
    replayed: list[bytes] = []

    def sign(data: bytes) -> bytes:
        replayed.append(ssh_signature(forgeries.ed_key(), data))
        return replayed[0]

    for expected in (True, False):
        client = RawClient(house.port)
        assert client.accepts(RawKey(forgeries.ED, forged.blob(), sign)) is expected
        client.close()


# --- roles, labels, locks


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    """A node whose knowledge a test may change."""
    with running(tmp_path) as house:
        yield house


def test_a_login_that_no_role_allows(own: House) -> None:
    own.roles = [replace(ROLE, allow=Condition(logins=("somebody",), node_labels={"*": ("*",)}))]
    own.save_knowledge()
    assert refused(own.visitor())


def test_a_role_for_other_hosts(own: House) -> None:
    own.roles = [replace(ROLE, allow=Condition(logins=(ME,), node_labels={"env": ("prod",)}))]
    own.save_knowledge()
    assert refused(own.visitor())
    own.labels = {"env": "prod"}
    own.save_knowledge()
    assert not refused(own.visitor())


def test_a_login_that_a_role_denies(own: House) -> None:
    own.roles = [ROLE, Role(name="no-root", deny=Condition(logins=(ME,)))]
    own.save_knowledge()
    papers = own.cluster.user(logins=(ME,), roles=("access", "no-root"))
    assert refused(own.visitor(papers)) == f"role no-root denies login {ME} here"


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (Target.USER, "alice"),
        (Target.ROLE, "access"),
        (Target.LOGIN, ME),
        (Target.NODE, "host id"),
        (Target.BOT, "certificate id"),
    ],
)
def test_a_lock_on_any_of_them(house: House, target: Target, value: str) -> None:
    papers = house.cluster.user(logins=(ME,))
    value = {"host id": house.host.id, "certificate id": papers.id}.get(value, value)
    house.lock(target, value)
    try:
        assert f"{value} is locked" in refused(house.visitor(papers))
    finally:
        house.unlock_all()
    assert not refused(house.visitor(papers))


def test_knowledge_that_is_missing_or_broken_lets_nobody_in(own: House) -> None:
    (own.data_dir / "knowledge.json").write_text('{"cluster": 1}')
    assert refused(own.visitor())
    (own.data_dir / "knowledge.json").unlink()
    assert refused(own.visitor()) == "this host has heard nothing from auth yet"


def test_a_lock_or_role_that_cannot_be_read_lets_nobody_in(own: House) -> None:
    own.save_knowledge(locks=[{"kind": "lock", "spec": {"target": {"planet": "mars"}}}])
    assert refused(own.visitor())
    own.save_knowledge(
        locks=[], roles=[{"kind": "role", "metadata": {"name": "access"}, "spec": {"alow": {}}}]
    )
    assert refused(own.visitor())


def test_a_host_without_an_identity_talks_to_nobody(own: House) -> None:
    (own.data_dir / "identity.json").unlink()
    with socket.create_connection(("127.0.0.1", own.port), timeout=60) as peer:
        assert peer.recv(100) == b""


# --- the matrix of forged certificates


@pytest.fixture(scope="module")
def matrix_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Trusts the CAs of the matrix. The role is open to whatever the forged ones name."""
    with running(tmp_path_factory.mktemp("matrix")) as house:
        lines = forgeries.trusted_lines().splitlines()
        house.roles = [replace(ROLE, allow=Condition(logins=(ME,), node_labels={"*": ("*",)}))]
        house.save_knowledge(ssh_user_cas=lines)
        yield house


@pytest.fixture
def raw(matrix_house: House) -> Iterator[RawClient]:
    """For each case a new one: after six tries the node hangs up, at a moment of its own."""
    client = RawClient(matrix_house.port)
    yield client
    client.close()


@pytest.mark.parametrize("name", MATRIX)
def test_the_node_agrees_with_the_matrix(name: str, raw: RawClient, matrix_house: House) -> None:
    """No forged certificate names a role, so the good ones stop there, with that reason."""
    case = MATRIX[name]
    blob = case.blob(ME)
    assert not raw.accepts(RawKey(case.algorithm, blob, case.sign))

    def reasons() -> list[str]:
        facts = [event["facts"] for event in matrix_house.events() if event["code"] == "T3007W"]
        return [each["reason"] for each in facts if each["addr.remote"] == raw.address]

    if len(blob) <= 48 * 1024 and "-cert-" in case.algorithm:
        eventually(reasons, what="the refusal in the trail")
    good = f"no role allows login {ME} here" in reasons()
    assert good is case.ours, reasons()


def test_the_connection_survives_a_mangled_key(house: House) -> None:
    """It fails the attempt; the good certificate after it on the same connection works."""
    client = RawClient(house.port)
    nonsense = RawKey("ssh-new@example.com", b"\xff" * 100, lambda _data: b"\0" * 64)
    assert not client.accepts(nonsense)
    transport = client._transport
    assert not client.accepts(RawKey(forgeries.ED, b"", lambda _data: b""))
    good = house.cluster.forgery(forgeries.ed_key(), principals=(ME.encode(),), extensions=ALLOWED)
    assert transport is client._transport
    assert client.accepts(raw_key(good))


def test_passwords_and_dialogues_are_not_even_offered(house: House) -> None:
    with socket.create_connection(("127.0.0.1", house.port)) as sock:
        client = paramiko.Transport(sock)
        client.banner_timeout = client.handshake_timeout = client.auth_timeout = 60
        client.start_client(timeout=60)
        with pytest.raises(paramiko.BadAuthenticationType) as no:
            client.auth_password(ME, "secret", fallback=False)
        assert no.value.allowed_types == ["publickey"]
        client.close()


def forged_user(house: House, **changes: object) -> Papers:
    """Papers with a certificate that our own CA would never make."""
    papers = house.cluster.user(logins=(ME,))
    key = paramiko.Ed25519Key.from_private_key(Readable(papers.ssh_private.reveal()))
    private = load_ssh_private_key(papers.ssh_private.reveal().encode(), None)
    assert ssh_line(private.public_key()).split()[1] == key.get_base64()
    forged = house.cluster.forgery(private, principals=(ME.encode(),), **changes)  # type: ignore[arg-type]  # Ed25519
    line = f"{forgeries.ED} {base64.b64encode(forged.blob()).decode()}"
    return replace(papers, ssh_cert=line)


def raw_key(forged: SshForgery) -> RawKey:
    return RawKey(forgeries.ED, forged.blob(), lambda data: ssh_signature(forged.key, data))


class Readable:
    def __init__(self, text: str) -> None:
        self._text = text

    def readlines(self) -> list[str]:
        return self._text.splitlines(keepends=True)
