"""A leaf and its root: two auth roles, and between them what would go over the wire."""

import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from scramp import ScramClient

from teleport_lite.ambient import Clock
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.daemon.doorman import Doorman
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.trust import RemoteCluster, TrustedCluster
from teleport_lite.net.accept import Peer
from teleport_lite.pki.authority import new_ca
from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key, public_of_csr
from teleport_lite.proto.codec import MAX_ADMIN, MAX_FRAME, read, write
from teleport_lite.proto.join import BINDING, MECHANISM, JoinStart, server_end_point
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.proto.trust import TrustedWish, TrustHello, TrustWord
from teleport_lite.testing.certs import PaperCluster
from tests.auth.bench import OURS, ROOT, Bench, name_of, stranger
from tests.auth.meanwhile import after_reading, before_writing
from tests.support import eventually

ROOT_NAME, LEAF_NAME = "root.example", "leaf.test"
TOKEN = "a-trusted-cluster-token"
PROXY = "f52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
DOC: dict[str, Any] = {
    "kind": "trusted_cluster",
    "version": "v2",
    "metadata": {"name": ROOT_NAME},
    "spec": {
        "enabled": True,
        "token": TOKEN,
        "web_proxy_addr": "root.example:3080",
        "role_map": [{"remote": "dev", "local": ["access"]}],
    },
}


def doc(**spec: Any) -> dict[str, Any]:
    return DOC | {"spec": {k: v for k, v in (DOC["spec"] | spec).items() if v is not None}}


