"""Asking auth in the name of the proxy."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from teleport_lite.errors import NotFound, Unavailable
from teleport_lite.proto.login import InviteLook
from teleport_lite.proxy import auth_door
from teleport_lite.proxy.auth_door import AuthDoor
from teleport_lite.testing.certs import PaperCluster
from tests.daemon.proxies import Echo, proxy_identity
from tests.net.serving import Serving, shown
from tests.support import free_port

LOOK = InviteLook(token="secret-token", source="192.0.2.1")
CLUSTER = PaperCluster()
ME = proxy_identity(CLUSTER)


class Desk(Echo):
    def answer(self, path: str, peer: Any, raw: bytes) -> dict[str, Any]:
        if path == "/v1/invite/look":
            raise NotFound("this link was used")
        return {"proved": peer.certificate is not None, "said": raw.decode()}


@pytest.fixture
def auth() -> Iterator[Serving]:
    with Serving(Desk(), shown(CLUSTER)) as running:
        yield running


def ask(*addresses: str, path: str = "/v1/x", cluster: PaperCluster = CLUSTER) -> Any:
    door = AuthDoor(addresses, identity=lambda: ME, host_cas=lambda: cluster.host_cas)
    try:
        return asyncio.run(door.ask(path, LOOK))
    finally:
        door.close()


def test_auth_sees_the_certificate_of_the_proxy(auth):
    assert ask(auth.address)["proved"]
    assert "secret-token" in ask(auth.address)["said"]


def test_what_auth_refuses_is_raised_as_it_was_said(auth):
    with pytest.raises(NotFound, match="this link was used"):
        ask(auth.address, path="/v1/invite/look")


def test_the_next_server_is_asked_when_one_is_away(auth):
    assert ask(f"127.0.0.1:{free_port()}", auth.address)["proved"]


def test_when_none_is_there_it_is_unavailable():
    with pytest.raises(Unavailable, match="auth can not be reached right now") as why:
        ask(f"127.0.0.1:{free_port()}")
    assert "refused" in why.value.log


def test_an_auth_that_our_cluster_does_not_vouch_for_is_told_nothing(auth):
    with pytest.raises(Unavailable, match="auth can not be reached right now") as why:
        ask(auth.address, cluster=PaperCluster())
    assert "secret-token" not in str(why.value.log)


def test_too_many_at_once_are_sent_away(auth, monkeypatch):
    monkeypatch.setattr(auth_door, "WAITING", 3)

    async def crowd() -> list[Any]:
        door = AuthDoor([auth.address], identity=lambda: ME, host_cas=lambda: CLUSTER.host_cas)
        asked = [door.ask("/v1/x", LOOK) for _ in range(5)]
        try:
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            door.close()

    answers = asyncio.run(crowd())
    assert sum(isinstance(each, dict) for each in answers) == 3
    assert sum(isinstance(each, Unavailable) for each in answers) == 2
