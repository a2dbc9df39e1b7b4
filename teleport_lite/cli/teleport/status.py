"""teleport-lite status: about the SSH session you are in. Nothing is asked of the daemon."""

import os
from collections.abc import Mapping

from teleport_lite.cli.show import out, pairs


def status() -> None:
    """Show the SSH session you are in."""
    out(text(os.environ))


def text(environ: Mapping[str, str]) -> str:
    """From what the node puts into every session's environment. Only what is known is shown."""
    user = environ.get("SSH_TELEPORT_USER")
    if not user:
        return "You are not inside a teleport-lite SSH session."
    login = environ.get("USER") or environ.get("LOGNAME") or "?"
    client = environ.get("SSH_CLIENT", "").split()
    seen = f", from {client[0]}" if client else ""
    cluster = environ.get("SSH_TELEPORT_CLUSTER_NAME", "")
    session = environ.get("SSH_SESSION_ID", "")
    rows = [
        ("User ID", f"{user}, logged in as {login}{seen}"),
        ("Cluster Name", cluster),
        ("Host UUID", environ.get("SSH_TELEPORT_HOST_UUID", "")),
        ("Session ID", session),
    ]
    proxy = environ.get("SSH_SESSION_WEBPROXY_ADDR")
    if proxy and session:
        rows.append(
            ("Session URL", f"https://{proxy}/web/cluster/{cluster}/console/session/{session}")
        )
    return pairs((name, value) for name, value in rows if value)
