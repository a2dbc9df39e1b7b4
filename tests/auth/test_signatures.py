"""Certificates and CAs to take away."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from teleport_lite.auth.issue import Issuer
from teleport_lite.auth.signatures import SignatureDesk
from teleport_lite.errors import Error, Malformed
from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key
from teleport_lite.pki.pin import pin_of
from teleport_lite.pki.ssh_cert import read_ssh_cert
from teleport_lite.pki.verify import ssh_blob
from teleport_lite.plugin.builtin import builtin_book
from tests.auth.bench import CLUSTER, Bench


def a_request(**words: Any) -> dict[str, Any]:
    return {
        "names": ["db-1", "db-1.example.com"],
        "ssh_key": new_ssh_key()[1],
        "tls_csr": csr(new_tls_key(), "db-1"),
        **words,
    }


def test_a_machine_without_our_program_gets_a_host_certificate() -> None:
    bench = Bench()
    parcel = bench.ask("/v1/auth/sign-host", **a_request(ttl="24h"))
    cert = read_ssh_cert(ssh_blob(parcel["ssh_cert"]))
    assert cert.principals[2:] == (f"db-1.{CLUSTER}".encode(), b"db-1", b"db-1.example.com")
    assert cert.valid_before == int((bench.clock.now() + timedelta(hours=24)).timestamp())
    assert bench.last_event("cert.create").facts["names"] == "db-1,db-1.example.com"
    assert bench.hosts() == []


def test_its_certificate_opens_no_door_of_the_cluster() -> None:
    leaf = x509.load_pem_x509_certificate(
        Bench().ask("/v1/auth/sign-host", **a_request())["tls_cert"].encode()
    )
    assert "Node" not in leaf.subject.rfc4514_string()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "auth.teleport-lite.internal" not in names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ({"names": []}, "needs 1 to 32 names"),
        ({"names": ["a"] * 33}, "needs 1 to 32 names"),
        ({"names": ["*"]}, "is not valid"),
        ({"names": ["a,b"]}, "is not valid"),
        ({"names": ["auth.teleport-lite.internal"]}, "is reserved"),
        ({"names": ["a", "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"]}, "is reserved"),
        ({"names": ["a", "0.0.0.0"]}, "the address of no host"),
        ({"ttl": "59s"}, "between 1m and 720h"),
        ({"ttl": "721h"}, "between 1m and 720h"),
        ({"ssh_key": "x"}, "is not a line"),
        ({"tls_csr": "x"}, "certificate request"),
    ],
)
def test_what_no_host_should_have_is_not_signed(words: dict[str, Any], cause: str) -> None:
    with pytest.raises(Error, match=cause):
        Bench().ask("/v1/auth/sign-host", **a_request(**words))


def export(bench: Bench, type: str) -> str:
    return bench.ask("/v1/auth/export", type=type)["text"]


def test_jump_hosts_are_known_by_the_names_ssh_looks_them_up_by() -> None:
    bench, addresses = Bench(), ["tele.example.com:3080", "ssh.example.com:22", "[::1]:3023"]
    desk = SignatureDesk(
        clock=bench.clock,
        chance=bench.chance,
        trail=bench.desks.trail,
        cas=bench.desks.cas,
        people=bench.desks.people,
        issuer=Issuer(
            clock=bench.clock,
            chance=bench.chance,
            store=bench.store,
            cas=bench.desks.cas,
            book=builtin_book(),
        ),
        jump_hosts=lambda: addresses,
    )
    hosts = desk.export("host")["text"].split()[1].split(",")
    assert hosts[2:] == ["[tele.example.com]:3080", "ssh.example.com", "[::1]:3023"]


def test_host_cas_come_as_known_hosts_and_user_cas_as_authorized_keys() -> None:
    bench = Bench()
    assert export(bench, "host").startswith(f"@cert-authority *.{CLUSTER},{CLUSTER} ssh-ed25519 ")
    assert export(bench, "user").startswith("cert-authority ssh-ed25519 ")
    assert f"clustername={CLUSTER}&type=user" in export(bench, "USER")
    assert "type=openssh" in export(bench, "openssh")


@pytest.mark.parametrize("type", ["tls", "tls-host", "tls-user", "db"])
def test_x509_cas_come_as_pem_and_fit_the_pins(type: str) -> None:
    bench = Bench()
    pem = export(bench, type)
    assert pem.startswith("-----BEGIN CERTIFICATE-----")
    assert (pin_of(pem) in bench.desks.cas.pins()) is (type in ("tls", "tls-host"))


@pytest.mark.parametrize("type", ["", "jwt", "private", "x" * 999])
def test_nothing_else_is_exported(type: str) -> None:
    with pytest.raises(Malformed, match="does not exist") as why:
        export(Bench(), type)
    assert "tls-host" in why.value.hint


def test_no_export_has_a_private_key_in_it() -> None:
    bench = Bench()
    for type in ("host", "user", "openssh", "tls", "tls-user", "db"):
        assert "PRIVATE" not in export(bench, type)
