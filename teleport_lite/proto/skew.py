"""Which versions speak with each other: those of the same major, and of the one beside it.

Within a major nothing is taken away (docs/protocol.md), and what the next one drops has had its
successor beside it for a whole major. Whoever is further off is told so, on both sides.
"""

import re

from teleport_lite.errors import Denied

MAJORS_APART = 1
_MAJOR = re.compile(r"v?(\d{1,5})\.\d{1,5}\.\d{1,5}([-+].*)?", re.ASCII | re.DOTALL)
_SHOWN = 40


def major(version: str) -> int | None:
    """1 of "1.2.3"; None for what is no version, of which nothing follows."""
    found = _MAJOR.fullmatch(version)
    return int(found[1]) if found else None


def majors_ahead(theirs: str, ours: str) -> int:
    """0 too if one of them is not known."""
    there, here = major(theirs), major(ours)
    return 0 if there is None or here is None else there - here


def oldest_client(version: str) -> str:
    """Of the clients that a service of that version still understands."""
    return f"{max(0, (major(version) or 0) - MAJORS_APART)}.0.0"


def install_line(proxy: str) -> str:
    """What to type to get the version of the cluster behind `proxy`, a host and a port."""
    return f"curl -fsSL https://{proxy or 'PROXY'}/install.sh | bash"


def check_host(version: str, *, ours: str, proxy: str) -> None:
    """Raises Denied for a host whose words auth, which is `ours`, may not understand. `proxy` is
    where the hosts of the cluster find one, "" if that is not known."""
    ahead = majors_ahead(version, ours)
    if abs(ahead) <= MAJORS_APART:
        return
    shown = ascii(version[:_SHOWN])[1:-1]
    raise Denied(
        f"this host runs teleport-lite {shown}, auth {ours}: they may be one major apart, "
        f"and are {abs(ahead)}",
        hint=install_line(proxy),
    )