class Pair:
    """`between` is what happens to a question on its way; tests put trouble there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = Bench(cluster=ROOT_NAME, seed="root")
        self.root.token("trusted_cluster", text=TOKEN)
        self.between: Callable[[str], None] = lambda _: None
        self.after: Callable[[TrustWord], TrustWord] = lambda word: word
        monkeypatch.setattr("teleport_lite.auth.trust.join_root", self._join)
        monkeypatch.setattr("teleport_lite.auth.trust.news_of", self._news)
        self.leaf = Bench(cluster=LEAF_NAME, seed="leaf", clock=self.root.clock)

    def trust(self, made: dict[str, Any] | None = None, *, force: bool = False) -> Any:
        return self.leaf.ask("/v1/resources/create", resource=made or DOC, force=force)

    def news(self) -> None:
        self.leaf.desks.trust.refresh()

    @property
    def kept(self) -> TrustedCluster:
        [kept] = self.leaf.store.trusted_clusters()
        return kept

    def _join(self, wish: TrustedWish, hello: TrustHello, clock: Clock) -> TrustWord:
        """As agent/trust.py, without the wire."""
        scram = ScramClient(
            [MECHANISM],
            name_of(wish.token.reveal()),
            wish.token.reveal(),
            channel_binding=(BINDING, server_end_point(OURS)),
        )
        asked = JoinStart(
            client_first=scram.get_client_first(),
            node_name=hello.cluster,
            time=clock.now().timestamp(),
        )
        challenge = self.root.desks.joins.start(stranger(), asked)
        scram.set_server_first(challenge.server_first)
        self.between("join")
        answer = self.root.ask(
            "/v1/trust/finish",
            stranger(),
            session=challenge.session,
            client_final=scram.get_client_final(),
            hello=hello,
        )
        self.between("answer")
        scram.set_server_final(answer.server_final)
        return self.after(read(TrustWord, write(answer), limit=MAX_ADMIN))

    def _news(self, cluster: TrustedCluster, hello: TrustHello) -> TrustWord:
        self.between("news")
        der = ssl.PEM_cert_to_DER_cert(cluster.tls_cert)
        caller = Doorman(self.root.desks, 0).caller(Peer("192.0.2.7", der, None, OURS))
        answer = self.root.ask("/v1/trust/refresh", caller, hello=hello)
        return self.after(read(TrustWord, write(answer), limit=MAX_ADMIN))


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    return Pair(monkeypatch)


def refused(kind: type[Error], call: Callable[[], object], says: str) -> Error:
    with pytest.raises(kind, match=says) as why:
        call()
    return why.value


# Joining


def test_a_leaf_joins_and_both_know_each_other_s_cas(pair: Pair) -> None:
    assert pair.trust()["created"] is True
    [remote] = pair.root.store.remote_clusters()
    assert remote.name == LEAF_NAME
    assert list(remote.host_cas) == pair.leaf.desks.cas.tls(CaType.HOST)
    [word] = pair.leaf.desks.trust.words()
    assert word.user_cas == pair.root.desks.cas.tls(CaType.USER)
    assert word.ssh_user_cas == pair.root.desks.cas.ssh(CaType.USER)
    assert [each.cluster for each in pair.leaf.desks.teacher.lesson().roots] == [ROOT_NAME]
    assert [each.id for each in pair.root.desks.teacher.lesson().leaves] == [remote.id]
    assert pair.root.last_event("cluster.join").facts["leaf_id"] == remote.id
    assert pair.leaf.last_event("cluster.trust").code == "T7000I"


def test_no_secret_gets_into_a_trail_a_listing_or_what_agents_hear(pair: Pair) -> None:
    pair.trust()
    assert pair.kept.tls_private is not None
    secrets = (TOKEN, pair.kept.tls_private.reveal().split("\n")[1])
    shown = [
        pair.root.trail_text(),
        pair.leaf.trail_text(),
        repr(pair.leaf.desks.trust.docs()),
        repr(pair.leaf.desks.teacher.lesson()),
        repr(pair.root.desks.teacher.lesson()),
        repr(pair.kept),
    ]
    assert not any(secret in text for secret in secrets for text in shown)


def test_a_token_takes_in_one_leaf(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.trust()
    other = Pair(monkeypatch)
    other.root = pair.root
    other.leaf = Bench(cluster="other.test", seed="other", clock=pair.root.clock)
    refused(Denied, other.trust, "token expired or not found")
    assert [each.name for each in pair.root.store.remote_clusters()] == [LEAF_NAME]


@pytest.mark.parametrize("types", ["node", "proxy,auth"])
def test_a_token_for_hosts_is_none_for_clusters(pair: Pair, types: str) -> None:
    pair.root.token(types, text="a-token-for-hosts-only")
    wish = doc(token="a-token-for-hosts-only")
    refused(Denied, lambda: pair.trust(wish), 'does not allow "trusted_cluster" role')
    assert pair.leaf.store.trusted_clusters() == pair.root.store.remote_clusters() == []


def test_a_wrong_token_changes_nothing_and_is_told_at_both_ends(pair: Pair) -> None:
    refused(Denied, lambda: pair.trust(doc(token="not-a-token-of-it")), "expired or not found")
    assert pair.leaf.store.trusted_clusters() == pair.root.store.remote_clusters() == []
    assert pair.root.last_event("cluster.join").code == "TRC01E"
    assert pair.leaf.last_event("cluster.trust").code == "T7000E"


def test_a_locked_token_lets_no_cluster_in(pair: Pair) -> None:
    pair.root.ask("/v1/locks/add", target="join_token", value=TOKEN)
    refused(Denied, pair.trust, "is locked")


def test_an_answer_that_is_lost_costs_nothing(pair: Pair) -> None:
    """The leaf asks again with its key; the root knows it by that, for ten minutes."""

    def lose(step: str) -> None:
        if step == "answer":
            raise Unavailable("the connection broke")

    pair.between = lose
    refused(Unavailable, pair.trust, "broke")
    [first] = pair.root.store.remote_clusters()
    pair.between = lambda _: None
    pair.trust()
    assert [each.id for each in pair.root.store.remote_clusters()] == [first.id]


def test_a_leaf_comes_back_with_its_key_and_a_new_token(pair: Pair) -> None:
    pair.trust()
    [before] = pair.root.store.remote_clusters()
    pair.root.token("trusted_cluster", text="another-token-for-it")
    pair.trust(doc(token="another-token-for-it"), force=True)
    assert [each.id for each in pair.root.store.remote_clusters()] == [before.id]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (LEAF_NAME, "there is a remote cluster of that name already"),
        (LEAF_NAME.upper(), "there is a remote cluster of that name already"),
        (f"sub.{LEAF_NAME}", "could be taken for those of leaf.test"),
        ("test", "could be taken for those of leaf.test"),
        (ROOT_NAME, "could be taken for those of root.example"),
        (f"sub.{ROOT_NAME}", "could be taken for those of root.example"),
        ("example", "could be taken for those of root.example"),
    ],
)
def test_a_leaf_gets_no_name_that_stands_for_another_cluster(
    pair: Pair, name: str, says: str
) -> None:
    pair.trust()
    pair.root.token("trusted_cluster", text="another-token-for-it")
    hello = TrustHello(
        cluster=name,
        tls_csr=csr(new_tls_key(), "x"),
        host_cas=PaperCluster("x").host_cas,
        ssh_host_cas=[PaperCluster("x").host_ca.public.ssh_key],
    )
    wish = TrustedWish(doc(token="another-token-for-it"))
    refused(Conflict, lambda: pair._join(wish, hello, pair.root.clock), says)
    assert [each.name for each in pair.root.store.remote_clusters()] == [LEAF_NAME]


@pytest.mark.parametrize("name", ["", "a b", "-x", "x/../y", "\x1b[2J", "x" * 200])
def test_what_is_no_name_of_a_cluster_is_refused(pair: Pair, name: str) -> None:
    hello = TrustHello(cluster=name, tls_csr=csr(new_tls_key(), "x"))
    refused(Malformed, lambda: pair._join(TrustedWish(DOC), hello, pair.root.clock), "cluster name")
    assert pair.root.trail_text().isprintable()


def test_a_leaf_can_not_show_a_ca_of_its_root_or_of_another_leaf(pair: Pair) -> None:
    pair.trust()
    pair.root.token("trusted_cluster", text="another-token-for-it")
    for whose in (pair.root, pair.leaf):
        hello = TrustHello(
            cluster="third.test",
            tls_csr=csr(new_tls_key(), "x"),
            host_cas=whose.desks.cas.tls(CaType.USER if whose is pair.root else CaType.HOST),
            ssh_host_cas=[PaperCluster("x").host_ca.public.ssh_key],
        )
        wish = TrustedWish(doc(token="another-token-for-it"))
        refused(Conflict, lambda h=hello, w=wish: pair._join(w, h, pair.root.clock), "belongs to")


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"role_map": []}, Malformed, "role_map is missing"),
        ({"role_map": [{"remote": "dev", "local": ["nosuch"]}]}, NotFound, "role nosuch does not"),
        ({"role_map": [{"remote": "^(a+)+$", "local": ["access"]}]}, Malformed, "repetitions"),
        ({"role_map": [{"remote": "dev"}]}, Malformed, "has no local roles"),
        ({"role_map": [{"remote": "dev", "lokal": ["x"]}]}, Malformed, "unknown key 'lokal'"),
        ({"web_proxy_addr": None}, Malformed, "web_proxy_addr is missing"),
        ({"token": None}, Malformed, "has no token"),
        ({"enabled": "perhaps"}, Malformed, "true or false"),
    ],
)
def test_a_document_that_can_not_be_meant_spends_no_token(
    pair: Pair, change: dict[str, Any], kind: type[Error], says: str
) -> None:
    refused(kind, lambda: pair.trust(doc(**change)), says)
    pair.trust()


def test_a_cluster_does_not_trust_itself_nor_a_part_of_itself(pair: Pair) -> None:
    for name in (LEAF_NAME, f"x.{LEAF_NAME}", "test"):
        wish = DOC | {"metadata": {"name": name}}
        refused(Conflict, lambda w=wish: pair.trust(w), "could be taken for those of leaf.test")


def test_a_root_can_not_show_a_ca_of_ours_as_its_own(pair: Pair) -> None:
    """Else people of ours would be people of the root, and have the roles of the map."""
    ours = pair.leaf.desks.cas

    def steal(word: TrustWord) -> TrustWord:
        return TrustWord(**{**_fields(word), "ssh_user_cas": ours.ssh(CaType.USER)})

    pair.after = steal
    refused(Conflict, pair.trust, "shows a CA that belongs to cluster leaf.test")
    assert pair.leaf.store.trusted_clusters() == []


def _fields(word: TrustWord) -> dict[str, Any]:
    return {name: getattr(word, name) for name in word.__struct_fields__}


# Names


def test_nobody_of_ours_is_called_like_somebody_of_a_root(pair: Pair) -> None:
    pair.trust()
    name = f"alice@{ROOT_NAME.upper()}"
    words: dict[str, Any] = {"name": name, "roles": ["access"]}
    refused(Conflict, lambda: pair.leaf.ask("/v1/users/add", **words), "is called here")
    words["name"] = f"ci@{ROOT_NAME}"
    refused(Conflict, lambda: pair.leaf.ask("/v1/bots/add", **words), "is called here")
    user = {"kind": "user", "metadata": {"name": name}, "spec": {"roles": ["access"]}}
    create = lambda: pair.leaf.ask("/v1/resources/create", resource=user)  # noqa: E731
    refused(Conflict, create, "is called here")
    pair.leaf.ask("/v1/users/add", name="alice@other.example", roles=["access"])


def test_a_root_is_not_trusted_while_somebody_of_ours_is_called_like_its_people(pair: Pair) -> None:
    pair.leaf.ask("/v1/users/add", name=f"alice@{ROOT_NAME}", roles=["access"])
    refused(Conflict, pair.trust, "user alice@root.example of ours is called like one")
    pair.leaf.ask("/v1/users/remove", name=f"alice@{ROOT_NAME}")
    pair.trust()


# Decisions of an administrator


def test_what_is_there_changes_only_by_force_and_needs_no_token(pair: Pair) -> None:
    pair.trust()
    refused(Conflict, pair.trust, "already exists")
    lines = [{"remote": "*", "local": ["auditor"]}]
    assert pair.trust(doc(token=None, role_map=lines), force=True)["created"] is False
    [word] = pair.leaf.desks.trust.words()
    assert word.role_map == lines


def test_a_root_that_is_switched_off_is_known_and_not_trusted(pair: Pair) -> None:
    pair.trust()
    pair.trust(doc(token=None, enabled=False), force=True)
    assert pair.leaf.desks.trust.words() == []
    assert pair.leaf.desks.trust.passes().passes == []
    assert pair.leaf.desks.teacher.lesson().roots == []
    pair.between = lambda step: pytest.fail(f"it was asked for {step}")
    pair.news()


def test_a_root_that_is_removed_is_forgotten_with_all_it_said(pair: Pair) -> None:
    pair.trust()
    pair.leaf.ask("/v1/resources/remove", kind="tc", name=ROOT_NAME)
    assert pair.leaf.desks.trust.docs() == []
    assert not pair.leaf.store.meta(f"root/{ROOT_NAME}")
    remove = lambda: pair.leaf.ask("/v1/resources/remove", kind="tc", name=ROOT_NAME)  # noqa: E731
    refused(NotFound, remove, "does not exist")


def test_news_do_not_undo_what_was_decided_meanwhile(pair: Pair) -> None:
    """At another auth server of ours, say, between the question and the answer."""
    pair.trust()
    rotate(pair.root, CaType.USER)

    def decide(step: str) -> None:
        kept = replace(pair.kept, enabled=False)
        pair.leaf.store.write(lambda tx: tx.put_trusted(kept))

    pair.between = decide
    pair.news()
    assert pair.kept.enabled is False
    assert pair.leaf.desks.trust.words() == []


def test_a_root_that_is_removed_while_it_is_changed_stays_away(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.trust()
    changed, remove = doc(token=None, enabled=False), {"kind": "tc", "name": ROOT_NAME}
    before_writing(
        monkeypatch, pair.leaf.store, lambda: pair.leaf.ask("/v1/resources/remove", **remove)
    )
    refused(Conflict, lambda: pair.trust(changed, force=True), "was changed a moment ago")
    assert pair.leaf.desks.trust.docs() == []
    assert pair.leaf.last_event("cluster.trust").outcome == "conflict"


# News


def rotate(bench: Bench, type: CaType, *, switch: bool = False) -> None:
    """A second generation; with `switch` it signs from now on."""
    made = new_ca(type, cluster=bench.desks.cas.cluster, id="second", now=bench.clock.now())
    [first] = bench.store.cas(type)
    bench.store.write(lambda tx: tx.add_ca(replace(made, active=False)))
    if switch:
        bench.store.write(
            lambda tx: (
                tx.change_ca(type, first.id, active=False, last_rotated=None),
                tx.change_ca(type, "second", active=True, last_rotated=bench.clock.now()),
            )
        )
    bench.desks.cas.reload()


@pytest.mark.parametrize("type", [CaType.HOST, CaType.USER])
def test_a_ca_that_the_root_rotates_is_trusted_by_the_leaf(pair: Pair, type: CaType) -> None:
    pair.trust()
    rotate(pair.root, type)
    pair.news()
    [word] = pair.leaf.desks.trust.words()
    assert word.user_cas == pair.root.desks.cas.tls(CaType.USER)
    assert word.host_cas == pair.root.desks.cas.tls(CaType.HOST)
    assert pair.leaf.last_event("cluster.update").facts["what"] == "CAs"


def test_a_certificate_of_the_old_host_ca_is_replaced_at_once(pair: Pair) -> None:
    pair.trust()
    before = pair.leaf.desks.trust.passes().passes[0]
    rotate(pair.root, CaType.HOST, switch=True)
    pair.news()
    after = pair.leaf.desks.trust.passes().passes[0]
    assert (after.id, after.tls_private) == (before.id, before.tls_private)
    assert after.mark != before.mark
    [word] = pair.leaf.desks.trust.words()
    assert word.mark == after.mark
    pair.news()  # with the new one
    assert pair.leaf.desks.trust.passes().passes[0] == after


def test_a_ca_that_the_leaf_rotates_is_known_to_the_root(pair: Pair) -> None:
    pair.trust()
    rotate(pair.leaf, CaType.HOST)
    pair.news()
    [remote] = pair.root.store.remote_clusters()
    assert list(remote.host_cas) == pair.leaf.desks.cas.tls(CaType.HOST)
    assert pair.root.last_event("cluster.update").facts["name"] == LEAF_NAME
    [leaf] = pair.root.ask("/v1/me/clusters", caller_of(pair.root, "alice"))["clusters"]
    assert leaf["host_cas"] == list(remote.host_cas)


def caller_of(bench: Bench, name: str) -> Any:
    bench.ask("/v1/users/add", name=name, roles=["access"])
    return replace(ROOT, kind=Kind.USER, name=name, roles=("access",))


def test_the_certificate_is_renewed_long_before_its_end(pair: Pair) -> None:
    pair.trust()
    mark = pair.leaf.desks.trust.passes().passes[0].mark
    pair.news()
    assert pair.leaf.desks.trust.passes().passes[0].mark == mark
    pair.root.later(days=3)
    pair.news()
    assert pair.leaf.desks.trust.passes().passes[0].mark != mark


def test_without_news_nothing_is_written(pair: Pair) -> None:
    pair.trust()
    before = len(pair.leaf.events()), len(pair.root.events())
    for _ in range(3):
        pair.news()
    assert (len(pair.leaf.events()), len(pair.root.events())) == before


def test_a_root_that_does_not_answer_is_asked_less_often_and_stays_trusted(pair: Pair) -> None:
    pair.trust()
    asked: list[str] = []

    def away(step: str) -> None:
        asked.append(step)
        raise Unavailable("no")

    pair.between = away
    for _ in range(30):
        pair.news()
    assert 3 <= len(asked) <= 8
    assert len(pair.leaf.desks.trust.words()) == 1
    pair.between = lambda _: None
    rotate(pair.root, CaType.USER)
    for _ in range(10):
        pair.news()
    assert pair.leaf.desks.trust.words()[0].user_cas == pair.root.desks.cas.tls(CaType.USER)


def test_a_root_that_takes_its_time_keeps_nobody_waiting(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not asked again meanwhile."""
    monkeypatch.setattr("teleport_lite.auth.trust.ROUND", 0.05)
    pair.trust()
    asked, goes_on = [], Event()

    def slowly(step: str) -> None:
        asked.append(step)
        assert goes_on.wait(30)

    pair.between = slowly
    for _ in range(3):
        pair.news()
    eventually(lambda: asked, what="the first question, which a thread of its own asks")
    assert asked == ["news"]
    goes_on.set()
    rest = pair.leaf.desks.trust._rests[ROOT_NAME]
    eventually(lambda: not rest.asking, what="the end of it")
    assert not rest.failures


