"""What every store promises about rotations, trust, leases and watching."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from teleport_lite.errors import Denied
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.guess import Guesses
from teleport_lite.model.host import Host, Report
from teleport_lite.model.lease import Lease
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.rotation import Phase, Rotation
from teleport_lite.model.trust import RemoteCluster, TrustedCluster
from teleport_lite.model.user import Role, User
from teleport_lite.store import changes, drafts
from teleport_lite.store.protocols import Store
from tests.store.makers import MINUTE, T0, a_host, a_password, a_token, filled
from tests.support import eventually

# CAs that change


def test_a_ca_is_retired_and_keeps_its_keys(store: Store) -> None:
    keys = filled(CaKeys)
    store.write(lambda tx: tx.add_ca(keys))
    assert store.write(
        lambda tx: tx.change_ca(keys.type, keys.id, active=True, last_rotated=T0 + MINUTE)
    )
    assert store.cas() == [replace(keys, active=True, last_rotated=T0 + MINUTE)]
    assert store.write(lambda tx: tx.change_ca(keys.type, keys.id, active=False, last_rotated=None))
    assert store.cas() == [replace(keys, active=False, last_rotated=None)]


def test_a_ca_that_is_not_there_cannot_be_changed_or_removed(store: Store) -> None:
    keys = filled(CaKeys)
    store.write(lambda tx: tx.add_ca(keys))
    for type, id in ((CaType.HOST, keys.id), (keys.type, "another")):
        assert not store.write(
            lambda tx, type=type, id=id: tx.change_ca(type, id, active=True, last_rotated=None)
        )
        assert not store.write(lambda tx, type=type, id=id: tx.remove_ca(type, id))
    assert store.cas() == [keys]


def test_a_removed_ca_is_gone_and_its_sibling_is_not(store: Store) -> None:
    keys = filled(CaKeys)
    other = replace(keys, id="other")
    store.write(lambda tx: tx.add_ca(keys) and tx.add_ca(other))
    assert store.write(lambda tx: tx.remove_ca(keys.type, keys.id))
    assert not store.write(lambda tx: tx.remove_ca(keys.type, keys.id))
    assert store.cas() == [other]


# Rotations


def test_what_was_never_rotated_stands_by(store: Store) -> None:
    assert store.rotation(CaType.HOST) == Rotation(type=CaType.HOST)


def test_a_rotation_comes_back_as_it_went_in(store: Store) -> None:
    rotation = replace(filled(Rotation), serial=1)
    assert store.write(lambda tx: tx.put_rotation(rotation, after=0))
    assert store.rotation(rotation.type) == rotation
    others = [type for type in CaType if type != rotation.type]
    assert all(store.rotation(type) == Rotation(type=type) for type in others)


def test_of_two_who_step_from_the_same_rotation_one_is_refused(store: Store) -> None:
    first, second = (Rotation(type=CaType.USER, phase=phase) for phase in ("init", "rollback"))
    assert store.write(lambda tx: tx.put_rotation(first, after=0))
    assert not store.write(lambda tx: tx.put_rotation(second, after=0))
    assert not store.write(lambda tx: tx.put_rotation(second, after=2))
    assert store.rotation(CaType.USER) == replace(first, serial=1)
    assert store.write(lambda tx: tx.put_rotation(second, after=1))
    assert not store.write(lambda tx: tx.put_rotation(first, after=1))
    assert store.rotation(CaType.USER) == replace(second, serial=2)


def test_of_20_racers_for_a_step_exactly_one_takes_it(store: Store) -> None:
    starting, won = threading.Barrier(20), []

    def race(number: int) -> None:
        step = Rotation(type=CaType.HOST, phase=Phase.INIT, id=f"r{number}")
        starting.wait(30)
        if store.write(lambda tx: tx.put_rotation(step, after=0)):
            won.append(step.id)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert won == [store.rotation(CaType.HOST).id]


def test_a_step_that_is_undone_was_no_step(store: Store) -> None:
    def change(tx) -> None:
        assert tx.put_rotation(Rotation(type=CaType.HOST, phase=Phase.INIT), after=0)
        raise Denied("no")

    with pytest.raises(Denied):
        store.write(change)
    assert store.rotation(CaType.HOST).serial == 0


# Clusters that trust each other


def test_a_trusted_cluster_comes_back_as_it_went_in_and_is_replaced(store: Store) -> None:
    cluster = filled(TrustedCluster)
    store.write(lambda tx: tx.put_trusted(cluster))
    assert store.trusted_clusters() == [cluster]
    without_key = replace(cluster, enabled=True, tls_private=None)
    store.write(lambda tx: tx.put_trusted(without_key))
    assert store.trusted_clusters() == [without_key]
    assert store.write(lambda tx: tx.remove_trusted(cluster.name))
    assert not store.write(lambda tx: tx.remove_trusted(cluster.name))
    assert store.trusted_clusters() == []


def test_a_remote_cluster_comes_back_as_it_went_in_and_is_replaced(store: Store) -> None:
    cluster = filled(RemoteCluster)
    store.write(lambda tx: tx.put_remote(cluster))
    assert store.remote_clusters() == [cluster]
    quiet = replace(cluster, last_heartbeat=None)
    store.write(lambda tx: tx.put_remote(quiet))
    assert store.remote_clusters() == [quiet]
    assert store.write(lambda tx: tx.remove_remote(cluster.name))
    assert not store.write(lambda tx: tx.remove_remote(cluster.name))
    assert store.remote_clusters() == []


def test_clusters_are_listed_by_name(store: Store) -> None:
    for name in ("b", "a", "c"):
        store.write(
            lambda tx, name=name: tx.put_trusted(replace(filled(TrustedCluster), name=name))
        )
        store.write(lambda tx, name=name: tx.put_remote(replace(filled(RemoteCluster), name=name)))
    assert [each.name for each in store.trusted_clusters()] == ["a", "b", "c"]
    assert [each.name for each in store.remote_clusters()] == ["a", "b", "c"]


# Leases


def take(store: Store, holder: str, at: int = 0, name: str = "sweep") -> int:
    """Ask for a lease of one minute, `at` minutes after noon."""
    now = T0 + at * MINUTE
    return store.write(lambda tx: tx.take_lease(name, holder, now=now, until=now + MINUTE))


def holds(store: Store, fence: int) -> bool:
    return store.write(lambda tx: tx.holds_lease("sweep", fence))


def test_a_lease_has_one_holder_until_it_ends(store: Store) -> None:
    assert store.lease("sweep") is None
    assert take(store, "one") == 1
    assert store.lease("sweep") == Lease(name="sweep", holder="one", fence=1, until=T0 + MINUTE)
    assert take(store, "two") == 0
    assert take(store, "two", at=-1) == 0
    assert holds(store, 1)
    assert take(store, "two", at=1) == 2


def test_who_comes_too_late_holds_nothing(store: Store) -> None:
    take(store, "one")
    take(store, "two", at=1)
    assert not holds(store, 1)
    assert holds(store, 2)
    assert not store.write(lambda tx: tx.drop_lease("sweep", 1))
    assert take(store, "one", at=1) == 0
    assert take(store, "one", at=2) == 3


def test_an_extended_lease_keeps_its_fence(store: Store) -> None:
    assert [take(store, "one", at=minute) for minute in (0, 0, 1, 5)] == [1, 1, 1, 1]
    found = store.lease("sweep")
    assert found is not None
    assert found.until == T0 + 6 * MINUTE


def test_a_dropped_lease_is_free_at_once_and_its_fence_does_not_come_again(store: Store) -> None:
    fence = take(store, "one")
    assert store.write(lambda tx: tx.drop_lease("sweep", fence))
    assert not store.write(lambda tx: tx.drop_lease("sweep", fence))
    assert store.lease("sweep") is None
    assert not holds(store, fence)
    assert take(store, "one") == 2


def test_nobody_holds_what_was_never_taken(store: Store) -> None:
    assert not holds(store, 0)
    assert not holds(store, 1)
    assert not store.write(lambda tx: tx.drop_lease("sweep", 0))


def test_leases_of_different_jobs_are_apart(store: Store) -> None:
    assert take(store, "one") == 1
    assert take(store, "two", name="rotate") == 1


def test_of_20_racers_for_a_lease_exactly_one_has_it(store: Store) -> None:
    starting, fences = threading.Barrier(20), []

    def race(number: int) -> None:
        starting.wait(30)
        fences.append(take(store, f"auth-{number}"))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(fences) == [0] * 19 + [1]


# Reading, and writing what was decided on it


@pytest.mark.parametrize("kind", [Host, User, RemoteCluster, TrustedCluster])
def test_what_was_read_is_still_so_until_somebody_changes_it(store: Store, kind: type[Any]) -> None:
    put = {
        Host: "put_host",
        User: "put_user",
        RemoteCluster: "put_remote",
        TrustedCluster: "put_trusted",
    }[kind]
    remove = put.replace("put", "remove")
    was = filled(kind)
    name = was.id if kind is Host else was.name
    by = "principals" if kind is Host else "roles" if kind is User else "host_cas"
    other = replace(was, **{by: ("other",)})

    def still(noun: Any) -> bool:
        return store.write(lambda tx: tx.is_still(kind, name, noun))

    assert still(None)
    assert not still(was)
    store.write(lambda tx: getattr(tx, put)(was))
    assert still(was)
    assert not still(other)
    assert not still(None)
    store.write(lambda tx: getattr(tx, put)(other))
    assert not still(was)
    store.write(lambda tx: getattr(tx, remove)(name))
    assert not still(other)
    assert still(None)


def test_a_password_is_still_the_one_that_was_read_until_another_is_set(store: Store) -> None:
    store.write(lambda tx: tx.add_user(User(name="alice", roles=())))
    was = a_password()

    def still(password: Any) -> bool:
        return store.write(lambda tx: tx.is_still(Password, "alice", password))

    assert still(None)
    store.write(lambda tx: tx.put_password(was))
    assert still(was)
    store.write(lambda tx: tx.put_password(replace(was, set_at=was.set_at + MINUTE)))
    assert not still(was)
    store.write(lambda tx: tx.remove_user("alice"))
    assert not still(was)


def test_a_host_is_added_once_and_so_is_its_key(store: Store) -> None:
    host = a_host()
    assert store.write(lambda tx: tx.add_host(host))
    assert not store.write(lambda tx: tx.add_host(host))
    assert not store.write(lambda tx: tx.add_host(a_host(name="renamed", ssh_key="other")))
    assert not store.write(lambda tx: tx.add_host(a_host("h2", ssh_key=host.ssh_key)))
    assert store.hosts() == [(host, Report())]
    assert store.write(lambda tx: tx.add_host(a_host("h2", ssh_key="other")))


# Watching


class Watch:
    """Collects what a store says."""

    def __init__(self, store: Store) -> None:
        self.heard: set[str] = set()
        self.end = store.watch(self.heard.update)

    def hears(self, topic: str) -> None:
        eventually(lambda: topic in self.heard, what=f"{topic} among {self.heard}")


def _user(tx) -> None:
    tx.add_user(User(name="alice", roles=()))


def _password(tx) -> None:
    _user(tx)
    tx.put_password(a_password())


CHANGES = {
    "add_ca": ("cas", lambda tx: tx.add_ca(filled(CaKeys))),
    "put_rotation": ("rotations", lambda tx: tx.put_rotation(filled(Rotation), after=0)),
    "put_role": ("roles", lambda tx: tx.put_role(filled(Role))),
    "put_lock": ("locks", lambda tx: tx.put_lock(filled(Lock))),
    "add_user": ("users", _user),
    "put_password": ("users", _password),
    "add_host": ("hosts", lambda tx: tx.add_host(a_host())),
    "put_host": ("hosts", lambda tx: tx.put_host(a_host())),
    "add_token": ("tokens", lambda tx: tx.add_token(a_token())),
    "put_trusted": ("trust", lambda tx: tx.put_trusted(filled(TrustedCluster))),
    "put_remote": ("trust", lambda tx: tx.put_remote(filled(RemoteCluster))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_who_watches_is_told_what_changed(store: Store, name: str) -> None:
    topic, change = CHANGES[name]
    watch = Watch(store)
    store.write(change)
    watch.hears(topic)
    assert watch.heard == {topic}


REMOVALS = {
    "cas": lambda tx: tx.remove_ca(filled(CaKeys).type, filled(CaKeys).id),
    "roles": lambda tx: tx.remove_role(filled(Role).name),
    "locks": lambda tx: tx.remove_lock(filled(Lock).id),
    "users": lambda tx: tx.remove_user("alice"),
    "hosts": lambda tx: tx.remove_host("h1"),
    "tokens": lambda tx: tx.remove_token("t1"),
    "trust": lambda tx: tx.remove_remote(filled(RemoteCluster).name),
}


@pytest.mark.parametrize("topic", REMOVALS)
def test_who_watches_is_told_what_went_and_nothing_when_nothing_did(
    store: Store, topic: str
) -> None:
    for _, change in CHANGES.values():
        store.write(lambda tx, change=change: change(tx) and None)
    watch = Watch(store)
    assert store.write(REMOVALS[topic])
    watch.hears(topic)
    watch.heard.clear()
    assert not store.write(REMOVALS[topic])
    store.write(lambda tx: tx.put_rotation(Rotation(type=CaType.HOST), after=0))
    watch.hears("rotations")  # in order: what came before would have been told by now
    assert watch.heard == {"rotations"}


def test_of_what_hosts_report_only_news_are_told(store: Store) -> None:
    store.write(lambda tx: tx.put_host(a_host()))
    watch = Watch(store)
    store.write(lambda tx: tx.put_report("h1", Report(version="1.2.3")))
    store.write(lambda tx: tx.put_report("nobody", Report(), news=True))
    store.write(lambda tx: tx.add_token(a_token()))
    watch.hears("tokens")
    assert watch.heard == {"tokens"}
    store.write(lambda tx: tx.put_report("h1", Report(version="1.2.4"), news=True))
    watch.hears("hosts")


def test_a_sweep_tells_of_tokens_and_locks(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token()))
    store.write(lambda tx: tx.put_lock(replace(filled(Lock), expires_at=T0 + MINUTE)))
    watch = Watch(store)
    store.write(lambda tx: tx.sweep(T0 + 60 * MINUTE))
    watch.hears("tokens")
    watch.hears("locks")


def test_what_was_undone_is_not_told(store: Store) -> None:
    watch = Watch(store)

    def change(tx) -> None:
        tx.put_host(a_host())
        raise Denied("no")

    with pytest.raises(Denied):
        store.write(change)
    store.write(lambda tx: tx.add_token(a_token()))
    watch.hears("tokens")
    assert watch.heard == {"tokens"}


def test_who_is_told_reads_what_was_changed(store: Store) -> None:
    found: list[object] = []
    store.watch(lambda topics: found.append(store.token("t1")))
    store.write(lambda tx: tx.add_token(a_token()))
    eventually(lambda: found == [a_token()])


def test_who_has_ended_watching_is_not_told_and_the_others_are(store: Store) -> None:
    ended, going_on = Watch(store), Watch(store)
    ended.end()
    ended.end()
    store.write(lambda tx: tx.add_token(a_token()))
    going_on.hears("tokens")
    assert not ended.heard


def test_a_listener_that_fails_or_dawdles_keeps_nobody_from_being_told(store: Store) -> None:
    proceed, slow = threading.Event(), []

    def dawdle(topics: frozenset[str]) -> None:
        slow.append(topics)
        proceed.wait(30)
        raise RuntimeError("listener")

    store.watch(dawdle)
    watch = Watch(store)
    store.write(lambda tx: tx.add_token(a_token()))
    eventually(lambda: slow)
    store.write(lambda tx: tx.put_host(a_host()))  # returns, although the listener is busy
    store.write(lambda tx: tx.put_role(filled(Role)))
    proceed.set()
    for topic in ("tokens", "hosts", "roles"):
        watch.hears(topic)
    eventually(lambda: frozenset({"hosts", "roles"}) <= frozenset[str]().union(*slow[1:]))


def test_nobody_is_told_after_the_store_is_closed(store: Store) -> None:
    watch = Watch(store)
    store.close()
    assert not watch.heard
    store.watch(watch.heard.update)  # and asking then is no error


# Wrong passwords that all auth servers count together


def guess(
    store: Store, name: str = "n1", source: str = "", *, at: int = 0, stranger: bool = False
) -> int:
    now = T0 + at * MINUTE
    return store.write(lambda tx: tx.count_guess(name, source, stranger=stranger, now=now))


def test_guesses_in_a_row_are_counted_up_to_five(store: Store) -> None:
    assert [guess(store, at=minute) for minute in range(7)] == [1, 2, 3, 4, 5, 0, 0]
    assert [guess(store, "n2"), guess(store, "n1", "192.0.2.1")] == [1, 1]
    [full] = [each for each in store.guesses("n1") if not each.source]
    assert full == Guesses(name="n1", source="", count=5, last_at=T0 + 4 * MINUTE)
    assert [(each.name, each.source) for each in store.guesses()] == [
        ("n1", ""),
        ("n1", "192.0.2.1"),
        ("n2", ""),
    ]


@pytest.mark.parametrize("later", [30, -30])
def test_a_row_is_over_half_an_hour_later_and_when_the_clock_was_put_back(
    store: Store, later: int
) -> None:
    for _ in range(5):
        guess(store)
    guess(store, "other", "192.0.2.1")
    within = 29 if later > 0 else -29
    assert guess(store, at=within) == 0
    assert guess(store, at=later) == 1
    assert [each.name for each in store.guesses()] == ["n1"]  # what is over is not kept


def test_a_row_ends_unless_it_is_full(store: Store) -> None:
    def end(at: int = 0) -> bool:
        return store.write(lambda tx: tx.end_guesses("n1", "", now=T0 + at * MINUTE))

    assert end()
    guess(store)
    guess(store, source="192.0.2.1")
    assert end()
    assert [each.source for each in store.guesses()] == ["192.0.2.1"]
    for _ in range(5):
        guess(store)
    assert not end(at=29)
    assert len(store.guesses("n1")) == 2
    assert end(at=30)


def test_guesses_are_forgotten_from_all_places(store: Store) -> None:
    for source in ("", "192.0.2.1"):
        guess(store, source=source)
    guess(store, "n2")
    assert store.write(lambda tx: tx.forget_guesses("n1"))
    assert not store.write(lambda tx: tx.forget_guesses("n1"))
    assert [each.name for each in store.guesses()] == ["n2"]


def test_names_of_strangers_crowd_out_each_other_and_nobody_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (changes, drafts):
        monkeypatch.setattr(module, "KEPT_STRANGERS", 3)
    guess(store, "alice")
    for number in range(1, 9):
        guess(store, f"s{number}", at=number, stranger=True)
    assert [each.name for each in store.guesses()] == ["alice", "s6", "s7", "s8"]


def test_of_40_guesses_at_once_five_count(store: Store) -> None:
    told: list[int] = []
    threads = [threading.Thread(target=lambda: told.append(guess(store))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [0] * 35 + [1, 2, 3, 4, 5]
