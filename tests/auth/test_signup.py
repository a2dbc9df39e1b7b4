"""Links with which people set their password."""

import threading
from typing import Any

import pytest

from teleport_lite.auth import passwords
from teleport_lite.auth.hosts import Live
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.password import MIN_LENGTH
from teleport_lite.proto.stream import Beat, ProxyPlace
from teleport_lite.secret import Secret
from teleport_lite.testing.makers import TOKEN
from tests.auth.bench import CLUSTER, PASSWORD, PROXY_ID, Bench, Visitor, the_host

GONE = "this link was used, has expired or never existed"


def invited(bench: Bench, name: str = "alice", **words: Any) -> dict[str, Any]:
    asked = {"name": name, "roles": ["access"], "logins": ["root"], **words}
    return bench.ask("/v1/users/add", **asked)["invite"]


def reset(bench: Bench, name: str = "alice", **words: Any) -> dict[str, Any]:
    return bench.ask("/v1/users/reset", name=name, **words)["invite"]


def look(bench: Bench, token: str, source: str = "198.51.100.5") -> Any:
    return bench.ask("/v1/invite/look", bench.proxy(), token=token, source=source)


def refusal(bench: Bench, token: str, password: str = PASSWORD, **words: Any) -> Error:
    before = bench.store.password("alice")
    with pytest.raises(Error) as why:
        bench.accept(token, password, **words)
    assert bench.store.password("alice") == before
    return why.value


class Link:
    """A proxy's open stream, as far as presence looks at it."""

    def __init__(self, bench: Bench) -> None:
        bench.proxy()
        self.live = Live(
            host_id=PROXY_ID,
            boot_id="boot",
            address="10.0.0.9",
            version="1.2.3",
            push=lambda: None,
            cut=lambda why: None,
            last_beat=bench.clock.now(),
        )
        assert bench.desks.presence.arrive(self.live) is None
        self.bench = bench

    def tells(self, *public: str) -> None:
        place = ProxyPlace(address="10.0.0.9:3080", public=list(public))
        beat = Beat(time=self.bench.clock.now().timestamp(), proxy=place)
        self.bench.desks.presence.beat(self.live, beat, frozenset(), is_proxy=True)

    def leaves(self) -> None:
        self.bench.desks.presence.leave(self.live, said_goodbye=True)


# Making one


def test_a_new_user_comes_with_a_link_for_an_hour() -> None:
    bench = Bench()
    invite = invited(bench)
    assert invite == {
        "url": "",
        "proxy": "",
        "path": f"/web/invite/{invite['token']}",
        "token": invite["token"],
        "kind": "invite",
        "expires": "2026-03-02T13:00:00Z",
        "ttl_seconds": 3600,
    }
    assert len(invite["token"]) == 32
    assert invited(bench, "bob")["token"] != invite["token"]


def test_the_link_is_on_the_first_public_name_of_a_live_proxy() -> None:
    bench = Bench()
    link = Link(bench)
    link.tells("tele.example.com:3080", "other.example.com:443")
    invite = invited(bench)
    assert invite["url"] == f"https://tele.example.com:3080/web/invite/{invite['token']}"
    assert invite["proxy"] == "tele.example.com:3080"
    link.tells()  # one that nobody can be sent to
    assert invited(bench, "bob")["url"] == ""
    link.tells("tele.example.com:3080")
    link.leaves()
    assert invited(bench, "carol")["url"] == ""


def test_a_reset_works_for_eight_hours_and_takes_the_place_of_the_first_link() -> None:
    bench = Bench()
    first = invited(bench)["token"]
    again = reset(bench)
    assert (again["kind"], again["ttl_seconds"]) == ("reset", 8 * 3600)
    assert again["path"] == f"/web/reset/{again['token']}"
    assert refusal(bench, first).message == GONE
    bench.accept(again["token"])
    bench.login()


