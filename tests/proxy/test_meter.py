"""Counting what was passed on: one event for each source and destination."""

import re

from teleport_lite.auth.stream import HOST_EVENTS
from teleport_lite.proxy.meter import KIND, MOST, OTHERS, Meter


def test_connections_of_one_source_are_one_event():
    meter = Meter()
    meter.add("192.0.2.1", "auth", 10, 20)
    meter.add("192.0.2.1", "auth", 1, 2)
    meter.add("192.0.2.1", "proxy-2", 5, 5)
    assert meter.take() == [
        {
            "addr.remote": "192.0.2.1",
            "to": "auth",
            "connections": "2",
            "bytes_up": "11",
            "bytes_down": "22",
        },
        {
            "addr.remote": "192.0.2.1",
            "to": "proxy-2",
            "connections": "1",
            "bytes_up": "5",
            "bytes_down": "5",
        },
    ]


def test_what_was_told_is_not_told_again_but_stays_in_the_total():
    meter = Meter()
    meter.add("192.0.2.1", "auth", 10, 20)
    meter.take()
    assert meter.take() == []
    assert (meter.connections, meter.up, meter.down) == (1, 10, 20)


def test_a_flood_of_sources_shares_one_entry():
    meter = Meter()
    for number in range(MOST + 50):
        meter.add(f"198.18.{number >> 8}.{number & 255}", "auth", 1, 1)
    told = meter.take()
    assert len(told) == MOST + 1
    assert (told[-1]["addr.remote"], told[-1]["connections"]) == (OTHERS, "50")


def test_the_addresses_of_one_ipv6_customer_are_one_source():
    meter = Meter()
    for number in range(500):
        meter.add(f"2001:db8::{number:x}", "auth", 1, 1)
    [told] = meter.take()
    assert (told["addr.remote"], told["connections"]) == ("2001:db8::/64", "500")


def test_auth_takes_such_an_event_from_a_host():
    assert re.fullmatch(HOST_EVENTS, KIND)
