"""What somebody who is logged in may ask of a connection. The only place that answers.

Channel types, global requests and channel requests all come here; what is not in the table is
refused. It is asked in the broker, which is the one to act, so a worker that lies changes
nothing.
"""

from teleport_lite.access.verdict import Allowed, Refused, Verdict

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
    }
)
# What the certificate must say (PROTOCOL.certkeys, "Extensions").
_BY_EXTENSION = {"request pty-req": "permit-pty"}
# What the roles must say (`ssh_file_copy`); no certificate has a word for it.
_COPIES_FILES = frozenset({"request subsystem sftp"})
# Known, and not served: told apart from nonsense in the refusal and the trail.
_NOT_SERVED = {
    "open direct-tcpip": "port forwarding is not available on this node",
    "open direct-streamlocal@openssh.com": "socket forwarding is not available on this node",
    "open tun@openssh.com": "tunnel devices are never available",
    "open x11": "X11 forwarding is not available on this node",
    "global tcpip-forward": "port forwarding is not available on this node",
    "global cancel-tcpip-forward": "port forwarding is not available on this node",
    "global streamlocal-forward@openssh.com": "socket forwarding is not available on this node",
    "request auth-agent-req@openssh.com": "agent forwarding is not available on this node",
    "request x11-req": "X11 forwarding is not available on this node",
}


def may(what: str, extensions: frozenset[str], *, file_copy: bool) -> Verdict:
    """`extensions` are those of the visitor's certificate, `file_copy` is what its roles say."""
    if what in _ALWAYS:
        return Allowed(by="login")
    if what in _COPIES_FILES:
        return Allowed(by="role") if file_copy else Refused("the role forbids copying files")
    needed = _BY_EXTENSION.get(what)
    if needed is not None:
        if needed in extensions:
            return Allowed(by=needed)
        return Refused(f"the certificate lacks {needed}")
    return Refused(_NOT_SERVED.get(what, f"{ascii(what[:64])[1:-1]} is not known here"))
