"""What a proxy can hand out, under which address, and what it says at start where it can not."""

import logging
import subprocess

import pytest

from teleport_lite import __version__
from teleport_lite.daemon import proxy_releases
from teleport_lite.daemon.proxy_place import place_of
from teleport_lite.daemon.proxy_releases import ReleaseDesk, published
from teleport_lite.testing.certs import PaperCluster
from tests.daemon.configs import a_config
from tests.daemon.proxies import TEXT, ProxyServing
from tests.proxy.test_releases import install, publish
from tests.support import free_port


def config(home, text=""):
    home.mkdir(mode=0o700, exist_ok=True)
    return a_config(home, f"version: v3\nproxy_service: {{{text}}}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("public_addr: ['tele.example.com:443', other.example.com]", "tele.example.com:443"),
        ("public_addr: '127.0.0.1:3080'", "127.0.0.1:3080"),  # as the operator says
        ("web_listen_addr: 192.0.2.1:3080", "192.0.2.1:3080"),
        ("web_listen_addr: 127.0.0.1:3080", ""),
        ("web_listen_addr: localhost:3080", ""),
        ("web_listen_addr: '[::1]:3080'", ""),
    ],
)
def test_scripts_carry_an_address_that_leads_here_from_elsewhere(tmp_path, text, expected):
    chosen = config(tmp_path / "home", text)
    assert published(chosen, place_of(chosen, "127.0.0.1:3025")) == expected


def test_a_checkout_hands_out_what_a_directory_has(tmp_path, caplog):
    publish(tmp_path / "releases", "1.2.3")
    desk = ReleaseDesk(config(tmp_path / "home", f"releases_dir: {tmp_path / 'releases'}"))
    desk.look()
    assert desk.downloads.known == ("1.2.3",)
    publish(tmp_path / "releases", "1.2.4")
    desk.look()
    assert desk.downloads.known == ("1.2.4", "1.2.3")
    assert caplog.text == ""


@pytest.mark.parametrize("how", ["installed", "loose", "nowhere"])
def test_the_file_we_run_from_is_handed_out(tmp_path, monkeypatch, how):
    file = None
    if how == "installed":
        install(tmp_path / "lib/teleport-lite", "1.0.0")
        where = install(tmp_path / "lib/teleport-lite", "1.2.3")
        file = where / "teleport-lite.pyz"
        file.write_bytes(b"#!/bin/sh\n# teleport-lite 1.2.3 (build 0123456789abcdef)\n")
        (where / "SHA256SUMS").unlink()
    elif how == "loose":
        file = tmp_path / "any.pyz"
        file.write_bytes(b"program")
    monkeypatch.setattr(proxy_releases, "own_file", lambda: file)
    desk = ReleaseDesk(config(tmp_path / "home"))
    desk.look()
    expected = {"installed": ("1.2.3", "1.0.0"), "loose": (__version__,), "nowhere": ()}
    assert desk.downloads.known == expected[how]


def test_a_channel_with_a_version_that_is_not_here_is_said_once(tmp_path, caplog):
    root = tmp_path / "releases"
    publish(root, "1.2.3")
    channels = "{default: {static_version: v1.2.3}, edge: {static_version: 1.3.0}}"
    text = f"releases_dir: {root}, automatic_upgrades_channels: {channels}"
    desk = ReleaseDesk(config(tmp_path / "home", text))
    for _ in range(2):
        desk.look()
    said = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert said == [
        "upgrade channel edge says v1.3.0, which this proxy does not have to hand out "
        "(it has: 1.2.3)"
    ]


def test_a_directory_that_is_not_there_is_said_and_stops_nobody(tmp_path, caplog):
    desk = ReleaseDesk(config(tmp_path / "home", f"releases_dir: {tmp_path / 'none'}"))
    desk.look()
    assert desk.downloads.known == ()
    assert f"proxy_service.releases_dir {tmp_path / 'none'} can not be read" in caplog.text


def test_a_proxy_on_a_real_port_hands_out_a_version(tmp_path, caplog):
    publish(tmp_path / "releases", "1.2.3")
    cluster, nobody = PaperCluster(), f"127.0.0.1:{free_port()}"
    text = f"{TEXT}  public_addr: tele.example.com:443\n  releases_dir: {tmp_path / 'releases'}\n"
    with ProxyServing(tmp_path / "one", cluster, auth=nobody, text=text) as proxy:
        facts = proxy.call(proxy.role.facts)
        assert (facts.published, facts.releases) == ("tele.example.com:443", ("1.2.3",))
        script = curl(f"https://{proxy.address}/install.sh")
        assert "\nbase='https://tele.example.com:443/webapi/releases'\n" in script
        sums = curl(f"https://{proxy.address}/webapi/releases/1.2.3/SHA256SUMS")
        assert sums == (tmp_path / "releases/1.2.3/SHA256SUMS").read_text()
        refused = curl(f"https://{proxy.address}/scripts/some-token/install-node.sh", fails=22)
        assert refused == ""
    assert "some-token" not in caplog.text


def curl(url: str, *, fails: int = 0) -> str:
    done = subprocess.run(["curl", "-sSkf", url], capture_output=True, text=True, timeout=60)
    assert done.returncode == fails, done.stderr
    return done.stdout
