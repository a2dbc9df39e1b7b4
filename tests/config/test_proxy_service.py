"""What proxy_service means, and what it refuses by line."""

from datetime import timedelta
from pathlib import Path

import pytest

from teleport_lite.config.model import Channel, KeyPair
from teleport_lite.config.proxy_service import dns_name


def proxy(desk, text):
    return desk.read(f"version: v3\nproxy_service: {{{text}}}").proxy


def test_certificates_in_both_spellings(desk):
    pair = KeyPair(key_file=Path("/k.pem"), cert_file=Path("/c.pem"))
    for text in (
        "https_keypairs: [{key_file: /k.pem, cert_file: /c.pem}]",
        "https_key_file: /k.pem, https_cert_file: /c.pem",
    ):
        assert proxy(desk, text).https_keypairs == (pair,)


def test_certificate_files_are_looked_at_again_unless_told_otherwise(desk):
    assert proxy(desk, "").https_keypairs_reload == timedelta(seconds=30)
    assert proxy(desk, "https_keypairs_reload_interval: 5m").https_keypairs_reload == timedelta(
        minutes=5
    )
    assert proxy(desk, "https_keypairs_reload_interval: 0").https_keypairs_reload is None


def test_public_addresses_get_the_port_we_listen_on(desk):
    found = proxy(
        desk,
        "web_listen_addr: 0.0.0.0:443, listen_addr: 0.0.0.0:2022, tunnel_listen_addr: 0.0.0.0:4024,"
        " public_addr: [a.example.com, 'b.example.com:99'], ssh_public_addr: a.example.com,"
        " tunnel_public_addr: a.example.com",
    )
    assert found.public_addrs == ("a.example.com:443", "b.example.com:99")
    assert found.ssh_public_addrs == ("a.example.com:2022",)
    assert found.tunnel_public_addrs == ("a.example.com:4024",)


def test_ssh_and_tunnels_are_reached_on_the_web_port_unless_they_have_their_own(desk):
    found = proxy(
        desk, "ssh_public_addr: a.example.com, tunnel_public_addr: [a.example.com, 'b:1']"
    )
    assert found.ssh_public_addrs == ("a.example.com:3080",)
    assert found.tunnel_public_addrs == ("a.example.com:3080", "b:1")


def test_a_port_that_is_chosen_later_is_not_published(desk):
    found = proxy(desk, "web_listen_addr: 127.0.0.1:0, public_addr: a.example.com")
    assert found.public_addrs == ("a.example.com:3080",)


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("version: v3\n", True),
        ("version: v2\n", True),
        ("version: v1\n", False),
        ("version: v1\nproxy_service: {tunnel_listen_addr: 0.0.0.0:3080}\n", True),
        ("version: v3\nproxy_service: {tunnel_listen_addr: 0.0.0.0:3080}\n", True),
        ("version: v3\nproxy_service: {tunnel_listen_addr: 0.0.0.0:3024}\n", False),
    ],
)
def test_tunnels_and_web_share_a_port_when_they_are_told_to(desk, text, shared):
    assert desk.read(text).proxy.multiplexed is shared


def test_proxy_protocol_is_unspecified_unless_the_file_says(desk):
    assert proxy(desk, "").proxy_protocol == "unspecified"
    assert proxy(desk, "proxy_protocol: on").proxy_protocol == "on"
    assert proxy(desk, "proxy_protocol: 'off'").proxy_protocol == "off"


def test_acme_certifies_a_public_name(desk):
    acme = proxy(
        desk,
        "public_addr: ['10.0.0.1:443', 'tele.example.com:443'],"
        " acme: {enabled: yes, email: a@example.com, uri: 'https://ca.example.com:14000/dir'}",
    ).acme
    assert (acme.enabled, acme.email) == (True, "a@example.com")
    assert acme.uri == "https://ca.example.com:14000/dir"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("a.example.com:443", "a.example.com"),
        ("localhost:443", ""),
        ("10.0.0.1:443", ""),
        ("[::1]:443", ""),
    ],
)
def test_an_authority_certifies_names_with_a_dot(address, name):
    assert dns_name(address) == name


def test_channels_say_which_version_agents_should_have(desk):
    channels = proxy(
        desk,
        "automatic_upgrades_channels: {default: {static_version: 1.2.3, critical: yes},"
        " stable/cloud: {static_version: v1.2.4-rc.1}}",
    ).channels
    assert channels == {
        "default": Channel(version="v1.2.3", critical=True),
        "stable/cloud": Channel(version="v1.2.4-rc.1"),
    }


def test_versions_to_hand_out_may_lie_in_a_directory(desk):
    assert proxy(desk, "").releases_dir is None
    assert proxy(desk, "releases_dir: /srv/x/../releases/").releases_dir == Path("/srv/releases")


NAMED = "public_addr: a.example.com\n  "
CHANNELS = "automatic_upgrades_channels"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https_key_file: /k.pem", ":2: https_key_file: needs https_cert_file beside it"),
        ("https_cert_file: /c.pem", ":2: https_cert_file: needs https_key_file beside it"),
        ("https_keypairs: [{key_file: /k}]", ":2: https_keypairs[0].cert_file: is missing, like"),
        (
            "https_keypairs: [{key_file: k.pem, cert_file: /c.pem}]",
            ":2: https_keypairs[0].key_file: 'k.pem' is not an absolute path",
        ),
        ("acme: {enabled: yes}", ":2: acme: needs a public_addr with a name to certify"),
        (
            "public_addr: '10.0.0.1:443'\n  acme: {enabled: yes}",
            ":3: acme: needs a public_addr with a name to certify",
        ),
        (
            f"{NAMED}acme: {{enabled: yes, email: admin}}",
            ":3: acme.email: 'admin' is not like admin@example.com",
        ),
        (
            f"{NAMED}acme: {{enabled: yes, uri: 'http://ca.example.com'}}",
            ":3: acme.uri: 'http://ca.example.com' is not like https://",
        ),
        (
            f"{NAMED}https_key_file: /k\n  https_cert_file: /c\n  acme: {{enabled: yes}}",
            ":5: acme: https_keypairs are given too",
        ),
        ("proxy_protocol: maybe", ":2: proxy_protocol: 'maybe' is not one of on, off, unspecified"),
        ("releases_dir: releases", ":2: releases_dir: 'releases' is not an absolute path"),
        ("releases_dir: [/a]", ":2: releases_dir: a list is not text"),
        (f"{CHANNELS}: [a]", f":2: {CHANNELS}: must hold keys"),
        (f"{CHANNELS}:\n    default: {{}}", f":3: {CHANNELS}.default.static_version: must be a"),
        (
            f"{CHANNELS}:\n    default: {{static_version: latest}}",
            f":3: {CHANNELS}.default.static_version: 'latest' is not a version, like v1.2.3",
        ),
        (
            f"{CHANNELS}:\n    default: {{forward_url: 'https://x'}}",
            f":3: {CHANNELS}.default.forward_url: asking another server is not part of this",
        ),
        (
            f"{CHANNELS}:\n    default: {{static_versoin: v1.2.3}}",
            f":3: {CHANNELS}.default.static_versoin: unknown key, did you mean static_version",
        ),
        (
            f"{CHANNELS}:\n    '../x': {{static_version: v1.2.3}}",
            f":3: {CHANNELS}: '../x' is no name for a channel",
        ),
    ],
)
def test_what_a_proxy_can_not_be_is_refused_by_line(desk, text, message):
    line, _, why = message.partition(": ")
    assert desk.refusal(f"proxy_service:\n  {text}\n").startswith(
        f"f.yaml{line}: proxy_service.{why}"
    )
