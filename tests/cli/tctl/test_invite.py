"""The messages of tokens for services: whole, and with configuration that really loads."""

import re

import pytest

from teleport_lite.cli.tctl import invite
from teleport_lite.cli.tctl.invite import Example
from teleport_lite.client.facts import Facts
from teleport_lite.config import load
from teleport_lite.plugin.builtin import builtin_book
from tests.cli import answers
from tests.cli.answers import PIN, TOKEN

HEAD = f"The invite token: {TOKEN}\nThis token will expire in 5 minutes.\n\n"


def message(*roles: str, example: Example | None = None) -> str:
    return invite.message(Facts(answers.invitation(*roles), "test"), example)


def tail(role: str, where: str) -> str:
    return (
        "> teleport-lite start \\\n"
        f"   --roles={role} \\\n"
        f"   --token={TOKEN} \\\n"
        f"   --ca-pin={PIN} \\\n"
        "   --auth-server=192.0.2.0:3025\n"
        "\n"
        "Please note:\n"
        "\n"
        "  - This invitation token will expire in 5 minutes\n"
        f"  - 192.0.2.0:3025 must be reachable from the {where}\n"
    )


def test_a_database_is_described_and_served() -> None:
    example = Example(db_name="orders", db_protocol="mysql", db_uri="10.0.0.7:3306")
    assert message("Db", example=example) == (
        HEAD
        + "Describe the database in /etc/teleport-lite.yaml on a machine that can reach it:\n\n"
        + "db_service:\n"
        + "  enabled: yes\n"
        + "  databases:\n"
        + '  - name: "orders"\n'
        + '    protocol: "mysql"\n'
        + '    uri: "10.0.0.7:3306"\n'
        + "\n"
        + "and run this there to make it available:\n\n"
        + tail("db", "database machine")
    )


def test_a_kubernetes_cluster_is_named_and_served() -> None:
    assert message("Kube", "App", "Discovery") == (
        HEAD
        + "Name the Kubernetes cluster in /etc/teleport-lite.yaml on a machine that can reach its "
        + "API:\n\n"
        + "kubernetes_service:\n"
        + "  enabled: yes\n"
        + '  kube_cluster_name: "example-cluster"\n'
        + "\n"
        + "and run this there to make it available:\n\n"
        + tail("kube", "Kubernetes cluster")
    )


def test_windows_desktops_are_turned_on() -> None:
    assert message("WindowsDesktop") == (
        HEAD
        + "Turn on the service in /etc/teleport-lite.yaml on a Linux machine that can reach the "
        + "desktops:\n\n"
        + "windows_desktop_service:\n"
        + "  enabled: yes\n"
        + "\n"
        + "and run this there to make them available:\n\n"
        + tail("windowsdesktop", "Windows Desktop machine")
    )


def test_several_types_share_the_plain_message() -> None:
    for roles in (("App", "Node"), ("Kube", "Node"), ("App", "Db")):
        said = message(*roles)
        assert f"   --roles={','.join(roles).lower()} \\\n" in said
        assert "/etc/teleport-lite.yaml" not in said


@pytest.mark.parametrize(
    "roles", [("App",), ("Db",), ("Kube", "App", "Discovery"), ("WindowsDesktop",)]
)
def test_the_configuration_that_is_shown_loads(roles: tuple[str, ...]) -> None:
    found = re.search(r"^\w+_service:\n(?:  .*\n)+", message(*roles), re.MULTILINE)
    assert found
    config = load.parse(f"version: v3\n{found[0]}", "shown", builtin_book())
    assert roles[0] in config.roles


def test_names_from_the_command_line_cannot_break_out_of_the_configuration() -> None:
    evil = 'x"\nauth_service:\n  enabled: no #'
    said = message("App", example=Example(app_name=evil, app_uri="http://[::1]:1/'\t"))
    assert "\nauth_service" not in said
    assert '  - name: "x\\"\\nauth_service:\\n  enabled: no #"\n' in said
