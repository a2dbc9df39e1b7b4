"""The keyring goes to auth servers of the cluster, and to nobody else."""

import pytest

from teleport_lite.auth.keyring import KeyringDesk
from teleport_lite.errors import Denied, NotFound, Unavailable
from teleport_lite.model.host import Host
from tests.auth.bench import Bench, the_host

ID = "aaaaaaaa-1111-4111-8111-111111111111"
TEXT = b"teleport-lite keyring v1\n"


def a_bench(*roles: str) -> Bench:
    bench = Bench()
    host = Host(
        id=ID,
        name="auth-2",
        roles=roles,
        joined_at=bench.clock.now(),
        token_id="t",
        ssh_key="key",
        tls_key="PEM",
    )
    bench.store.write(lambda tx: tx.put_host(host))
    return bench


def desk(bench: Bench, text: bytes | None = TEXT) -> KeyringDesk:
    return KeyringDesk(
        store=bench.store, trail=bench.desks.trail, keyring=(lambda: text) if text else None
    )


def test_an_auth_server_gets_it_and_the_trail_says_so() -> None:
    bench = a_bench("Auth")
    assert desk(bench).hand_over(the_host(ID, "Auth")).text == TEXT.decode()
    event = bench.last_event("cluster.keyring")
    assert (event.code, event.outcome, event.facts["host_id"]) == ("TLC01I", "ok", ID)
    assert "keyring v1" not in bench.trail_text()


def test_a_certificate_that_says_more_than_the_inventory_is_not_enough() -> None:
    """As of one that was issued before the role was taken away."""
    bench = a_bench("Node")
    with pytest.raises(Denied, match="only an auth server"):
        desk(bench).hand_over(the_host(ID, "Auth", "Node"))
    assert bench.last_event("cluster.keyring").code == "TLC01W"


@pytest.mark.parametrize("roles", [("Node",), ("Proxy",), ("Node", "Proxy")])
def test_no_other_host_comes_as_far_as_that(roles: tuple[str, ...]) -> None:
    bench = a_bench(*roles)
    with pytest.raises(Denied, match="only a host with role Auth"):
        bench.ask("/v1/auth/keyring", the_host(ID, *roles))


def test_a_removed_auth_server_does_not_get_it() -> None:
    bench = Bench()
    with pytest.raises(NotFound):
        bench.ask("/v1/auth/keyring", the_host(ID, "Auth"))


def test_without_a_file_there_is_none_to_give() -> None:
    bench = a_bench("Auth")
    with pytest.raises(Unavailable, match="no keyring in a file"):
        desk(bench, None).hand_over(the_host(ID, "Auth"))
