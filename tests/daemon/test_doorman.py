"""From a TLS connection to an answer: who is asking is asked with every request."""

from typing import Any

import pytest

from teleport_lite.agent.join import Keys, join
from teleport_lite.errors import Denied, Malformed, NotFound, Unauthenticated, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.net.way import Way
from teleport_lite.pki.keys import csr
from teleport_lite.proto.codec import MAX_ADMIN, MAX_JOIN
from tests.agent.rig import Auth


def a_user(auth: Auth, name: str, *roles: str) -> Connection:
    """A connection of somebody with a certificate from `tctl auth sign`."""
    keys = Keys.new()
    auth.bench.ask("/v1/users/add", name=name, roles=list(roles))
    request = {"ssh_key": keys.ssh_public, "tls_csr": csr(keys.tls_private, name)}
    signed = auth.bench.ask("/v1/auth/sign", user=name, **request)
    context = client_context(signed["tls_cert"], keys.tls_private, signed["host_cas"])
    return Connection.tls(Way(auth.address), context, timeout=30)


def a_host(auth: Auth) -> tuple[Connection, str]:
    auth.bench.token()
    me = join(auth.wish())
    context = client_context(me.tls_cert, me.tls_private, me.host_cas)
    return Connection.tls(Way(auth.address), context, timeout=30), me.host_id


def nobody(auth: Auth) -> Connection:
    cas = auth.bench.ask("/v1/auth/export", type="tls")["text"]
    context = client_context(None, None, [cas])
    return Connection.tls(Way(auth.address), context, timeout=30)


def test_a_user_may_do_what_the_roles_allow(auth: Auth) -> None:
    with a_user(auth, "alice", "editor") as wire:
        assert wire.ask("/v1/status", {})["cluster"] == "test.example"
        assert wire.ask("/v1/tokens/add", {"types": "node"})["roles"] == ["Node"]
        with pytest.raises(Denied, match="no role allows list on event"):
            wire.ask("/v1/audit/list", {})
    made = auth.bench.last_event("join_token.create")
    assert (made.facts["user"], made.facts["addr.remote"]) == ("user:alice", "127.0.0.1")


@pytest.mark.parametrize(
    ("change", "words", "cause"),
    [
        ("/v1/locks/add", {"target": "user", "value": "alice"}, "user alice is locked"),
        ("/v1/locks/add", {"target": "role", "value": "editor"}, "role editor is locked"),
        ("/v1/users/remove", {"name": "alice"}, "user alice does not exist any more"),
        ("/v1/users/update", {"name": "alice", "roles": []}, "no role allows read on status"),
    ],
)
def test_what_changes_counts_on_the_open_connection(
    auth: Auth, change: str, words: dict[str, Any], cause: str
) -> None:
    with a_user(auth, "alice", "editor") as wire:
        assert wire.ask("/v1/status", {})
        auth.bench.ask(change, **words)
        with pytest.raises(Denied, match=cause):
            wire.ask("/v1/status", {})


def test_a_certificate_that_expires_counts_on_the_open_connection(auth: Auth) -> None:
    with a_user(auth, "alice", "editor") as wire:
        assert wire.ask("/v1/status", {})
        auth.bench.clock.tick(hours=12)
        with pytest.raises(Denied, match="this certificate has expired"):
            wire.ask("/v1/status", {})


def test_a_host_is_known_until_it_is_removed(auth: Auth) -> None:
    wire, host_id = a_host(auth)
    with wire:
        assert wire.ask("/v1/ca")["cluster"] == "test.example"
        with pytest.raises(Denied, match="a host may not do this"):
            wire.ask("/v1/status", {})
        auth.bench.ask("/v1/resources/remove", kind="node", name=host_id)
        with pytest.raises(NotFound, match="is not part of this cluster any more"):
            wire.ask("/v1/ca")


def test_a_stranger_is_told_to_bring_a_certificate(auth: Auth) -> None:
    with nobody(auth) as wire:
        assert wire.ask("/v1/ca")["host_cas"]
        with pytest.raises(Unauthenticated, match="needs a client certificate"):
            wire.ask("/v1/status", {})
        with pytest.raises(NotFound, match="is not part of this API"):
            wire.ask("/v1/nonsense", {})


def test_a_stranger_sends_less_than_somebody_we_know(auth: Auth) -> None:
    long = {"name": "x" * (MAX_JOIN + 1)}
    with nobody(auth) as wire, pytest.raises((Malformed, Unavailable)) as why:
        wire.ask("/v1/users/remove", long)
    assert "most we read here is 65536" in why.value.message or "broke" in why.value.message
    with a_user(auth, "alice", "editor") as wire, pytest.raises(NotFound):
        wire.ask("/v1/users/remove", long)
    with a_user(auth, "bob", "editor") as wire, pytest.raises((Malformed, Unavailable)):
        wire.ask("/v1/users/remove", {"name": "x" * (MAX_ADMIN + 1)})
