"""The one function that says what a connection may be used for."""

import pytest

from teleport_lite.access.verdict import Allowed, Refused
from teleport_lite.node.permit import may

ALL = frozenset({"permit-pty", "permit-port-forwarding", "permit-agent-forwarding"})
NONE = frozenset[str]()


@pytest.mark.parametrize(
    "what",
    [
        "open session",
        "request shell",
        "request exec",
        "request env",
        "request signal",
        "request window-change",
        "global no-more-sessions@openssh.com",
    ],
)
def test_shells_and_what_belongs_to_them_are_for_everybody(what: str) -> None:
    assert isinstance(may(what, NONE, file_copy=False), Allowed)


def test_a_terminal_is_for_those_whose_certificate_says_so() -> None:
    assert may("request pty-req", ALL, file_copy=False) == Allowed(by="permit-pty")
    refused = Refused("the certificate lacks permit-pty")
    assert may("request pty-req", NONE, file_copy=True) == refused


def test_files_are_copied_if_the_role_says_so() -> None:
    assert may("request subsystem sftp", NONE, file_copy=True) == Allowed(by="role")
    refused = Refused("the role forbids copying files")
    assert may("request subsystem sftp", ALL, file_copy=False) == refused


@pytest.mark.parametrize(
    "what",
    [
        "open direct-tcpip",
        "open direct-streamlocal@openssh.com",
        "open tun@openssh.com",
        "open x11",
        "open forwarded-tcpip",
        "open auth-agent@openssh.com",
        "global tcpip-forward",
        "global streamlocal-forward@openssh.com",
        "global keepalive@openssh.com",
        "request subsystem",
        "request subsystem nonsense",
        "request auth-agent-req@openssh.com",
        "request x11-req",
        "request exit-status",
        # Right words in the wrong place, and no words at all.
        "open exec",
        "request session",
        "global shell",
        "session",
        "",
    ],
)
def test_everything_else_is_refused_whatever_the_certificate_says(what: str) -> None:
    verdict = may(what, ALL, file_copy=True)
    assert isinstance(verdict, Refused)
    assert verdict.reason


def test_a_reason_shows_what_was_asked_without_repeating_it_raw() -> None:
    verdict = may("open \x1b]0;x\x07" + "A" * 10_000, ALL, file_copy=True)
    assert isinstance(verdict, Refused)
    assert verdict.reason.isprintable()
    assert len(verdict.reason) < 200
