"""The Windows desktop role announces desktops that are named, and labels them by address."""

import pytest

from teleport_lite.model.host import Resource
from tests.plugins.makers import announce, keys, refusal


def test_a_desktop_is_announced_with_its_address_and_labels():
    host = {"name": "design-1", "addr": "10.0.0.7", "labels": {"team": "design"}, "ad": False}
    assert announce("WindowsDesktop", static_hosts=[host]) == (
        Resource(
            kind="windows_desktop",
            name="design-1",
            labels={"team": "design"},
            spec={"addr": "10.0.0.7:3389", "ad": "no"},
        ),
    )


def test_no_desktops_are_nothing_to_show():
    assert announce("WindowsDesktop") == ()


@pytest.mark.parametrize(
    ("addr", "shown"),
    [
        ("10.0.0.7", "10.0.0.7:3389"),
        ("10.0.0.7:4000", "10.0.0.7:4000"),
        ("win.example.com:3389", "win.example.com:3389"),
        ("[fd00::7]", "[fd00::7]:3389"),
        ("[fd00::7]:4000", "[fd00::7]:4000"),
    ],
)
def test_an_address_gets_the_port_of_rdp(addr, shown):
    [desktop] = announce("WindowsDesktop", static_hosts=[{"name": "a", "addr": addr}])
    assert desktop.spec["addr"] == shown


def test_a_desktop_without_a_name_is_called_by_its_host():
    shown = announce(
        "WindowsDesktop",
        static_hosts=[{"addr": "10.0.0.7:4000"}],
        hosts=("win.example.com",),
        non_ad_hosts=("[fd00::7]",),
    )
    assert [(each.name, each.spec["ad"]) for each in shown] == [
        ("10-0-0-7", "no"),
        ("win-example-com", "yes"),
        ("fd00-7", "no"),
    ]


def test_labels_by_address_are_added_and_a_host_s_own_win():
    shown = announce(
        "WindowsDesktop",
        static_hosts=[
            {"name": "a", "addr": "10.0.0.7", "labels": {"env": "lab"}},
            {"name": "b", "addr": "10.1.0.7"},
        ],
        host_labels=[
            {"match": r"^10\.", "labels": {"net": "ten", "env": "prod"}},
            {"match": r"^10\.0\.", "labels": {"floor": "1"}},
        ],
    )
    assert [each.labels for each in shown] == [
        {"net": "ten", "env": "lab", "floor": "1"},
        {"net": "ten", "env": "prod"},
    ]


@pytest.mark.parametrize(
    ("addr", "cause"),
    [
        ("", "is missing, expected host or host:port"),
        ("10.0.0.7:", "is not host or host:port"),
        ("10.0.0.7:0", "is not host or host:port"),
        ("10.0.0.7:70000", "is not host or host:port"),
        ("win 1", "is not host or host:port"),
        ("fd00::7", "is not host or host:port"),
    ],
)
def test_a_wrong_address_is_refused_and_the_key_named(addr, cause):
    message = refusal("WindowsDesktop", static_hosts=[{"addr": "10.0.0.1"}, {"addr": addr}])
    assert message.startswith("windows_desktop_service.static_hosts[1].addr ")
    assert cause in message


def test_an_address_of_the_older_lists_is_checked_too():
    message = refusal("WindowsDesktop", non_ad_hosts=("win 1",))
    assert message.startswith("windows_desktop_service.non_ad_hosts 'win 1' is not host")


def test_two_desktops_of_one_name_are_refused():
    message = refusal("WindowsDesktop", static_hosts=[{"addr": "a"}, {"addr": "a"}])
    assert message == "windows_desktop_service.static_hosts[1].addr gives a second desktop 'a'"


def test_a_pattern_that_is_none_is_refused():
    message = refusal("WindowsDesktop", host_labels=[{"match": "(", "labels": {}}])
    assert message.startswith(
        "windows_desktop_service.host_labels[0].match is not a regular expression"
    )


def test_the_section_takes_every_key_people_know():
    assert {"ldap", "static_hosts", "host_labels", "discovery", "pki_domain"} <= keys(
        "WindowsDesktop"
    )
    assert keys("WindowsDesktop", "static_hosts") == {"name", "ad", "addr", "labels"}
