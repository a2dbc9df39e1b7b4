"""Words of tunnels: what may be said, and nothing else."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.proto.codec import write
from teleport_lite.proto.tunnel import (
    MAX_CONTROL,
    MAX_OPEN,
    Control,
    GoingAway,
    Open,
    TunnelHello,
    read_control,
    read_open,
)


@pytest.mark.parametrize(
    "word",
    [
        Control(hello=TunnelHello(version=1, program="0.2.0", boot_id="ab")),
        Control(hello=TunnelHello(version=1, via="00000000-0000-4000-8000-000000000001")),
        Control(going_away=GoingAway(delay=12.5, reason="restart")),
    ],
)
def test_what_is_written_can_be_read(word: Control) -> None:
    assert read_control(write(word)) == word


def test_a_stream_says_what_it_is_for_and_who_comes() -> None:
    hello = Open(service="ssh", client_ip="2001:db8::1", client_port=50022)
    assert read_open(write(hello)) == hello


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b'{"hello": {"version": 1}, "going_away": {}}',
        b'{"hello": {"version": 0}}',
        b'{"going_away": {"delay": -1}}',
        b'{"going_away": {"delay": 301}}',
        b'{"going_away": {"delay": 1e999}}',
        b'{"hello": {"version": 1, "boot_id": "' + b"a" * 65 + b'"}}',
        b'{"hello": {"version": 1, "via": "' + b"a" * 65 + b'"}}',
        b'{"going_away": {"reason": "' + b"a" * 300 + b'"}}',
        b'{"hello": {"version": 1, "program": "' + b" " * MAX_CONTROL + b'"}}',
    ],
)
def test_other_words_are_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_control(raw)


def test_what_a_hello_adds_is_passed_over() -> None:
    """Who is there says the certificate; a later version may say more of itself."""
    word = read_control(b'{"hello": {"version": 1, "host_id": "somebody else", "os": "x"}}')
    assert word == Control(hello=TunnelHello(version=1))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"service": "ssh"}',
        b'{"service": "ssh", "client_ip": "node-7", "client_port": 1}',
        b'{"service": "ssh", "client_ip": "10.0.0.1", "client_port": 65536}',
        b'{"service": "ssh", "client_ip": "10.0.0.1", "client_port": -1}',
        # There is no field for where to go: a host serves itself.
        b'{"service": "ssh", "client_ip": "10.0.0.1", "client_port": 1, "address": "[::1]:22"}',
        b'{"service": "' + b"s" * 33 + b'", "client_ip": "10.0.0.1", "client_port": 1}',
        b'{"service": "ssh", "client_ip": "10.0.0.1", "client_port": 1' + b" " * MAX_OPEN + b"}",
    ],
)
def test_other_streams_are_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_open(raw)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(raw: bytes) -> None:
    for reader in (read_control, read_open):
        with suppress(Malformed):
            reader(raw)
