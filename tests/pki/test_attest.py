"""Whom a relayed connection comes from, signed by the proxy that relays it."""

from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Denied, Malformed
from teleport_lite.net.proxy_header import MAX_HEADER, write_header
from teleport_lite.pki.attest import LIFE, TLV, attest, attested
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster, Papers

CLUSTER = PaperCluster()
NOW = CLUSTER.now
PROXY = CLUSTER.host("proxy1", roles=("Proxy",))
SOURCE, TARGET = ("203.0.113.7", 40000), ("192.0.2.1", 443)


def signed(
    papers: Papers = PROXY,
    *,
    source: tuple[str, int] = SOURCE,
    target: tuple[str, int] = TARGET,
    now: datetime = NOW,
) -> bytes:
    return attest(papers.tls_cert, papers.tls_private, source=source, target=target, now=now)


def check(tlv: bytes, **more: object) -> str:
    usual: dict[str, object] = {
        "source": SOURCE,
        "target": TARGET,
        "host_cas": CLUSTER.host_cas,
        "cluster": CLUSTER.name,
        "now": NOW,
    }
    return attested(tlv, **(usual | more))  # type: ignore[arg-type]  # keyword arguments above


def refused(tlv: bytes, **more: object) -> str:
    with pytest.raises(Denied) as why:
        check(tlv, **more)
    assert why.value.message == (
        "the address of a relayed connection is not signed by a proxy of this cluster"
    )
    assert why.value.log
    assert why.value.log.isprintable()
    return why.value.log


def test_a_proxy_of_the_cluster_is_believed() -> None:
    assert check(signed()) == PROXY.id
    both = CLUSTER.host(roles=("Auth", "Proxy", "Node"))
    assert check(signed(both)) == both.id
    six = ("2001:db8::7", 1), ("2001:db8::1", 2)
    assert check(signed(source=six[0], target=six[1]), source=six[0], target=six[1]) == PROXY.id


def test_it_fits_into_a_header_with_room_to_spare() -> None:
    header = write_header(SOURCE, TARGET, [(TLV, signed())])
    assert len(header) < MAX_HEADER / 4


@pytest.mark.parametrize(
    "other",
    [
        {"source": ("203.0.113.8", 40000)},
        {"source": ("203.0.113.7", 40001)},
        {"target": ("192.0.2.2", 443)},
        {"target": ("192.0.2.1", 444)},
        {"source": TARGET, "target": SOURCE},
    ],
)
def test_it_is_good_for_these_two_addresses_only(other: dict[str, object]) -> None:
    assert refused(signed(), **other) == "the signature does not fit"


def test_it_is_good_for_two_minutes_whichever_clock_is_wrong() -> None:
    tlv, second = signed(), timedelta(seconds=1)
    assert check(tlv, now=NOW + LIFE) == check(tlv, now=NOW - timedelta(seconds=30)) == PROXY.id
    assert "signed 121 s ago" in refused(tlv, now=NOW + LIFE + second)
    early = signed(now=NOW + LIFE + second)
    assert "signed -121 s ago" in refused(early)


def test_only_a_host_with_the_role_proxy_may_say_so() -> None:
    no_proxy = "signed by no proxy of this cluster"
    assert refused(signed(CLUSTER.host(roles=("Node", "App")))) == no_proxy
    assert refused(signed(CLUSTER.host(roles=("Auth",)))) == no_proxy
    # A user role may have any name.
    assert refused(signed(CLUSTER.user(roles=("Proxy",)))) == "it is signed by no CA of the cluster"
    both = [*CLUSTER.host_cas, *CLUSTER.user_cas]
    assert refused(signed(CLUSTER.user(roles=("Proxy",))), host_cas=both)


def test_only_a_host_of_this_cluster_may_say_so() -> None:
    foreign = PaperCluster("other.example", now=NOW)
    theirs = signed(foreign.host(roles=("Proxy",)))
    assert refused(theirs) == "it is signed by no CA of the cluster"
    assert refused(theirs, host_cas=foreign.host_cas) == "signed by no proxy of this cluster"
    twin = PaperCluster(CLUSTER.name, now=NOW)
    assert refused(signed(twin.host(roles=("Proxy",)))) == "it is signed by no CA of the cluster"


def test_while_a_ca_is_rotated_both_are_believed() -> None:
    new = PaperCluster(CLUSTER.name, now=NOW)
    proxy = new.host(roles=("Proxy",))
    cas = [*CLUSTER.host_cas, *new.host_cas]
    assert check(signed(), host_cas=cas) == PROXY.id
    assert check(signed(proxy), host_cas=cas) == proxy.id


def test_a_certificate_that_has_expired_says_nothing() -> None:
    old = CLUSTER.host(roles=("Proxy",), life=timedelta(hours=1))
    later = NOW + timedelta(hours=2)
    assert "expired" in refused(signed(old, now=later), now=later)


def test_the_key_of_another_host_does_not_fit() -> None:
    other = CLUSTER.host(roles=("Proxy",))
    mixed = attest(PROXY.tls_cert, other.tls_private, source=SOURCE, target=TARGET, now=NOW)
    assert refused(mixed) == "the signature does not fit"


def test_a_change_of_the_time_does_not_go_unnoticed() -> None:
    tlv = signed(now=NOW - LIFE)
    fresh = int(NOW.timestamp()).to_bytes(8, "big")
    assert refused(tlv[:1] + fresh + tlv[9:]) == "the signature does not fit"


@pytest.mark.parametrize(
    "tlv",
    [b"", b"\x01", b"\x02" + signed()[1:], signed()[:-1], signed() + b"\0", signed()[:200]],
    ids=["empty", "version", "other version", "cut", "longer", "half"],
)
def test_what_is_cut_or_longer_is_refused(tlv: bytes) -> None:
    refused(tlv)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 5000), bit=st.integers(0, 7))
def test_one_bit_that_is_wrong_is_refused(at: int, bit: int) -> None:
    tlv = bytearray(signed())
    tlv[at % len(tlv)] ^= 1 << bit
    refused(bytes(tlv))


@settings(max_examples=200, deadline=None)
@given(tlv=st.binary(max_size=300))
def test_any_bytes_are_refused(tlv: bytes) -> None:
    refused(tlv)
    refused(signed()[:9] + tlv)


def test_an_identity_that_can_not_sign_says_so() -> None:
    with pytest.raises(Malformed, match="identity of this host can not be read"):
        attest("", PROXY.tls_private, source=SOURCE, target=TARGET, now=NOW)
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(Malformed, match="not an ECDSA key"):
        attest(PROXY.tls_cert, Secret(pem), source=SOURCE, target=TARGET, now=NOW)
