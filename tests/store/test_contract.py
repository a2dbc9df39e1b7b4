"""What every store promises. A new implementation adds one line to `makers.OPENERS`."""

import threading
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.event import Event
from teleport_lite.model.host import Host, Report
from teleport_lite.model.invite import Invite
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.rotation import Rotation
from teleport_lite.model.token import JoinToken
from teleport_lite.model.trust import RemoteCluster, TrustedCluster
from teleport_lite.model.user import Role, User
from teleport_lite.store.protocols import KEPT_SOURCES, REPLAY_WINDOW, Store
from tests.store.makers import (
    MINUTE,
    SECOND,
    T0,
    a_host,
    a_password,
    a_recording,
    a_token,
    an_event,
    an_invite,
    filled,
    spend,
)

# Tokens: adding, listing, removing


def test_a_token_comes_back_as_it_went_in(store: Store) -> None:
    token = replace(filled(JoinToken), spent_at=None)
    assert store.write(lambda tx: tx.add_token(token))
    assert store.token(token.name) == token
    assert store.tokens() == [token]


def test_a_token_is_added_once(store: Store) -> None:
    assert store.write(lambda tx: tx.add_token(a_token()))
    assert not store.write(lambda tx: tx.add_token(a_token(roles=("Auth",))))
    assert store.tokens() == [a_token()]


def test_an_expired_token_does_not_take_up_its_text(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    assert spend(store)
    later = T0 + 30 * MINUTE
    again = a_token(created_at=later, expires_at=later + MINUTE, once=True)
    assert not store.write(lambda tx: tx.add_token(replace(again, created_at=later - SECOND)))
    assert store.write(lambda tx: tx.add_token(again))
    assert store.tokens() == [again]
    assert spend(store, at=later, key="another")


def test_a_token_that_was_never_dated_replaces_nothing(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token()))
    assert not store.write(lambda tx: tx.add_token(a_token(created_at=None)))


def test_who_adds_a_token_cannot_say_it_is_spent(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True, spent_at=T0)))
    assert store.tokens() == [a_token(once=True)]
    assert spend(store)


def test_tokens_are_listed_by_expiry_and_the_lasting_ones_last(store: Store) -> None:
    for name, expires in (("a", None), ("b", T0 + MINUTE), ("c", T0), ("d", T0)):
        token = a_token(name, expires_at=expires)
        assert store.write(lambda tx, token=token: tx.add_token(token))
    assert [token.name for token in store.tokens()] == ["c", "d", "b", "a"]


def test_a_removed_token_is_gone(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token()))
    assert store.write(lambda tx: tx.remove_token("t1"))
    assert not store.write(lambda tx: tx.remove_token("t1"))
    assert store.token("t1") is None
    assert not spend(store)


# Tokens: spending


def test_a_node_token_is_shared_until_the_moment_it_expires(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token()))
    assert spend(store, key="one")
    assert spend(store, key="two", at=T0 + 30 * MINUTE - SECOND)
    assert not spend(store, key="one", at=T0 + 30 * MINUTE)
    kept = store.token("t1")
    assert kept is not None
    assert kept.spent_at is None


def test_a_token_nobody_added_is_refused(store: Store) -> None:
    assert not spend(store)


@pytest.mark.parametrize(
    "roles", [(), ("Proxy",), ("Node", "Proxy"), ("Nod",), ("ode",), ("Node,App",), ("",)]
)
def test_a_token_covers_its_own_roles_only(store: Store, roles: tuple[str, ...]) -> None:
    store.write(lambda tx: tx.add_token(a_token(roles=("Node", "App"))))
    assert not store.write(lambda tx: tx.spend_token("t1", roles=roles, key="k", now=T0))


def test_a_token_covers_each_of_its_roles(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(roles=("Node", "App", "Db"))))
    for roles in (("Node",), ("Db", "Node"), ("App", "Db", "Node")):
        assert store.write(
            lambda tx, roles=roles: tx.spend_token("t1", roles=roles, key="k", now=T0)
        )


