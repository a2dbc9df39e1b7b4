"""Flags win over the file, and are checked just as strictly."""

from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.config.flags import Flags
from teleport_lite.config.load import with_flags

FILE = """
teleport:
  nodename: web-1
  data_dir: /srv/t
  auth_token: token-of-the-file
  ca_pin: "sha256:aa"
  auth_servers: [auth.example.com]
ssh_service:
  labels: {env: prod, team: db}
  commands: [{name: kernel, command: [uname], period: 1h}]
"""


def test_without_flags_the_file_stands(desk):
    config = desk.read(FILE)
    assert config.nodename == "web-1"
    assert (config.insecure, config.debug) == (False, False)


def test_every_flag_wins_over_the_file(desk):
    config = desk.read(
        FILE,
        roles="node",
        token="/path/to/token.file",
        auth_servers=("10.0.10.5",),
        ca_pins=("sha256:bb", "sha256:cc,/etc/pins"),
        nodename="web-2",
        labels='env=test,note="a, b"',
        advertise_ip="10.1.0.5",
        data_dir="/srv/other",
        pid_file="/run/t.pid",
        diag_addr="127.0.0.1:3000",
        insecure=True,
        debug=True,
    )
    assert config.roles == {"Node"}
    assert str(config.token) == "/path/to/token.file"
    assert config.auth_servers == ("10.0.10.5:3025",)
    assert config.ca_pins == ("sha256:bb", "sha256:cc", "/etc/pins")
    assert config.nodename == "web-2"
    assert config.node.labels == {"env": "test", "team": "db", "note": "a, b"}
    assert config.advertise_ip == "10.1.0.5"
    assert config.data_dir == Path("/srv/other")
    assert config.storage.path == Path("/srv/other/backend")
    assert config.storage.keyring == Path("/srv/other.keyring")
    assert config.pid_file == Path("/run/t.pid")
    assert config.diag_addr == "127.0.0.1:3000"
    assert (config.insecure, config.debug, config.log.severity) == (True, True, "DEBUG")


def test_a_proxy_given_as_auth_server_is_left_to_the_agent(desk):
    config = desk.read("", auth_servers=("teleport-proxy.example.com:3080",))
    assert config.auth_servers == ("teleport-proxy.example.com:3080",)
    assert config.proxy_server == ""


def test_a_proxy_replaces_the_auth_servers_and_the_other_way_round(desk):
    config = desk.read(FILE, proxy="teleport.example.com")
    assert (config.auth_servers, config.proxy_server) == ((), "teleport.example.com:3080")
    v3 = "version: v3\nteleport: {proxy_server: a.example.com}"
    config = desk.read(v3, auth_servers=("10.0.10.5", "10.0.10.6"))
    assert config.auth_servers == ("10.0.10.5:3025", "10.0.10.6:3025")
    assert config.proxy_server == ""


def test_listen_ip_moves_every_listener_and_opens_none(desk):
    config = desk.read("version: v3\nauth_service: {listen_addr: 0.0.0.0:99}", listen_ip="::1")
    assert config.auth.listen_addr == "[::1]:99"
    assert config.node.listen_addr == "[::1]:3022"
    proxy = config.proxy
    addresses = (proxy.web_listen_addr, proxy.listen_addr, proxy.tunnel_listen_addr)
    assert addresses == ("[::1]:3080", "", "")


def test_state_the_file_placed_stays_when_the_data_directory_moves(desk):
    text = "teleport: {storage: {path: /srv/db, keyring: /srv/key}}"
    storage = desk.read(text, data_dir="/srv/t").storage
    assert (storage.path, storage.keyring) == (Path("/srv/db"), Path("/srv/key"))


def test_the_keyring_never_ends_up_among_the_data(desk):
    """Whoever gets at a copy of the data has not got the key to it."""
    text = "teleport: {storage: {keyring: /srv/t/key}}"
    assert desk.refusal(text, data_dir="/srv/t") == (
        "--data-dir: the keyring /srv/t/key must be outside /srv/t"
    )


def test_a_relative_path_on_the_command_line_is_taken_from_here(desk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = desk.read("", data_dir="./data", pid_file="t.pid")
    assert (config.data_dir, config.pid_file) == (tmp_path / "data", tmp_path / "t.pid")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"roles": "nod"}, "--roles: role 'nod' does not exist, did you mean node"),
        ({"roles": "node,node"}, "--roles: role node is given twice"),
        ({"roles": "bot"}, "--roles: role bot is run by tbot start"),
        ({"roles": "trusted_cluster"}, "--roles: role trusted_cluster is no role of a process"),
        ({"token": "a b"}, "--token: the token holds characters that no token has"),
        (
            {"token": "./token.file"},
            "--token: a token file is given by its absolute path, like /etc/token.file",
        ),
        (
            {"auth_servers": ("a", "b:x")},
            "--auth-server: 'b:x' is not host:port, like 'host.example.com:3025'",
        ),
        (
            {"proxy": "a:0"},
            "--proxy: 'a:0' is not host:port, like 'host.example.com:3080'",
        ),
        (
            {"proxy": "a", "auth_servers": ("b",)},
            "--proxy: --auth-server is given too, one of them is enough",
        ),
        (
            {"nodename": "a b"},
            "--nodename: node name 'a b' is not valid, expected something like 'web-1'",
        ),
        ({"labels": "a"}, "--labels: label 'a' is not key=value, like env=prod"),
        ({"labels": "kernel=x"}, "--labels: kernel is a label command of the config file"),
        ({"listen_ip": "eth0"}, "--listen-ip: 'eth0' is not an IP address, like '10.0.10.5'"),
        (
            {"advertise_ip": "::"},
            "--advertise-ip: '::' is an address nobody can connect to, like '10.1.0.5'",
        ),
        ({"diag_addr": "x:y"}, "--diag-addr: 'x:y' is not host:port, like '0.0.0.0:3000'"),
        (
            {"data_dir": "/tmp/.."},
            "--data-dir: '/tmp/..' cannot be the data directory, '/var/lib/teleport-lite' can",
        ),
    ],
)
def test_a_wrong_flag_is_refused_by_its_name(desk, flags, message):
    assert desk.refusal(FILE, **flags) == message


def test_a_hostile_token_is_not_shown(desk):
    assert "hunter2" not in desk.refusal(FILE, token="hunter2\nhunter2")


def test_what_was_insecure_before_stays_so(desk):
    config = replace(desk.read(FILE), insecure=True)
    assert with_flags(config, Flags(), desk.book).insecure
    assert not desk.read(FILE).insecure
    assert desk.read(FILE, insecure=True).insecure
