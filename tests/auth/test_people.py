"""Users and bots: who they are, and their certificates."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound
from teleport_lite.model.user import User
from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key
from teleport_lite.pki.ssh_cert import read_ssh_cert
from teleport_lite.pki.verify import ssh_blob
from teleport_lite.proto.join import Renew, token_name
from teleport_lite.proto.resource import read_moment
from teleport_lite.secret import Secret
from tests.auth.bench import Applicant, Bench
from tests.auth.meanwhile import before_writing


def a_request(**words: Any) -> dict[str, Any]:
    return {
        "user": "alice",
        "ssh_key": new_ssh_key()[1],
        "tls_csr": csr(new_tls_key(), "alice"),
        **words,
    }


def with_alice(**words: Any) -> Bench:
    bench = Bench()
    bench.ask(
        "/v1/users/add", **{"name": "alice", "roles": ["access"], "logins": ["root"], **words}
    )
    return bench


def a_role(bench: Bench, name: str = "strict", options: dict[str, Any] | None = None, **spec: Any):
    doc = {"kind": "role", "metadata": {"name": name}, "spec": {"options": options or {}, **spec}}
    bench.ask("/v1/resources/create", resource=doc)


def refusal(bench: Bench, path: str, **words: Any) -> Error:
    users = bench.store.users()
    with pytest.raises(Error) as why:
        bench.ask(path, **words)
    assert bench.store.users() == users
    return why.value


# Users


def test_a_user_is_added_listed_changed_and_removed() -> None:
    bench = with_alice()
    [alice] = bench.ask("/v1/users/list")["users"]
    assert alice == {
        "name": "alice",
        "roles": ["access"],
        "logins": ["root"],
        "created_at": "2026-03-02T12:00:00Z",
        "password": False,
        "invited_until": "2026-03-02T13:00:00Z",
        "locked_seconds": 0,
    }
    bench.later(hours=1)
    bench.ask("/v1/users/update", name="alice", roles=["auditor"])
    [alice] = bench.ask("/v1/users/list")["users"]
    assert (alice["roles"], alice["logins"]) == (["auditor"], ["root"])
    assert alice["created_at"] == "2026-03-02T12:00:00Z"
    bench.ask("/v1/users/update", name="alice", logins=["www"])
    assert bench.store.user("alice").logins == ("www",)  # type: ignore[union-attr]
    bench.ask("/v1/users/remove", name="alice")
    assert bench.ask("/v1/users/list") == {"users": []}
    kinds = [event.kind for event in bench.events() if event.kind.startswith("user.")]
    assert kinds == ["user.create", "user.update", "user.update", "user.delete"]


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a\n", "*", "x" * 129, "bot-deploy"])
def test_such_a_name_is_refused(name: str) -> None:
    assert isinstance(refusal(Bench(), "/v1/users/add", name=name, roles=["access"]), Malformed)


@pytest.mark.parametrize("login", ["", "deploy,root", "*", "-x", "a b", "x" * 33])
def test_such_a_login_is_refused(login: str) -> None:
    why = refusal(Bench(), "/v1/users/add", name="a", roles=["access"], logins=[login])
    assert isinstance(why, Malformed)
    assert "login" in why.message


@pytest.mark.parametrize("path", ["/v1/users/add", "/v1/users/update"])
def test_a_role_that_does_not_exist_is_refused(path: str) -> None:
    bench = with_alice() if "update" in path else Bench()
    why = refusal(bench, path, name="alice", roles=["access", "nosuch"])
    assert (type(why), why.message) == (NotFound, "role 'nosuch' does not exist")


def test_a_name_is_taken_once() -> None:
    bench = with_alice()
    assert isinstance(refusal(bench, "/v1/users/add", name="alice", roles=["editor"]), Conflict)
    assert bench.last_event("user.create").code == "T1002E"


@pytest.mark.parametrize("path", ["/v1/users/update", "/v1/users/remove"])
def test_a_user_that_does_not_exist_cannot_be_changed(path: str) -> None:
    why = refusal(Bench(), path, name="nobody")
    assert (type(why), why.hint) == (NotFound, "tctl users ls")


def test_changing_who_was_removed_meanwhile_does_not_bring_them_back() -> None:
    bench = with_alice()
    alice = bench.store.user("alice")
    bench.ask("/v1/users/remove", name="alice")
    bench.store.user = lambda name: alice  # type: ignore[method-assign]  # read before
    for path in ("/v1/users/update", "/v1/users/remove"):
        assert "a moment ago" in refusal(bench, path, name="alice").message


def test_of_two_who_change_a_user_at_once_none_undoes_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = with_alice()
    demote = lambda: bench.ask("/v1/users/update", name="alice", roles=["auditor"])  # noqa: E731
    before_writing(monkeypatch, bench.store, demote)
    answer = bench.ask("/v1/users/update", name="alice", logins=["www"])
    alice = bench.store.user("alice")
    assert alice is not None
    assert (alice.roles, alice.logins) == (("auditor",), ("www",))
    assert answer["user"]["spec"]["roles"] == ["auditor"]
    assert bench.last_event("user.update").facts["roles"] == "auditor"


def test_what_a_change_does_not_name_stays() -> None:
    bench = Bench()
    kept = User(
        name="bot-x",
        roles=("access",),
        traits={"logins": ("a",), "team": ("db",)},
        bot=True,
        generation=7,
    )
    bench.store.write(lambda tx: tx.add_user(kept))
    bench.ask("/v1/users/update", name="bot-x", logins=["b"])
    found = bench.store.user("bot-x")
    assert found is not None
    assert (found.bot, found.generation) == (True, 7)
    assert found.traits == {"logins": ("b",), "team": ("db",)}


# Certificates


def test_a_certificate_names_the_user_and_its_logins_and_ends_in_time() -> None:
    bench = with_alice()
    parcel = bench.ask("/v1/auth/sign", **a_request(ttl="2h"))
    cert = read_ssh_cert(ssh_blob(parcel["ssh_cert"]))
    assert (cert.key_id, cert.principals) == (b"alice", (b"root",))
    ends = bench.clock.now() + timedelta(hours=2)
    assert cert.valid_before == int(ends.timestamp())
    assert read_moment(parcel["expires"], "expires") == ends
    leaf = x509.load_pem_x509_certificate(parcel["tls_cert"].encode())
    assert leaf.not_valid_after_utc == ends
    assert set(parcel) >= {"host_cas", "ssh_host_cas", "user_cas", "ssh_user_cas", "cluster"}
    event = bench.last_event("cert.create")
    assert (event.code, event.facts["name"]) == ("TC000I", "alice")


def test_no_certificate_lives_longer_than_the_roles_allow() -> None:
    bench = Bench()
    a_role(bench, options={"max_session_ttl": "1h"})
    a_role(bench, "endless", options={"max_session_ttl": "900h"})
    for roles, ttl, hours in (["access", "strict"], "12h", 1), (["endless"], "800h", 30):
        name = f"user-{hours}"
        bench.ask("/v1/users/add", name=name, roles=roles)
        parcel = bench.ask("/v1/auth/sign", **a_request(user=name, ttl=ttl))
        ends = bench.clock.now() + timedelta(hours=hours)
        assert read_moment(parcel["expires"], "expires") == ends


def test_a_user_without_logins_gets_a_principal_that_nobody_is() -> None:
    bench = with_alice(logins=[])
    parcel = bench.ask("/v1/auth/sign", **a_request())
    [principal] = read_ssh_cert(ssh_blob(parcel["ssh_cert"])).principals
    assert principal.startswith(b"no-login-")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ({"user": "nobody"}, "user 'nobody' does not exist"),
        ({"ttl": "0s"}, "ttl must be longer than nothing"),
        ({"ttl": "-1h"}, "ttl '-1h' is not a length of time"),
        ({"ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "is a private key"),
        ({"ssh_key": ""}, "is not a line"),
        ({"tls_csr": "-----BEGIN PRIVATE KEY-----"}, "holds a private key"),
    ],
)
def test_what_cannot_be_signed_is_refused(words: dict[str, str], cause: str) -> None:
    assert cause in refusal(with_alice(), "/v1/auth/sign", **a_request(**words)).message


@pytest.mark.parametrize(("target", "value"), [("user", "alice"), ("role", "access")])
def test_who_is_locked_gets_no_certificate(target: str, value: str) -> None:
    bench = with_alice()
    bench.ask("/v1/locks/add", target=target, value=value, message="gone")
    why = refusal(bench, "/v1/auth/sign", **a_request())
    assert (type(why), why.message) == (Denied, f"{target} {value} is locked: gone")
    assert bench.last_event("cert.create").outcome == "denied"


def test_a_role_that_pins_an_address_cannot_be_met_here_and_says_so() -> None:
    bench = Bench()
    a_role(bench, options={"pin_source_ip": True})
    bench.ask("/v1/users/add", name="alice", roles=["strict"])
    why = refusal(bench, "/v1/auth/sign", **a_request())
    assert isinstance(why, Malformed)
    assert "pins alice to an address" in why.message


def test_more_than_fits_into_a_certificate_is_no_crash() -> None:
    bench = with_alice(logins=[f"login-{n}" for n in range(300)])
    why = refusal(bench, "/v1/auth/sign", **a_request())
    assert "at most 256 logins" in why.message


def test_a_role_that_is_gone_gives_nothing() -> None:
    bench = Bench()
    a_role(bench, allow={"logins": ["deploy"]})
    bench.ask("/v1/users/add", name="alice", roles=["strict"])
    bench.store.write(lambda tx: tx.remove_role("strict"))
    parcel = bench.ask("/v1/auth/sign", **a_request())
    [principal] = read_ssh_cert(ssh_blob(parcel["ssh_cert"])).principals
    assert principal.startswith(b"no-login-")


# Bots


def test_a_bot_is_a_user_of_its_own_with_a_token_for_one_machine() -> None:
    bench = Bench()
    made = bench.ask("/v1/bots/add", name="deploy", roles=["access"], logins=["www"])
    assert (made["bot"], made["user"], made["roles"]) == ("deploy", "bot-deploy", ["Bot"])
    assert (made["uses"], made["ttl_minutes"]) == ("once", 60)
    assert bench.ask("/v1/users/list") == {"users": []}
    [bot] = bench.ask("/v1/bots/list")["bots"]
    assert (bot["name"], bot["logins"]) == ("bot-deploy", ["www"])
    welcome = bench.join(Applicant(made["token"], roles=("Bot",)))
    cert = read_ssh_cert(ssh_blob(welcome.ssh_cert))
    assert (cert.key_id, cert.principals) == (b"bot-deploy", (b"www",))
    bench.ask("/v1/bots/remove", name="deploy")
    assert bench.ask("/v1/bots/list") == {"bots": []}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ({"name": "a b"}, Malformed),
        ({"name": ""}, Malformed),
        ({"name": "deploy", "roles": ["nosuch"]}, NotFound),
        ({"name": "deploy", "logins": ["*"]}, Malformed),
        ({"name": "deploy", "ttl": "soon"}, Malformed),
        ({"name": "deploy", "ttl": "9000h"}, Malformed),
    ],
)
def test_a_bot_that_is_refused_leaves_neither_user_nor_token(words: dict, kind: type) -> None:
    bench = Bench()
    assert isinstance(refusal(bench, "/v1/bots/add", **words), kind)
    assert bench.store.tokens() == []


def test_a_bot_exists_once_and_is_no_person() -> None:
    bench = with_alice()
    bench.ask("/v1/bots/add", name="deploy")
    assert isinstance(refusal(bench, "/v1/bots/add", name="deploy"), Conflict)
    for name in ("alice", "nobody"):
        assert isinstance(refusal(bench, "/v1/bots/remove", name=name), NotFound)


def the_bot(bench: Bench, instance: str, name: str = "bot-deploy") -> Caller:
    return Caller(kind=Kind.BOT, name=name, address="192.0.2.7", bot_instance=instance)


def renew(bench: Bench, caller: Caller):
    return bench.desks.renewals.renew(caller, Renew(hello=Applicant(roles=("Bot",)).hello))


def test_a_bot_renews_for_an_hour_and_stays_itself() -> None:
    bench = Bench()
    made = bench.ask("/v1/bots/add", name="deploy", roles=["access"], logins=["www"])
    welcome = bench.join(Applicant(made["token"], roles=("Bot",)))
    again = renew(bench, the_bot(bench, welcome.host_id))
    assert again.host_id == welcome.host_id
    cert = read_ssh_cert(ssh_blob(again.ssh_cert))
    assert cert.valid_before == int((bench.clock.now() + timedelta(hours=1)).timestamp())


def test_a_bot_without_a_name_renews_too() -> None:
    bench = Bench()
    bench.token("bot")
    welcome = bench.join(Applicant(roles=("Bot",)))
    caller = the_bot(bench, welcome.host_id, f"bot-{welcome.host_id[:8]}")
    assert renew(bench, caller).host_id == welcome.host_id


def test_a_bot_that_is_gone_or_locked_does_not_renew() -> None:
    bench = Bench()
    made = bench.ask("/v1/bots/add", name="deploy")
    caller = the_bot(bench, bench.join(Applicant(made["token"], roles=("Bot",))).host_id)
    lock = bench.ask("/v1/locks/add", target="user", value="bot-deploy")
    with pytest.raises(Denied, match="user bot-deploy is locked"):
        renew(bench, caller)
    bench.ask("/v1/resources/remove", kind="lock", name=lock["id"])
    bench.ask("/v1/bots/remove", name="deploy")
    with pytest.raises(Denied, match="bot deploy does not exist any more"):
        renew(bench, caller)
    assert bench.last_event("instance.renew").code == "TJ003E"


def test_no_token_of_a_bot_reaches_the_trail() -> None:
    bench = Bench()
    made = bench.ask("/v1/bots/add", name="deploy")
    bench.join(Applicant(made["token"], roles=("Bot",)))
    assert made["token"] not in bench.trail_text()
    assert token_name(Secret(made["token"]))[:16] in bench.trail_text()
