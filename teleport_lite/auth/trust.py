"""Clusters that this one trusts, from the leaf's side: users of a root get roles of ours.

An administrator's decision (role map, enabled, key) stands in the store and is changed by nobody
else. What a root says of itself later (CAs, proxies, locks, our certificate) is kept beside it,
so that news never undo a decision that was made at another auth server meanwhile.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Lock, Thread
from typing import Any

from teleport_lite.access.mapping import check_map, named
from teleport_lite.agent.roots import roles_here, rules_of
from teleport_lite.agent.trust import join_root, news_of
from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.names import own_cas
from teleport_lite.auth.roots import (
    bare_word,
    cas_of,
    last_said,
    mark_of,
    meta_key,
    meta_text,
    root_word,
)
from teleport_lite.errors import Conflict, Error, Malformed, NotFound
from teleport_lite.model.authority import CaType
from teleport_lite.model.trust import TrustedCluster, is_foreign, related
from teleport_lite.pki.foreign import CaSet, check_cas, own_certificate
from teleport_lite.pki.keys import csr, new_tls_key
from teleport_lite.pki.verify import ends_at
from teleport_lite.proto.codec import write
from teleport_lite.proto.stream import RootWord
from teleport_lite.proto.trust import (
    TRUSTED_CLUSTER,
    Pass,
    Passes,
    TrustedWish,
    TrustHello,
    TrustWord,
    trusted_doc,
)
from teleport_lite.secret import Secret
from teleport_lite.store.protocols import Store, Tx

log = logging.getLogger("teleport_lite.auth")

# The certificate we show at the root lives 30 days. Asked for this long before its end.
RENEW_BEFORE = timedelta(days=28)
LOOK_EVERY = 2.0
# Seconds that a round of news waits for a root. One that is slower goes on by itself.
ROUND = 10.0
# A root that does not answer is asked again after so many rounds, doubling up to the second.
MIN_REST, MAX_REST = 1, 8
# What we take from a root: it stands in everybody's Knowledge.
MAX_PROXIES, MAX_LOCKS = 64, 1000
# Bytes, of all roots: an agent reads a megabyte of Knowledge, in which our own rules stand, too.
MAX_ALL_SAID = 512 * 1024
_NEW_TOKEN = f"at the root: tctl tokens add --type={TRUSTED_CLUSTER}"

Join = Callable[[TrustedWish, TrustHello, Clock], TrustWord]
News = Callable[[TrustedCluster, TrustHello], TrustWord]


@dataclass(slots=True)
class _Rest:
    """Of a root that does not answer: rounds to leave out, and how many failed."""

    left: int = 0
    failures: int = 0
    asking: bool = False


class TrustDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        trail: Trail,
        cas: Cas,
        version: str,
        changed: Callable[[], None],
        join: Join | None = None,
        news: News | None = None,
    ) -> None:
        """`changed` tells our agents, and has our own listeners take the new CAs."""
        self._clock, self._store, self._trail, self._cas = clock, store, trail, cas
        self._version, self._tell = version, changed
        self._join, self._news = join or join_root, news or news_of
        self._guard = Lock()  # one join at a time
        self._keys: dict[str, Secret] = {}  # of joins whose answer may have been lost
        self._rests: dict[str, _Rest] = {}
        self._followers: list[Callable[[], None]] = []
        self._told = object()  # another one with each change
        # What was found, when, and after which change: all of it is replaced at once.
        self._looked: tuple[object, float, list[RootWord]] = object(), 0.0, []

    def create(self, caller: Caller, doc: dict[str, Any], *, force: bool) -> dict[str, Any]:
        """Join a root with its token, or change what its users may do here (`force`).

        Raises Conflict, Denied, Malformed, NotFound or Unavailable; then nothing has changed here.
        """
        wish = TrustedWish(doc)
        facts = {
            "name": wish.name,
            "proxy": wish.proxy[:256],
            "enabled": "yes" if wish.enabled else "no",
            "user": caller.label,
            "addr.remote": caller.address,
        }
        with self._trail.attempt("cluster.trust", ok="T7000I", refused="T7000E", **facts) as entry:
            self._check(wish)
            with self._guard:
                known = self._find(wish.name)
                made, said = self._made(wish, known, force=force)

                def put(tx: Tx) -> None:
                    if not tx.is_still(TrustedCluster, wish.name, known):
                        raise Conflict(
                            f"trusted_cluster {wish.name} was changed a moment ago",
                            hint="tctl get trusted_clusters",
                        )
                    tx.put_trusted(made)
                    if said is not None:
                        tx.set_meta(meta_key(made.name), meta_text(made, said))
                    entry.commit(tx)

                self._store.write(put)
                self._keys.pop(wish.name, None)
                self._rests.pop(wish.name, None)
        self._changed()
        return {"kind": TRUSTED_CLUSTER, "name": wish.name, "created": known is None}

    def remove(self, caller: Caller, name: str) -> dict[str, Any]:
        """Users of that root are let in no more, and those who are here leave. NotFound."""
        facts = {"name": name[:128], "user": caller.label, "addr.remote": caller.address}
        with self._trail.attempt(
            "cluster.distrust", ok="T7001I", refused="T7001E", **facts
        ) as entry:

            def drop(tx: Tx) -> None:
                if not tx.remove_trusted(name):
                    raise NotFound(
                        f"trusted_cluster {name[:64]!a} does not exist",
                        hint="tctl get trusted_clusters",
                    )
                tx.set_meta(meta_key(name), "")
                entry.commit(tx)

            self._store.write(drop)
        self._changed()
        return {"kind": TRUSTED_CLUSTER, "name": name}

    def docs(self) -> list[dict[str, Any]]:
        return [trusted_doc(each) for each in self._store.trusted_clusters()]

    def words(self) -> list[RootWord]:
        """The roots whose users may come here now: for everybody's Knowledge, and our own door."""
        kept = (each for each in self._store.trusted_clusters() if each.enabled)
        return [root_word(each, self._said(each)) for each in kept]

    def cas(self) -> list[tuple[str, CaSet]]:
        """Of all roots, by name."""
        return [(each.name, cas_of(self._said(each))) for each in self._store.trusted_clusters()]

    def passes(self) -> Passes:
        """For our proxies: what they show to proxies of the roots. Holds secrets."""
        found = []
        for each in self._store.trusted_clusters():
            said = self._said(each)
            if each.enabled and each.tls_private is not None:
                found.append(
                    Pass(
                        cluster=each.name,
                        id=said.id,
                        tls_cert=said.tls_cert,
                        tls_private=each.tls_private.reveal(),
                        mark=mark_of(said.tls_cert),
                    )
                )
        return Passes(passes=found)

    def roles_of(self, caller: Caller) -> tuple[str, ...]:
        """Of somebody REMOTE: the roles they have here.

        Raises Denied if they have none, or if their own cluster has locked them.
        """
        root = next((each for each in self.roots() if each.cluster == caller.cluster), None)
        return roles_here(
            rules_of(root) if root else None,
            cluster=caller.cluster,
            user=caller.name.removesuffix(f"@{caller.cluster}"),
            roles=caller.roles,
            bot_id=caller.bot_instance,
            now=self._clock.now(),
        )

    def roots(self) -> list[RootWord]:
        """`words`, at most two seconds old: for questions that come with every request."""
        now, told = self._clock.monotonic(), self._told
        after, at, found = self._looked
        if after is not told or now - at >= LOOK_EVERY:
            found = self.words()
            self._looked = told, now, found
        return found

    def forget(self) -> None:
        """Something of it has changed, perhaps at another auth server. What is being read just now
        may be of before, and is not kept."""
        self._told = object()

    def heed(self) -> None:
        """Another auth server may have changed it; the agents are told by who has noticed."""
        self.forget()
        for call in self._followers:
            call()

    def follow(self, call: Callable[[], None]) -> None:
        """Have `call` told of every change, from any thread, before our agents hear of it."""
        self._followers.append(call)

    def refresh(self) -> None:
        """Ask every root for its news; a chore of every few seconds. Raises nothing for a root
        that does not answer or is not to be believed: it is told in the log. Each is asked by a
        thread of its own, for one of them could speak a letter a second."""
        asked = []
        for cluster in self._store.trusted_clusters():
            rest = self._rests.setdefault(cluster.name, _Rest())
            if not cluster.enabled or rest.left > 0 or rest.asking:
                rest.left -= 1
                continue
            rest.asking = True
            asked.append(Thread(target=self._round, args=(cluster, rest), daemon=True))
            asked[-1].start()
        for thread in asked:
            thread.join(ROUND)

    def _round(self, cluster: TrustedCluster, rest: _Rest) -> None:
        try:
            self._ask(cluster)
            if rest.failures:
                log.info("cluster %s answers again", cluster.name)
            rest.failures = 0
        except Error as why:
            if not rest.failures:
                log.warning("no news of trusted cluster %s: %s", cluster.name, why.message)
            rest.failures += 1
            rest.left = min(MAX_REST, MIN_REST << min(rest.failures, 8))
        except Exception:
            log.exception("internal error while asking cluster %s for news", cluster.name)
        finally:
            rest.asking = False

    # --- joining

    def _changed(self) -> None:
        self.heed()
        self._tell()

    def _check(self, wish: TrustedWish) -> None:
        if related(wish.name, self._cas.cluster):
            raise Conflict(
                f"names of nodes of {wish.name} could be taken for those of {self._cas.cluster}",
                hint="clusters need names of which none is a part of another",
            )
        check_map(wish.role_map)
        for role in named(wish.role_map):
            if self._store.role(role) is None:
                raise NotFound(
                    f"role_map: role {role} does not exist in {self._cas.cluster}",
                    hint="tctl get roles",
                )
        for user in self._store.users():
            if is_foreign(user.name, [wish.name]):
                raise Conflict(
                    f"user {user.name} of ours is called like one of cluster {wish.name} would be",
                    hint=f"tctl users rm {user.name}",
                )

    def _made(
        self, wish: TrustedWish, known: TrustedCluster | None, *, force: bool
    ) -> tuple[TrustedCluster, TrustWord | None]:
        """And what the root has said, if it was asked."""
        if known is not None and not force:
            raise Conflict(f"trusted_cluster {wish.name} already exists", hint="tctl create -f")
        if wish.token.reveal():
            return self._joined(wish, known)
        if known is None:
            raise Malformed(f"trusted_cluster {wish.name} has no token", hint=_NEW_TOKEN)
        changed = replace(known, enabled=wish.enabled, proxy=wish.proxy, role_map=wish.role_map)
        return changed, None

    def _joined(
        self, wish: TrustedWish, known: TrustedCluster | None
    ) -> tuple[TrustedCluster, TrustWord]:
        """With the key of last time, if there was one: by that the root knows us again, when we
        were away for too long or an answer was lost."""
        before = known.tls_private if known is not None else None
        key = self._keys.setdefault(wish.name, before or new_tls_key())
        said = self._believe(self._join(wish, self._hello(key), self._clock).kept(""), key)
        made = TrustedCluster(
            name=wish.name,
            enabled=wish.enabled,
            proxy=wish.proxy,
            role_map=wish.role_map,
            host_cas=tuple(said.host_cas),
            ssh_host_cas=tuple(said.ssh_host_cas),
            user_cas=tuple(said.user_cas),
            ssh_user_cas=tuple(said.ssh_user_cas),
            tls_cert=said.tls_cert,
            tls_private=key,
            created_at=self._clock.now(),
        )
        return made, said

    def _hello(self, key: Secret | None) -> TrustHello:
        return TrustHello(
            cluster=self._cas.cluster,
            tls_csr="" if key is None else csr(key, self._cas.cluster),
            host_cas=self._cas.tls(CaType.HOST),
            ssh_host_cas=self._cas.ssh(CaType.HOST),
            version=self._version,
        )

    def _believe(self, said: TrustWord, key: Secret) -> TrustWord:
        """What of it is kept, written anew: it gets to every host of ours, and no word of a root
        may stop one of them. Raises Malformed or Conflict, and Denied for a certificate that its
        CAs have not made for our key."""
        if not (said.host_cas and said.user_cas and said.ssh_user_cas):
            raise Malformed(f"cluster {said.cluster} shows no CAs")
        if len(said.proxies) > MAX_PROXIES or len(said.locks) > MAX_LOCKS:
            raise Malformed(f"cluster {said.cluster} tells of more proxies or locks than we take")
        others = [each for each in self.cas() if each[0] != said.cluster]
        leaves = [
            (each.name, CaSet(host_cas=each.host_cas, ssh_host_cas=each.ssh_host_cas))
            for each in self._store.remote_clusters()
        ]
        ours = (self._cas.cluster, own_cas(self._cas))
        cas = check_cas(cas_of(said), said.cluster, known=[ours, *others, *leaves])
        certificate = own_certificate(said.tls_cert, key, cas.host_cas, self._clock.now())
        kept = bare_word(said, cas, certificate)
        self._check_size(kept)
        return kept

    def _check_size(self, said: TrustWord) -> None:
        others = (each for each in self._store.trusted_clusters() if each.name != said.cluster)
        total = sum(len(write(each)) for each in (said, *map(self._said, others)))
        if total > MAX_ALL_SAID:
            raise Malformed(f"all roots together tell {total} bytes, we take {MAX_ALL_SAID}")

    # --- news

    def _ask(self, kept: TrustedCluster) -> None:
        before = self._said(kept)
        due = ends_at(before.tls_cert) - self._clock.now() < RENEW_BEFORE
        said = self._heard(kept, before, renew=due)
        if said.host_cas != before.host_cas and not due:
            # Its host CA is being rotated: what we show shall be of the one that signs now.
            said = self._heard(kept, said, renew=True)
        if said == before:
            return
        facts = {"name": kept.name, "what": "certificate, proxies or locks"}
        if cas_of(said) != cas_of(before):
            facts["what"] = "CAs"
        with self._trail.attempt("cluster.update", ok="T7002I", refused="T7002E", **facts) as entry:

            def put(tx: Tx) -> None:
                tx.set_meta(meta_key(kept.name), meta_text(kept, said))
                entry.commit(tx)

            self._store.write(put)
        self._changed()

    def _heard(self, kept: TrustedCluster, before: TrustWord, *, renew: bool) -> TrustWord:
        """What the root says now, believed."""
        asked = replace(kept, tls_cert=before.tls_cert, host_cas=tuple(before.host_cas))
        said = self._news(asked, self._hello(kept.tls_private if renew else None))
        if said.cluster != kept.name or said.id != before.id:
            raise Malformed(f"the cluster at {kept.proxy} answers as {said.cluster[:128]!a}")
        if kept.tls_private is None:
            raise Malformed(f"the key for cluster {kept.name} is lost", hint=_NEW_TOKEN)
        return self._believe(said.kept(before.tls_cert), kept.tls_private)

    def _said(self, kept: TrustedCluster) -> TrustWord:
        return last_said(self._store, kept)

    def _find(self, name: str) -> TrustedCluster | None:
        found = (each for each in self._store.trusted_clusters() if each.name == name)
        return next(found, None)
