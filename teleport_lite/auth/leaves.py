"""Leaf clusters, from the root's side: they join with a token, and ask for news.

A leaf gets one certificate of ours. It opens tunnels of its own cluster and this desk, nothing
else: it is not a host, stands in no listing of hosts, and gets no SSH certificate. Of its CAs we
believe what it says, because they vouch for its own hosts alone.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from threading import Lock
from typing import Any

from teleport_lite.access.decide import locked, may_go_on
from teleport_lite.access.verdict import Allowed, Refused
from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Entry, Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.issue import BACKDATE, HOST_LIFE, Issuer
from teleport_lite.auth.join import ASK_FOR_ANOTHER, JoinDesk
from teleport_lite.auth.names import own_cas
from teleport_lite.auth.record import write_recorded
from teleport_lite.errors import Conflict, Denied, Malformed, NotFound
from teleport_lite.model.authority import CaType
from teleport_lite.model.lock import Lock as Ban
from teleport_lite.model.lock import Target
from teleport_lite.model.names import CLUSTER_NAME, checked
from teleport_lite.model.token import JoinToken
from teleport_lite.model.trust import LEAF_ROLE, RemoteCluster, related
from teleport_lite.model.user import Role
from teleport_lite.pki.foreign import CaSet, check_cas, tidied
from teleport_lite.pki.keys import new_ssh_key, public_of_csr
from teleport_lite.pki.plan import HostCertPlan
from teleport_lite.proto.resource import lock_doc
from teleport_lite.proto.stream import LeafWord, ProxyPlace
from teleport_lite.proto.trust import (
    TRUSTED_CLUSTER,
    TrustFinish,
    TrustHello,
    TrustRefresh,
    TrustWord,
    remote_doc,
)
from teleport_lite.store.protocols import Store, Tx

# A proxy tells of its tunnels every 5 to 15 s, auth servers of each other by the store.
ONLINE = timedelta(seconds=90)
NOTED_EVERY = timedelta(seconds=30)
# Of these the leaf hears, so that a lock here holds there, too.
_TOLD = (Target.USER, Target.ROLE, Target.BOT)
_REMOVE = "tctl rm remote_cluster/{} at the root, then a new token"


class LeafDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        trail: Trail,
        cas: Cas,
        joins: JoinDesk,
        issuer: Issuer,
        roots: Callable[[], Sequence[tuple[str, CaSet]]],
        proxies: Callable[[], list[ProxyPlace]],
        changed: Callable[[], None],
    ) -> None:
        """`roots` are the clusters we trust ourselves, `changed` tells our agents."""
        self._clock, self._chance, self._store, self._trail = clock, chance, store, trail
        self._cas, self._joins, self._issuer = cas, joins, issuer
        self._roots, self._proxies, self._changed = roots, proxies, changed
        self._guard = Lock()  # one join or change of CAs at a time; guards `_seen` too
        self._seen: set[str] = set()  # UUIDs of leaves that a proxy has told of

    def finish(self, caller: Caller, asked: TrustFinish) -> TrustWord:
        """Take a leaf in. The token is spent and the leaf recorded before anything is signed.

        Raises Denied, Conflict, Malformed or Unavailable.
        """
        hello = asked.hello
        shown = ascii(hello.cluster[:128])[1:-1]
        facts = {"name": shown, "method": "token", "addr.remote": caller.address}
        with self._trail.attempt("cluster.join", ok="TRC01I", refused="TRC01E", **facts) as entry:
            cannot = f"cluster {shown} can not join cluster {self._cas.cluster}"
            token, server_final = self._joins.proved(caller, asked, entry, cannot)
            with self._guard:
                known = self._called(hello.cluster)
                leaf, key = self._checked(hello, token, cannot)
                entry.facts["leaf_id"] = leaf.id

                def join(tx: Tx) -> None:
                    self._check_still(tx, leaf.name, known)
                    self._record(tx, token, leaf, key, entry, cannot)

                self._store.write(join)
            self._changed()
            return self._word(leaf, server_final=server_final, tls_public=key)

    def refresh(self, caller: Caller, asked: TrustRefresh) -> TrustWord:
        """News for a leaf, and from it. Raises NotFound, Denied, Conflict or Malformed."""
        with self._guard:
            leaf, hello = self.known(caller), asked.hello
            if hello.cluster != leaf.name:
                raise Denied(f"this certificate is of cluster {leaf.name}")
            shown = tidied(_cas_of(hello), leaf.name)
            if shown != CaSet(host_cas=leaf.host_cas, ssh_host_cas=leaf.ssh_host_cas):
                leaf = self._change_cas(caller, leaf, shown)
        if not hello.tls_csr:
            return self._word(leaf)
        key = public_of_csr(hello.tls_csr)
        self._trail.note(
            "cluster.renew", "TRC03I", name=leaf.name, **{"addr.remote": caller.address}
        )
        return self._word(leaf, tls_public=key)

    def known(self, caller: Caller) -> RemoteCluster:
        """The leaf behind this caller. Raises NotFound for one that was removed, Denied for one
        that is locked."""
        found = next((each for each in self._all() if each.id == caller.name), None)
        if found is None:
            raise NotFound(
                f"this cluster is not part of {self._cas.cluster} any more",
                hint=f"join again with a new token: {ASK_FOR_ANOTHER} --type={TRUSTED_CLUSTER}",
            )
        verdict = locked(self._store.locks(), self._clock.now(), node=found.id)
        if isinstance(verdict, Refused):
            raise Denied(verdict.reason)
        return found

    def remove(self, caller: Caller, name: str) -> dict[str, Any]:
        """Its tunnels end within seconds, and its certificate is good for nothing. Raises
        NotFound."""
        facts = {"name": name[:128], "user": caller.label, "addr.remote": caller.address}
        with self._trail.attempt("cluster.delete", ok="TRC02I", refused="TRC02E", **facts) as entry:
            if not write_recorded(self._store, entry, lambda tx: tx.remove_remote(name)):
                raise _unknown(name)
        self._changed()
        return {"kind": "remote_cluster", "name": name}

    def label(self, caller: Caller, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """These, and no others. Raises NotFound or Conflict."""
        shown = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        facts = {"name": name[:128], "what": "labels", "labels": shown[:4096]}
        who = {"user": caller.label, "addr.remote": caller.address}
        with (
            self._trail.attempt(
                "cluster.update", ok="TRC04I", refused="TRC04E", **facts, **who
            ) as entry,
            self._guard,
        ):
            leaf = self._called(name)
            if leaf is None:
                raise _unknown(name)
            changed = replace(leaf, labels=tuple(sorted(labels.items())))

            def change(tx: Tx) -> None:
                self._check_still(tx, name, leaf)
                tx.put_remote(changed)

            write_recorded(self._store, entry, change)
        self._changed()
        return {"kind": "remote_cluster", "name": name}

    def docs(self) -> list[dict[str, Any]]:
        return [remote_doc(each, online=self._online(each)) for each in self._all()]

    def words(self) -> list[LeafWord]:
        """For everybody's Knowledge."""
        return [
            LeafWord(
                cluster=each.name,
                id=each.id,
                host_cas=list(each.host_cas),
                ssh_host_cas=list(each.ssh_host_cas),
                labels=dict(each.labels),
            )
            for each in self._all()
        ]

    def clusters(self, roles: Sequence[Role]) -> dict[str, Any]:
        """For people: where else these roles may go, and whom to believe there."""
        found = [
            {
                "name": each.name,
                "status": "online" if self._online(each) else "offline",
                "labels": dict(each.labels),
                "host_cas": list(each.host_cas),
                "ssh_host_cas": list(each.ssh_host_cas),
            }
            for each in self._all()
            if isinstance(may_go_on(roles, dict(each.labels)), Allowed)
        ]
        return {"clusters": found}

    def seen(self, ids: Sequence[str]) -> None:
        """A proxy has tunnels of these leaves now."""
        with self._guard:
            self._seen.update(ids)

    def note(self) -> None:
        """Write down who was seen; a chore of every few seconds."""
        with self._guard:
            seen, self._seen = self._seen, set()
            now = self._clock.now()
            old = now - NOTED_EVERY
            due = [
                each
                for each in (self._all() if seen else ())
                if each.id in seen and (each.last_heartbeat is None or each.last_heartbeat < old)
            ]

            def put(tx: Tx) -> None:
                for each in due:  # who was removed stays so, and new CAs are not of before
                    if tx.is_still(RemoteCluster, each.name, each):
                        tx.put_remote(replace(each, last_heartbeat=now))

            if due:
                self._store.write(put)

    # --- joining

    def _checked(
        self, hello: TrustHello, token: JoinToken, cannot: str
    ) -> tuple[RemoteCluster, str]:
        """The leaf to be, and its public TLS key."""
        if TRUSTED_CLUSTER not in token.roles:
            raise Denied(
                f'{cannot}, the token does not allow "{TRUSTED_CLUSTER}" role',
                hint=f"{ASK_FOR_ANOTHER} --type={TRUSTED_CLUSTER}",
            )
        verdict = locked(self._store.locks(), self._clock.now(), join_token=token.id)
        if isinstance(verdict, Refused):
            raise Denied(f"{cannot}, {verdict.reason}")
        name = checked(CLUSTER_NAME, hello.cluster, "cluster name", example="leaf.example.com")
        key = public_of_csr(hello.tls_csr)
        leaf_id = _id_of(key)
        others = [each for each in self._all() if each.id != leaf_id or each.name != name]
        if any(each.id == leaf_id for each in others):
            raise Conflict(f"{cannot}, its key belongs to another remote cluster")
        self._check_name(name, others, cannot)
        shown = _cas_of(hello)
        if not (shown.host_cas and shown.ssh_host_cas):
            raise Malformed(f"{cannot}, it shows no CAs")
        shown = self._check_cas(name, shown, others)
        before = self._called(name)  # the same leaf, with a new token
        leaf = RemoteCluster(
            name=name,
            id=leaf_id,
            host_cas=shown.host_cas,
            ssh_host_cas=shown.ssh_host_cas,
            labels=before.labels if before else (),
            created_at=self._clock.now(),
        )
        return leaf, key

    def _check_name(self, name: str, others: Sequence[RemoteCluster], cannot: str) -> None:
        """A leaf must not get the name of another one, nor one under which its nodes could be
        taken for those of another cluster."""
        for other in (self._cas.cluster, *(cluster for cluster, _ in self._roots())):
            if related(name, other):
                raise Conflict(
                    f"{cannot}, names of its nodes could be taken for those of {other}",
                    hint="clusters need names of which none is a part of another",
                )
        for each in others:
            if each.name.lower() == name.lower():
                raise Conflict(
                    f"{cannot}, there is a remote cluster of that name already",
                    hint=_REMOVE.format(each.name),
                )
            if related(name, each.name):
                raise Conflict(
                    f"{cannot}, names of its nodes could be taken for those of {each.name}"
                )

    def _check_cas(self, name: str, shown: CaSet, others: Sequence[RemoteCluster]) -> CaSet:
        ours = (self._cas.cluster, own_cas(self._cas))
        leaves = (
            (each.name, CaSet(host_cas=each.host_cas, ssh_host_cas=each.ssh_host_cas))
            for each in others
        )
        return check_cas(shown, name, known=(ours, *leaves, *self._roots()))

    def _record(
        self, tx: Tx, token: JoinToken, leaf: RemoteCluster, key: str, entry: Entry, cannot: str
    ) -> None:
        spender, now = hashlib.sha256(key.encode()).hexdigest(), self._clock.now()
        roles = (TRUSTED_CLUSTER,)
        if not token.static and not tx.spend_token(token.name, roles=roles, key=spender, now=now):
            raise Denied(
                f"{cannot}, token expired or not found",
                hint=f"{ASK_FOR_ANOTHER} --type={TRUSTED_CLUSTER}",
                log="used, removed or expired a moment ago",
            )
        tx.put_remote(leaf)
        entry.commit(tx)

    # --- what is told

    def _change_cas(self, caller: Caller, leaf: RemoteCluster, shown: CaSet) -> RemoteCluster:
        """The leaf rotates a CA of its own."""
        if not (shown.host_cas and shown.ssh_host_cas):
            raise Malformed(f"cluster {leaf.name} shows no CAs")
        self._check_cas(leaf.name, shown, [each for each in self._all() if each.id != leaf.id])
        changed = replace(leaf, host_cas=shown.host_cas, ssh_host_cas=shown.ssh_host_cas)
        facts = {"name": leaf.name, "what": "CAs", "addr.remote": caller.address}
        with self._trail.attempt("cluster.update", ok="TRC04I", refused="TRC04E", **facts) as entry:

            def change(tx: Tx) -> None:
                self._check_still(tx, leaf.name, leaf)
                tx.put_remote(changed)

            write_recorded(self._store, entry, change)
        self._changed()
        return changed

    def _check_still(self, tx: Tx, name: str, was: RemoteCluster | None) -> None:
        """Raises Conflict: it was removed meanwhile, or another auth server was asked, too."""
        if not tx.is_still(RemoteCluster, name, was):
            raise Conflict(
                f"remote_cluster {name} was changed a moment ago", hint="tctl get remote_clusters"
            )

    def _word(
        self, leaf: RemoteCluster, *, server_final: str = "", tls_public: str = ""
    ) -> TrustWord:
        now = self._clock.now()
        return TrustWord(
            cluster=self._cas.cluster,
            id=leaf.id,
            server_final=server_final,
            tls_cert=self._certificate(leaf, tls_public) if tls_public else "",
            host_cas=self._cas.tls(CaType.HOST),
            ssh_host_cas=self._cas.ssh(CaType.HOST),
            user_cas=self._cas.tls(CaType.USER),
            ssh_user_cas=self._cas.ssh(CaType.USER),
            proxies=self._proxies(),
            locks=[
                lock_doc(_bare(lock))
                for lock in self._store.locks()
                if lock.target in _TOLD and lock.in_force(now)
            ],
        )

    def _certificate(self, leaf: RemoteCluster, tls_public: str) -> str:
        """For TLS alone. The SSH one that comes with every plan is over a key that nobody has."""
        now, cluster = self._clock.now(), self._cas.cluster
        plan = HostCertPlan(
            cluster=cluster,
            host_id=leaf.id,
            name=leaf.name,
            roles=(LEAF_ROLE,),
            principals=(f"{leaf.id}.{cluster}".lower(),),
            ssh_public=new_ssh_key()[1],
            tls_public=tls_public,
            starts=now - BACKDATE,
            ends=now + HOST_LIFE,
            serial=int.from_bytes(self._chance.bytes(8)) or 1,
        )
        return self._issuer.sign(plan).tls_cert

    def _online(self, leaf: RemoteCluster) -> bool:
        last = leaf.last_heartbeat
        return leaf.id in self._seen or (last is not None and self._clock.now() - last < ONLINE)

    def _called(self, name: str) -> RemoteCluster | None:
        return next((each for each in self._all() if each.name == name), None)

    def _all(self) -> list[RemoteCluster]:
        return self._store.remote_clusters()


def _unknown(name: str) -> NotFound:
    return NotFound(f"remote_cluster {name[:64]!a} does not exist", hint="tctl get remote_clusters")


def _cas_of(hello: TrustHello) -> CaSet:
    return CaSet(host_cas=tuple(hello.host_cas), ssh_host_cas=tuple(hello.ssh_host_cas))


def _id_of(tls_public: str) -> str:
    """A UUID that is the same when a leaf asks again with its key, because an answer was lost."""
    digest = hashlib.sha256(tls_public.encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def _bare(lock: Ban) -> Ban:
    """Who made a lock and why is not the leaf's business."""
    return replace(lock, message="", created_by="")
