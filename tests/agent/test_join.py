"""Joining, from the host's side, against a real auth and against those who play one."""

import json
import select
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from teleport_lite.agent import join as module
from teleport_lite.agent.join import NO_PIN, Keys, join
from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.net.tls import client_context, server_context
from teleport_lite.pki.authority import new_ca
from teleport_lite.pki.pin import pin_of
from teleport_lite.pki.verify import check_leaf
from teleport_lite.proto.join import token_name
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.makers import TOKEN
from tests.agent.rig import Auth, Hijacker, off_by
from tests.net.servers import Little, reply, request
from tests.support import free_port


class Drawer:
    """A keeper in memory."""

    def __init__(self) -> None:
        self.kept: Keys | None = None
        self.drops = 0

    def take(self) -> Keys:
        return self.kept or Keys.new()

    def keep(self, keys: Keys) -> None:
        self.kept = keys

    def drop(self) -> None:
        self.kept, self.drops = None, self.drops + 1


# Being let in


def test_a_host_comes_back_with_an_identity_it_can_use(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish(principals=("10.0.0.5",)))
    assert me.cluster == "test.example"
    assert me.roles == ("Node",)
    check_leaf(me.tls_cert, me.host_cas, auth.bench.clock.now())
    client_context(me.tls_cert, me.tls_private, me.host_cas)  # key and certificate fit
    assert auth.said == []
    [(host, _)] = [pair for pair in auth.bench.store.hosts() if pair[0].name == "web-1"]
    assert (host.id, host.ssh_key) == (me.host_id, me.ssh_public)
    event = auth.bench.last_event("instance.join")
    assert (event.outcome, event.facts["addr.remote"]) == ("ok", "127.0.0.1")


def test_without_a_pin_it_joins_and_warns_once(auth: Auth) -> None:
    auth.bench.token()
    join(auth.wish(pins=()))
    assert auth.said == [NO_PIN]
    assert auth.joined() == ["web-1"]


def test_one_pin_of_several_is_enough(auth: Auth) -> None:
    auth.bench.token()
    join(auth.wish(pins=("sha256:" + "0" * 64, auth.pin)))


def test_the_first_server_that_answers_decides(auth: Auth) -> None:
    auth.bench.token()
    join(auth.wish(servers=(f"127.0.0.1:{free_port()}", auth.address)))
    assert auth.joined() == ["web-1"]


# Being refused


def refused(auth: Auth, **changes: Any) -> Error:
    drawer = Drawer()
    with pytest.raises(Error) as why:
        join(auth.wish(keeper=drawer, **changes))
    assert drawer.kept is None
    assert auth.joined() == []
    return why.value


def test_a_wrong_token_and_a_role_it_does_not_have(auth: Auth) -> None:
    auth.bench.token()
    why = refused(auth, token=Secret("no-such-token"))
    assert why.message == "web-1 can not join the cluster, token expired or not found"
    assert '"Proxy" role' in refused(auth, roles=("Proxy",)).message


def test_a_wrong_pin_is_told_before_anything_else_is_asked(auth: Auth) -> None:
    auth.bench.token()
    before = len(auth.bench.events())
    why = refused(auth, pins=("sha256:" + "0" * 64,))
    assert isinstance(why, Denied)
    assert f"seen {auth.pin}" in why.message
    assert len(auth.bench.events()) == before


@pytest.mark.parametrize("minutes", [-60, -3, 3, 60])
def test_a_wrong_clock_is_told_by_both_sides(auth: Auth, minutes: int) -> None:
    auth.bench.token()
    why = refused(auth, clock=off_by(auth.bench.clock, minutes=minutes))
    words = "ahead of" if minutes > 0 else "behind"
    assert f"0:{abs(minutes):02d}:00 {words} the auth server's".replace("0:60:00", "1:00:00") in (
        why.message
    )
    assert "timedatectl" in why.hint
    event = auth.bench.last_event("instance.join")
    assert (event.outcome, event.facts["node_name"]) == ("denied", "web-1")


def test_no_server_at_all_is_told(auth: Auth) -> None:
    assert "no auth server is configured" in refused(auth, servers=()).message


def test_several_servers_that_are_away_are_told_together(auth: Auth) -> None:
    ports = free_port(), free_port()
    why = refused(auth, servers=tuple(f"127.0.0.1:{port}" for port in ports))
    assert isinstance(why, Unavailable)
    assert all(str(port) in why.message for port in ports)


# A stand-in on the address of auth


@pytest.mark.parametrize("relays", [False, True], ids=["actor", "relay"])
def test_a_hijacker_gets_nothing_out_of_a_host_without_a_pin(auth: Auth, relays: bool) -> None:
    auth.bench.token()
    with Hijacker(auth, relays=relays) as hijacker:
        why = refused(auth, servers=(hijacker.address,), pins=())
    assert isinstance(why, Denied)
    assert hijacker.asked() == ["/v1/ca", "/v1/join/start", "/v1/join/finish"]
    assert not hijacker.knows(TOKEN)
    assert hijacker.knows("web-1"), "then this test proves nothing"


