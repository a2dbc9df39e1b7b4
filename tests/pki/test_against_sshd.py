"""Two judges, one matrix: what OpenSSH's sshd refuses, we refuse."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from teleport_lite.errors import Denied
from teleport_lite.pki.verify import verify_login_signature, verify_user_certificate
from teleport_lite.testing.certs import FOREVER, options, packed, ssh_signature
from tests.pki import forgeries, sshd
from tests.pki.forgeries import ED, MATRIX, Case
from tests.pki.sshd import LOGIN, RawClient, RawKey

RECORDED = "OpenSSH_9.2"

pytestmark = pytest.mark.skipif(sshd.BINARY is None, reason="needs OpenSSH's sshd")


@pytest.fixture(scope="module")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    directory = tmp_path_factory.mktemp("sshd")
    with sshd.sshd(directory, forgeries.trusted_lines()) as client:
        right = MATRIX["plain and right"]
        if not client.accepts(RawKey(right.algorithm, right.blob(LOGIN), right.sign)):
            log = (directory / "log").read_text()
            # sshd without root lets only its own user in, and not every account at that.
            assert f"User {LOGIN} not allowed" in log, log
            pytest.skip(f"sshd lets nobody in as {LOGIN}: run as root")
        yield client


def ours(case: Case, blob: bytes, signed: bytes, signature: bytes) -> bool:
    try:
        verify_user_certificate(
            blob,
            algorithm=case.algorithm,
            login=LOGIN,
            trusted_cas=forgeries.trusted_blobs(),
            peer_ip="127.0.0.1",
            now=datetime.now(UTC),
        )
    except Denied:
        return False
    return verify_login_signature(
        blob, algorithm=case.algorithm, signed=signed, signature=signature
    )


def both(case: Case, openssh: RawClient) -> tuple[bool, bool]:
    """Our verdict and sshd's, over the same bytes of the same login."""
    blob, seen = case.blob(LOGIN), []

    def sign(data: bytes) -> bytes:
        signature = case.sign(data)
        seen.append((data, signature))
        return signature

    theirs = openssh.accepts(RawKey(case.algorithm, blob, sign))
    assert seen, "the client has sent nothing"
    return ours(case, blob, *seen[-1]), theirs


@pytest.mark.parametrize("name", MATRIX)
def test_our_verdict_and_sshds(name: str, openssh: RawClient) -> None:
    """sshd's verdicts were written down from 9.2; other versions may be looser, never we."""
    case = MATRIX[name]
    mine, theirs = both(case, openssh)
    assert mine is case.ours
    assert theirs or not mine
    if RECORDED in sshd.version():
        assert theirs is case.sshd


def test_no_case_of_the_matrix_is_looser_than_sshd() -> None:
    assert [name for name, case in MATRIX.items() if case.ours and not case.sshd] == []


@pytest.mark.parametrize("seed", range(8))
def test_we_never_let_in_whom_sshd_keeps_out(seed: int, openssh: RawClient) -> None:
    """Certificates thrown together at random, all of them properly signed by a trusted CA."""
    dice = random.Random(seed)
    agreed = 0
    for _ in range(40):
        case = thrown(dice)
        mine, theirs = both(case, openssh)
        assert theirs or not mine, case.blob(LOGIN).hex()
        agreed += mine == theirs
    assert agreed >= 20  # stricter here and there, not another rule altogether


def thrown(dice: random.Random) -> Case:
    now = forgeries.now()
    login = LOGIN.encode()
    pick = dice.choice
    names = [login, b"", b"*", login + b",x", b"x," + login, login.upper(), login + b"\0", b"bob"]
    forged = forgeries.cluster().forgery(
        forgeries.ed_key(),
        type=pick([1, 1, 1, 1, 1, 1, 0, 2]),
        key_id=pick([b"alice", b"bob", b"a.b@example.com"]),
        principals=tuple(pick([login, *names]) for _ in range(dice.randrange(4)))
        + (login,) * pick([0, 1, 1, 1]),
        valid_after=pick([0, now - 60, now - 1, now - 60, now + 100]),
        valid_before=pick([FOREVER, now + 500, now + 500, now + 500, now - 5]),
        critical=thrown_options(dice, CRITICAL),
        extensions=thrown_options(dice, EXTENSIONS),
        reserved=pick([b"", b"", b"x"]),
    )
    blob = forged.blob()
    if dice.random() < 0.3:  # one byte, signed again: the structure is what is at stake
        at = dice.randrange(len(blob) - 90)
        body = bytearray(blob[:-87])
        body[at % len(body)] = dice.randrange(256)
        signature = ssh_signature(forged.signer, bytes(body))
        blob = bytes(body) + packed(signature)
    return replace(MATRIX["plain and right"], make=lambda login: blob, algorithm=ED)


CRITICAL = [
    (b"force-command", b"true"),
    (b"force-command", b""),
    (b"source-address", b"127.0.0.0/8"),
    (b"source-address", b"127.0.0.1"),
    (b"source-address", b"10.0.0.0/8,127.0.0.1/32"),
    (b"source-address", b"10.0.0.0/8"),
    (b"source-address", b"127.0.0.1/8"),
    (b"new@example.com", None),
]
EXTENSIONS = [
    (b"permit-pty", None),
    (b"permit-user-rc", None),
    (b"permit-port-forwarding", b"x"),
    (b"new@example.com", None),
    (b"new@example.com", b"x"),
    (b"teleport-roles", b'{"version":"v1","roles":["access"]}'),
]


def thrown_options(dice: random.Random, offer: list[tuple[bytes, bytes | None]]) -> bytes:
    taken = dice.sample(offer, dice.choice([0, 0, 1, 1, 2]))
    return options(*(sorted(taken, key=lambda pair: pair[0]) if dice.random() < 0.8 else taken))