@pytest.mark.parametrize(
    "change",
    [
        {"cluster": "other.example"},
        {"id": PROXY},
        {"user_cas": []},
        {"host_cas": []},
        {"user_cas": ["no CA"]},
        {"locks": [{"kind": "lock"}]},
        {"locks": [{"kind": "lock"}] * 1001},
        {"proxies": [ProxyPlace(id="../x")]},
        {"tls_cert": PaperCluster("x").host().tls_cert},
    ],
)
def test_news_that_can_not_be_believed_change_nothing(pair: Pair, change: dict[str, Any]) -> None:
    pair.trust()
    before = pair.leaf.desks.trust.words(), len(pair.leaf.events())
    pair.after = lambda word: TrustWord(**{**_fields(word), **change})
    pair.news()
    assert (pair.leaf.desks.trust.words(), len(pair.leaf.events())) == before


def test_of_the_root_s_proxies_only_who_they_are_is_passed_on(pair: Pair) -> None:
    """Where they are dialled, an administrator of the leaf has said."""
    pair.trust()
    place = ProxyPlace(id=PROXY, address="169.254.169.254:80", public=["10.0.0.1:22"])
    pair.after = lambda word: TrustWord(**{**_fields(word), "proxies": [place]})
    pair.news()
    [word] = pair.leaf.desks.trust.words()
    assert word.proxies == [ProxyPlace(id=PROXY)]


