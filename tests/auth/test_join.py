"""Joining, from the auth role's side. The other side speaks real SCRAM (tests/auth/bench.py)."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from scramp import ScramClient, ScramException

from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.scram import TALK_LIFE
from teleport_lite.errors import Conflict, Denied, Error, Malformed, Unavailable
from teleport_lite.model.host import Host
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.names import UUID
from teleport_lite.pki.keys import csr, new_tls_key
from teleport_lite.pki.ssh_cert import read_ssh_cert
from teleport_lite.pki.verify import ssh_blob
from teleport_lite.proto.alpn import PROXY_SERVER_NAME, proxy_name
from teleport_lite.proto.join import JoinFinish, JoinStart, Welcome, server_end_point, token_name
from teleport_lite.secret import Secret
from teleport_lite.store.protocols import REPLAY_WINDOW
from teleport_lite.testing.makers import TOKEN
from tests.auth.bench import CLUSTER, OURS, Applicant, Bench, stranger, the_host
from tests.auth.meanwhile import before_writing
from tests.store.makers import OPENERS

SAME_ANSWER = "web-1 can not join the cluster, token expired or not found"


def refused(bench: Bench, who: Applicant | None = None, caller: Caller | None = None) -> Error:
    """Why `who` was not let in. Nothing may have come of it but one event."""
    hosts, before = bench.hosts(), len(bench.events())
    with pytest.raises(Error) as why:
        bench.join(who, caller)
    assert bench.hosts() == hosts
    assert len(bench.events()) == before + 1
    assert bench.events()[-1].code == "TJ002E"
    assert bench.events()[-1].outcome == why.value.code
    return why.value


def reason(bench: Bench) -> str:
    return bench.last_event("instance.join").facts["reason"]


def principals(welcome: Welcome) -> list[str]:
    return [name.decode() for name in read_ssh_cert(ssh_blob(welcome.ssh_cert)).principals]


# Being let in


def test_a_good_token_gets_certificates_for_a_new_host() -> None:
    bench = Bench()
    bench.token()
    welcome = bench.join(Applicant(changes={"principals": ["10.0.0.5", "web.example.com"]}))
    assert UUID.fullmatch(welcome.host_id)
    assert (welcome.cluster, welcome.roles) == (CLUSTER, ["Node"])
    assert principals(welcome) == [
        f"{welcome.host_id}.{CLUSTER}",
        welcome.host_id,
        f"web-1.{CLUSTER}",
        "web-1",
        "10.0.0.5",
        "web.example.com",
    ]
    leaf = x509.load_pem_x509_certificate(welcome.tls_cert.encode())
    assert f"CN={welcome.host_id}.{CLUSTER}" in leaf.subject.rfc4514_string()
    assert leaf.not_valid_before_utc == bench.clock.now() - timedelta(minutes=2)


def test_a_join_leaves_one_event_and_one_host() -> None:
    bench = Bench()
    bench.token()
    welcome = bench.join()
    assert bench.hosts() == [welcome.host_id]
    [event] = bench.events("instance.join")
    assert (event.code, event.outcome) == ("TJ002I", "ok")
    assert event.facts == {
        "node_name": "web-1",
        "roles": "Node",
        "method": "token",
        "addr.remote": "192.0.2.7",
        "token_id": token_name(Secret(TOKEN))[:16],
        "host_id": welcome.host_id,
    }


def test_roles_may_be_written_as_flags() -> None:
    bench = Bench()
    bench.token("node,app")
    assert bench.join(Applicant(roles=("app", "node"))).roles == ["App", "Node"]


def test_a_kube_token_lets_apps_and_discovery_in_too() -> None:
    bench = Bench()
    bench.token("kube")
    assert bench.join(Applicant(roles=("Kube", "App", "Discovery"))).roles == [
        "Kube",
        "App",
        "Discovery",
    ]


def test_only_an_auth_host_gets_the_name_of_auth() -> None:
    bench = Bench()
    bench.token("auth,node")
    for roles, named in (("Auth",), True), (("Node",), False):
        cert = bench.join(Applicant(roles=roles)).tls_cert.encode()
        names = x509.load_pem_x509_certificate(cert).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        found = names.value.get_values_for_type(x509.DNSName)
        assert ("auth.teleport-lite.internal" in found) is named


# Tokens


def test_only_a_proxy_gets_the_names_of_a_proxy_and_no_other_proxys() -> None:
    bench = Bench()
    bench.token("node,proxy")
    found = {}
    for role in ("Proxy", "Node"):
        welcome = bench.join(Applicant(name=f"a-{role}", roles=(role,)))
        leaf = x509.load_pem_x509_certificate(welcome.tls_cert.encode())
        alt = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found[role] = welcome.host_id, set(alt.get_values_for_type(x509.DNSName))
        assert not any("internal" in each for each in principals(welcome)), "not for SSH"
    host_id, names = found["Proxy"]
    assert {n for n in names if n.endswith(".internal")} == {
        PROXY_SERVER_NAME,
        proxy_name(host_id),
    }
    assert not any(n.endswith(".internal") for n in found["Node"][1])


def test_a_host_that_becomes_a_proxy_gets_its_name_with_the_role() -> None:
    bench = Bench()
    bench.token("node,proxy")
    me = Applicant()
    host_id = bench.join(me).host_id
    me.roles, me.host_id = ("Proxy",), host_id
    welcome = bench.join(me, the_host(host_id, "Node"))
    assert proxy_name(host_id).encode() in x509.load_pem_x509_certificate(
        welcome.tls_cert.encode()
    ).public_bytes(Encoding.DER)


def test_a_node_token_is_shared_until_it_expires() -> None:
    bench = Bench()
    bench.token()
    bench.join()
    bench.later(minutes=29)
    bench.join(Applicant(name="web-2"))
    bench.later(minutes=1)
    assert refused(bench).message == SAME_ANSWER
    assert len(bench.hosts()) == 2


def test_a_once_token_lets_in_one_host() -> None:
    bench = Bench()
    bench.token("bot")
    bench.join(Applicant(roles=("Bot",)))
    assert refused(bench, Applicant(roles=("Bot",))).message == SAME_ANSWER
    assert reason(bench) == "used, removed or expired a moment ago"


# On PostgreSQL they race over two stores: tests/store/test_postgres.py.
@pytest.mark.parametrize("kind", sorted({*OPENERS} - {"postgres"}))
def test_of_two_hundred_racers_with_a_once_token_one_wins(kind: str, tmp_path: Path) -> None:
    bench = Bench(store=OPENERS[kind](tmp_path))
    bench.token("bot")
    racers = [Applicant(roles=("Bot",), name=f"bot-{n}") for n in range(200)]
    lasts = [bench.begin(racer, stranger(f"10.0.{n}.1")) for n, racer in enumerate(racers)]
    start, won, lost = threading.Barrier(200), [], []

    def race(racer: Applicant, last: JoinFinish) -> None:
        start.wait()
        try:
            won.append(bench.finish(racer, last))
        except Denied as why:
            lost.append(why.message)

    threads = [threading.Thread(target=race, args=pair) for pair in zip(racers, lasts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 199)
    assert bench.hosts() == [won[0].host_id]
    outcomes = [event.outcome for event in bench.events("instance.join")]
    assert (outcomes.count("ok"), outcomes.count("denied")) == (1, 199)
    assert bench.store.verify_trail()[1] is None
    bench.store.close()


def test_wrong_unknown_and_expired_look_the_same_outside_and_different_in_the_trail() -> None:
    bench = Bench()
    bench.token()
    answers, reasons = set(), []

    class WrongProof(Applicant):
        """Knows what the token is called, as who has seen the database, but not the token."""

        def first(self, time: float) -> JoinStart:
            asked = super().first(time)
            self.scram = ScramClient(
                ["SCRAM-SHA-256-PLUS"],
                token_name(Secret(TOKEN)),
                "guessed-guessed-guessed",
                channel_binding=("tls-server-end-point", server_end_point(OURS)),
            )
            return JoinStart(
                client_first=self.scram.get_client_first(), node_name=self.name, time=asked.time
            )

    for who in (WrongProof(), Applicant("no-such-token-anywhere"), None):
        if who is None:
            bench.later(minutes=31)
        why = refused(bench, who)
        answers.add((type(why), why.message, why.hint))
        reasons.append(reason(bench))
    assert answers == {(Denied, SAME_ANSWER, "tctl tokens add")}
    assert reasons == ["wrong or unknown token", "wrong or unknown token", "expired"]


def test_an_unknown_token_is_asked_for_its_proof_like_a_known_one() -> None:
    bench = Bench()
    bench.token()

    def challenge(text: str) -> dict[str, str]:
        asked = Applicant(text).first(bench.clock.now().timestamp())
        said = bench.desks.joins.start(stranger(), asked).server_first
        return dict(part.split("=", 1) for part in said.split(","))

    known, unknown, again = challenge(TOKEN), challenge("no-such-token"), challenge("no-such-token")
    assert known.keys() == unknown.keys()
    assert (known["i"], len(known["s"])) == (unknown["i"], len(unknown["s"]))
    assert unknown["s"] == again["s"] != challenge("another-token")["s"]


def test_a_role_that_is_not_on_the_token_is_named() -> None:
    bench = Bench()
    bench.token()
    why = refused(bench, Applicant(roles=("Node", "Proxy")))
    assert why.message == 'web-1 can not join the cluster, the token does not allow "Proxy" role'
    assert why.hint == "tctl tokens add --type=proxy"


def test_a_host_does_not_join_as_a_trusted_cluster() -> None:
    bench = Bench()
    bench.token("trusted_cluster")
    assert "trusted_cluster" in refused(bench, Applicant(roles=("trusted_cluster",))).message


@pytest.mark.parametrize("roles", [(), ("",), ("root",), ("Node", "node"), ("Node,Proxy",)])
def test_roles_have_to_be_roles(roles: tuple[str, ...]) -> None:
    bench = Bench()
    bench.token()
    assert isinstance(refused(bench, Applicant(roles=roles)), Malformed | Denied)


def test_a_bot_token_lets_no_machine_in_and_a_node_token_no_bot() -> None:
    bench = Bench()
    bench.token("bot", text="the-token-of-a-bot")
    bench.token("node", text="the-token-of-a-node")
    assert '"Node" role' in refused(bench, Applicant("the-token-of-a-bot")).message
    bot = Applicant("the-token-of-a-node", roles=("Bot",))
    assert '"Bot" role' in refused(bench, bot).message


def test_a_static_token_works_for_ever_and_for_everybody() -> None:
    bench = Bench()
    bench.desks.tokens.add_static(("Node",), Secret(TOKEN))
    bench.join()
    bench.later(days=3650)
    bench.join(Applicant(name="web-2"))
    assert len(bench.hosts()) == 2
    assert bench.store.tokens() == []


def test_a_token_that_is_removed_while_hosts_join_lets_no_more_in() -> None:
    bench = Bench()
    bench.token()
    early, late = Applicant(name="early"), Applicant(name="late")
    first, second = bench.begin(early), bench.begin(late)
    bench.finish(early, first)
    bench.ask("/v1/tokens/remove", token=TOKEN)
    with pytest.raises(Denied, match="late can not join the cluster, token expired or not found"):
        bench.finish(late, second)
    assert [host.name for host, _ in bench.store.hosts()] == ["early"]
    assert reason(bench) == "removed a moment ago"


def test_a_token_that_is_removed_at_the_last_moment_lets_nobody_in() -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    last = bench.begin(who)

    def removed_meanwhile() -> list[Lock]:
        bench.store.write(lambda tx: tx.remove_token(token_name(Secret(TOKEN))))
        return []

    bench.store.locks = removed_meanwhile  # type: ignore[method-assign]  # between two steps
    with pytest.raises(Denied, match="token expired or not found"):
        bench.finish(who, last)
    assert bench.hosts() == []
    assert reason(bench) == "used, removed or expired a moment ago"


def test_while_a_token_is_removed_every_join_is_whole_or_refused() -> None:
    bench = Bench()
    bench.token()
    racers = [Applicant(name=f"web-{n}") for n in range(50)]
    lasts = [bench.begin(racer, stranger(f"10.0.{n}.1")) for n, racer in enumerate(racers)]
    start, welcomed = threading.Barrier(51), []

    def race(racer: Applicant, last: JoinFinish) -> None:
        start.wait()
        try:
            welcomed.append(bench.finish(racer, last).host_id)
        except Denied:
            return

    threads = [threading.Thread(target=race, args=pair) for pair in zip(racers, lasts, strict=True)]
    for thread in threads:
        thread.start()
    start.wait()
    bench.ask("/v1/tokens/remove", token=TOKEN)
    for thread in threads:
        thread.join()
    ok = [event for event in bench.events("instance.join") if event.outcome == "ok"]
    assert sorted(welcomed) == sorted(bench.hosts())
    assert sorted(welcomed) == sorted(event.facts["host_id"] for event in ok)
    assert len(bench.events("instance.join")) == 50


# A lost answer


def test_the_same_keys_get_the_same_host_again() -> None:
    bench = Bench()
    bench.token("bot")
    who = Applicant(roles=("Bot",))
    first = bench.join(who)
    bench.later(minutes=9)
    assert bench.join(who).host_id == first.host_id
    assert bench.hosts() == [first.host_id]
    assert bench.last_event("instance.join").facts["replayed"] == "yes"


def test_the_same_keys_do_not_get_in_later_on() -> None:
    bench = Bench()
    bench.token("bot", ttl="1h")
    who = Applicant(roles=("Bot",))
    bench.join(who)
    bench.later(seconds=REPLAY_WINDOW.total_seconds())
    assert refused(bench, who).message == SAME_ANSWER


def test_a_public_ssh_key_alone_does_not_bring_its_host_back() -> None:
    """Everybody who connects to a host sees its SSH key. The TLS key is proved, so it decides."""
    bench = Bench()
    bench.token()
    victim = Applicant(name="victim")
    host_id = bench.join(victim).host_id
    thief = Applicant(name="thief")
    thief.ssh_key = victim.ssh_key
    why = refused(bench, thief)
    assert isinstance(why, Conflict)
    assert "this SSH key belongs to another host" in why.message
    [(host, _)] = bench.store.hosts()
    assert (host.id, host.name) == (host_id, "victim")


def test_a_spent_bot_token_and_a_public_key_are_not_enough_either() -> None:
    bench = Bench()
    bench.token("bot")
    owner = Applicant(roles=("Bot",))
    bench.join(owner)
    thief = Applicant(roles=("Bot",))
    thief.ssh_key = owner.ssh_key
    assert isinstance(refused(bench, thief), Conflict)


def test_who_asks_again_while_the_first_answer_takes_long_is_one_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answer was late, so it has asked another auth server."""
    bench, other = Bench(), list[str]()
    bench.token()
    who = Applicant()
    twin = Applicant()
    twin.ssh_key, twin.tls_csr = who.ssh_key, who.tls_csr
    before_writing(monkeypatch, bench.store, lambda: other.append(bench.join(twin).host_id))
    assert [bench.join(who).host_id] == other == bench.hosts()
    assert bench.last_event("instance.join").facts["replayed"] == "yes"


