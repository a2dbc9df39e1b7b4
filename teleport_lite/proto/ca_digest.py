"""A few letters that stand for the host CAs of a cluster: a client sees that it knows others.

A module of its own, because `tsh proxy ssh` reads it for every connection.
"""

import hashlib
from collections.abc import Iterable


def digest_of(host_cas: Iterable[str], ssh_host_cas: Iterable[str]) -> str:
    """Of PEM certificates and OpenSSH lines; neither their order nor line ends count."""
    lines = (" ".join(line.split()[:2]) for line in ssh_host_cas)
    known = sorted([*map(str.strip, host_cas), *lines])
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
