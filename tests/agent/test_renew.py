"""Renewal over a connection of its own."""

import ssl
from datetime import timedelta

import pytest

from teleport_lite.agent.join import join
from teleport_lite.agent.probe import untrusted
from teleport_lite.agent.renew import EVERY, certificate_refused, due, renew
from teleport_lite.errors import Denied, NotFound, Unavailable
from teleport_lite.pki.verify import check_leaf
from teleport_lite.testing.fakes import T0
from tests.agent.rig import Auth, an_identity
from tests.support import free_port


def test_new_keys_and_certificates_for_the_same_host(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    again = renew(me, [auth.address], node_name="web-1")
    assert (again.host_id, again.roles, again.cluster) == (me.host_id, me.roles, me.cluster)
    assert again.ssh_public != me.ssh_public
    check_leaf(again.tls_cert, again.host_cas, auth.bench.clock.now())


def test_the_first_server_that_answers_is_enough(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    away = f"127.0.0.1:{free_port()}"
    assert renew(me, [away, auth.address], node_name="web-1").host_id == me.host_id
    with pytest.raises(Unavailable, match=away):
        renew(me, [away], node_name="web-1")
    with pytest.raises(Unavailable, match="no auth server is configured"):
        renew(me, [], node_name="web-1")


def test_who_was_removed_is_told_so(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    auth.bench.ask("/v1/resources/remove", kind="node", name=me.host_id)
    with pytest.raises(NotFound, match="is not part of this cluster any more"):
        renew(me, [auth.address], node_name="web-1")


def test_another_cluster_is_not_asked(auth: Auth) -> None:
    with pytest.raises(Denied, match="is not the auth server this host joined"):
        renew(an_identity(), [auth.address], node_name="web-1")


def test_a_refused_certificate_is_told_from_a_server_that_is_away(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    stray = an_identity(host_cas=me.host_cas)
    why = certificate_refused(stray, auth.address, timeout=30)
    assert why is not None
    assert "does not accept this host's certificate" in why.message
    assert certificate_refused(stray, f"127.0.0.1:{free_port()}", timeout=30) is None
    assert certificate_refused(an_identity(), auth.address, timeout=30) is None


@pytest.mark.parametrize(
    ("age", "jitter", "is_due"),
    [
        (timedelta(0), 0, False),
        (EVERY, 0, True),
        (EVERY - timedelta(seconds=1), 0, False),
        (EVERY * 0.8, -1, True),
        (EVERY * 1.19, 1, False),
        (EVERY * 1.21, 1, True),
        (-timedelta(days=1), 0, False),
    ],
)
def test_twice_a_day_and_not_in_step(age: timedelta, jitter: float, is_due: bool) -> None:
    assert due(T0 - age, T0, jitter) is is_due


def tls_error(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    why = kind(1, f"[SSL: {reason}]")
    why.reason = reason
    if isinstance(why, ssl.SSLCertVerificationError):
        why.verify_message = "self-signed certificate"
    return why


@pytest.mark.parametrize(
    ("why", "kind", "words"),
    [
        (
            tls_error("CERTIFICATE_VERIFY_FAILED", ssl.SSLCertVerificationError),
            Denied,
            "is not the auth server this host joined: self-signed certificate",
        ),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), Denied, "does not accept this host's certificate"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), Denied, "certificate expired"),
        (tls_error("WRONG_VERSION_NUMBER"), Unavailable, "handshake failed (wrong version number)"),
        (tls_error("TLSV1_ALERT_INTERNAL_ERROR"), Unavailable, "handshake failed"),
    ],
)
def test_who_does_not_trust_whom_is_told(
    why: ssl.SSLError, kind: type[Exception], words: str
) -> None:
    found = untrusted("auth:3025", why)
    assert type(found) is kind
    assert words in found.message
