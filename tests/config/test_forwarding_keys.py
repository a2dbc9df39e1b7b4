"""What ssh_service says about forwarding and copying files, for everybody on the host."""

import pytest


def test_nothing_said_allows_what_roles_allow_but_for_x11(desk):
    node = desk.read("ssh_service: {enabled: yes}\n").node
    assert (node.port_forwarding, node.file_copy, node.x11) == (True, True, False)
    assert node.x11_displays == (10, 1010)


def test_each_of_them_can_be_set(desk):
    config = desk.read(
        "ssh_service:\n"
        "  port_forwarding: no\n"
        "  ssh_file_copy: no\n"
        "  x11: {enabled: yes, display_offset: 20}\n"
    )
    node = config.node
    assert (node.port_forwarding, node.file_copy, node.x11) == (False, False, True)
    assert node.x11_displays == (20, 1020)
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("x11", "message"),
    [
        ("{display_offset: -1}", "display_offset: must be a number from 1 to 59535, like 10"),
        ("{max_display: 60000}", "max_display: must be a number from 1 to 59535, like 10"),
        ("{max_display: 9}", "max_display: must not be less than display_offset"),
    ],
)
def test_displays_that_cannot_be_are_refused_by_line(desk, x11, message):
    said = desk.refusal(f"ssh_service:\n  x11: {x11}\n")
    assert said.startswith(f"f.yaml:2: ssh_service.x11.{message}")