def test_a_hijacker_who_answers_by_himself_can_not_prove_that_he_knows_the_token(
    auth: Auth,
) -> None:
    with Hijacker(auth, relays=False) as hijacker:
        why = refused(auth, servers=(hijacker.address,), pins=())
    assert "could not prove that it knows the token" in why.message
    assert "--ca-pin" in why.hint


def test_a_proof_that_is_relayed_does_not_fit_and_is_recorded(auth: Auth) -> None:
    auth.bench.token()
    with Hijacker(auth, relays=True) as hijacker:
        refused(auth, servers=(hijacker.address,), pins=())
    event = auth.bench.last_event("instance.join")
    assert (event.code, event.facts["reason"]) == ("TJ002E", "wrong or unknown token")


@pytest.mark.parametrize("relays", [False, True], ids=["actor", "relay"])
def test_with_a_pin_a_hijacker_does_not_even_see_the_name_of_the_host(
    auth: Auth, relays: bool
) -> None:
    auth.bench.token()
    with Hijacker(auth, relays=relays) as hijacker:
        why = refused(auth, servers=(hijacker.address,))
    assert "does not have the pinned CA" in why.message
    assert hijacker.asked() == ["/v1/ca"]
    assert not hijacker.knows("web-1")


@pytest.mark.parametrize("pinned", [True, False])
def test_who_shows_the_ca_of_auth_lacks_its_key(auth: Auth, pinned: bool) -> None:
    auth.bench.token()
    cas = auth.bench.desks.cas.tls(CaType.HOST)
    with Hijacker(auth, relays=True, shows=cas) as hijacker:
        why = refused(auth, servers=(hijacker.address,), pins=(auth.pin,) if pinned else ())
    assert "shows a CA but holds no certificate of it" in why.message
    assert hijacker.asked() == ["/v1/ca"]


def test_of_several_cas_only_the_pinned_one_is_trusted(auth: Auth) -> None:
    """The bundle has the right CA and the hijacker's; his certificate is of his own."""
    auth.bench.token()
    own = PaperCluster("test.example")
    both = [*auth.bench.desks.cas.tls(CaType.HOST), *own.host_cas]
    with Hijacker(auth, relays=True, shows=both) as hijacker:
        hijacker._shows = [*both[:1], *hijacker.own.host_cas]
        why = refused(auth, servers=(hijacker.address,))
        assert "shows a CA but holds no certificate of it" in why.message
        assert hijacker.asked() == ["/v1/ca"]
        refused(auth, servers=(hijacker.address,), pins=(pin_of(hijacker.own.host_cas[0]),))
    assert not hijacker.knows(TOKEN)


CAS: dict[str, Callable[[], list[str]]] = {
    "none": list,
    "no PEM": lambda: ["garbage"],
    "a leaf": lambda: [PaperCluster().host().tls_cert],
    "two in one": lambda: [PaperCluster().host_cas[0] + PaperCluster().host_cas[0]],
    "a key": lambda: ["-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"],
    "huge": lambda: ["x" * 50_000],
}


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("which", CAS)
def test_a_bundle_of_anything_else_is_refused(auth: Auth, which: str, pinned: bool) -> None:
    with Hijacker(auth, relays=False, shows=CAS[which]()) as hijacker:
        why = refused(auth, servers=(hijacker.address,), pins=(auth.pin,) if pinned else ())
    assert isinstance(why, Malformed | Denied | Unavailable)
    assert hijacker.asked()[0] == "/v1/ca"
    assert "/v1/join/start" not in hijacker.asked()


@pytest.mark.parametrize("rounds", [1, 4095, 10_000_001, 2**63])
def test_a_challenge_that_would_keep_us_busy_or_weaken_us_is_refused(
    auth: Auth, rounds: int
) -> None:
    """The server chooses the rounds. scramp allows ten million, which take some seconds."""

    class Choosy(Hijacker):
        def _made_up(self, path: str, said: dict[str, Any]) -> bytes:
            return super()._made_up(path, said).replace(b"i=4096", b"i=%d" % rounds)

    with Choosy(auth, relays=False) as hijacker:
        why = refused(auth, servers=(hijacker.address,), pins=())
    assert "challenge is not SCRAM" in why.message
    assert hijacker.asked()[-1] == "/v1/join/start"


ANSWERS = {
    "no challenge": ("/v1/join/start", b"{}"),
    "no SCRAM": ("/v1/join/start", b'{"session": "s", "server_first": "x"}'),
    "no welcome": ("/v1/join/finish", b"{}"),
    "not JSON": ("/v1/join/finish", b"<html>"),
}


