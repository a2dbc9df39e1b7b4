"""The one function that says what a connection may be used for."""

from dataclasses import replace

import pytest

from teleport_lite.access.verdict import Allowed, Refused
from teleport_lite.model.user import Options
from teleport_lite.node.permit import HostRules, Refusal, Rights, demand, may

ALL = Rights(
    extensions=frozenset(
        {
            "permit-pty",
            "permit-port-forwarding",
            "permit-agent-forwarding",
            "permit-X11-forwarding",
        }
    ),
    options=Options(forward_agent=True, x11_forwarding=True),
    host=HostRules(x11=True),
)
NONE = Rights(
    options=Options(port_forwarding=False, file_copy=False),
    host=HostRules(port_forwarding=False, file_copy=False),
)
LOCAL = ("open direct-tcpip", "open direct-streamlocal@openssh.com")
REMOTE = ("global tcpip-forward", "global streamlocal-forward@openssh.com")
AGENT, X11 = "request auth-agent-req@openssh.com", "request x11-req"
SFTP, PTY = "request subsystem sftp", "request pty-req"


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
        "global cancel-tcpip-forward",
        "global cancel-streamlocal-forward@openssh.com",
    ],
)
def test_shells_and_what_belongs_to_them_are_for_everybody(what: str) -> None:
    assert isinstance(may(what, NONE), Allowed)


@pytest.mark.parametrize("what", [*LOCAL, *REMOTE, AGENT, X11, SFTP, PTY])
def test_what_all_three_allow_is_allowed(what: str) -> None:
    assert isinstance(may(what, ALL), Allowed)
    assert isinstance(may(what, NONE), Refused)


@pytest.mark.parametrize(
    ("what", "extension"),
    [
        (PTY, "permit-pty"),
        *((what, "permit-port-forwarding") for what in (*LOCAL, *REMOTE)),
        (AGENT, "permit-agent-forwarding"),
        (X11, "permit-X11-forwarding"),
    ],
)
def test_the_certificate_has_to_say_so(what: str, extension: str) -> None:
    without = replace(ALL, extensions=ALL.extensions - {extension})
    assert may(what, without) == Refused(f"the certificate lacks {extension}")
    only = replace(ALL, extensions=frozenset({extension}))
    assert may(what, only) == Allowed(by=extension)


@pytest.mark.parametrize(
    ("what", "option", "words"),
    [
        *((what, "port_forwarding", "port forwarding") for what in LOCAL),
        *((what, "local_forwarding", "port forwarding") for what in LOCAL),
        *((what, "port_forwarding", "remote port forwarding") for what in REMOTE),
        *((what, "remote_forwarding", "remote port forwarding") for what in REMOTE),
        (AGENT, "forward_agent", "agent forwarding"),
        (X11, "x11_forwarding", "X11 forwarding"),
        (SFTP, "file_copy", "copying files"),
    ],
)
def test_the_roles_have_to_say_so(what: str, option: str, words: str) -> None:
    without = replace(ALL, options=replace(ALL.options, **{option: False}))
    assert may(what, without) == Refused(f"the role forbids {words}")


@pytest.mark.parametrize(
    ("what", "rule", "words"),
    [
        *((what, "port_forwarding", "port forwarding") for what in LOCAL),
        *((what, "port_forwarding", "remote port forwarding") for what in REMOTE),
        (X11, "x11", "X11 forwarding"),
        (SFTP, "file_copy", "copying files"),
    ],
)
def test_the_host_has_to_say_so(what: str, rule: str, words: str) -> None:
    without = replace(ALL, host=replace(ALL.host, **{rule: False}))
    assert may(what, without) == Refused(f"this host forbids {words}")


def test_one_side_of_forwarding_says_nothing_about_the_other() -> None:
    no_remote = replace(ALL, options=replace(ALL.options, remote_forwarding=False))
    no_local = replace(ALL, options=replace(ALL.options, local_forwarding=False))
    assert all(isinstance(may(what, no_remote), Allowed) for what in LOCAL)
    assert all(isinstance(may(what, no_local), Allowed) for what in REMOTE)


@pytest.mark.parametrize(
    "what",
    [
        "open tun@openssh.com",
        "open x11",
        "open forwarded-tcpip",
        "open forwarded-streamlocal@openssh.com",
        "open auth-agent@openssh.com",
        "global keepalive@openssh.com",
        "request subsystem",
        "request subsystem nonsense",
        "request exit-status",
        # Right words in the wrong place, and no words at all.
        "open exec",
        "open tcpip-forward",
        "global direct-tcpip",
        "request session",
        "global shell",
        "session",
        "",
    ],
)
def test_everything_else_is_refused_whatever_the_certificate_says(what: str) -> None:
    verdict = may(what, ALL)
    assert isinstance(verdict, Refused)
    assert verdict.reason


def test_a_reason_shows_what_was_asked_without_repeating_it_raw() -> None:
    verdict = may("open \x1b]0;x\x07" + "A" * 10_000, ALL)
    assert isinstance(verdict, Refused)
    assert verdict.reason.isprintable()
    assert len(verdict.reason) < 200


@pytest.mark.parametrize("what", ["open direct-tcpip", "global tcpip-forward"])
def test_nothing_new_begins_on_what_may_be_out_of_date(what: str) -> None:
    demand(what, ALL)
    stale = replace(ALL, stale=lambda: "strict_locks: nothing was heard")
    with pytest.raises(Refusal, match="nothing was heard"):
        demand(what, stale)
    for running in ("request window-change", "global cancel-tcpip-forward"):
        demand(running, stale)
