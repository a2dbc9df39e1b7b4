"""People of clusters that we trust, at the door of the auth service."""

import logging
import ssl
from collections.abc import Iterable, Sequence

from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.desks import Desks
from teleport_lite.errors import Denied
from teleport_lite.model.trust import MAX_QUALIFIED, qualified
from teleport_lite.net.accept import Peer
from teleport_lite.net.tls import Context
from teleport_lite.pki.foreign import foreign_peer
from teleport_lite.proto.stream import RootWord

log = logging.getLogger("teleport_lite.auth")


def trust_people(context: Context, roots: Iterable[RootWord]) -> None:
    """Have a listener take certificates of their users, too. A CA that OpenSSL can not read, be it
    well-formed or not, is left out: no root can stop us from serving our own."""
    for root in roots:
        for ca in root.user_cas:
            try:
                context.load_verify_locations(cadata=ca)
            except (ssl.SSLError, TypeError, ValueError) as why:
                log.error("a CA of cluster %s can not be used: %s", root.cluster, why)


def caller_from_root(desks: Desks, peer: Peer) -> Caller | None:
    """Somebody who shows a certificate of a root; None for anybody else.

    What has come down a tunnel to a root (`peer.root`) is somebody of that root or nobody: hosts,
    people and strangers have no business to come from there. Raises Denied.
    """
    roots: Sequence[RootWord] = desks.trust.roots()
    if peer.root:
        roots = [each for each in roots if each.cluster == peer.root]
        if peer.certificate is None or not roots:
            raise Denied(f"only users of {peer.root} may come from there, with their certificate")
    elif peer.certificate is None or not roots:
        return None
    now = desks.clock.now()
    try:
        found = foreign_peer(peer.certificate, roots=roots, now=now)
    except Denied:
        if peer.root:
            raise
        return None  # one of ours, as far as we know by now
    name = qualified(found.name, found.cluster)
    if len(name) > MAX_QUALIFIED:
        raise Denied(f"the name of {name} is longer than {MAX_QUALIFIED} letters, no lock fits it")
    return Caller(
        kind=Kind.REMOTE,
        name=name,
        address=peer.address,
        roles=found.roles,
        bot_instance=found.bot_id,
        cluster=found.cluster,
        until=found.not_after,
        our_certificate=peer.our_certificate,
    )