# Hosts that are known already


def test_two_roles_that_are_added_at_once_are_both_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.token("node,app,db")
    host_id = bench.join().host_id

    def add(role: str) -> None:
        bench.join(Applicant(roles=(role,), host_id=host_id), the_host(host_id))

    before_writing(monkeypatch, bench.store, lambda: add("Db"))
    add("App")
    [(host, _)] = bench.store.hosts()
    assert host.roles == ("Node", "Db", "App")


def test_a_step_of_a_rotation_while_a_bot_is_let_in_is_not_one_it_has_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.token("bot")
    issuer = bench.desks.joins._issuer
    answer = issuer.welcome

    def slow(host: Host, plan: Any, server_final: str = "") -> Welcome:
        welcome = answer(host, plan, server_final)
        bench.ask("/v1/auth/rotate", types=["user"], phase="init", manual=True)
        return welcome

    monkeypatch.setattr(issuer, "welcome", slow)
    host_id = bench.join(Applicant(roles=("Bot",))).host_id
    assert bench.desks.cas.view.marks()
    found = bench.desks.presence.host(host_id)
    assert found is not None
    assert found[1].rotated == {}


def test_a_joined_host_adds_a_role_and_stays_itself() -> None:
    bench = Bench()
    bench.token("node,app")
    host_id = bench.join(Applicant(changes={"principals": ["10.0.0.5"]})).host_id
    again = Applicant(roles=("App",), host_id=host_id)
    welcome = bench.join(again, the_host(host_id, "Node"))
    assert welcome.host_id == host_id
    assert welcome.roles == ["Node", "App"]
    assert "10.0.0.5" in principals(welcome)
    [(host, _)] = bench.store.hosts()
    assert host.roles == ("Node", "App")