@pytest.mark.parametrize("ttl", ["0s", "49h", "soon", "-1h"])
def test_a_link_that_would_live_too_long_or_not_at_all_leaves_no_user(ttl: str) -> None:
    bench = Bench()
    with pytest.raises(Malformed, match="ttl"):
        invited(bench, ttl=ttl)
    assert bench.store.users() == []
    assert bench.events("user.create") == []


@pytest.mark.parametrize("ttl", ["0s", "25h", "soon"])
def test_so_does_one_for_a_reset(ttl: str) -> None:
    bench = Bench()
    bench.user()
    with pytest.raises(Malformed, match="ttl"):
        reset(bench, ttl=ttl)
    assert bench.store.invites() == []


def test_only_people_who_exist_get_one() -> None:
    bench = Bench()
    bench.ask("/v1/bots/add", name="deploy")
    with pytest.raises(NotFound, match="'nobody' does not exist"):
        reset(bench, "nobody")
    with pytest.raises(Malformed, match="is a bot and has no password"):
        reset(bench, "bot-deploy")
    assert bench.store.invites() == []


def test_a_user_removed_while_it_is_made_gets_none() -> None:
    bench = Bench()
    bench.user()
    alice = bench.store.user("alice")
    bench.ask("/v1/users/remove", name="alice")
    bench.store.user = lambda name: alice  # type: ignore[method-assign]  # read before
    with pytest.raises(NotFound, match="removed a moment ago"):
        reset(bench)
    assert bench.last_event("reset_password_token.create").code == "T6000E"


# Looking at one


def test_a_link_says_whose_it_is_and_can_be_looked_at_often() -> None:
    bench = Bench()
    token = invited(bench)["token"]
    for _ in range(3):
        view = look(bench, token)
        assert (view.user, view.cluster, view.kind) == ("alice", CLUSTER, "invite")
        assert (view.expires, view.min_length) == ("2026-03-02T13:00:00Z", MIN_LENGTH)
    bench.accept(token)
    assert look(bench, reset(bench)["token"]).kind == "reset"


def test_unknown_expired_used_and_removed_are_the_same() -> None:
    bench = Bench()
    used, removed, expired = (invited(bench, name)["token"] for name in ("a", "b", "c"))
    bench.accept(used)
    bench.ask("/v1/tokens/remove", token=removed)
    bench.later(hours=1)
    for token in (used, removed, expired, TOKEN, "", "x", "\u00fc" * 200):
        for ask in (look, refusal):
            try:
                why: Any = ask(bench, token)
            except NotFound as error:
                why = error
            assert (type(why), why.message, why.hint) == (
                NotFound,
                GONE,
                "an administrator makes a new one: tctl users reset",
            )
        bench.later(minutes=1)  # or the limit for guessing would speak


def test_guessing_at_links_is_limited_by_the_address_of_the_browser() -> None:
    bench = Bench()
    token = invited(bench)["token"]
    for _ in range(20):
        refusal(bench, TOKEN, source="203.0.113.1")
    why = refusal(bench, token, source="203.0.113.1")
    assert (type(why), why.message) == (
        Unavailable,
        "too many failed invitations from 203.0.113.1",
    )
    with pytest.raises(Unavailable):
        look(bench, token, source="203.0.113.1")
    bench.accept(token, source="203.0.113.2")


def test_a_host_that_is_no_proxy_may_not_ask() -> None:
    bench = Bench()
    token = invited(bench)["token"]
    bench.proxy()
    for path, words in (("look", {}), ("accept", {"password": PASSWORD})):
        with pytest.raises(Denied, match="only a host with role Proxy may do this"):
            bench.ask(
                f"/v1/invite/{path}",
                the_host(PROXY_ID, "Node"),
                token=token,
                source="203.0.113.1",
                **words,
            )


# Using one


def test_a_link_sets_the_password_once() -> None:
    bench = Bench()
    token = invited(bench)["token"]
    assert bench.accept(token) == {"user": "alice"}
    bench.login()
    assert refusal(bench, token, "another phrase 2").message == GONE
    bench.login()


