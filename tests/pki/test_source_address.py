"""The source-address list. How sshd reads it is asked in test_against_sshd.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.pki.source_address import matches, read_address, read_networks


@pytest.mark.parametrize(
    "text", ["192.0.2.1", "192.0.2.0/24,2001:db8::/32", "::1", "0.0.0.0/0", "10.0.0.0/08"]
)
def test_networks_are_read(text: str) -> None:
    assert len(read_networks(text)) == text.count(",") + 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "10.0.0.0/8,",
        "10.0.0.1/8",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/0008",
        "10.0.0.0 /8",
        "010.0.0.1",
        "10.1",
        "1",
        "fe80::1%eth0",
        "::/129",
        "10.0.0.0/²",
        "localhost",
        "!10.0.0.0/8",
        ",".join(["10.0.0.1"] * 65),
    ],
    ids=lambda text: text[:20] or "nothing",
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_networks(text)


def test_ipv4_inside_ipv6_is_ipv4() -> None:
    assert matches(read_networks("192.0.2.0/24"), read_address("::ffff:192.0.2.7"))
    assert not matches(read_networks("::/0"), read_address("::ffff:192.0.2.7"))


def test_sixty_four_networks_are_the_most() -> None:
    assert len(read_networks(",".join(["10.0.0.1"] * 64))) == 64


def test_no_network_matches_nobody() -> None:
    assert not matches((), read_address("192.0.2.7"))


@given(st.text(alphabet="0123456789abcdef.:/,x ", max_size=40))
def test_any_text_is_networks_or_a_value_error(text: str) -> None:
    try:
        found = read_networks(text)
    except ValueError:
        return
    assert found