OTHER = "99999999-b260-41d0-bb5a-e23b0cfe0f8f"


@pytest.mark.parametrize("kind", [Kind.ANYONE, Kind.HOST, Kind.USER, Kind.BOT])
def test_nobody_else_joins_as_that_host(kind: Kind) -> None:
    bench = Bench()
    bench.token("node,app")
    host_id = bench.join().host_id
    caller = Caller(kind=kind, name=OTHER, address="192.0.2.7", our_certificate=OURS)
    why = refused(bench, Applicant(roles=("App",), host_id=host_id), caller)
    assert isinstance(why, Conflict)
    assert "did not show that host's certificate" in why.message


@pytest.mark.parametrize("host_id", [OTHER, "../../x", "x" * 5000, "\x1b[2J"])
def test_a_host_does_not_choose_its_id(host_id: str) -> None:
    bench = Bench()
    bench.token()
    why = refused(bench, Applicant(host_id=host_id))
    assert isinstance(why, Conflict)
    assert why.message.isprintable()
    assert len(why.message) < 300


def test_a_host_that_was_removed_does_not_come_back_under_its_id() -> None:
    bench = Bench()
    bench.token()
    host_id = bench.join().host_id
    bench.ask("/v1/resources/remove", kind="node", name=host_id)
    assert isinstance(refused(bench, Applicant(host_id=host_id), the_host(host_id)), Conflict)