def test_the_old_password_works_until_the_new_one_is_set() -> None:
    bench = Bench()
    bench.user()
    token = reset(bench)["token"]
    bench.login()
    bench.accept(token, "another phrase 2")
    with pytest.raises(Denied):
        bench.login()
    bench.login(Visitor(password="another phrase 2"))


def test_setting_a_password_ends_a_lock_out() -> None:
    bench = Bench()
    bench.user()
    token = reset(bench)["token"]
    for _ in range(5):
        with pytest.raises(Denied):
            bench.login(Visitor(password="wrong password"))
    bench.accept(token, "another phrase 2")
    bench.login(Visitor(password="another phrase 2"))


def test_a_password_that_is_not_good_enough_leaves_the_link() -> None:
    bench = Bench()
    token = invited(bench)["token"]
    why = refusal(bench, token, "short")
    assert (type(why), why.message) == (
        Malformed,
        "the password must have 12 to 128 characters, this one has 5",
    )
    event = bench.last_event("user.password_change")
    assert (event.code, event.facts["user"]) == ("T1005W", "alice")
    bench.accept(token)


def test_a_change_leaves_an_event_with_both_addresses() -> None:
    bench = Bench()
    bench.accept(invited(bench)["token"], source="203.0.113.7\nforged")
    facts = bench.last_event("user.password_change").facts
    assert facts["user"] == "alice"
    assert facts["proxy"] == f"host:{PROXY_ID}"
    assert facts["addr.remote"] == "203.0.113.7\\nforged"
    assert facts["kind"] == "invite"
    made = bench.last_event("user.create")
    assert made.code == "T1002I"


def test_neither_password_nor_token_is_left_anywhere() -> None:
    bench = Bench()
    first = invited(bench)["token"]
    refusal(bench, first, "password1234")
    bench.accept(first)
    second = reset(bench)["token"]
    bench.ask("/v1/tokens/remove", token=second)
    third = reset(bench)["token"]
    left = bench.trail_text() + repr(bench.store.invites()) + repr(bench.store.password("alice"))
    left += repr(vars(bench.desks.signup)) + repr(bench.desks.signup.live())
    for secret in (first, second, third, PASSWORD, "password1234"):
        assert secret not in left


def test_a_removed_user_takes_password_and_link_along() -> None:
    bench = Bench()
    bench.user()
    token = reset(bench)["token"]
    bench.ask("/v1/resources/remove", kind="user", name="alice")
    with pytest.raises(NotFound):
        bench.accept(token)
    bench.ask("/v1/users/add", name="alice", roles=["access"])
    with pytest.raises(Denied):
        bench.login()


def test_a_changed_user_keeps_the_password() -> None:
    bench = Bench()
    bench.user()
    bench.ask("/v1/users/update", name="alice", logins=["www"])
    assert bench.login().logins == ["www"]
    doc = {"kind": "user", "metadata": {"name": "alice"}, "spec": {"roles": ["access"]}}
    bench.ask("/v1/resources/create", resource=doc, force=True)
    bench.login()


