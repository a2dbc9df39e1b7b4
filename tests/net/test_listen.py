"""Listening, and the address others see us under."""

import socket

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.net.listen import ANYWHERE, listen, own_address
from tests.net.servers import Little, silence


def test_a_free_address_is_listened_on() -> None:
    with listen("127.0.0.1:0", "auth_service.listen_addr") as wire:
        socket.create_connection(wire.getsockname(), timeout=60).close()


def test_a_taken_address_is_named_with_the_key_of_the_config() -> None:
    with Little(silence) as taken, pytest.raises(Unavailable) as why:
        listen(taken.address, "auth_service.listen_addr")
    expected = (
        f"auth_service.listen_addr: can not listen on {taken.address}: Address already in use"
    )
    assert why.value.message == expected
    assert why.value.hint == f"ss -ltnp 'sport = :{taken.port}'"


@pytest.mark.parametrize("address", ["192.0.2.1:3025", "no-such-host.invalid:3025", "a..b:1"])
def test_an_address_that_is_not_ours_is_named(address: str) -> None:
    with pytest.raises(Unavailable, match=r"ssh_service.listen_addr") as why:
        listen(address, "ssh_service.listen_addr")
    assert address in why.value.message


def test_a_second_start_need_not_wait_for_the_first_ones_connections() -> None:
    with listen("127.0.0.1:0", "x") as first:
        address = f"127.0.0.1:{first.getsockname()[1]}"
        with socket.create_connection(first.getsockname(), timeout=60):
            wire, _ = first.accept()
            wire.close()
    with listen(address, "x"):
        pass


def test_our_address_towards_somebody_is_found_without_a_word() -> None:
    assert own_address("127.0.0.1:9") == (own_address(ANYWHERE) or "127.0.0.1")


@pytest.mark.parametrize("server", ["no-such-host.invalid:1", "a..b:1"])
def test_towards_nobody_we_have_none(server: str) -> None:
    assert own_address(server) == ""
