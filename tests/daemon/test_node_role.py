"""What a node finds out about its system before anybody logs in."""

import logging
import os
from pathlib import Path

import pytest

from teleport_lite.config.load import parse
from teleport_lite.config.model import Config
from teleport_lite.daemon import node_role
from teleport_lite.errors import Denied, Unavailable
from teleport_lite.node import zygote
from teleport_lite.plugin.builtin import builtin_book


@pytest.fixture(autouse=True)
def no_zygote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote, "start", lambda settings: settings)


def config(text: str) -> Config:
    return parse(f"ssh_service:\n  enabled: yes\n{text}", "f.yaml", builtin_book())


PAM = "  pam: {enabled: yes, service_name: tl-no-such-service}\n"


def test_pam_without_root_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Denied) as no:
        node_role.NodeRole(config(PAM))
    assert no.value.message == "pam: enabled, but this node does not run as root"


def test_pam_without_its_file_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Unavailable, match=r"there is no /etc/pam.d/tl-no-such-service"):
        node_role.NodeRole(config(PAM))


def test_without_root_it_says_what_it_cannot_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with caplog.at_level(logging.INFO, "teleport_lite.ssh"):
        node_role.NodeRole(config(""))
    assert "serves its own user only" in caplog.text


def test_a_banner_that_is_not_there_is_told(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    node_role.NodeRole(config(f"  banner: {tmp_path}/none\n"))
    assert f"ssh_service.banner: {tmp_path}/none can not be read" in caplog.text


def test_what_the_config_says_reaches_the_processes() -> None:
    said = node_role.settings_of(
        config(
            "  accept_env: [LANG, MY_*]\n  permit_user_env: yes\n  disable_create_host_user: yes\n"
            "  banner: /etc/issue.net\n"
            "  pam: {enabled: yes, environment: {EMAIL: '{{external.email}}'}}\n"
        )
    )
    assert said.accept_env == ("LANG", "MY_*")
    assert said.permit_user_env
    assert not said.create_host_users
    assert said.banner == "/etc/issue.net"
    assert said.pam_service == "sshd"
    assert said.pam_environment == (("EMAIL", "{{external.email}}"),)
