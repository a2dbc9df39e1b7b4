"""What a root has said last, kept beside the administrator's decision to trust it."""

import hashlib
from dataclasses import replace
from typing import Any

from teleport_lite.errors import Malformed
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.names import RESOURCE_NAME, UUID, checked
from teleport_lite.model.trust import TrustedCluster
from teleport_lite.pki.foreign import CaSet, host_of
from teleport_lite.proto.codec import MAX_ADMIN, Statement, read, write
from teleport_lite.proto.resource import lock_doc, lock_from_doc
from teleport_lite.proto.stream import ProxyPlace, RootWord
from teleport_lite.proto.trust import TrustWord, role_map_doc
from teleport_lite.store.protocols import Store

# Bytes, of one root.
MAX_SAID = 256 * 1024
# Locks that a root tells of; those on its hosts are not our business.
_HEARD = (Target.USER, Target.ROLE, Target.BOT)
_EXAMPLE = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"


class _Kept(Statement, frozen=True):
    base: str  # mark of the certificate of the join that it belongs to
    word: TrustWord


def last_said(store: Store, kept: TrustedCluster) -> TrustWord:
    """Of the join that is in force."""
    text = store.meta(meta_key(kept.name))
    if text:
        found = read(_Kept, text.encode(), limit=MAX_ADMIN)
        if found.base == mark_of(kept.tls_cert):
            return found.word
    return TrustWord(
        cluster=kept.name,
        id=host_of(kept.tls_cert),
        host_cas=list(kept.host_cas),
        ssh_host_cas=list(kept.ssh_host_cas),
        user_cas=list(kept.user_cas),
        ssh_user_cas=list(kept.ssh_user_cas),
        tls_cert=kept.tls_cert,
    )


def meta_key(name: str) -> str:
    """Of the store's meta."""
    return f"root/{name}"


def meta_text(kept: TrustedCluster, said: TrustWord) -> str:
    return write(_Kept(base=mark_of(kept.tls_cert), word=said)).decode()


def mark_of(tls_cert: str) -> str:
    """Another one for each certificate."""
    return hashlib.sha256(tls_cert.encode()).hexdigest()[:32]


def cas_of(said: TrustWord) -> CaSet:
    return CaSet(
        host_cas=tuple(said.host_cas),
        ssh_host_cas=tuple(said.ssh_host_cas),
        user_cas=tuple(said.user_cas),
        ssh_user_cas=tuple(said.ssh_user_cas),
    )


def bare_word(said: TrustWord, cas: CaSet, tls_cert: str) -> TrustWord:
    """Of what a root says nothing but what is needed; `cas` and `tls_cert` have been looked at.
    Raises Malformed."""
    for what, id in (("leaf", said.id), *(("proxy", place.id) for place in said.proxies)):
        checked(UUID, id, f"{what} id", example=_EXAMPLE)
    bare = TrustWord(
        cluster=said.cluster,
        id=said.id,
        host_cas=list(cas.host_cas),
        ssh_host_cas=list(cas.ssh_host_cas),
        user_cas=list(cas.user_cas),
        ssh_user_cas=list(cas.ssh_user_cas),
        tls_cert=tls_cert,
        proxies=[ProxyPlace(id=place.id) for place in said.proxies],
        locks=[lock_doc(lock) for lock in map(_bare, said.locks) if lock.target in _HEARD],
    )
    if (size := len(write(bare))) > MAX_SAID:
        raise Malformed(f"cluster {said.cluster} tells {size} bytes, we take {MAX_SAID}")
    return bare


def _bare(doc: dict[str, Any]) -> Lock:
    """Its words could be anything, and would be shown to people of ours. Raises Malformed."""
    lock = lock_from_doc(doc)
    checked(RESOURCE_NAME, lock.value, "lock value", example="alice")
    return replace(lock, message="", created_by="")


def root_word(kept: TrustedCluster, said: TrustWord) -> RootWord:
    """For everybody's Knowledge. Of its proxies only who they are: where they are dialled an
    administrator of ours has said, and a root shall not have us dial anything else."""
    return RootWord(
        cluster=kept.name,
        user_cas=said.user_cas,
        ssh_user_cas=said.ssh_user_cas,
        role_map=role_map_doc(kept.role_map),
        proxy=kept.proxy,
        host_cas=said.host_cas,
        proxies=[ProxyPlace(id=each.id) for each in said.proxies],
        locks=said.locks,
        mark=mark_of(said.tls_cert),
    )
