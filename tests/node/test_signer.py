"""The signer by itself: what it signs, for whom, and when it ends."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from teleport_lite.agent import identity
from teleport_lite.node.wire import FromSigner, Link, Sign, ToSigner, Who
from teleport_lite.pki.wire import Reader
from teleport_lite.testing.certs import PaperCluster
from tests.node.house import House

HASH = b"h" * 32


class Office:
    """A signer in a process of its own, as it always is."""

    def __init__(self, house: House) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = (
            "import socket, sys; from pathlib import Path;"
            "from teleport_lite.node.signer import Signer;"
            "Signer(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2])).run()"
        )
        words = [sys.executable, "-c", code, str(theirs.fileno()), str(house.data_dir)]
        self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()])
        theirs.close()
        self.lines: list[Link] = []

    def line(self) -> Link:
        ours, theirs = Link.pair()
        socket.send_fds(self.control, [b"+"], [theirs.fileno()])
        theirs.close()
        ours.set_timeout(60)
        self.lines.append(ours)
        return ours

    def close(self) -> int:
        self.control.close()
        for line in self.lines:
            line.close()
        return self.process.wait(60)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def office(house: House) -> Iterator[Office]:
    office = Office(house)
    yield office
    assert office.close() == 0


def asks(line: Link, **what: object) -> FromSigner:
    line.send(ToSigner(**what))
    return line.receive(FromSigner)


def fits(public: str, signature: bytes | None, data: bytes) -> bool:
    assert signature is not None
    reader = Reader(signature)
    assert reader.text() == b"ssh-ed25519"
    raw = reader.text()
    reader.end()
    load_ssh_public_key(public.encode()).verify(raw, data)  # type: ignore[union-attr]  # Ed25519
    return True


def test_it_tells_the_public_half_and_signs_with_the_other(office: Office, house: House) -> None:
    line = office.line()
    host = asks(line, who=Who()).host
    assert host is not None
    assert (host.host_id, host.ssh_cert) == (house.host.id, house.host.ssh_cert)
    signature = asks(line, sign=Sign(exchange_hash=HASH)).signature
    assert fits(host.ssh_public, signature, HASH)


def test_the_private_half_is_in_no_answer(office: Office, house: House) -> None:
    line = office.line()
    line.send(ToSigner(who=Who()))
    raw = line._packet()
    assert house.host.ssh_private.reveal().split("\n")[3].encode() not in raw
    assert b"private" not in raw.lower()


@pytest.mark.parametrize("size", [0, 1, 16, 20, 31, 33, 63, 65, 200, 10_000])
def test_it_signs_nothing_that_is_no_exchange_hash(office: Office, size: int) -> None:
    line = office.line()
    asks(line, who=Who())
    answer = asks(line, sign=Sign(exchange_hash=b"x" * size))
    assert answer.signature is None
    assert answer.reason


def test_nothing_is_signed_for_who_has_not_asked_who_we_are(office: Office) -> None:
    assert asks(office.line(), sign=Sign(exchange_hash=HASH)).signature is None


def test_a_line_keeps_the_key_it_began_with(office: Office, house: House) -> None:
    old, before = office.line(), house.host.ssh_public
    asks(old, who=Who())
    house.host = house.cluster.host("node1", host_id=house.host.id)
    house.save_identity()
    new = office.line()
    told = asks(new, who=Who()).host
    assert told is not None
    assert told.ssh_public == house.host.ssh_public != before
    assert fits(before, asks(old, sign=Sign(exchange_hash=HASH)).signature, HASH)
    assert fits(told.ssh_public, asks(new, sign=Sign(exchange_hash=HASH)).signature, HASH)


def test_while_the_host_ca_is_rotated_it_serves_with_what_people_know(
    office: Office, house: House
) -> None:
    """The other certificate is for those it goes to; both are over the same key."""
    kept = identity.load(house.data_dir)
    assert kept is not None
    old = house.host.ssh_cert
    new = PaperCluster(house.cluster.name).host("node1", host_id=house.host.id).ssh_cert
    identity.save(house.data_dir, replace(kept, ssh_cert=new, serving_ssh_cert=old))
    host = asks(office.line(), who=Who()).host
    assert host is not None
    assert host.ssh_cert == old
    identity.save(house.data_dir, replace(kept, ssh_cert=new))
    host = asks(office.line(), who=Who()).host
    assert host is not None
    assert host.ssh_cert == new


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"sign": {}}', b'{"who": {"a": 1}}'])
def test_nonsense_costs_the_line_and_nothing_else(office: Office, raw: bytes) -> None:
    line = office.line()
    line._sock.send(raw or b"\0")
    if raw == b"{}":
        assert line.receive(FromSigner).signature is None
    else:
        with pytest.raises(EOFError):
            line.receive(FromSigner)
    assert asks(office.line(), who=Who()).host is not None


@pytest.mark.parametrize("content", [None, "", "{}", '{"ssh_private": "x"}'])
def test_without_a_usable_identity_it_says_so(
    office: Office, house: House, content: str | None
) -> None:
    path = house.data_dir / "identity.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    answer = asks(office.line(), who=Who())
    assert answer.host is None
    assert answer.reason
    house.save_identity()
    assert asks(office.line(), who=Who()).host is not None


def test_an_identity_that_others_may_read_is_not_used(office: Office, house: House) -> None:
    (house.data_dir / "identity.json").chmod(0o644)
    answer = asks(office.line(), who=Who())
    assert answer.host is None
    assert "0644" in answer.reason


def test_it_ends_with_the_last_line_and_not_before(house: House) -> None:
    office = Office(house)
    line = office.line()
    asks(line, who=Who())
    office.control.close()
    assert asks(line, sign=Sign(exchange_hash=HASH)).signature is not None
    assert office.process.poll() is None
    assert office.close() == 0
