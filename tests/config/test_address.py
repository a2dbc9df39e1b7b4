"""host:port in every spelling people use, and one spelling afterwards."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.config.address import (
    parse_address,
    parse_advertised,
    parse_ip,
    split_address,
    with_host,
)
from teleport_lite.errors import Malformed


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.10.5", "10.0.10.5:3025"),
        ("10.0.10.5:3080", "10.0.10.5:3080"),
        ("teleport-proxy.example.com:3080", "teleport-proxy.example.com:3080"),
        ("localhost", "localhost:3025"),
        ("1f58429134c4", "1f58429134c4:3025"),  # a container's host name
        ("::1", "[::1]:3025"),
        ("[::1]", "[::1]:3025"),
        ("[2001:DB8::0001]:99", "[2001:db8::1]:99"),
        ("https://teleport.example.com", "teleport.example.com:443"),
        ("https://teleport.example.com:3080/", "teleport.example.com:3080"),
        ("host:0443", "host:443"),
        ("host:1", "host:1"),
        ("host:65535", "host:65535"),
    ],
)
def test_addresses_get_one_form_and_their_port(text, address):
    assert parse_address(text, 3025) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "host:3025x",
        "host:-1",
        "a b:1",
        "a_b:1",
        "10.0.0.256",
        "1.2.3:4",
        "[::1",
        "::1]:2",
        "[fe80::1%eth0]:1",
        "[10.0.0.1]:1",
        "a..b:1",
        "http://x:1",
        "unix:///run/x",
        "x:1\n",
        "x:\u0661",
        "*:3022",
        "host/path:1",
        "a@b:1",
    ],
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(Malformed, match=r"is not host:port, like 'host.example.com:"):
        parse_address(text, 3025)


def test_a_port_is_needed_where_there_is_no_usual_one():
    with pytest.raises(Malformed):
        parse_address("host")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":3080", "0.0.0.0:3080"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1", "127.0.0.1:3080"),
        ("[::]:3080", "[::]:3080"),
        ("localhost", "localhost:3080"),
    ],
)
def test_a_listener_may_take_every_interface_and_any_port(text, address):
    assert parse_address(text, 3080, listen=True) == address


@pytest.mark.parametrize("text", ["3080", "3080x", "0.0.0.0:3080x", "0.0.0.0:70000"])
def test_a_mistyped_port_is_not_taken_for_an_interface(text):
    with pytest.raises(Malformed, match=r"is not host:port, like '0.0.0.0:3080'"):
        parse_address(text, 3080, listen=True)


def test_an_address_splits_and_moves():
    assert split_address("[::1]:22") == ("::1", 22)
    assert with_host("0.0.0.0:3022", "::1") == "[::1]:3022"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.1.0.5", "10.1.0.5"),
        ("10.1.0.5:22", "10.1.0.5:22"),
        ("a.example.com", "a.example.com"),
        ("::1", "::1"),
        ("[::1]:22", "[::1]:22"),
    ],
)
def test_what_is_advertised_may_have_a_port(text, found):
    assert parse_advertised(text) == found


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "224.0.0.1:22", "10.1.0.5:x"])
def test_nobody_can_connect_to_these(text):
    with pytest.raises(Malformed):
        parse_advertised(text)


def test_an_ip_is_no_host_name():
    assert parse_ip("[::1]") == "::1"
    with pytest.raises(Malformed, match="is not an IP address"):
        parse_ip("localhost")


@given(st.text(max_size=40), st.booleans())
def test_any_text_is_an_address_or_malformed(text, listen):
    with contextlib.suppress(Malformed):
        address = parse_address(text, 3025, listen=listen)
        host, port = split_address(address)
        assert host
        assert 0 <= port <= 65535
        assert parse_address(address, listen=listen) == address
        assert address.isascii()
        assert address.isprintable()


def test_a_port_alone_is_no_interface_and_a_name_with_a_port_is_one():
    for port in ("3025", "3o25", "3"):
        with pytest.raises(Malformed):
            parse_address(port, 3025, listen=True)
    assert parse_address("1host:3025", 3025, listen=True) == "1host:3025"
    assert parse_address("10.0.0.1", 3025, listen=True) == "10.0.0.1:3025"
