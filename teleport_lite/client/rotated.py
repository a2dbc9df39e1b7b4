"""A rotation of the host CA, from the side of people: why nobody is believed any more, and how a
profile learns the new CA while the old one still vouches for it."""

import ssl
from collections.abc import Sequence
from pathlib import Path

from teleport_lite.client import profile
from teleport_lite.client.me import MeClient
from teleport_lite.client.person import by_profile
from teleport_lite.client.profile import Profile
from teleport_lite.client.transport import Transport
from teleport_lite.errors import Error, Malformed, NotFound, Unauthenticated
from teleport_lite.net.way import Way, introduction
from teleport_lite.pki.keys import check_ssh_public
from teleport_lite.pki.pin import pin_of
from teleport_lite.proto.retired import retired, when

PATIENCE = 5.0
LOG_IN = "tsh login"


def rotated(address: str, cluster: str, host_cas: Sequence[str]) -> Unauthenticated | None:
    """Was the CA that somebody goes by rotated away? Asked when nobody shows a certificate of it.

    The answer is anybody's word: it explains, and makes nobody believed.
    """
    try:
        said = introduction(Way(address, cluster), timeout=PATIENCE)
        known = {pin_of(ca) for ca in host_cas}
        now = {pin_of(ca) for ca in said.host_cas}
    except (Error, ssl.SSLError):
        return None
    if said.cluster != cluster:
        return None
    if known & now:
        words = "is being rotated, and these credentials do not know the new one"
        return None if now <= known else Unauthenticated(_of(cluster, words), hint=LOG_IN)
    gone = retired(said, known)
    if gone is None:
        return None
    return Unauthenticated(_of(cluster, f"was rotated on {when(gone)}"), hint=LOG_IN)


def refresh(home: Path, chosen: Profile) -> bool:
    """Have a profile trust the host CAs of now, as auth tells who can prove who they are. True if
    they were others than before. A login that has ended meanwhile learns nothing.

    Raises Unauthenticated, Denied or Unavailable, and Malformed for what are no CAs.
    """
    person = by_profile(home, chosen)
    found = MeClient(Transport(person.door())).cas()
    host_cas, ssh_host_cas = found.texts("host_cas"), found.texts("ssh_host_cas")
    if not host_cas or not ssh_host_cas:
        raise Malformed(f"the auth service of cluster {chosen.cluster} names no CA")
    for ca in host_cas:
        pin_of(ca)  # one certificate each
    lines = [check_ssh_public(line) for line in ssh_host_cas]
    try:
        known = profile.identity(home, chosen)
    except NotFound:
        return False
    if sorted(_plain(known.host_cas)) == sorted(_plain(host_cas)) and sorted(
        known.ssh_host_cas
    ) == sorted(lines):
        return False
    return profile.trust(home, chosen, host_cas, lines, told=person.tls_cert)


def _of(cluster: str, words: str) -> str:
    return f"the host CA of cluster {cluster} {words}"


def _plain(pems: Sequence[str]) -> list[str]:
    return [pem.strip() for pem in pems]
