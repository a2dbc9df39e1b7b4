"""Logging in with a password, from the auth role's side."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from teleport_lite.errors import Conflict, Denied, Error, Malformed, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.user import Condition, Options, Role
from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key
from teleport_lite.pki.ssh_cert import read_ssh_cert
from teleport_lite.pki.verify import peer_identity, ssh_blob
from teleport_lite.proto.resource import read_moment
from teleport_lite.secret import Secret
from tests.auth.bench import CLUSTER, OURS, PASSWORD, ROOT, Bench, Visitor, stranger
from tests.auth.meanwhile import before_writing
from tests.store.makers import open_file


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.user()
    return made


def refusal(bench: Bench, who: Visitor) -> Error:
    with pytest.raises(Error) as why:
        bench.login(who)
    return why.value


def words(why: Error) -> tuple[Any, ...]:
    return type(why), why.message, why.hint


def a_role(bench: Bench, name: str = "strict", **parts: Any) -> None:
    bench.store.write(lambda tx: tx.add_role(Role(name=name, **parts)))


# Getting in


def test_the_right_password_gets_certificates_for_what_the_roles_allow(bench: Bench) -> None:
    welcome = bench.login()
    assert (welcome.user, welcome.cluster) == ("alice", CLUSTER)
    assert (welcome.roles, welcome.logins) == (["access"], ["root"])
    assert welcome.traits == {"logins": ["root"]}
    assert welcome.ssh_host_cas
    cert = read_ssh_cert(ssh_blob(welcome.ssh_cert))
    assert (cert.key_id, cert.principals) == (b"alice", (b"root",))
    ends = bench.clock.now() + timedelta(hours=12)
    assert cert.valid_before == int(ends.timestamp())
    assert read_moment(welcome.expires, "expires") == ends
    der = x509.load_pem_x509_certificate(welcome.tls_cert.encode())
    assert der.not_valid_after_utc == ends


def test_the_certificate_is_one_that_auth_knows_again(bench: Bench) -> None:
    welcome = bench.login()
    shown = peer_identity(
        x509.load_pem_x509_certificate(welcome.tls_cert.encode()).public_bytes(Encoding.DER),
        host_cas=bench.desks.cas.tls(CaType.HOST),
        user_cas=bench.desks.cas.tls(CaType.USER),
        now=bench.clock.now(),
    )
    assert (shown.kind, shown.name, shown.roles) == ("user", "alice", ("access",))


def test_a_shorter_life_is_given_and_a_longer_one_cut_by_the_role(bench: Bench) -> None:
    a_role(bench, options=Options(max_session_ttl=timedelta(hours=2)))
    assert life(bench, bench.login(Visitor(ttl="10m"))) == timedelta(minutes=10)
    assert life(bench, bench.login(Visitor(ttl="99h"))) == timedelta(hours=30)
    bench.ask("/v1/users/update", name="alice", roles=["access", "strict"])
    assert life(bench, bench.login(Visitor(ttl="99h"))) == timedelta(hours=2)
    assert life(bench, bench.login()) == timedelta(hours=2)


def life(bench: Bench, welcome: Any) -> timedelta:
    return read_moment(welcome.expires, "expires") - bench.clock.now()


def test_without_roles_or_logins_one_logs_in_and_may_go_nowhere(bench: Bench) -> None:
    bench.user("bob", roles=[], logins=[])
    welcome = bench.login(Visitor("bob"))
    assert (welcome.roles, welcome.logins) == ([], [])
    [principal] = read_ssh_cert(ssh_blob(welcome.ssh_cert)).principals
    assert principal.startswith(b"no-login-")


def test_a_role_that_pins_gives_a_certificate_for_this_address_alone(bench: Bench) -> None:
    a_role(bench, options=Options(pin_source_ip=True))
    bench.ask("/v1/users/update", name="alice", roles=["strict"])
    for address, pinned in (
        ("192.0.2.7", b"192.0.2.7"),
        ("::ffff:192.0.2.7", b"192.0.2.7"),
        ("2001:db8::7", b"2001:db8::7"),
    ):
        welcome = bench.login(Visitor(address=address))
        cert = read_ssh_cert(ssh_blob(welcome.ssh_cert))
        assert pinned in dict(cert.critical)[b"source-address"]


def test_a_password_may_hold_any_character_and_is_typed_on_any_keyboard() -> None:
    bench = Bench()
    bench.user(password="p\u00e4sswort \u6f22\u5b57 \U0001f600 drei")
    bench.login(Visitor(password="pa\u0308sswort \u6f22\u5b57 \U0001f600 drei"))


def test_a_login_leaves_an_event_with_who_and_from_where(bench: Bench) -> None:
    bench.login()
    event = bench.last_event("user.login")
    assert (event.code, event.outcome) == ("T1000I", "ok")
    assert event.facts == {
        "user": "alice",
        "method": "local",
        "addr.remote": "192.0.2.7",
        "expires": "2026-03-03T00:00:00Z",
    }


# Not getting in


def test_wrong_unknown_unset_and_bot_look_the_same_outside_and_not_in_the_trail() -> None:
    bench = Bench()
    bench.user()
    bench.ask("/v1/users/add", name="bob", roles=["access"])  # has set none yet
    bench.ask("/v1/bots/add", name="deploy")
    told = {}
    for name in ("alice", "bob", "nobody", "bot-deploy"):
        why = refusal(bench, Visitor(name, "wrong password"))
        event = bench.last_event("user.login")
        told[name] = (event.code, event.outcome, event.facts["user"], event.facts["reason"])
        assert words(why) == (
            Denied,
            "wrong user name or password",
            "an administrator makes a link for a new one: tctl users reset",
        )
    assert told == {
        "alice": ("T1000W", "denied", "alice", "wrong password"),
        "bob": ("T1000W", "denied", "bob", "wrong password"),
        "nobody": ("T1000W", "denied", "(unknown)", "no such user"),
        "bot-deploy": ("T1000W", "denied", "bot-deploy", "wrong password"),
    }


def test_a_name_gets_the_same_salts_before_with_and_after_a_password() -> None:
    """And after auth has started again. Else asking twice would tell who is new, or changed it."""
    bench = Bench()
    seen = []

    def look(desks: Any = bench.desks) -> None:
        challenge = desks.logins.start(stranger(), Visitor().first(bench.clock.now().timestamp()))
        scram_salt = challenge.server_first.split(",")[1]
        seen.append((challenge.stretch, scram_salt, challenge.server_first.split(",")[2]))

    look()
    bench.ask("/v1/users/add", name="alice", roles=["access"])
    look()
    bench.accept(bench.ask("/v1/users/reset", name="alice")["invite"]["token"])
    look()
    bench.accept(bench.ask("/v1/users/reset", name="alice")["invite"]["token"], "another phrase 2")
    look()
    look(Bench(store=bench.store, clock=bench.clock, seed="restarted").desks)
    bench.ask("/v1/users/remove", name="alice")
    look()
    assert len({repr(each) for each in seen}) == 1


def test_two_names_have_two_salts(bench: Bench) -> None:
    salts = {bench.challenge(Visitor(name)).stretch.salt for name in ("alice", "bob", "Alice")}
    assert len(salts) == 3


class Counting:
    """A store that notes which questions it is asked."""

    def __init__(self, store: Any) -> None:
        self._store, self.asked = store, []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def ask(*args: Any, **words: Any) -> Any:
            answer = found(*args, **words)
            # Reading a password takes longer than finding that there is none.
            self.asked.append((name, answer is None) if name == "password" else name)
            return answer

        return ask


def test_the_store_is_asked_the_same_for_a_name_that_exists_and_one_that_does_not() -> None:
    """The same work, so that the time it takes tells nothing either."""
    store: Any = Counting(Bench().store)
    bench = Bench(store=store)
    bench.user()
    bench.ask("/v1/users/add", name="bob", roles=["access"])
    work = []
    bench.login()
    for name in ("alice", "bob", "nobody"):
        for _ in range(5):  # with the fifth, which locks
            store.asked.clear()
            refusal(bench, Visitor(name, "wrong password"))
        work.append(tuple(sorted(store.asked, key=repr)))
        refusal(bench, Visitor(name, "wrong password"))
    assert len(set(work)) == 1, work
    assert {("password", True), ("password", False)} <= set(work[0])


def test_a_password_typed_as_a_name_stays_out_of_the_trail(bench: Bench) -> None:
    refusal(bench, Visitor("correct-horse-staple", "x"))
    assert "correct-horse-staple" not in bench.trail_text()


def test_neither_password_nor_proof_nor_key_is_left_anywhere(bench: Bench) -> None:
    who = Visitor()
    last = who.last(bench.challenge(who))
    bench.desks.logins.finish(who.caller, last)
    refusal(bench, Visitor(password="Tr0ub4dor-and-3"))
    kept = bench.store.password("alice")
    left = bench.trail_text() + repr(bench.desks.logins) + repr(vars(bench.desks.logins))
    for secret in (PASSWORD, "Tr0ub4dor-and-3", last.client_final):
        assert secret not in left
        assert secret not in repr(kept)


def test_a_connection_that_somebody_else_terminates_proves_nothing(bench: Bench) -> None:
    """The hijacker relays everything, with a certificate of its own."""
    why = refusal(bench, Visitor(sees=b"the certificate of the hijacker"))
    assert isinstance(why, Denied)


def test_a_proof_works_once(bench: Bench) -> None:
    who = Visitor()
    last = who.last(bench.challenge(who))
    bench.desks.logins.finish(who.caller, last)
    with pytest.raises(Denied, match="the login was not finished in time"):
        bench.desks.logins.finish(who.caller, last)


def test_half_a_login_is_forgotten_after_half_a_minute(bench: Bench) -> None:
    who = Visitor()
    last = who.last(bench.challenge(who))
    bench.later(seconds=31)
    with pytest.raises(Denied, match="not finished in time"):
        bench.desks.logins.finish(who.caller, last)


@pytest.mark.parametrize("skew", [121, -121, 86_400, 1e300, -1e300])
def test_a_wrong_clock_is_told_before_anything_is_proved(bench: Bench, skew: float) -> None:
    asked = Visitor().first(bench.clock.now().timestamp() + skew)
    with pytest.raises(Denied, match=r"the clock here is .* the auth server's") as why:
        bench.desks.logins.start(stranger(), asked)
    assert "timedatectl" in why.value.hint
    bench.desks.logins.start(stranger(), Visitor().first(bench.clock.now().timestamp() + 119))


def test_over_the_socket_there_is_nothing_to_bind_a_proof_to(bench: Bench) -> None:
    with pytest.raises(Malformed, match="needs TLS"):
        bench.desks.logins.start(ROOT, Visitor().first(bench.clock.now().timestamp()))


@pytest.mark.parametrize("first", ["", "n,,n=alice,r=abc", "p=tls-unique,,n=alice,r=a", "x" * 9999])
def test_what_is_not_our_scram_is_malformed(bench: Bench, first: str) -> None:
    now = bench.clock.now().timestamp()
    with pytest.raises(Malformed, match="not a SCRAM message"):
        bench.ask("/v1/login/start", stranger(), client_first=first, time=now)


@pytest.mark.parametrize(("target", "value"), [("user", "alice"), ("role", "access")])
def test_who_is_locked_is_told_so_once_the_password_was_right(
    bench: Bench, target: str, value: str
) -> None:
    bench.ask("/v1/locks/add", target=target, value=value, message="on leave")
    wrong = refusal(bench, Visitor(password="wrong password"))
    assert wrong.message == "wrong user name or password"
    why = refusal(bench, Visitor())
    assert (type(why), why.message) == (Denied, f"{target} {value} is locked: on leave")
    assert bench.last_event("user.login").code == "T1000W"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"ttl": "soon"}, "ttl"),
        ({"ttl": "0s"}, "ttl"),
        ({"ttl": "1ms"}, "ttl"),
        ({"ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "private key"),
        ({"ssh_key": ""}, "is not a line"),
        ({"tls_csr": "not PEM"}, ""),
    ],
)
def test_what_can_not_be_signed_is_refused_and_recorded(
    bench: Bench, changes: dict[str, str], cause: str
) -> None:
    why = refusal(bench, Visitor(changes=changes))
    assert isinstance(why, Malformed)
    assert cause in why.message
    event = bench.last_event("user.login")
    assert (event.code, event.facts["user"]) == ("T1000W", "alice")


def test_more_than_fits_into_a_certificate_is_no_crash() -> None:
    bench = Bench()
    bench.user(logins=[f"login-{n}" for n in range(300)])
    assert "at most 256 logins" in refusal(bench, Visitor()).message


# Between the two halves


def half(bench: Bench, who: Visitor) -> Any:
    return who.last(bench.challenge(who))


def test_a_user_who_is_removed_meanwhile_is_not_let_in(bench: Bench) -> None:
    who = Visitor()
    last = half(bench, who)
    bench.ask("/v1/users/remove", name="alice")
    with pytest.raises(Denied, match="wrong user name or password"):
        bench.desks.logins.finish(who.caller, last)


def test_a_user_who_is_removed_at_the_last_moment_gets_no_certificate(bench: Bench) -> None:
    who = Visitor()
    last = half(bench, who)
    alice, kept = bench.store.user("alice"), bench.store.password("alice")
    bench.ask("/v1/users/remove", name="alice")
    bench.store.user = lambda name: alice  # type: ignore[method-assign]  # read before
    bench.store.password = lambda name: kept  # type: ignore[method-assign]
    with pytest.raises(Denied, match="wrong user name or password"):
        bench.desks.logins.finish(who.caller, last)
    assert bench.last_event("user.login").facts["reason"] == "the user was removed a moment ago"


def test_roles_that_are_taken_away_at_the_last_moment_get_into_no_certificate(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = lambda: bench.ask("/v1/users/update", name="alice", roles=["auditor"])  # noqa: E731
    before_writing(monkeypatch, bench.store, take)
    with pytest.raises(Conflict, match="user alice was changed a moment ago"):
        bench.login()
    assert bench.last_event("user.login").outcome == "conflict"
    assert bench.login().roles == ["auditor"]


def test_a_password_that_is_replaced_at_the_last_moment_lets_nobody_in(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.later(minutes=1)
    token = bench.ask("/v1/users/reset", name="alice")["invite"]["token"]
    before_writing(monkeypatch, bench.store, lambda: bench.accept(token, "another phrase 2"))
    with pytest.raises(Denied, match="wrong user name or password"):
        bench.login()
    assert "changed a moment ago" in bench.last_event("user.login").facts["reason"]


def test_a_proof_of_the_old_password_ends_with_it(bench: Bench) -> None:
    who = Visitor()
    last = half(bench, who)
    token = bench.ask("/v1/users/reset", name="alice")["invite"]["token"]
    bench.accept(token, "another phrase 2")
    with pytest.raises(Denied, match="wrong user name or password"):
        bench.desks.logins.finish(who.caller, last)
    assert "changed a moment ago" in bench.last_event("user.login").facts["reason"]


def test_a_crash_while_signing_is_recorded_and_gives_nothing(bench: Bench) -> None:
    def crash(plan: object) -> None:
        raise ZeroDivisionError

    bench.desks.logins._issuer.sign = crash  # type: ignore[assignment,method-assign]
    with pytest.raises(ZeroDivisionError):
        bench.login()
    assert [event.code for event in bench.events("user.login")] == ["T1000I", "T1000W"]


# Guessing

NOISE = {"session": "x", "client_final": "c=x,r=x,p=x", "ssh_key": "x", "tls_csr": "x"}


def test_an_address_may_fail_twenty_times_whatever_the_names(bench: Bench) -> None:
    for number in range(20):
        session = bench.challenge(Visitor(f"name-{number}")).session
        with pytest.raises(Denied, match="wrong user name or password"):
            bench.ask("/v1/login/finish", stranger(), **(NOISE | {"session": session}))
    why = refusal(bench, Visitor())
    assert isinstance(why, Unavailable)
    assert why.message == "too many failed logins from 192.0.2.7"
    bench.login(Visitor(address="192.0.2.8"))


def test_making_noise_in_the_trail_is_limited_too(bench: Bench) -> None:
    for _ in range(20):
        with pytest.raises(Denied, match="not finished in time"):
            bench.ask("/v1/login/finish", stranger(), **NOISE)
    with pytest.raises(Unavailable):
        bench.ask("/v1/login/finish", stranger(), **NOISE)
    assert len(bench.events("user.login")) == 20


def test_five_wrong_passwords_lock_the_user_for_half_an_hour(bench: Bench) -> None:
    for _ in range(5):
        refusal(bench, Visitor(password="wrong password"))
    why = refusal(bench, Visitor())
    assert words(why) == (
        Denied,
        "5 wrong passwords in a row: login of alice is locked for 30 minutes more",
        "wait, or ask an administrator: tctl users unlock alice",
    )
    event = bench.last_event("user.lockout")
    assert (event.code, event.facts["user"], event.facts["known_source"]) == (
        "T1000E",
        "alice",
        "no",
    )
    bench.later(minutes=29, seconds=30)
    assert "locked for 1 minute more" in refusal(bench, Visitor()).message
    bench.later(seconds=31)
    bench.login()


def test_a_lock_out_holds_for_a_login_that_was_begun_before_it(bench: Bench) -> None:
    who = Visitor()
    begun = half(bench, who)
    for _ in range(5):
        refusal(bench, Visitor(password="wrong password"))
    with pytest.raises(Denied, match="is locked for"):
        bench.desks.logins.finish(who.caller, begun)


def test_a_hundred_guesses_begun_at_once_are_five(bench: Bench) -> None:
    visitors = [Visitor(password=f"guess {n % 2}", address=f"10.0.{n}.1") for n in range(30)]
    begun = [(who, half(bench, who)) for who in visitors]
    told = []
    for who, last in begun:
        with pytest.raises(Denied) as why:
            bench.desks.logins.finish(who.caller, last)
        told.append("locked" in why.value.message)
    assert told == [False] * 5 + [True] * 25


def test_a_lock_out_at_one_auth_server_holds_at_the_other_and_after_a_restart(
    bench: Bench,
) -> None:
    other = Bench(store=bench.store, clock=bench.clock, seed="other")
    for number in range(5):
        refusal((bench, other)[number % 2], Visitor(password="wrong password"))
    assert len(bench.events("user.lockout")) == 1
    for each in (bench, other, Bench(store=bench.store, clock=bench.clock, seed="restarted")):
        assert "is locked for 30 minutes" in refusal(each, Visitor()).message
    other.ask("/v1/users/unlock", name="alice")
    bench.login()


def test_a_right_password_is_one_change_of_the_store() -> None:
    store: Any = Counting(Bench().store)
    bench = Bench(store=store)
    bench.user()
    refusal(bench, Visitor(password="wrong password"))
    store.asked.clear()
    bench.login()
    assert store.asked.count("write") == 1
    assert bench.store.guesses() == []


def test_strangers_do_not_lock_alice_out_where_she_logs_in_from(bench: Bench) -> None:
    bench.login(Visitor(address="198.51.100.1"))
    for number in range(5):
        refusal(bench, Visitor(password="wrong password", address=f"203.0.113.{number}"))
    assert "is locked" in refusal(bench, Visitor(address="203.0.113.99")).message
    bench.login(Visitor(address="198.51.100.1"))
    assert "is locked" in refusal(bench, Visitor(address="203.0.113.99")).message


def test_where_she_logs_in_from_is_known_after_a_restart_too(bench: Bench) -> None:
    bench.login(Visitor(address="198.51.100.1"))
    again = Bench(store=bench.store, clock=bench.clock, seed="restarted")
    for number in range(5):
        refusal(again, Visitor(password="wrong password", address=f"203.0.113.{number}"))
    again.login(Visitor(address="198.51.100.1"))


def test_guessing_from_her_own_network_locks_that_network_alone(bench: Bench) -> None:
    bench.login(Visitor(address="198.51.100.1"))
    for _ in range(5):
        refusal(bench, Visitor(password="wrong password", address="198.51.100.1"))
    assert "is locked" in refusal(bench, Visitor(address="198.51.100.1")).message
    assert bench.last_event("user.lockout").facts["known_source"] == "yes"
    bench.login(Visitor(address="198.51.100.2"))


def test_the_right_password_ends_the_row(bench: Bench) -> None:
    for _ in range(3):
        for _ in range(4):
            refusal(bench, Visitor(password="wrong password"))
        bench.login()


def test_a_name_that_nobody_has_is_locked_like_any_other(bench: Bench) -> None:
    told = []
    for name in ("alice", "nobody"):
        for number in range(5):
            refusal(bench, Visitor(name, "wrong password", address=f"10.{len(name)}.0.{number}"))
        told.append(words(refusal(bench, Visitor(name, address="10.1.2.3"))))
    assert told[0] == tuple(
        each.replace("nobody", "alice") if isinstance(each, str) else each for each in told[1]
    )
    assert bench.last_event("user.lockout").facts["user"] == "(unknown)"


@pytest.mark.parametrize("path", ["/v1/users/unlock", "/v1/users/reset"])
def test_an_administrator_ends_a_lock_out(bench: Bench, path: str) -> None:
    for _ in range(5):
        refusal(bench, Visitor(password="wrong password"))
    [alice] = bench.ask("/v1/users/list")["users"]
    assert alice["locked_seconds"] == 1800
    bench.ask(path, name="alice")
    bench.login()
    [alice] = bench.ask("/v1/users/list")["users"]
    assert alice["locked_seconds"] == 0


def test_unlocking_is_recorded_and_needs_somebody_who_exists(bench: Bench) -> None:
    assert bench.ask("/v1/users/unlock", name="alice") == {"name": "alice", "locked": False}
    event = bench.last_event("user.unlock")
    assert (event.code, event.facts["user"], event.facts["locked"]) == (
        "T1007I",
        "admin:root",
        "no",
    )
    with pytest.raises(Error, match="does not exist"):
        bench.ask("/v1/users/unlock", name="nobody")


def test_users_links_and_passwords_are_there_after_a_restart(tmp_path: Path) -> None:
    """With the store that people use."""
    bench = Bench(store=open_file(tmp_path))
    bench.user()
    bench.login(Visitor(address="198.51.100.1"))
    link = bench.ask("/v1/users/reset", name="alice")["invite"]["token"]
    before = bench.challenge(Visitor()).stretch
    bench.store.close()
    again = Bench(store=open_file(tmp_path), clock=bench.clock, seed="restarted")
    assert again.challenge(Visitor()).stretch == before
    again.login()
    again.accept(link, "another phrase 2")
    again.login(Visitor(password="another phrase 2"))
    assert again.store.login_sources("alice") == {"198.51.100.1", "192.0.2.7"}
    for file in tmp_path.rglob("*"):
        raw = file.read_bytes() if file.is_file() else b""
        assert not [each for each in (link, PASSWORD, "another phrase 2") if each.encode() in raw]
    again.store.close()


# A role of other people's making


def test_a_role_that_is_gone_gives_nothing(bench: Bench) -> None:
    a_role(bench, allow=Condition(logins=("deploy",)))
    bench.ask("/v1/users/update", name="alice", roles=["strict"])
    bench.store.write(lambda tx: tx.remove_role("strict"))
    assert bench.login().logins == []


def test_the_keys_that_are_signed_are_those_that_were_sent(bench: Bench) -> None:
    key = new_ssh_key()[1]
    request = csr(new_tls_key(), "somebody else")
    welcome = bench.login(Visitor(changes={"ssh_key": key, "tls_csr": request}))
    cert = read_ssh_cert(ssh_blob(welcome.ssh_cert))
    assert cert.key_id == b"alice"
    names = x509.load_pem_x509_certificate(welcome.tls_cert.encode()).subject
    assert "somebody else" not in names.rfc4514_string()
    assert OURS not in welcome.tls_cert.encode()
    assert Secret(PASSWORD).reveal() not in repr(welcome)
