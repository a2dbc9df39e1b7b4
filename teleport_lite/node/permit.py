"""What somebody who is logged in may ask of a connection. The only place that answers.

Channel types, global requests and channel requests all come here; what is not in the table is
refused. It is asked in the broker, which is the one to act, so a worker that lies changes
nothing. Three have to agree: the host (its config), the roles as this host knows them, and the
certificate.
"""

from collections.abc import Callable
from dataclasses import dataclass

from teleport_lite.access.verdict import Allowed, Refused, Verdict
from teleport_lite.model.user import Options

# The word before the name tells who asks: a channel to be opened, a request within one, or
# a request about the whole connection (RFC 4254 §4, §5.1, §5.4).
_ALWAYS = frozenset(
    {
        "open session",
        "request shell",
        "request exec",
        "request env",
        "request window-change",
        "request signal",
        "global no-more-sessions@openssh.com",
        # These can only take back what has been given to the same connection.
        "global cancel-tcpip-forward",
        "global cancel-streamlocal-forward@openssh.com",
    }
)
# What begins something new, beside sessions, which the broker counts.
_BEGINS = frozenset(
    {
        "open direct-tcpip",
        "open direct-streamlocal@openssh.com",
        "global tcpip-forward",
        "global streamlocal-forward@openssh.com",
    }
)
# Known, and never served: told apart from nonsense in the refusal and the trail.
_NEVER = {
    "open tun@openssh.com": "tunnel devices are never available",
    "open x11": "X11 channels are opened by the host, not by clients",
}


_PLAIN = Options()


def _of_now() -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRules:
    """What the config of this host says (`ssh_service`), for everybody."""

    port_forwarding: bool = True
    file_copy: bool = True
    x11: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """All that says what a visitor may have."""

    extensions: frozenset[str] = frozenset()  # of the certificate
    options: Options = _PLAIN  # of the roles, merged
    host: HostRules = HostRules()
    # Why this may be out of date, so that nothing new begins (`strict_locks`); "": it is not.
    stale: Callable[[], str] = _of_now


@dataclass(frozen=True, slots=True)
class _Needs:
    """`what` is how refusals call it; the rest is whom it needs a yes from, None is nobody.

    `extension`: PROTOCOL.certkeys, "Extensions". `options` are attributes of Options, `host` one
    of HostRules.
    """

    what: str
    extension: str | None = None
    options: tuple[str, ...] = ()
    host: str | None = None


_LOCAL = _Needs(
    "port forwarding",
    "permit-port-forwarding",
    ("port_forwarding", "local_forwarding"),
    "port_forwarding",
)
_REMOTE = _Needs(
    "remote port forwarding",
    "permit-port-forwarding",
    ("port_forwarding", "remote_forwarding"),
    "port_forwarding",
)
_TABLE = {
    "request pty-req": _Needs("terminals", "permit-pty"),
    # No certificate has a word for it.
    "request subsystem sftp": _Needs("copying files", None, ("file_copy",), "file_copy"),
    "open direct-tcpip": _LOCAL,
    "open direct-streamlocal@openssh.com": _LOCAL,
    "global tcpip-forward": _REMOTE,
    "global streamlocal-forward@openssh.com": _REMOTE,
    "request auth-agent-req@openssh.com": _Needs(
        "agent forwarding", "permit-agent-forwarding", ("forward_agent",)
    ),
    "request x11-req": _Needs(
        "X11 forwarding", "permit-X11-forwarding", ("x11_forwarding",), "x11"
    ),
}


def may(what: str, rights: Rights) -> Verdict:
    if what in _ALWAYS:
        return Allowed(by="login")
    needs = _TABLE.get(what)
    if needs is None:
        return Refused(_NEVER.get(what, f"{ascii(what[:64])[1:-1]} is not known here"))
    if needs.host is not None and not getattr(rights.host, needs.host):
        return Refused(f"this host forbids {needs.what}")
    if not all(getattr(rights.options, option) for option in needs.options):
        return Refused(f"the role forbids {needs.what}")
    if needs.extension is not None and needs.extension not in rights.extensions:
        return Refused(f"the certificate lacks {needs.extension}")
    return Allowed(by=needs.extension or "role")


class Refusal(Exception):
    """No, and why; becomes a reply, never an error of ours."""


def demand(what: str, rights: Rights) -> None:
    """Raises Refusal unless `may` allows it."""
    verdict = may(what, rights)
    if what in _BEGINS and (reason := rights.stale()):
        raise Refusal(reason)
    if isinstance(verdict, Refused):
        raise Refusal(verdict.reason)
