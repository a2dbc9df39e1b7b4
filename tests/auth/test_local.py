"""The auth host's own roles."""

import pytest
from cryptography import x509

from teleport_lite.errors import Malformed
from tests.auth.bench import Applicant, Bench


def test_they_need_no_token_and_keep_their_id() -> None:
    bench = Bench()
    first = bench.desks.local.admit(Applicant(name="auth-1").hello, ("Auth", "Node"))
    again = Applicant(name="auth-1", host_id=first.host_id).hello
    second = bench.desks.local.admit(again, ("Auth", "Node"))
    assert second.host_id == first.host_id
    [(host, _)] = bench.store.hosts()
    assert (host.token_id, host.roles) == ("local", ("Auth", "Node"))
    names = x509.load_pem_x509_certificate(
        second.tls_cert.encode()
    ).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert "auth.teleport-lite.internal" in names.value.get_values_for_type(x509.DNSName)


def test_an_id_that_this_cluster_never_gave_is_not_taken_over() -> None:
    bench = Bench()
    stale = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
    welcome = bench.desks.local.admit(Applicant(host_id=stale).hello, ("Auth",))
    assert welcome.host_id != stale


def test_a_name_that_fits_no_certificate_leaves_no_host() -> None:
    bench = Bench()
    hello = Applicant(changes={"node_name": "no such name"}).hello
    with pytest.raises(Malformed, match="can not be used"):
        bench.desks.local.admit(hello, ("Auth",))
    assert bench.hosts() == []