# Words that are refused


@pytest.mark.parametrize(
    "name",
    ["", "*", "a b", "a,b", "$(id)", "a\nb", "\x1b[2J", "../x", "x" * 254, OTHER,
     "auth.teleport-lite.internal", "Auth.Teleport-Lite.Internal"],
)  # fmt: skip
def test_a_host_may_not_be_called_so(name: str) -> None:
    bench = Bench()
    bench.token()
    why = refused(bench, Applicant(changes={"node_name": name}))
    assert isinstance(why, Malformed)
    assert why.message.isprintable()
    assert bench.last_event("instance.join").facts["node_name"].isprintable()


@pytest.mark.parametrize(
    "name", ["*", "127.0.0.1,evil", "a b", OTHER, "auth.teleport-lite.internal", "0.0.0.0", ""]
)
def test_a_host_may_not_have_such_a_principal(name: str) -> None:
    bench = Bench()
    bench.token()
    assert isinstance(refused(bench, Applicant(changes={"principals": [name]})), Malformed)


def test_too_many_principals_are_refused_and_not_cut() -> None:
    bench = Bench()
    bench.token()
    many = [f"10.0.0.{n}" for n in range(17)]
    assert "at most 16" in refused(bench, Applicant(changes={"principals": many})).message
    bench.join(Applicant(changes={"principals": many[:16]}))


