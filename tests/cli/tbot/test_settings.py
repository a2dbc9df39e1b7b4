"""What a bot is told: flags win over the file, and what is wrong is named first of all."""

from datetime import timedelta
from pathlib import Path

import pytest

from teleport_lite.cli.tbot.settings import Flags, read_file, settle
from teleport_lite.errors import Malformed

GOOD = Flags(auth_server="auth.example.com", destinations=("/opt/bot",))
FILE = """
version: v2
auth_server: file.example.com:4025
onboarding:
  join_method: token
  token: file-token-0123456789
  ca_pins: [{pin}]
storage:
  type: directory
  path: /srv/storage
credential_ttl: 50m
renewal_interval: 10m
oneshot: yes
outputs:
- type: identity
  destination: {{type: directory, path: /opt/one}}
- type: identity
  destination: {{path: /opt/two}}
""".format(pin="sha256:" + "a" * 64)


def wrong(**flags) -> str:
    with pytest.raises(Malformed) as why:
        settle(Flags(**{"auth_server": "auth", "destinations": ("/opt/bot",), **flags}))
    return why.value.message


def test_defaults_are_an_hour_and_twenty_minutes():
    told = settle(GOOD)
    assert (told.certificate_ttl, told.renewal_interval) == (
        timedelta(hours=1),
        timedelta(minutes=20),
    )
    assert told.servers == ("auth.example.com:3025",)
    assert told.storage == Path("/var/lib/teleport-lite/bot")
    assert (told.oneshot, told.token, told.ca_pins, told.pid_file) == (False, None, (), None)


def test_the_file_says_all_that_flags_can():
    told = settle(Flags(), read_file(FILE, "tbot.yaml"))
    assert told.servers == ("file.example.com:4025",)
    assert told.token is not None
    assert told.token.read().reveal() == "file-token-0123456789"
    assert told.ca_pins == ("sha256:" + "a" * 64,)
    assert told.storage == Path("/srv/storage")
    assert told.destinations == (Path("/opt/one"), Path("/opt/two"))
    assert (told.certificate_ttl, told.renewal_interval, told.oneshot) == (
        timedelta(minutes=50),
        timedelta(minutes=10),
        True,
    )


def test_flags_win_over_the_file():
    flags = Flags(
        token="flag-token-0123456789",
        auth_server="flag.example.com",
        destinations=("/opt/flag",),
        renewal_interval="15m",
    )
    told = settle(flags, read_file(FILE, "tbot.yaml"))
    assert told.servers == ("flag.example.com:3025",)
    assert told.destinations == (Path("/opt/flag"),)
    assert told.renewal_interval == timedelta(minutes=15)
    assert told.token is not None
    assert told.token.read().reveal() == "flag-token-0123456789"


def test_a_proxy_may_be_given_in_place_of_auth():
    told = settle(Flags(proxy_server="p.example.com", destinations=("/b",)))
    assert (told.servers, told.only_proxies) == (("p.example.com:3080",), True)
    assert not settle(GOOD).only_proxies


def test_a_proxy_flag_replaces_the_auth_server_of_the_file():
    flags = Flags(proxy_server="p.example.com", destinations=("/b",))
    told = settle(flags, read_file("auth_server: a.example.com:3025\n", "tbot.yaml"))
    assert (told.servers, told.only_proxies) == (("p.example.com:3080",), True)


def test_an_auth_server_flag_replaces_the_proxy_of_the_file():
    told = settle(GOOD, read_file("proxy_server: p.example.com:3080\n", "tbot.yaml"))
    assert told.servers == ("auth.example.com:3025",)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("tokenn: x", "tbot.yaml:1: tokenn: unknown key"),
        ("version: v9", "version"),
        ("onboarding: {join_method: iam}", "onboarding.join_method"),
        ("storage: {type: memory, path: /x}", "storage.type"),
        ("outputs: [{type: application}]", "outputs[0].type"),
        ("outputs: [{type: identity, destination: {}}]", "outputs[0].destination.path"),
        ("oneshot: maybe", "oneshot"),
        ("outputs: [{type: identity}]", "outputs[0].destination: is missing"),
        ("]", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_key(text, cause):
    with pytest.raises(Malformed) as why:
        read_file(text, "tbot.yaml")
    assert cause in why.value.message
    assert why.value.message.startswith("tbot.yaml:1")


@pytest.mark.parametrize(
    ("flags", "cause"),
    [
        ({"auth_server": ""}, "the address of auth or of a proxy is missing"),
        ({"auth_server": "a b"}, "--auth-server: 'a b' is not host:port"),
        ({"proxy_server": "p:3080"}, "--proxy-server: --auth-server is given too"),
        ({"auth_server": "", "proxy_server": "a b"}, "--proxy-server: 'a b' is not host:port"),
        ({"join_method": "iam"}, "--join-method: 'iam' is not known here, token is"),
        ({"destinations": ()}, "a destination for the certificates is missing"),
        ({"destinations": ("/a", "/b"), "storage": "/b"}, "storage and destination are both /b"),
        ({"destinations": ('/opt/a"b',)}, "--destination: '/opt/a\"b' holds characters"),
        ({"destinations": ("/opt/$HOME",)}, "--destination: "),
        ({"destinations": ("/opt/%h",)}, "--destination: "),
        ({"destinations": ("/opt/a\nHost *",)}, "--destination: "),
        ({"destinations": ("s3://bucket/a",)}, "is not a directory or file:///path"),
        ({"storage": "file://relative"}, "--storage: 'file://relative' is not a directory"),
        ({"certificate_ttl": "1"}, "--certificate-ttl: "),
        ({"renewal_interval": "soon"}, "--renewal-interval: "),
        ({"renewal_interval": "9s"}, "--renewal-interval: must be at least 10s"),
        ({"renewal_interval": "1h"}, "--renewal-interval: must be shorter than"),
        ({"certificate_ttl": "15m"}, "--renewal-interval: must be shorter than"),
        ({"ca_pins": ("sha256:zz",)}, "CA pin 'sha256:zz' is not valid"),
        ({"token": "some/file"}, "a token file is given by its absolute path"),
    ],
)
def test_what_is_wrong_is_named(flags, cause):
    assert cause in wrong(**flags)


def test_who_writes_once_needs_no_interval():
    told = settle(Flags(auth_server="a", destinations=("/b",), oneshot=True, certificate_ttl="5m"))
    assert told.certificate_ttl == timedelta(minutes=5)


def test_a_relative_directory_starts_here_and_a_url_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = settle(
        Flags(
            auth_server="a",
            destinations=("./tbot-user", "file:///opt/bot", "/opt/bot"),
            storage="file:///srv/bot",
        )
    )
    assert told.destinations == (tmp_path / "tbot-user", Path("/opt/bot"))
    assert told.storage == Path("/srv/bot")


def test_several_servers_are_given_with_commas_or_as_a_list():
    told = settle(Flags(auth_server="a.example.com, b.example.com:4025", destinations=("/o",)))
    assert told.servers == ("a.example.com:3025", "b.example.com:4025")
    file = FILE.replace("auth_server: file.example.com:4025", "proxy_server: [p.test, q.test:443]")
    told = settle(Flags(), read_file(file, "tbot.yaml"))
    assert (told.servers, told.only_proxies) == (("p.test:3080", "q.test:443"), True)
    assert "--auth-server" in wrong(auth_server="a.example.com,,b.example.com")