def a_lock(value: str = "alice", *, target: str = "user", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "lock",
        "metadata": {"name": "x"},
        "spec": {"target": {target: value}, **spec},
    }


def test_of_the_locks_of_a_root_only_whom_they_name_is_passed_on(pair: Pair) -> None:
    """Its words would be shown to people of ours, and hosts of its are not our business."""
    pair.trust()
    locks = [a_lock(message="\x1b[2J" * 99, created_by="x"), a_lock(target="login")]
    pair.after = lambda word: TrustWord(**{**_fields(word), "locks": locks})
    pair.news()
    [lock] = pair.leaf.desks.trust.words()[0].locks
    assert lock["spec"]["target"] == {"user": "alice"}
    assert (lock["spec"]["message"], lock["spec"]["created_by"]) == ("", "")


def test_what_a_root_says_leaves_room_in_what_agents_are_told(pair: Pair) -> None:
    """They read a megabyte and no more; a root that could fill it would end the cluster."""
    pair.trust()
    for locks in ([a_lock("a" * 129)], [a_lock(f"{n:0>128}") for n in range(1000)]):
        pair.after = lambda word, locks=locks: TrustWord(**{**_fields(word), "locks": locks})
        pair.news()
        assert pair.leaf.desks.trust.words()[0].locks == []
    # A thousand as they are in fact are fine.
    locks = [a_lock(f"alice-{number}") for number in range(1000)]
    pair.after = lambda word: TrustWord(**{**_fields(word), "locks": locks})
    for _ in range(9):  # it was not believed, and rests
        pair.news()
    assert len(pair.leaf.desks.trust.words()[0].locks) == 1000
    assert len(write(pair.leaf.desks.teacher.lesson())) < MAX_FRAME / 2