def test_a_name_that_fits_no_certificate_costs_nothing() -> None:
    """With the cluster behind it, it is longer than a DNS name may be."""
    bench = Bench()
    bench.token("bot", text="the-token-of-a-bot")
    bench.token("node")
    assert "can not be used" in refused(bench, Applicant(changes={"node_name": "x" * 250})).message
    assert bench.hosts() == []


KEYS = {
    "private key by mistake": ("ssh_key", "-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
    "no key": ("ssh_key", "", "is not a line like"),
    "DSA": ("ssh_key", "ssh-dss AAAA", "is not allowed"),
    "a certificate": ("ssh_key", "ssh-ed25519-cert-v01@openssh.com AAAA", "is a certificate"),
    "no base64": ("ssh_key", "ssh-ed25519 !!!!", "can not be used"),
    "no request": ("tls_csr", "x", "certificate request can not be used"),
    "private TLS key": ("tls_csr", "-----BEGIN PRIVATE KEY-----", "holds a private key"),
    "huge request": ("tls_csr", "x" * 20_000, "the most is 16384"),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_key_we_would_not_sign_is_refused_with_the_reason(case: str) -> None:
    name, value, cause = KEYS[case]
    bench = Bench()
    bench.token("bot")
    why = refused(bench, Applicant(roles=("Bot",), changes={name: value}))
    assert isinstance(why, Malformed)
    assert cause in why.message
    assert "PRIVATE KEY-----" not in bench.trail_text()
    bench.join(Applicant(roles=("Bot",)))  # and the token is not spent


def test_a_host_too_many_majors_off_does_not_spend_its_token() -> None:
    bench = Bench()
    bench.token("bot")
    why = refused(bench, Applicant(roles=("Bot",), changes={"version": "3.0.0"}))
    assert "this host runs teleport-lite 3.0.0, auth 1.2.3" in why.message
    assert why.hint.endswith("/install.sh | bash")
    bench.join(Applicant(roles=("Bot",), changes={"version": "2.9.0"}))


def test_a_request_with_a_signature_that_does_not_fit_is_refused() -> None:
    bench = Bench()
    bench.token()
    request = x509.load_pem_x509_csr(csr(new_tls_key(), "web-1").encode())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    why = refused(bench, Applicant(changes={"tls_csr": forged}))
    assert "signature does not fit" in why.message


# The proof


def test_a_proof_for_another_connection_is_refused() -> None:
    """Who relays the words sits at the end of another TLS connection, with another certificate."""
    bench = Bench()
    bench.token()
    why = refused(bench, Applicant(sees=b"the certificate of a relay"))
    assert why.message == SAME_ANSWER


@pytest.mark.parametrize("flag", ["n,,", "y,,", "p=tls-unique,,", "p=tls-exporter,,"])
def test_the_proof_cannot_be_talked_out_of_its_binding(flag: str) -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    asked = who.first(bench.clock.now().timestamp())
    bare = asked.client_first.partition(",,")[2]
    weaker = JoinStart(client_first=flag + bare, node_name="web-1", time=asked.time)
    with pytest.raises(Malformed, match="not a SCRAM message"):
        bench.desks.joins.start(stranger(), weaker)
    assert bench.hosts() == []


def test_auth_proves_that_it_knows_the_token() -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    welcome = bench.desks.joins.finish(stranger(), bench.begin(who))
    other = Applicant()
    bench.begin(other)
    with pytest.raises(ScramException):
        other.believe(welcome)  # a proof made for somebody else
    who.believe(welcome)


def test_a_session_is_good_for_one_proof() -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    last = bench.begin(who)
    bench.finish(who, last)
    with pytest.raises(Denied, match="was not finished in time, or begun elsewhere"):
        bench.desks.joins.finish(stranger(), last)


def test_a_wrong_proof_uses_its_session_up() -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    last = bench.begin(who)
    wrong = JoinFinish(session=last.session, client_final="c=x,r=y,p=z", hello=last.hello)
    with pytest.raises(Denied, match="token expired or not found"):
        bench.desks.joins.finish(stranger(), wrong)
    with pytest.raises(Denied, match="was not finished in time"):
        bench.desks.joins.finish(stranger(), last)


def test_a_session_waits_half_a_minute() -> None:
    bench = Bench()
    bench.token()
    quick, slow = Applicant(), Applicant()
    in_time, too_late = bench.begin(quick), bench.begin(slow)
    bench.later(seconds=TALK_LIFE)
    bench.finish(quick, in_time)
    bench.later(seconds=0.1)
    with pytest.raises(Denied, match="was not finished in time"):
        bench.finish(slow, too_late)
    assert reason(bench) == "no session"


# Clocks


@pytest.mark.parametrize("off", [-86400, -600, -121, 121, 600, 86400])
def test_a_clock_that_is_off_is_refused_with_the_difference(off: float) -> None:
    bench = Bench()
    bench.token()
    asked = Applicant().first(bench.clock.now().timestamp() + off)
    with pytest.raises(Denied, match="its clock is") as why:
        bench.desks.joins.start(stranger(), asked)
    words = "ahead of" if off > 0 else "behind"
    assert f"{timedelta(seconds=abs(off))} {words} the auth server's" in why.value.message
    assert "timedatectl" in why.value.hint
    event = bench.last_event("instance.join")
    assert (event.code, event.outcome) == ("TJ002E", "denied")
    assert event.facts["reason"] == why.value.message


@pytest.mark.parametrize("off", [-120, -30, 0, 30, 120])
def test_two_minutes_do_not_matter(off: float) -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    challenge = bench.desks.joins.start(stranger(), who.first(bench.clock.now().timestamp() + off))
    bench.finish(who, who.last(challenge.session, challenge.server_first))


@pytest.mark.parametrize("time", [1e300, -1e300, 1e18])
def test_a_clock_beyond_all_calendars_is_only_refused(time: float) -> None:
    with pytest.raises(Denied, match="its clock is"):
        Bench().desks.joins.start(stranger(), Applicant().first(time))


# Locks


def lock(bench: Bench, target: Target, value: str) -> None:
    locked = Lock(id="1", target=target, value=value, created_at=bench.clock.now())
    bench.store.write(lambda tx: tx.put_lock(locked))


def test_a_locked_token_lets_nobody_in() -> None:
    bench = Bench()
    bench.token()
    lock(bench, Target.TOKEN, token_name(Secret(TOKEN))[:16])
    assert "join token" in refused(bench).message
    assert "is locked" in reason(bench)


def test_a_locked_host_adds_no_role() -> None:
    bench = Bench()
    bench.token("node,app")
    host_id = bench.join().host_id
    lock(bench, Target.NODE, host_id)
    why = refused(bench, Applicant(roles=("App",), host_id=host_id), the_host(host_id))
    assert f"host {host_id} is locked" in why.message


def test_a_locked_host_gets_no_second_answer() -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    lock(bench, Target.NODE, bench.join(who).host_id)
    assert "is locked" in refused(bench, who).message


def test_a_locked_bot_gets_nothing_and_its_token_stays() -> None:
    bench = Bench()
    made = bench.ask("/v1/bots/add", name="deploy")
    lock(bench, Target.USER, "bot-deploy")
    bot = Applicant(made["token"], roles=("Bot",))
    assert "user bot-deploy is locked" in refused(bench, bot).message
    bench.ask("/v1/resources/remove", kind="lock", name="1")
    bench.join(bot)


def test_a_bot_that_was_removed_gets_nothing() -> None:
    bench = Bench()
    made = bench.ask("/v1/bots/add", name="deploy")
    bench.ask("/v1/bots/remove", name="deploy")
    why = refused(bench, Applicant(made["token"], roles=("Bot",)))
    assert "bot deploy does not exist any more" in why.message


# Guessing


def test_twenty_wrong_guesses_and_an_address_has_to_wait() -> None:
    bench = Bench()
    bench.token()
    for _ in range(20):
        refused(bench, Applicant("no-such-token"))
    for who in (Applicant("no-such-token"), Applicant()):
        with pytest.raises(Unavailable, match=r"too many failed joins from 192\.0\.2\.7") as why:
            bench.join(who)
        assert why.value.hint == "try again in 7 s"
    bench.join(Applicant(name="elsewhere"), stranger("192.0.2.8"))
    bench.later(seconds=7)
    bench.join()


def test_letting_hosts_in_costs_nothing() -> None:
    """Three hundred hosts behind one address, at once."""
    bench = Bench()
    bench.token()
    for _ in range(30):
        bench.join()
    assert len(bench.hosts()) == 30


def test_a_role_that_is_refused_is_no_guess() -> None:
    bench = Bench()
    bench.token()
    for _ in range(25):
        refused(bench, Applicant(roles=("Proxy",)))


# Crashes, and what must not be seen


def test_a_crash_while_signing_is_recorded_and_the_host_may_ask_again() -> None:
    bench = Bench()
    bench.token("bot")
    who = Applicant(roles=("Bot",))
    view = bench.desks.cas.view
    bench.desks.cas.view = replace(view, signer=None)  # type: ignore[arg-type]  # whatever breaks
    with pytest.raises(AttributeError):
        bench.join(who)
    assert bench.last_event("instance.join").outcome == "failed"
    bench.desks.cas.view = view
    assert refused(bench, Applicant(roles=("Bot",))).message == SAME_ANSWER
    bench.join(who)


def test_a_store_that_cannot_write_lets_nobody_in_and_says_so() -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    last = bench.begin(who)
    bench.store.close()
    with pytest.raises(Unavailable):
        bench.finish(who, last)
    assert bench.hosts() == []


def test_a_store_that_cannot_read_is_no_broken_message() -> None:
    bench = Bench()

    def broken(name: str) -> None:
        raise Unavailable("the disk is gone")

    bench.store.token = broken  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="the disk is gone"):
        bench.desks.joins.start(stranger(), Applicant().first(bench.clock.now().timestamp()))


def test_the_token_never_reaches_the_trail() -> None:
    bench = Bench()
    bench.token()
    bench.join()
    refused(bench, Applicant(TOKEN + "-typo"))
    bench.ask("/v1/tokens/remove", token=TOKEN)
    refused(bench)
    assert TOKEN not in bench.trail_text()
    assert TOKEN[:8] not in bench.trail_text()


def test_the_bundle_is_public_words() -> None:
    bench = Bench()
    bundle = bench.desks.joins.bundle()
    assert (bundle.cluster, bundle.version) == (CLUSTER, "1.2.3")
    assert bundle.time == bench.clock.now().timestamp()
    assert all("PRIVATE" not in ca for ca in bundle.host_cas)