def test_of_200_racers_with_one_link_exactly_one_sets_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    token = invited(bench)["token"]
    caller, start = bench.proxy(), threading.Barrier(200)
    won: list[str] = []
    lost: list[type[Error]] = []
    # The stretching is real elsewhere; here 200 threads are to meet at the store.
    monkeypatch.setattr(passwords, "stretch", lambda password, by: password)
    monkeypatch.setattr(bench.desks.signup, "_alone", lambda invite: threading.Lock())

    def race(racer: int) -> None:
        start.wait()
        asked = {
            "token": token,
            "password": f"phrase of racer {racer}",
            "source": f"10.1.1.{racer}",
        }
        try:
            bench.ask("/v1/invite/accept", caller, **asked)
            won.append(asked["password"])
        except Error as why:
            lost.append(type(why))

    threads = [threading.Thread(target=race, args=(racer,)) for racer in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert set(lost) == {NotFound}
    book = bench.desks.signup._passwords
    assert bench.store.password("alice").verifier == book.make("alice", Secret(won[0])).verifier  # type: ignore[union-attr]


def test_one_link_can_not_keep_auth_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    token = invited(bench)["token"]
    other = invited(bench, "bob")["token"]
    told: list[Error] = []

    def meanwhile(password: Secret, by: object) -> Secret:
        monkeypatch.setattr(passwords, "stretch", lambda password, by: password)
        told.append(refusal(bench, token))
        bench.accept(other)
        return password

    monkeypatch.setattr(passwords, "stretch", meanwhile)
    bench.accept(token)
    assert [type(why) for why in told] == [Conflict]
    assert told[0].message == "this link is being used just now"


# Beside join tokens


def test_links_are_listed_with_the_tokens_by_what_ends_first() -> None:
    bench = Bench()
    bench.desks.tokens.add_static(("Node",), Secret("static-token-of-config"))
    bench.token(text="join-token-1", ttl="2h")
    token = invited(bench)["token"]
    found = bench.ask("/v1/tokens/list")["tokens"]
    assert [each["token"] for each in found] == [token, "join-token-1", "static-token-of-config"]
    assert found[0]["roles"] == ["Signup"]
    assert (found[0]["user"], found[0]["once"], found[0]["created_by"]) == (
        "alice",
        True,
        "admin:root",
    )
    bench.later(hours=1)
    assert len(bench.ask("/v1/tokens/list")["tokens"]) == 2


def test_a_link_is_removed_by_its_value_or_a_beginning_of_it() -> None:
    bench = Bench()
    for name, cut in (("alice", 32), ("bob", 8)):
        token = invited(bench, name)["token"]
        assert bench.ask("/v1/tokens/remove", token=token[:cut]) == {"token": token}
    assert bench.store.invites() == []
    assert [each.code for each in bench.events("reset_password_token.delete")] == ["T6001I"] * 2


def test_a_beginning_that_a_link_and_a_token_share_removes_neither() -> None:
    bench = Bench()
    token = invited(bench)["token"]
    bench.token(text=f"{token[:4]}-join-token")
    with pytest.raises(Malformed, match="2 tokens begin like this"):
        bench.ask("/v1/tokens/remove", token=token[:4])
    bench.token(text=token[:12])  # a whole token, though a link begins with it
    assert bench.ask("/v1/tokens/remove", token=token[:12]) == {"token": token[:12]}
    assert bench.ask("/v1/tokens/remove", token=token[:5])["token"]


def test_a_link_that_goes_while_it_is_removed_says_so() -> None:
    bench = Bench()
    token = invited(bench)["token"]
    live = bench.desks.signup.live()
    bench.accept(token)
    bench.desks.signup.live = lambda: live  # type: ignore[method-assign]  # read before
    with pytest.raises(NotFound, match="removed or used a moment ago"):
        bench.ask("/v1/tokens/remove", token=token)


# Which door a host is sent to


@pytest.mark.parametrize(
    ("auth", "proxy", "door"),
    [
        ("auth.example:3025", "tele.example.com:3080", "auth_server"),
        ("127.0.0.1:3025", "tele.example.com:3080", "proxy_server"),
        ("[::1]:3025", "tele.example.com:3080", "proxy_server"),
        ("localhost:3025", "tele.example.com:3080", "proxy_server"),
        ("127.0.0.1:3025", "", "auth_server"),
        ("10.0.0.5:3025", "", "auth_server"),
    ],
)
def test_hosts_are_sent_to_auth_unless_only_a_proxy_can_be_reached(
    auth: str, proxy: str, door: str
) -> None:
    bench = Bench(auth_address=auth)
    if proxy:
        Link(bench).tells(proxy)
    for path, words in (("tokens", {"types": "node"}), ("bots", {"name": "deploy"})):
        made = bench.ask(f"/v1/{path}/add", **words)
        assert (made["auth_server"], made["proxy_server"], made["door"]) == (auth, proxy, door)
