"""Accounts and their surroundings: what ssh_service may say about them."""

from pathlib import Path

import pytest

from teleport_lite.config.model import PamConfig
from teleport_lite.config.ssh_service import _DISPLAYS, _FIRST_DISPLAY, _LAST_DISPLAY, _MAX_VALUE
from teleport_lite.model.env_names import ACCEPTED

SSH = "ssh_service:\n  enabled: yes\n"


def test_what_is_not_said_is_safe(desk):
    node = desk.read(SSH).node
    assert node.accept_env == ACCEPTED
    assert (node.permit_user_env, node.banner, node.create_host_users) == (False, None, True)
    assert node.pam == PamConfig(enabled=False)


def test_what_is_said(desk):
    node = desk.read(
        SSH + "  accept_env: [LANG, 'MY_?']\n  permit_user_env: yes\n  banner: /etc/issue.net\n"
        "  disable_create_host_user: yes\n"
        "  pam:\n    enabled: yes\n    service_name: tl\n    environment:\n"
        "      EMAIL: '{{external.email}}'\n"
    ).node
    assert node.accept_env == ("LANG", "MY_?")
    assert (node.permit_user_env, node.create_host_users) == (True, False)
    assert node.banner == Path("/etc/issue.net")
    assert node.pam == PamConfig(
        enabled=True, service_name="tl", environment={"EMAIL": "{{external.email}}"}
    )


def test_no_variable_at_all_may_be_accepted(desk):
    assert desk.read(SSH + "  accept_env: []\n").node.accept_env == ()


def test_locks_are_strict_only_where_somebody_says_so(desk):
    assert desk.read(SSH).node.strict_locks is False
    assert desk.read(SSH + "  strict_locks: yes\n").node.strict_locks is True


def test_none_is_no_banner(desk):
    assert desk.read(SSH + "  banner: none\n").node.banner is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("accept_env: [LD_PRELOAD]", "accept_env: LD_PRELOAD is never accepted: it decides"),
        ("accept_env: [LANG, 'PYTHON*']", "accept_env: PYTHON* is never accepted: it decides"),
        ("accept_env: [PATH]", "accept_env: PATH is never accepted: it decides"),
        ("accept_env: ['A B']", "accept_env: 'A B' is no name of a variable, like LANG or LC_*"),
        ("accept_env: ['A=B']", "accept_env: 'A=B' is no name of a variable, like LANG or LC_*"),
        ("banner: issue.net", "banner: 'issue.net' is not an absolute path"),
        ("pam: {service_name: ../x}", "pam.service_name: must be a file in /etc/pam.d, like sshd"),
        ("pam: {service_name: ..}", "pam.service_name: must be a file in /etc/pam.d, like sshd"),
        ("pam: {environment: [a]}", "pam.environment: must hold names and texts"),
        ("pam: {environment: {A-B: x}}", "pam.environment: 'A-B' is no name of a variable"),
        ("pam: {environment: {A: [x]}}", "pam.environment: A must be one line of text"),
        ("pam: {environment: {A: '{{x}}'}}", "pam.environment: A has a template that cannot be"),
    ],
)
def test_what_makes_no_sense_is_refused_by_line(desk, said, why):
    assert desk.refusal(f"{SSH}  {said}\n").startswith(f"f.yaml:3: ssh_service.{why}")


def test_asking_pam_for_passwords_is_not_built_and_says_so(desk):
    config = desk.read(SSH + "  pam: {enabled: yes, use_pam_auth: yes}\n")
    assert config.warnings == (
        "f.yaml:3: ssh_service.pam.use_pam_auth: is not built: certificates are what logs in "
        "here, and no module is asked for more",
    )


@pytest.mark.parametrize(
    ("said", "displays"),
    [
        ("{enabled: yes, display_offset: 1, max_display: 1}", (1, 1)),
        ("{enabled: yes, display_offset: 20, max_display: 30}", (20, 30)),
        (f"{{enabled: yes, max_display: {_LAST_DISPLAY}}}", (_FIRST_DISPLAY, _LAST_DISPLAY)),
        (f"{{display_offset: {_LAST_DISPLAY}}}", (_LAST_DISPLAY, _LAST_DISPLAY)),
        ("{}", (_FIRST_DISPLAY, _FIRST_DISPLAY + _DISPLAYS)),
    ],
)
def test_displays_go_from_the_first_to_the_last(desk, said, displays):
    node = desk.read(SSH + f"  x11: {said}\n").node
    assert node.x11_displays == displays
    assert node.x11 is ("enabled" in said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (f"{{display_offset: {_LAST_DISPLAY + 1}}}", "display_offset: must be a number from 1"),
        (f"{{max_display: {_LAST_DISPLAY + 1}}}", "max_display: must be a number from 1"),
        ("{display_offset: -1}", "display_offset: must be a number from 1"),
        ("{display_offset: 9, max_display: 8}", "max_display: must not be less"),
    ],
)
def test_displays_that_there_are_not_are_refused(desk, said, why):
    assert desk.refusal(SSH + f"  x11: {said}\n").startswith(f"f.yaml:3: ssh_service.x11.{why}")


def test_a_variable_for_pam_has_so_many_characters(desk):
    text = SSH + "  pam: {{enabled: yes, environment: {{A: '{}'}}}}\n"
    assert desk.read(text.format("x" * _MAX_VALUE)).node.pam.environment["A"] == "x" * _MAX_VALUE
    assert "A must be one line of text" in desk.refusal(text.format("x" * (_MAX_VALUE + 1)))