def test_all_roots_together_leave_room_as_well(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.trust()
    monkeypatch.setattr("teleport_lite.auth.trust.MAX_ALL_SAID", 8 * 1024)
    locks = [a_lock(f"alice-{number}") for number in range(100)]
    pair.after = lambda word: TrustWord(**{**_fields(word), "locks": locks})
    pair.news()
    assert pair.leaf.desks.trust.words()[0].locks == []


def test_a_certificate_for_another_key_is_not_taken(pair: Pair) -> None:
    """With it no proxy of ours could make a TLS context."""
    pair.trust()
    before = pair.leaf.desks.trust.passes()
    issuer = pair.root.desks.leaves
    [remote] = pair.root.store.remote_clusters()
    other = issuer._certificate(remote, public_of_csr(csr(new_tls_key(), "x")))
    pair.after = lambda word: TrustWord(**{**_fields(word), "tls_cert": other})
    pair.news()
    assert pair.leaf.desks.trust.passes() == before


def test_a_removed_leaf_hears_nothing_any_more(pair: Pair) -> None:
    pair.trust()
    pair.root.ask("/v1/resources/remove", kind="rc", name=LEAF_NAME)
    assert pair.root.desks.teacher.lesson().leaves == []
    der = ssl.PEM_cert_to_DER_cert(pair.kept.tls_cert)
    caller = Doorman(pair.root.desks, 0).caller(Peer("192.0.2.7", der, None, OURS))
    assert caller.kind is Kind.LEAF
    ask = lambda: pair.root.ask("/v1/trust/refresh", caller, hello={"cluster": LEAF_NAME})  # noqa: E731
    refused(NotFound, ask, "not part of root.example any more")


def remove_leaf(pair: Pair) -> None:
    pair.root.ask("/v1/resources/remove", kind="rc", name=LEAF_NAME)


def test_a_leaf_that_is_removed_while_it_is_seen_stays_away(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.trust()
    [known] = pair.root.store.remote_clusters()
    pair.root.desks.leaves.seen([known.id])
    before_writing(monkeypatch, pair.root.store, lambda: remove_leaf(pair))
    pair.root.desks.leaves.note()
    assert pair.root.store.remote_clusters() == []


def test_a_leaf_that_is_removed_while_it_tells_of_its_cas_stays_away(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.trust()
    rotate(pair.leaf, CaType.HOST)
    before_writing(monkeypatch, pair.root.store, lambda: remove_leaf(pair))
    pair.news()
    assert pair.root.store.remote_clusters() == []
    assert pair.root.last_event("cluster.update").outcome == "conflict"


def test_who_was_seen_keeps_the_cas_it_has_just_told_of(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At another auth server, while this one writes down that it is there."""
    pair.trust()
    [known] = pair.root.store.remote_clusters()
    fresh = replace(known, host_cas=("other",))
    pair.root.desks.leaves.seen([known.id])
    change = lambda: pair.root.store.write(lambda tx: tx.put_remote(fresh))  # noqa: E731
    before_writing(monkeypatch, pair.root.store, change)
    pair.root.desks.leaves.note()
    assert pair.root.store.remote_clusters() == [fresh]


def test_of_two_leaves_of_one_name_at_two_auth_servers_one_is_taken_in(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Bench(cluster=LEAF_NAME, seed="other", clock=pair.root.clock)
    taken = RemoteCluster(
        name=LEAF_NAME,
        id=PROXY,
        host_cas=tuple(other.desks.cas.tls(CaType.HOST)),
        ssh_host_cas=tuple(other.desks.cas.ssh(CaType.HOST)),
        created_at=pair.root.clock.now(),
    )
    join = lambda: pair.root.store.write(lambda tx: tx.put_remote(taken))  # noqa: E731
    before_writing(monkeypatch, pair.root.store, join)
    refused(Conflict, pair.trust, "was changed a moment ago")
    assert pair.root.store.remote_clusters() == [taken]
    assert pair.leaf.desks.trust.docs() == []


def test_a_leaf_speaks_for_itself_alone(pair: Pair) -> None:
    pair.trust()
    der = ssl.PEM_cert_to_DER_cert(pair.kept.tls_cert)
    caller = Doorman(pair.root.desks, 0).caller(Peer("192.0.2.7", der, None, OURS))
    hello = TrustHello(cluster="third.test", host_cas=PaperCluster("x").host_cas)
    ask = lambda: pair.root.ask("/v1/trust/refresh", caller, hello=hello)  # noqa: E731
    refused(Denied, ask, "this certificate is of cluster leaf.test")
    for path in ("/v1/ca", "/v1/me/clusters", "/v1/host/renew", "/v1/trust/passes", "/v1/status"):
        with pytest.raises((Denied, Malformed)):
            pair.root.ask(path, caller)


def test_a_locked_leaf_hears_nothing(pair: Pair) -> None:
    pair.trust()
    [remote] = pair.root.store.remote_clusters()
    pair.root.ask("/v1/locks/add", target="node", value=remote.id)
    before = pair.leaf.desks.trust.words()
    rotate(pair.root, CaType.USER)
    pair.news()
    assert pair.leaf.desks.trust.words() == before


# People of the root


def remote(pair: Pair, name: str = "alice", *roles: str, root: str = "") -> Any:
    """A connection of somebody of the root, at the door of the leaf."""
    keys = new_tls_key()
    pair.root.ask("/v1/users/add", name=name, roles=["access"])
    role = {"kind": "role", "metadata": {"name": "dev"}, "spec": {}}
    pair.root.ask("/v1/resources/create", resource=role, force=True)
    pair.root.ask("/v1/users/update", name=name, roles=list(roles) or ["dev"])
    signed = pair.root.ask(
        "/v1/auth/sign", user=name, ssh_key=new_ssh_key()[1], tls_csr=csr(keys, name)
    )
    der = ssl.PEM_cert_to_DER_cert(signed["tls_cert"])
    return Doorman(pair.leaf.desks, 0).caller(Peer("192.0.2.7", der, None, OURS, root))


def test_somebody_of_the_root_is_told_apart_from_a_namesake(pair: Pair) -> None:
    pair.trust()
    pair.leaf.ask("/v1/users/add", name="alice", roles=["editor"])
    caller = remote(pair)
    assert (caller.kind, caller.name) == (Kind.REMOTE, "alice@root.example")
    assert pair.leaf.ask("/v1/me", caller) == {
        "user": "alice@root.example",
        "roles": ["access"],
        "cluster": LEAF_NAME,
    }
    # What the namesake may do here, and what the leaf's own roles of that name allow, is not hers.
    for path in ("/v1/status", "/v1/users/list", "/v1/recordings/list", "/v1/me/clusters"):
        with pytest.raises(Denied, match="a remote may not do this"):
            pair.leaf.ask(path, caller)


def test_a_role_without_a_line_is_worth_nothing_whatever_it_is_called(pair: Pair) -> None:
    """ "editor" is a role of both clusters; the map is about "dev"."""
    pair.trust()
    caller = remote(pair, "mallory", "editor", "access")
    with pytest.raises(Denied, match=r"no role of mallory in cluster root\.example is worth one"):
        pair.leaf.ask("/v1/me", caller)


@pytest.mark.parametrize(
    ("target", "value", "is_locked"),
    [
        ("user", "alice@root.example", True),
        ("role", "access", True),  # the role she has here
        ("user", "alice", False),
        ("role", "dev", False),  # a role of ours, should there be one of that name
    ],
)
def test_locks_of_the_leaf_are_about_names_of_the_leaf(
    pair: Pair, target: str, value: str, is_locked: bool
) -> None:
    pair.trust()
    caller = remote(pair)
    pair.leaf.ask("/v1/locks/add", target=target, value=value)
    if not is_locked:
        assert pair.leaf.ask("/v1/me", caller)
        return
    with pytest.raises(Denied, match="is locked"):
        pair.leaf.ask("/v1/me", caller)


@pytest.mark.parametrize(("target", "value"), [("user", "alice"), ("role", "dev")])
def test_locks_of_the_root_hold_at_the_leaf_with_the_next_news(
    pair: Pair, target: str, value: str
) -> None:
    pair.trust()
    caller = remote(pair)
    pair.root.ask("/v1/locks/add", target=target, value=value, message="left us", ttl="1h")
    pair.news()
    with pytest.raises(Denied, match=f"{target} {value} is locked in cluster root.example"):
        pair.leaf.ask("/v1/me", caller)
    assert "left us" not in repr(pair.leaf.desks.trust.words())
    pair.root.later(minutes=61)
    assert pair.leaf.desks.trust.roles_of(caller) == ("access",)


def test_nobody_is_let_in_any_more_when_trust_ends(pair: Pair) -> None:
    pair.trust()
    caller = remote(pair)
    pair.leaf.ask("/v1/resources/remove", kind="tc", name=ROOT_NAME)
    with pytest.raises(Denied, match="is not trusted here"):
        pair.leaf.ask("/v1/me", caller)
    with pytest.raises(Denied):
        remote(pair, "bob")


def test_who_comes_by_a_root_s_tunnel_is_of_that_root_or_nobody(pair: Pair) -> None:
    pair.trust()
    assert remote(pair, "alice", root=ROOT_NAME).kind is Kind.REMOTE
    doorman = Doorman(pair.leaf.desks, 0)
    with pytest.raises(Denied, match=r"only users of root\.example may come from there"):
        doorman.caller(Peer("192.0.2.7", None, None, OURS, ROOT_NAME))
    with pytest.raises(Denied):
        doorman.caller(Peer("192.0.2.7", None, None, OURS, "other.example"))
    with pytest.raises(Denied):
        remote(pair, "bob", root="other.example")


def test_people_and_hosts_of_the_leaf_do_not_come_from_the_root(pair: Pair) -> None:
    pair.trust()
    pair.leaf.ask("/v1/users/add", name="alice", roles=["access"])
    keys = {"ssh_key": new_ssh_key()[1], "tls_csr": csr(new_tls_key(), "alice")}
    signed = pair.leaf.ask("/v1/auth/sign", user="alice", **keys)
    der = ssl.PEM_cert_to_DER_cert(signed["tls_cert"])
    doorman = Doorman(pair.leaf.desks, 0)
    assert doorman.caller(Peer("192.0.2.7", der, None, OURS)).kind is Kind.USER
    with pytest.raises(Denied):
        doorman.caller(Peer("192.0.2.7", der, None, OURS, ROOT_NAME))


def test_a_name_that_no_lock_could_name_is_let_in_nowhere(pair: Pair) -> None:
    pair.trust()
    with pytest.raises(Denied, match="no lock fits it"):
        remote(pair, "a" * 120)


def test_a_visitor_sees_the_nodes_and_not_how_they_are_reached(pair: Pair) -> None:
    pair.trust()
    pair.leaf.token()
    pair.leaf.join()
    caller = remote(pair)
    [node] = pair.leaf.ask("/v1/me/nodes", caller)["nodes"]
    assert node["hostname"] == "web-1"
    assert (node["address"], node["tunnels"]) == ("", [])
    pair.leaf.desks.me._nodes = lambda: [node | {"address": "10.0.0.7:3022"}]
    assert pair.leaf.ask("/v1/me/nodes", caller, search="10.0.0")["nodes"] == []
    pair.trust(doc(token=None, role_map=[{"remote": "dev", "local": ["auditor"]}]), force=True)
    pair.leaf.clock.tick(seconds=3)
    assert pair.leaf.ask("/v1/me/nodes", caller)["nodes"] == []


def test_who_reads_slowly_does_not_undo_the_end_of_trust(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The roots are read for one request while another one removes one of them."""
    pair.trust()
    pair.root.later(seconds=3)  # what was read before is too old
    remove = lambda: pair.leaf.ask("/v1/resources/remove", kind="tc", name=ROOT_NAME)  # noqa: E731
    after_reading(monkeypatch, pair.leaf.store, "trusted_clusters", remove)
    pair.leaf.desks.trust.roots()
    assert pair.leaf.desks.trust.roots() == []


# What is shown


def test_a_leaf_is_online_while_a_proxy_has_a_tunnel_of_it(pair: Pair) -> None:
    pair.trust()
    [remote_cluster] = pair.root.store.remote_clusters()

    def state() -> str:
        [found] = pair.root.ask("/v1/resources/get", kind="rc")["resources"]
        return str(found["status"]["connection"])

    assert state() == "offline"
    pair.root.desks.leaves.seen([remote_cluster.id, "somebody else"])
    pair.root.desks.leaves.note()
    assert state() == "online"
    pair.root.later(seconds=91)
    assert state() == "offline"


def test_heartbeats_of_leaves_are_written_seldom(pair: Pair) -> None:
    pair.trust()
    [first] = pair.root.store.remote_clusters()
    for _ in range(10):
        pair.root.desks.leaves.seen([first.id])
        pair.root.desks.leaves.note()
        pair.root.later(seconds=5)
    [after] = pair.root.store.remote_clusters()
    assert after.last_heartbeat is not None
    assert pair.root.clock.now() - after.last_heartbeat >= timedelta(seconds=15)


@pytest.mark.parametrize("word", ["tc", "trusted_cluster", "trusted_clusters", "trustedcluster"])
def test_every_word_for_it_means_it(pair: Pair, word: str) -> None:
    pair.trust()
    [found] = pair.leaf.ask("/v1/resources/get", kind=word)["resources"]
    assert found["metadata"]["name"] == ROOT_NAME
    # What is printed can be changed and read again.
    found["spec"]["role_map"] = [{"remote": "ops", "local": ["auditor"]}]
    pair.trust(found, force=True)
    assert pair.kept.role_map[0].remote == "ops"


def test_a_remote_cluster_is_not_made_by_hand(pair: Pair) -> None:
    made = {"kind": "remote_cluster", "metadata": {"name": "x.test"}, "spec": {}}
    create = lambda: pair.root.ask("/v1/resources/create", resource=made)  # noqa: E731
    why = refused(Malformed, create, "can not be created by hand")
    assert why.hint == "tctl tokens add --type=trusted_cluster"


# Labels of a leaf, which roles of the root name


def label(pair: Pair, name: str = LEAF_NAME, kind: str = "rc", **labels: str) -> Any:
    return pair.root.ask("/v1/resources/update", kind=kind, name=name, labels=labels)


def test_labels_of_a_leaf_are_shown_told_and_kept_when_it_comes_back(pair: Pair) -> None:
    pair.trust()
    assert label(pair, env="prod", team="db") == {"kind": "remote_cluster", "name": LEAF_NAME}
    event = pair.root.last_event("cluster.update")
    assert (event.code, event.facts["what"]) == ("TRC04I", "labels")
    assert (event.facts["labels"], event.facts["user"]) == ("env=prod,team=db", "admin:root")
    [shown] = pair.root.ask("/v1/resources/get", kind="rc")["resources"]
    assert shown["metadata"]["labels"] == {"env": "prod", "team": "db"}
    [word] = pair.root.desks.teacher.lesson().leaves
    assert word.labels == {"env": "prod", "team": "db"}
    pair.root.token("trusted_cluster", text=f"{TOKEN}2")
    again = doc(token=f"{TOKEN}2")
    pair.trust(again, force=True)
    rotate(pair.leaf, CaType.HOST)
    pair.news()
    [kept] = pair.root.store.remote_clusters()
    assert dict(kept.labels) == {"env": "prod", "team": "db"}
    label(pair)
    assert pair.root.store.remote_clusters()[0].labels == ()


def test_labels_are_set_only_where_there_are_some_to_set(pair: Pair) -> None:
    pair.trust()
    refused(NotFound, lambda: label(pair, "nosuch.test"), "does not exist")
    refused(Malformed, lambda: label(pair, kind="role"), "can not be set by hand")
    refused(Malformed, lambda: label(pair, **{"teleport.dev/x": "y"}), "reserved")


def test_a_leaf_that_is_removed_while_it_gets_labels_stays_away(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.trust()
    before_writing(monkeypatch, pair.root.store, lambda: remove_leaf(pair))
    refused(Conflict, lambda: label(pair, env="prod"), "was changed a moment ago")
    assert pair.root.store.remote_clusters() == []


def test_people_are_told_of_leaves_that_a_role_of_theirs_allows(pair: Pair) -> None:
    pair.trust()
    pair.root.user()
    [alice] = pair.root.store.users()
    caller = Caller(
        kind=Kind.USER, name="alice", address="192.0.2.7", roles=alice.roles, our_certificate=OURS
    )

    def told() -> list[str]:
        return [each["name"] for each in pair.root.ask("/v1/me/clusters", caller)["clusters"]]

    assert told() == [LEAF_NAME]
    label(pair, env="prod")
    assert told() == []
    role = pair.root.store.role(alice.roles[0])
    assert role is not None
    allow = replace(role.allow, cluster_labels={"env": ("prod",)})
    pair.root.store.write(lambda tx: tx.put_role(replace(role, allow=allow)))
    assert told() == [LEAF_NAME]