@pytest.mark.parametrize("which", ANSWERS)
def test_an_answer_that_cannot_be_read_is_an_error_we_mean(auth: Auth, which: str) -> None:
    path, body = ANSWERS[which]

    class Odd(Hijacker):
        def _made_up(self, asked: str, said: dict[str, Any]) -> bytes:
            return body if asked == path else super()._made_up(asked, said)

    with Odd(auth, relays=False) as hijacker:
        drawer = Drawer()
        with pytest.raises(Error):
            join(auth.wish(keeper=drawer, servers=(hijacker.address,), pins=()))


# A lost answer


def losing(auth: Auth) -> Little:
    """Passes bytes on to auth and back, and hangs up instead of passing the last answer on."""

    def talk(wire: socket.socket) -> None:
        host, _, port = auth.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as real:
            splice(wire, real)

    def splice(wire: socket.socket, real: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([wire, real], [], [], 10)
            for one, other in ((wire, real), (real, wire)):
                if one in ready:
                    data = one.recv(65536)
                    if not data or (one is real and auth.joined()):
                        return
                    other.sendall(data)

    return Little(talk)


def test_after_a_lost_answer_the_same_keys_get_the_same_host(auth: Auth) -> None:
    auth.bench.token("bot")
    drawer = Drawer()
    with losing(auth) as cut, pytest.raises(Unavailable):
        join(auth.wish(servers=(cut.address,), roles=("Bot",), keeper=drawer))
    assert drawer.kept is not None, "nobody knows whether the token was spent"
    [lost] = [host.id for host, _ in auth.bench.store.hosts() if host.name == "web-1"]
    me = join(auth.wish(roles=("Bot",), keeper=drawer))
    assert me.host_id == lost
    assert auth.joined() == ["web-1"]
    with pytest.raises(Denied, match="token expired or not found"):
        join(auth.wish(roles=("Bot",)))


def test_of_two_servers_the_second_finishes_what_the_first_left_unanswered(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.bench.token("bot")
    named: list[str] = []

    def name_of(token: Secret) -> str:
        named.append("once")
        return token_name(token)

    monkeypatch.setattr(module, "token_name", name_of)
    with losing(auth) as cut:
        me = join(auth.wish(servers=(cut.address, auth.address), roles=("Bot",)))
    assert [host.id for host, _ in auth.bench.store.hosts() if host.name == "web-1"] == [me.host_id]
    assert auth.joined() == ["web-1"]
    assert named == ["once"], "the hash is slow on purpose"


def test_keys_are_kept_before_the_token_is_spent_and_dropped_by_whom_they_are_for(
    auth: Auth,
) -> None:
    auth.bench.token()
    drawer = Drawer()
    me = join(auth.wish(keeper=drawer))
    assert drawer.kept is not None, "the caller drops them, once the identity is on disk"
    assert drawer.kept.ssh_public == me.ssh_public


def test_a_store_of_keys_that_fails_costs_nothing(auth: Auth) -> None:
    auth.bench.token("bot")

    class Full(Drawer):
        def keep(self, keys: Keys) -> None:
            raise Unavailable("the disk is full")

    with pytest.raises(Unavailable, match="the disk is full"):
        join(auth.wish(roles=("Bot",), keeper=Full()))
    join(auth.wish(roles=("Bot",)))


# What auth says of its CAs afterwards


def test_the_cas_of_the_answer_have_to_be_covered_by_the_pin(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.bench.token()
    other = new_ca(CaType.HOST, cluster="test.example", id="2", now=auth.bench.clock.now())
    answer = auth.bench.desks.joins._issuer.welcome

    def elsewhere(host, plan, server_final=""):
        welcome = answer(host, plan, server_final)
        return msgspec.structs.replace(welcome, host_cas=[other.public.tls_cert])

    monkeypatch.setattr(auth.bench.desks.joins._issuer, "welcome", elsewhere)
    with pytest.raises(Malformed, match="CAs that the pin does not cover"):
        join(auth.wish())


def test_what_we_know_of_ourselves_goes_along(auth: Auth) -> None:
    keys = Keys.new()
    hello = module.hello_of(
        keys, node_name="web-1", roles=("Node",), host_id="", principals=("a", "b")
    )
    assert (hello.ssh_key, hello.principals) == (keys.ssh_public, ["a", "b"])
    assert "PRIVATE" not in json.dumps(hello.tls_csr)


def test_a_node_cannot_play_auth(auth: Auth) -> None:
    """It has a certificate of the right CA, but not the name of auth in it."""
    auth.bench.token()
    me = join(auth.wish())
    context = server_context(me.tls_cert, me.tls_private, me.host_cas)
    bundle = json.dumps(
        {"cluster": "x", "version": "x", "time": auth.bench.clock.now().timestamp()}
        | {"host_cas": list(me.host_cas)}
    ).encode()

    def talk(wire: socket.socket) -> None:
        while said := request(wire):
            heard.append(said)
            wire.sendall(reply(bundle))

    heard: list[bytes] = []
    with Little(talk, context) as server, pytest.raises(Denied, match="holds no certificate"):
        join(auth.wish(servers=(server.address,)))
    assert len(heard) == 1
