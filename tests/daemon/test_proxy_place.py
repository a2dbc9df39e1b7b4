"""Under which addresses a proxy is found."""

from textwrap import dedent

import pytest

from teleport_lite.config.load import Flags, parse, with_flags
from teleport_lite.config.model import Config
from teleport_lite.daemon.proxy_place import names_of, place_of
from teleport_lite.plugin.builtin import builtin_book
from teleport_lite.proto.stream import ProxyPlace

AUTH = "127.0.0.1:3025"


def config(text: str = "", version: str = "v3", **flags: str) -> Config:
    book = builtin_book()
    section = "proxy_service:\n" + dedent(text).replace("\n", "\n  ") if text else ""
    return with_flags(parse(f"version: {version}\n{section}", "f", book), Flags(**flags), book)


def place(text: str = "", **more: str) -> ProxyPlace:
    return place_of(config(text, **more), AUTH)


def test_a_public_address_is_what_people_use_and_the_own_one_is_for_tunnels():
    assert place("\nweb_listen_addr: 10.0.0.5:443\npublic_addr: tele.example.com") == ProxyPlace(
        address="10.0.0.5:443",
        public=["tele.example.com:443"],
        ssh_public=["tele.example.com:443"],
    )


def test_without_one_the_own_address_is_public():
    assert place("\nweb_listen_addr: 10.0.0.5:443") == ProxyPlace(
        address="10.0.0.5:443", public=["10.0.0.5:443"], ssh_public=["10.0.0.5:443"]
    )


def test_ports_of_their_own_are_told_under_the_public_name():
    text = "\nweb_listen_addr: 10.0.0.5:443\npublic_addr: [tele.example.com, b.example.com]"
    assert place(text, version="v1") == ProxyPlace(
        address=place(version="v1").address,
        public=["tele.example.com:443", "b.example.com:443"],
        tunnel_public=["tele.example.com:3024"],
        ssh_public=["tele.example.com:3023"],
    )


def test_public_addresses_of_ssh_and_tunnels_win():
    found = place(
        "\nweb_listen_addr: 10.0.0.5:443\npublic_addr: tele.example.com"
        "\nssh_public_addr: [ssh.example.com]\ntunnel_public_addr: ['tunnel.example.com:9']",
        version="v1",
    )
    assert found.ssh_public == ["ssh.example.com:3023"]
    assert found.tunnel_public == ["tunnel.example.com:9"]


@pytest.mark.parametrize(
    ("advertised", "address"),
    [
        ("192.0.2.9", "192.0.2.9:3080"),
        ("192.0.2.9:3022", "192.0.2.9:3080"),
        ("2001:db8::9", "[2001:db8::9]:3080"),
        ("[2001:db8::9]:3022", "[2001:db8::9]:3080"),
        ("proxy-1.example.com", "proxy-1.example.com:3080"),
    ],
)
def test_what_is_advertised_is_where_this_proxy_is_and_no_other(advertised, address):
    assert place(advertise_ip=advertised).address == address


def test_listening_everywhere_means_the_address_that_leads_to_auth():
    host, _, port = place().address.rpartition(":")
    assert port == "3080"
    assert host not in ("", "0.0.0.0", "::")


def test_ipv6():
    found = place("\nweb_listen_addr: '[::1]:443'")
    assert (found.address, found.public) == ("[::1]:443", ["[::1]:443"])


def test_the_certificate_says_every_public_name_once():
    text = (
        "\npublic_addr: [tele.example.com, 'tele.example.com:99', '[::1]:443']"
        "\nssh_public_addr: ssh.example.com\ntunnel_public_addr: 192.0.2.1"
    )
    assert names_of(config(text)) == ("tele.example.com", "ssh.example.com", "192.0.2.1")
    assert names_of(config()) == ()