def test_a_once_token_works_for_one_key(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    assert spend(store, at=T0 + SECOND)
    assert not spend(store, key="another")
    assert store.tokens() == [a_token(once=True, spent_at=T0 + SECOND)]


def test_a_lost_answer_may_be_asked_for_again_for_ten_minutes(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    assert spend(store)
    assert spend(store, at=T0 + REPLAY_WINDOW - SECOND)
    assert not spend(store, at=T0 + REPLAY_WINDOW)


def test_asking_again_does_not_prolong_the_window(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    for minute in (0, 4, 8):
        assert spend(store, at=T0 + minute * MINUTE)
    assert not spend(store, at=T0 + 12 * MINUTE)


def test_asking_again_on_an_earlier_clock_does_not_shorten_the_window(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    for minute in (5, 0, 14):
        assert spend(store, at=T0 + minute * MINUTE)
    assert not spend(store, at=T0 + 15 * MINUTE)


def test_the_replay_window_ends_with_the_token(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    assert spend(store, at=T0 + 29 * MINUTE)
    assert not spend(store, at=T0 + 30 * MINUTE)


def test_no_key_is_nobodys_key(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    assert not spend(store, key="")
    assert spend(store)


def test_a_spent_token_still_takes_up_its_text(store: Store) -> None:
    """Or the same bot token could be configured, used, and used again after a restart."""
    bot = a_token(once=True, static=True, expires_at=None)
    store.write(lambda tx: tx.add_token(bot))
    assert spend(store)
    assert store.write(lambda tx: tx.sweep(T0 + timedelta(days=400))) == 0
    assert not store.write(lambda tx: tx.add_token(replace(bot, created_at=T0 + 99 * MINUTE)))
    assert not spend(store, key="another")


def test_a_use_that_is_undone_was_no_use(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))

    def spend_and_fail(tx):
        assert tx.spend_token("t1", roles=("Node",), key="one", now=T0)
        raise Denied("no")

    with pytest.raises(Denied):
        store.write(spend_and_fail)
    assert spend(store, key="two")


def test_of_200_racers_for_a_once_token_exactly_one_wins_in_5_rounds(store: Store) -> None:
    for number in range(5):
        name = f"t{number}"
        store.write(lambda tx, name=name: tx.add_token(a_token(name, once=True)))
        start, won = threading.Barrier(200), []

        def race(racer: int, name: str = name, start=start, won=won) -> None:
            start.wait()
            if spend(store, name, key=f"key-{racer}"):
                won.append(racer)

        threads = [threading.Thread(target=race, args=(racer,)) for racer in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


# Tokens: a clock that is put back


def test_a_clock_put_back_does_not_revive_a_token_that_was_seen_expired(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token()))
    assert not spend(store, at=T0 + 30 * MINUTE)
    assert not spend(store, at=T0)


def test_time_seen_by_a_refusal_counts_even_though_the_refusal_undoes_the_rest(
    store: Store,
) -> None:
    store.write(lambda tx: tx.add_token(a_token()))

    def refused(tx):
        tx.spend_token("t1", roles=("Node",), key="k", now=T0 + 30 * MINUTE)
        raise Denied("token expired")

    with pytest.raises(Denied):
        store.write(refused)
    assert not spend(store, at=T0)


def test_time_seen_by_anything_in_the_trail_counts(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token()))
    store.write(lambda tx: tx.record(an_event(at=T0 + 31 * MINUTE)))
    assert not spend(store, at=T0)


def test_a_clock_put_back_does_not_reopen_a_replay_window(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    assert spend(store)
    assert not spend(store, at=T0 + 11 * MINUTE)
    assert not spend(store, at=T0 + 5 * MINUTE)


def test_tokens_made_after_a_wild_clock_was_set_right_work(store: Store) -> None:
    """A minute in the year 2099 must not lock everybody out until then."""
    store.write(lambda tx: tx.record(an_event(at=T0 + timedelta(days=26000))))
    store.write(lambda tx: tx.add_token(a_token()))
    assert spend(store)


def test_a_token_seen_expired_is_swept_and_replaceable_on_an_earlier_clock(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token("t1")))
    store.write(lambda tx: tx.add_token(a_token("t2")))
    assert not spend(store, at=T0 + 30 * MINUTE)
    assert store.write(lambda tx: tx.add_token(a_token("t2")))
    assert spend(store, "t2")
    assert store.write(lambda tx: tx.sweep(T0)) == 1
    assert [token.name for token in store.tokens()] == ["t2"]


# Sweeping


def test_a_sweep_takes_what_has_expired_and_nothing_else(store: Store) -> None:
    def fill(tx):
        tx.add_token(a_token("soon", expires_at=T0 + MINUTE))
        tx.add_token(a_token("late", expires_at=T0 + 2 * MINUTE))
        tx.add_token(a_token("never", expires_at=None))
        tx.put_lock(a_lock("l-soon", T0 + MINUTE))
        tx.put_lock(a_lock("l-late", T0 + 2 * MINUTE))
        tx.put_lock(a_lock("l-never", None))

    store.write(fill)
    assert store.write(lambda tx: tx.sweep(T0)) == 0
    assert store.write(lambda tx: tx.sweep(T0 + MINUTE)) == 2
    assert [token.name for token in store.tokens()] == ["late", "never"]
    assert [lock.id for lock in store.locks()] == ["l-late", "l-never"]


def test_a_spent_token_stays_listed_until_it_expires(store: Store) -> None:
    store.write(lambda tx: tx.add_token(a_token(once=True)))
    assert spend(store)
    assert store.write(lambda tx: tx.sweep(T0 + 11 * MINUTE)) == 0
    assert store.write(lambda tx: tx.sweep(T0 + 12 * MINUTE)) == 0
    assert store.tokens() == [a_token(once=True, spent_at=T0)]
    assert store.write(lambda tx: tx.sweep(T0 + 30 * MINUTE)) == 1
    assert store.tokens() == []


def a_lock(lock_id: str, expires_at) -> Lock:
    return replace(filled(Lock), id=lock_id, expires_at=expires_at)


# Hosts


def test_a_host_and_its_report_come_back_as_they_went_in(store: Store) -> None:
    host, report = filled(Host), filled(Report)
    store.write(lambda tx: tx.put_host(host))
    assert store.host(host.id) == (host, Report())
    assert store.write(lambda tx: tx.put_report(host.id, report))
    assert store.host(host.id) == (host, report)
    assert store.hosts() == [(host, report)]


def test_a_host_that_joins_again_keeps_its_report(store: Store) -> None:
    store.write(lambda tx: (tx.put_host(a_host()), tx.put_report("h1", filled(Report))))
    renewed = a_host(roles=("Node", "App"), ssh_key="new")
    store.write(lambda tx: tx.put_host(renewed))
    assert store.hosts() == [(renewed, filled(Report))]


def test_there_is_no_report_without_a_host(store: Store) -> None:
    assert not store.write(lambda tx: tx.put_report("nobody", Report()))
    assert store.host("nobody") is None
    store.write(lambda tx: tx.put_host(a_host("nobody")))
    assert store.host("nobody") == (a_host("nobody"), Report())


def test_a_removed_host_takes_its_report_along(store: Store) -> None:
    store.write(lambda tx: (tx.put_host(a_host()), tx.put_report("h1", filled(Report))))
    assert store.write(lambda tx: tx.remove_host("h1"))
    assert not store.write(lambda tx: tx.remove_host("h1"))
    assert store.host("h1") is None
    store.write(lambda tx: tx.put_host(a_host()))
    assert store.host("h1") == (a_host(), Report())


def test_a_host_is_found_by_its_key_the_newest_first(store: Store) -> None:
    store.write(lambda tx: tx.put_host(a_host("old", ssh_key="same")))
    store.write(lambda tx: tx.put_host(a_host("new", ssh_key="same", joined_at=T0 + MINUTE)))
    store.write(lambda tx: tx.put_host(a_host("other")))
    assert store.host_by_key("same") == a_host("new", ssh_key="same", joined_at=T0 + MINUTE)
    assert store.host_by_key("unknown") is None


def test_hosts_are_listed_by_name(store: Store) -> None:
    for host_id, name in (("1", "web-2"), ("2", "web-1"), ("0", "web-2")):
        host = a_host(host_id, name=name)
        store.write(lambda tx, host=host: tx.put_host(host))
    assert [host.id for host, _ in store.hosts()] == ["2", "0", "1"]


# Passwords, invites, sources of logins


@pytest.fixture
def people(store: Store) -> Store:
    """A store that has two users."""
    for name in ("alice", "bob"):
        store.write(lambda tx, name=name: tx.add_user(User(name=name, roles=())))
    return store


def use(store: Store, name: str = "i1", at=T0) -> bool:
    return store.write(lambda tx: tx.use_invite(name, now=at))


def test_a_password_comes_back_as_it_went_in_and_is_replaced(people: Store) -> None:
    assert people.password("alice") is None
    assert people.write(lambda tx: tx.put_password(a_password()))
    assert people.password("alice") == a_password()
    later = a_password(set_at=T0 + MINUTE)
    assert people.write(lambda tx: tx.put_password(later))
    assert people.password("alice") == later
    assert people.with_password() == {"alice"}


def test_an_invite_comes_back_as_it_went_in(people: Store) -> None:
    invite = replace(filled(Invite), user="alice", expires_at=T0 + MINUTE)
    assert people.write(lambda tx: tx.put_invite(invite))
    assert people.invite(invite.name) == invite
    assert people.invites() == [invite]
    assert people.invite("another") is None


def test_nothing_belongs_to_a_user_who_is_not_there(people: Store) -> None:
    assert not people.write(lambda tx: tx.put_password(a_password("eve")))
    assert not people.write(lambda tx: tx.put_invite(an_invite(user="eve")))
    assert not people.write(lambda tx: tx.note_login("eve", "192.0.2.1", T0))
    people.write(lambda tx: tx.add_user(User(name="eve", roles=())))
    assert people.password("eve") is None
    assert (people.invites(), people.with_password()) == ([], frozenset())
    assert people.login_sources("eve") == frozenset()


def test_a_removed_user_leaves_nothing_to_the_next_of_that_name(people: Store) -> None:
    def fill(tx):
        for user in ("alice", "bob"):
            tx.put_password(a_password(user))
            tx.put_invite(an_invite(f"i-{user}", user))
            tx.note_login(user, "192.0.2.1", T0)

    people.write(fill)
    assert people.write(lambda tx: tx.remove_user("alice"))
    people.write(lambda tx: tx.add_user(User(name="alice", roles=())))
    assert people.password("alice") is None
    assert people.login_sources("alice") == frozenset()
    assert not use(people, "i-alice")
    assert people.with_password() == {"bob"}
    assert people.invites() == [an_invite("i-bob", "bob")]
    assert people.login_sources("bob") == {"192.0.2.1"}


def test_a_changed_user_keeps_password_invite_and_sources(people: Store) -> None:
    def fill(tx):
        tx.put_password(a_password())
        tx.put_invite(an_invite())
        tx.note_login("alice", "192.0.2.1", T0)

    people.write(fill)
    for change in (
        lambda tx: tx.change_user(User(name="alice", roles=("x",))),
        lambda tx: tx.put_user(User(name="alice", roles=("y",))),
    ):
        people.write(change)
        assert people.password("alice") == a_password()
        assert people.invites() == [an_invite()]
        assert people.login_sources("alice") == {"192.0.2.1"}
    assert people.user("alice") == User(name="alice", roles=("y",))


def test_a_user_who_is_not_there_cannot_be_changed(people: Store) -> None:
    assert people.write(lambda tx: tx.change_user(User(name="bob", roles=("x",))))
    assert not people.write(lambda tx: tx.change_user(User(name="eve", roles=("x",))))
    assert people.user("eve") is None


def test_a_user_has_one_invite_the_latest(people: Store) -> None:
    people.write(lambda tx: tx.put_invite(an_invite("old")))
    people.write(lambda tx: tx.put_invite(an_invite("new")))
    people.write(lambda tx: tx.put_invite(an_invite("of-bob", "bob")))
    assert people.invite("old") is None
    assert not use(people, "old")
    assert [each.name for each in people.invites()] == ["new", "of-bob"]


def test_an_invite_works_once(people: Store) -> None:
    people.write(lambda tx: tx.put_invite(an_invite()))
    assert not use(people, "another")
    assert use(people)
    assert not use(people)
    assert people.invites() == []


def test_an_invite_works_until_the_moment_it_expires(people: Store) -> None:
    people.write(lambda tx: tx.put_invite(an_invite("a")))
    people.write(lambda tx: tx.put_invite(an_invite("b", "bob")))
    assert use(people, "a", T0 + 30 * MINUTE - SECOND)
    assert not use(people, "b", T0 + 30 * MINUTE)


def test_a_use_that_is_undone_leaves_the_invite(people: Store) -> None:
    people.write(lambda tx: tx.put_invite(an_invite()))

    def use_and_fail(tx):
        assert tx.use_invite("i1", now=T0)
        tx.put_password(a_password())
        raise Denied("no")

    with pytest.raises(Denied):
        people.write(use_and_fail)
    assert people.password("alice") is None
    assert use(people)


def test_a_removed_invite_is_gone(people: Store) -> None:
    people.write(lambda tx: tx.put_invite(an_invite()))
    assert people.write(lambda tx: tx.remove_invite("i1"))
    assert not people.write(lambda tx: tx.remove_invite("i1"))
    assert not use(people)


def test_a_clock_put_back_does_not_revive_an_invite(people: Store) -> None:
    for at in (lambda tx: tx.use_invite("x", now=T0 + 30 * MINUTE), lambda tx: tx.record(LATE)):
        people.write(lambda tx: tx.put_invite(an_invite()))
        people.write(at)
        assert people.invites() == []
        assert not use(people)


LATE = an_event(at=T0 + 31 * MINUTE)


def test_a_sweep_takes_invites_that_have_expired(people: Store) -> None:
    people.write(lambda tx: tx.put_invite(an_invite("soon", expires_at=T0 + MINUTE)))
    people.write(lambda tx: tx.put_invite(an_invite("late", "bob")))
    assert people.write(lambda tx: tx.sweep(T0)) == 0
    assert people.write(lambda tx: tx.sweep(T0 + MINUTE)) == 1
    assert [each.name for each in people.invites()] == ["late"]


def test_of_200_racers_for_an_invite_exactly_one_sets_the_password(people: Store) -> None:
    for round in range(5):
        people.write(lambda tx: tx.put_invite(an_invite()))
        start, won = threading.Barrier(200), []

        def race(racer: int, start=start, won=won) -> None:
            start.wait()
            mine = a_password(set_at=T0 + racer * SECOND)
            if people.write(lambda tx: tx.use_invite("i1", now=T0) and tx.put_password(mine)):
                won.append(mine)

        threads = [threading.Thread(target=race, args=(racer,)) for racer in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [people.password("alice")], f"round {round}"


def test_the_latest_sources_of_logins_are_kept(people: Store) -> None:
    for number in range(KEPT_SOURCES + 4):
        at = T0 + number * MINUTE
        source = f"10.0.0.{number}"
        assert people.write(lambda tx, s=source, at=at: tx.note_login("alice", s, at))
    assert people.login_sources("alice") == {f"10.0.0.{n}" for n in range(4, KEPT_SOURCES + 4)}
    people.write(lambda tx: tx.note_login("alice", "10.0.0.4", T0 + 60 * MINUTE))
    people.write(lambda tx: tx.note_login("alice", "new", T0 + 61 * MINUTE))
    assert "10.0.0.4" in people.login_sources("alice")
    assert "10.0.0.5" not in people.login_sources("alice")
    assert people.login_sources("bob") == frozenset()


# Users, roles, locks, CAs, meta


def test_users_are_added_once_replaced_listed_and_removed(store: Store) -> None:
    user = filled(User)
    assert store.write(lambda tx: tx.add_user(user))
    assert not store.write(lambda tx: tx.add_user(replace(user, roles=("other",))))
    assert store.user(user.name) == user
    store.write(lambda tx: tx.put_user(User(name="b", roles=())))
    store.write(lambda tx: tx.put_user(User(name="a", roles=("x",))))
    store.write(lambda tx: tx.put_user(User(name="a", roles=())))
    assert store.users() == [User(name="a", roles=()), User(name="b", roles=()), user]
    assert store.write(lambda tx: tx.remove_user("a"))
    assert not store.write(lambda tx: tx.remove_user("a"))
    assert store.user("a") is None


def test_roles_are_added_once_replaced_listed_and_removed(store: Store) -> None:
    role = filled(Role)
    assert store.write(lambda tx: tx.add_role(role))
    assert not store.write(lambda tx: tx.add_role(Role(name=role.name)))
    assert store.role(role.name) == role
    store.write(lambda tx: tx.put_role(Role(name="b")))
    store.write(lambda tx: tx.put_role(Role(name="a", preset=True)))
    store.write(lambda tx: tx.put_role(Role(name="a")))
    assert store.roles() == [Role(name="a"), Role(name="b"), role]
    assert store.write(lambda tx: tx.remove_role("a"))
    assert not store.write(lambda tx: tx.remove_role("a"))
    assert store.role("a") is None


def test_locks_are_put_replaced_listed_and_removed(store: Store) -> None:
    lock = filled(Lock)
    store.write(lambda tx: tx.put_lock(replace(lock, message="first")))
    store.write(lambda tx: tx.put_lock(lock))
    assert store.locks() == [lock]
    assert store.write(lambda tx: tx.remove_lock(lock.id))
    assert not store.write(lambda tx: tx.remove_lock(lock.id))
    assert store.locks() == []


def test_a_ca_comes_back_with_its_keys_and_is_never_replaced(store: Store) -> None:
    keys = filled(CaKeys)
    assert store.write(lambda tx: tx.add_ca(keys))
    assert not store.write(lambda tx: tx.add_ca(replace(keys, active=True)))
    assert store.cas() == [keys]


def test_a_ca_without_keys_has_none(store: Store) -> None:
    bare = replace(filled(CaKeys), ssh_private=None, tls_private=None, jwt_private=None)
    store.write(lambda tx: tx.add_ca(bare))
    assert store.cas() == [bare]


def test_cas_are_listed_by_type_and_age(store: Store) -> None:
    for type, id, age in ((CaType.USER, "a", 0), (CaType.HOST, "b", 1), (CaType.HOST, "c", 0)):
        keys = replace(filled(CaKeys), type=type, id=id, created_at=T0 + age * MINUTE)
        store.write(lambda tx, keys=keys: tx.add_ca(keys))
    assert [keys.id for keys in store.cas()] == ["c", "b", "a"]
    assert [keys.id for keys in store.cas(CaType.HOST)] == ["c", "b"]
    assert store.cas(CaType.JWT) == []


def test_meta_is_set_always_or_only_if_absent(store: Store) -> None:
    assert store.meta("cluster") is None
    assert store.write(lambda tx: tx.add_meta("cluster", "one"))
    assert not store.write(lambda tx: tx.add_meta("cluster", "two"))
    assert store.meta("cluster") == "one"
    store.write(lambda tx: tx.set_meta("cluster", "three"))
    assert store.meta("cluster") == "three"


@pytest.mark.parametrize(
    "kind",
    [
        JoinToken,
        Host,
        Report,
        User,
        Role,
        Lock,
        CaKeys,
        Password,
        Invite,
        Recording,
        Rotation,
        TrustedCluster,
        RemoteCluster,
    ],
)
def test_the_makers_leave_no_field_at_its_default(kind) -> None:
    """Otherwise the tests above would not notice a field that a store forgets."""
    noun = filled(kind)
    assert not [each.name for each in fields(kind) if getattr(noun, each.name) == each.default]


def test_what_a_store_hands_out_shares_nothing_with_it(store: Store) -> None:
    user, report = filled(User), filled(Report)
    host = a_host()
    store.write(lambda tx: (tx.put_user(user), tx.put_host(host), tx.put_report("h1", report)))
    user.traits["logins"] = ("root",)
    report.labels["env"] = "changed"
    found = store.user(user.name)
    assert found == filled(User)
    found.traits["logins"] = ("root",)
    store.host("h1")[1].labels["env"] = "changed"
    assert store.user(user.name) == filled(User)
    assert store.host("h1") == (host, filled(Report))


# Writing


def test_a_write_returns_what_the_change_returns(store: Store) -> None:
    assert store.write(lambda tx: "answer") == "answer"


def test_a_change_that_fails_undoes_everything_it_did_and_nothing_else(store: Store) -> None:
    store.write(lambda tx: (tx.set_meta("kept", "yes"), tx.record(an_event("first"))))

    def fail(tx):
        tx.set_meta("kept", "no")
        tx.add_token(a_token())
        tx.put_host(a_host())
        tx.put_report("h1", filled(Report))
        tx.add_ca(filled(CaKeys))
        tx.add_user(filled(User))
        tx.put_password(a_password(filled(User).name))
        tx.put_invite(an_invite(user=filled(User).name))
        tx.note_login(filled(User).name, "192.0.2.1", T0)
        tx.add_role(filled(Role))
        tx.put_lock(filled(Lock))
        tx.record(an_event("undone"))
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        store.write(fail)
    assert store.meta("kept") == "yes"
    assert not [*store.tokens(), *store.hosts(), *store.cas()]
    assert not [*store.users(), *store.roles(), *store.locks()]
    assert not [*store.with_password(), *store.invites()]
    store.write(lambda tx: tx.record(an_event("second")))
    assert store.events() == [(1, an_event("first")), (2, an_event("second"))]
    assert store.verify_trail() == (2, None)


def test_a_change_sees_what_it_did_and_readers_do_not_yet(store: Store) -> None:
    def change(tx):
        first = tx.add_meta("key", "1")
        return first, tx.add_meta("key", "2"), store.meta("key")

    assert store.write(change) == (True, False, None)
    assert store.meta("key") == "1"


def test_a_write_within_a_change_is_a_bug_not_a_deadlock(store: Store) -> None:
    with pytest.raises(RuntimeError, match="within a change"):
        store.write(lambda tx: store.write(lambda inner: None))
    assert store.write(lambda tx: "still works") == "still works"


def test_on_commit_runs_when_the_change_is_readable_and_not_when_it_fails(store: Store) -> None:
    seen: list[str | None] = []

    def change(tx, value: str, *, fail: bool) -> None:
        tx.set_meta("key", value)
        tx.on_commit(lambda: seen.append(store.meta("key")))
        if fail:
            raise Denied("no")

    store.write(lambda tx: change(tx, "one", fail=False))
    with pytest.raises(Denied):
        store.write(lambda tx: change(tx, "two", fail=True))
    assert seen == ["one"]


def test_every_thread_reads_what_any_thread_was_told_is_kept(store: Store) -> None:
    missing: list[str] = []

    def work(worker: int) -> None:
        for number in range(25):
            host = a_host(f"{worker}-{number}")
            store.write(lambda tx, host=host: tx.put_host(host))
            if store.host(host.id) is None:
                missing.append(host.id)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    assert len(store.hosts()) == 16 * 25


def test_a_closed_store_refuses_writes_and_may_be_closed_again(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.write(lambda tx: None)


# The trail


def test_events_come_back_in_order_with_numbers_from_one(store: Store) -> None:
    event = Event(
        kind="instance.join",
        code="TJ002E",
        at=T0 + timedelta(microseconds=1),
        outcome="denied",
        facts={"host": "wéb\x1b[31m", "reason": 'a "quote"\n'},
    )
    store.write(lambda tx: (tx.record(event), tx.record(an_event("two"))))
    store.write(lambda tx: tx.record(an_event("three")))
    assert store.events() == [(1, event), (2, an_event("two")), (3, an_event("three"))]
    assert store.verify_trail() == (3, None)


def test_events_are_read_in_pages(store: Store) -> None:
    store.write(lambda tx: [tx.record(an_event(str(number))) for number in range(1, 8)])
    assert [seq for seq, _ in store.events(limit=3)] == [1, 2, 3]
    assert [(seq, event.kind) for seq, event in store.events(after=5, limit=3)] == [
        (6, "6"),
        (7, "7"),
    ]
    assert store.events(after=7) == []
    assert store.events(limit=0) == store.events(limit=-1) == []
    assert len(store.events(after=-5)) == 7
    assert store.events(after=1 << 70) == []
    assert len(store.events(limit=1 << 70)) == 7


def test_an_empty_trail_holds(store: Store) -> None:
    assert store.verify_trail() == (0, None)
    assert store.events() == []


def test_a_fact_of_a_megabyte_is_cut(store: Store) -> None:
    store.write(lambda tx: tx.record(an_event(reason="x" * 1_000_000)))
    [(_, event)] = store.events()
    assert len(event.facts["reason"]) == 4096
    assert event.facts["reason"].endswith("x[cut]")
    assert store.verify_trail() == (1, None)


def test_numbers_have_no_gaps_however_many_write_and_fail_at_once(store: Store) -> None:
    def work(worker: int) -> None:
        for number in range(20):

            def change(tx, number: int = number) -> None:
                tx.record(an_event(f"{worker}"))
                if number % 3 == 0:
                    raise Denied("every third")

            try:
                store.write(change)
            except Denied:
                assert number % 3 == 0

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = 8 * len([number for number in range(20) if number % 3])
    assert [seq for seq, _ in store.events()] == list(range(1, kept + 1))
    assert store.verify_trail() == (kept, None)


# Recordings


def record(store: Store, *sids: str, **changes: object) -> None:
    for sid in sids:
        assert store.write(lambda tx, sid=sid: tx.add_recording(a_recording(sid, **changes)))


def test_a_recording_comes_back_as_it_went_in_once(store: Store) -> None:
    recording = filled(Recording)
    assert store.write(lambda tx: tx.add_recording(recording))
    assert not store.write(lambda tx: tx.add_recording(replace(recording, user="mallory")))
    assert store.recording(recording.sid) == recording
    assert store.recordings() == [recording]
    assert store.recording("nosuch") is None


def test_a_removed_recording_is_gone(store: Store) -> None:
    record(store, "s1")
    assert store.write(lambda tx: tx.remove_recording("s1"))
    assert not store.write(lambda tx: tx.remove_recording("s1"))
    assert store.recording("s1") is None
    assert store.recordings() == []


def test_a_recording_stays_when_its_user_goes(store: Store) -> None:
    store.write(lambda tx: tx.add_user(User(name="alice", roles=())))
    record(store, "s1", user="alice")
    store.write(lambda tx: tx.remove_user("alice"))
    assert store.recording("s1") == a_recording("s1", user="alice")


def test_recordings_are_listed_from_the_latest_on(store: Store) -> None:
    for sid, minute in (("a", 1), ("c", 3), ("b", 2), ("d", 2)):
        record(store, sid, started=T0 + minute * MINUTE)
    assert [each.sid for each in store.recordings()] == ["c", "d", "b", "a"]
    assert [each.sid for each in store.recordings(limit=1)] == ["c"]
    assert store.recordings(limit=0) == store.recordings(limit=-1) == []


def test_recordings_of_a_span_or_a_user(store: Store) -> None:
    for sid, minute, user in (("a", 1, "al"), ("b", 2, "bo"), ("c", 3, "al")):
        record(store, sid, started=T0 + minute * MINUTE, user=user)

    def sids(**filters: object) -> str:
        return "".join(each.sid for each in store.recordings(**filters))  # type: ignore[arg-type]

    assert sids(since=T0 + 2 * MINUTE) == "cb"
    assert sids(until=T0 + 2 * MINUTE) == "a"
    assert sids(since=T0 + 2 * MINUTE, until=T0 + 3 * MINUTE) == "b"
    assert sids(user="al") == "ca"
    assert sids(user="al", since=T0 + 2 * MINUTE) == "c"
    assert sids(user="nobody") == ""


def test_pages_of_recordings_meet_without_a_gap(store: Store) -> None:
    for number in range(7):
        record(store, f"s{number}", started=T0 + (number // 3) * MINUTE)
    seen, last = [], None
    while page := store.recordings(before=last, until=T0 + 5 * MINUTE, limit=2):
        seen += [each.sid for each in page]
        last = page[-1]
    assert seen == ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]


def test_old_recordings_are_those_that_were_stored_early(store: Store) -> None:
    for sid, minute in (("b", 2), ("a", 1), ("c", 3)):
        record(store, sid, stored_at=T0 + minute * MINUTE)
    old = store.old_recordings(T0 + 3 * MINUTE)
    assert [each.sid for each in old] == ["a", "b"]
    assert [each.sid for each in store.old_recordings(T0 + 9 * MINUTE, limit=1)] == ["a"]


def test_the_size_of_recordings_adds_up(store: Store) -> None:
    assert store.recordings_size() == 0
    record(store, "s1", stored=5_000_000_000)
    record(store, "s2", stored=7)
    assert store.recordings_size() == 5_000_000_007
