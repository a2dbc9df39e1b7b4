"""Joining and staying through a proxy that nobody has to trust."""

import json
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from teleport_lite.agent import probe
from teleport_lite.agent.checkup import check_up
from teleport_lite.agent.enlist import enlist, rejected
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import NO_PIN, join
from teleport_lite.agent.probe import cut_off_at, find_auth
from teleport_lite.agent.renew import certificate_refused, renew
from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.net.way import Way
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeClock
from teleport_lite.testing.makers import TOKEN
from tests.agent.rig import Auth, Hijacker, an_identity, off_by
from tests.agent.test_link import Agent
from tests.net.relays import Relay
from tests.net.servers import Little, reply, request
from tests.net.serving import auth_papers, shown
from tests.support import eventually, free_port


@pytest.fixture
def proxy(auth: Auth) -> Iterator[Relay]:
    with Relay(auth.address) as relay:
        yield relay


def spellings(secret: str) -> set[bytes]:
    """How it could stand in what somebody recorded."""
    import base64

    raw = secret.encode()
    found = {raw, raw.hex().encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw)}
    return {each.rstrip(b"=") for each in found}


def holds(seen: bytes, secret: str) -> bool:
    return any(each in seen for each in spellings(secret))


# Joining


@pytest.mark.parametrize("only_proxies", [False, True], ids=["--auth-server", "--proxy"])
@pytest.mark.parametrize("pinned", [True, False])
def test_a_host_joins_through_a_proxy_that_sees_no_token(
    auth: Auth, proxy: Relay, only_proxies: bool, pinned: bool
) -> None:
    auth.bench.token()
    wish = auth.wish(servers=(proxy.address,), only_proxies=only_proxies)
    me = join(wish if pinned else replace(wish, pins=()))
    assert auth.joined() == ["web-1"]
    assert me.cluster == "test.example"
    assert (NO_PIN in auth.said) is not pinned
    assert proxy.passed >= 2, "who auth is, and the proof"
    assert proxy.seen
    for secret in (TOKEN, me.tls_private.reveal(), me.ssh_private.reveal(), me.ssh_public):
        assert not holds(proxy.seen, secret)
    assert b"client_first" not in proxy.seen


def test_the_web_certificate_of_the_proxy_does_not_matter(auth: Auth, proxy: Relay) -> None:
    """Nobody we know signed it, and it is for another name."""
    proxy.web = shown(PaperCluster("elsewhere")).context
    auth.bench.token()
    join(auth.wish(servers=(proxy.address,)))


def test_of_several_the_first_that_answers_decides(auth: Auth, proxy: Relay) -> None:
    auth.bench.token()
    away = f"127.0.0.1:{free_port()}"
    join(auth.wish(servers=(away, proxy.address, auth.address)))
    assert proxy.passed


def test_what_auth_refuses_is_told_as_if_straight(auth: Auth, proxy: Relay) -> None:
    auth.bench.token()
    cases = [
        ({"token": Secret("wrong-token-0123")}, "token expired or not found", Denied),
        ({"roles": ("Proxy",)}, 'the token does not allow "Proxy" role', Denied),
        ({"pins": ("sha256:" + "0" * 64,)}, "does not have the pinned", Denied),
        # A clock may come right by itself.
        (
            {"clock": off_by(auth.bench.clock, minutes=5)},
            "the clock of this host is 0:05:00",
            Unavailable,
        ),
    ]
    for changes, words, kind in cases:
        straight, through = [
            _refusal(auth, servers=(address,), **changes)
            for address in (auth.address, proxy.address)
        ]
        assert words in through.message
        assert type(through) is type(straight) is kind
        assert through.hint == straight.hint
    assert auth.joined() == []


def _refusal(auth: Auth, **changes: object) -> Error:
    with pytest.raises(Error) as why:
        join(auth.wish(**changes))
    return why.value


@pytest.mark.parametrize("polite", [True, False])
def test_a_proxy_that_can_not_reach_auth_says_so(auth: Auth, proxy: Relay, polite: bool) -> None:
    proxy.cut_off, proxy.polite = True, polite
    why = _refusal(auth, servers=(proxy.address,))
    assert isinstance(why, Unavailable)
    assert why.message == (
        f"{proxy.address} is a proxy of cluster test.example and answers, but it can not reach "
        "the auth server"
    )
    assert "journalctl" in why.hint


def test_a_balancer_that_opens_tls_is_told_apart(auth: Auth) -> None:
    """It speaks to the proxy for us, and the name in our first packet is lost on the way."""

    def talk(wire: socket.socket) -> None:
        while said := request(wire):
            known = b"/webapi/find" in said.split(b"\r\n")[0]
            find = json.dumps({"cluster_name": "test.example", "proxy": {}}).encode()
            wire.sendall(reply(find) if known else reply(b"{}", "404 Not Found"))

    with Little(talk, shown(PaperCluster()).context) as balancer:
        why = _refusal(auth, servers=(balancer.address,))
    assert "TLS ends before the auth server" in why.message
    assert "docs/proxy.md" in why.hint


def test_what_is_no_proxy_is_told_to_who_wants_one(auth: Auth) -> None:
    why = _refusal(auth, servers=(auth.address,), only_proxies=True)
    assert why.message == f"{auth.address} is an auth server, not a proxy"
    assert why.hint == f"--auth-server={auth.address}"
    with Little(lambda wire: wire.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as ssh:
        why = _refusal(auth, servers=(ssh.address,), only_proxies=True)
        assert "is an SSH server, not a proxy" in why.message
        assert why.hint == "use the proxy's web port, 3080 by default"
    port = free_port()
    why = _refusal(auth, servers=(f"127.0.0.1:{port}",), only_proxies=True)
    assert (type(why), why.hint) == (Unavailable, f"nc -vz 127.0.0.1 {port}")


def test_a_proxy_whose_balancer_wants_its_own_name(auth: Auth, proxy: Relay) -> None:
    """An alert for every name it does not know (RFC 6066 section 3), like that of auth."""

    def refuse(tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name else None

    proxy.web.sni_callback = refuse
    found = find_auth(proxy.address, auth.bench.clock)
    assert found.way == Way(proxy.address, "test.example")


@pytest.mark.parametrize("polite", [True, False])
def test_a_proxy_that_dies_in_the_middle_is_no_attack(
    auth: Auth, proxy: Relay, polite: bool
) -> None:
    """Auth was found through it, and gone when the proof was to be made."""
    auth.bench.token()
    proxy.polite = polite
    clock = auth.bench.clock

    class Fickle(FakeClock):
        def now(self) -> datetime:
            proxy.cut_off = True
            return clock.now()

    why = _refusal(auth, servers=(proxy.address,), clock=Fickle(clock.now()))
    assert isinstance(why, Unavailable)
    join(auth.wish(servers=(auth.address,)))


# A proxy that is not what it says


class Hostile(Hijacker):
    """Says that it is a proxy, ends TLS for auth with a CA of its own, and relays everything."""

    def _talk(self, wire: socket.socket) -> None:
        while said := request(wire):
            self.transcript += said + b"\r\n"
            path = said.split()[1].decode()
            if path == "/webapi/find":
                find = {"cluster_name": "test.example", "proxy": {}}
                wire.sendall(reply(json.dumps(find).encode()))
            elif path == "/v1/ca" and isinstance(wire, ssl.SSLSocket) and not self._aimed(wire):
                wire.sendall(reply(b"{}", "404 Not Found"))
            elif path == "/v1/ca":
                wire.sendall(reply(self._bundle()))
            else:
                wire.sendall(self._pass_on(path, said.partition(b"\r\n\r\n")[2]))

    def _aimed(self, wire: ssl.SSLSocket) -> bool:
        return wire.selected_alpn_protocol() is not None


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("shows", ["its own CA", "the real CA"])
def test_a_hostile_proxy_gets_nothing(auth: Auth, pinned: bool, shows: str) -> None:
    auth.bench.token()
    real = auth.bench.desks.joins.bundle().host_cas
    with Hostile(auth, relays=True, shows=real if shows == "the real CA" else None) as hostile:
        context = shown(hostile.own, auth_papers(hostile.own)).context
        context.set_alpn_protocols(["teleport-auth@test.example"])
        hostile.server._context = context
        why = _refusal(
            auth, servers=(hostile.address,), pins=(auth.pin,) if pinned else (), only_proxies=True
        )
        assert isinstance(why, Denied)
        assert auth.joined() == []
        assert not hostile.knows(TOKEN)
        assert holds(hostile.transcript, "/webapi/find"), "it was taken for a proxy"
        started = "/v1/join/start" in hostile.asked()
        assert started is (not pinned and shows == "its own CA"), "the proof itself is of no use"
        with pytest.raises(Error):
            join(auth.wish(servers=(hostile.address,), token=Secret("wrong-token-0123"), pins=()))
    join(auth.wish())  # the token was not spent either


# Staying


@pytest.fixture
def me(auth: Auth) -> Identity:
    auth.bench.token()
    return join(auth.wish())


def test_a_host_stays_through_a_proxy_and_comes_back_in_any_way(
    auth: Auth, proxy: Relay, me: Identity
) -> None:
    with Agent(me, proxy.address, auth.address, clock=auth.bench.clock) as running:
        eventually(lambda: running.lessons)
        assert running.states == [f"connected to {proxy.address}"]
        proxy.cut_off = True
        proxy.drop()
        eventually(lambda: len(running.lessons) == 2)
        assert running.states[-1] == f"connected to {auth.address}"
        proxy.cut_off = False
        auth.call(lambda: auth.server.drop_connections(lambda peer: True))
        eventually(lambda: len(running.lessons) == 3)
        assert running.states[-1] == f"connected to {proxy.address}"
    assert not holds(proxy.seen, "knowledge")


def test_a_stream_that_ends_in_a_proxy_says_where(
    auth: Auth, proxy: Relay, me: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    proxy.cut_off = True
    with Agent(me, proxy.address, clock=auth.bench.clock) as running:
        eventually(lambda: running.states)
    assert "is a proxy of cluster test.example and answers, but it can not" in running.states[0]


def test_a_proxy_that_is_well_is_not_blamed(auth: Auth, proxy: Relay) -> None:
    assert cut_off_at(proxy.address, timeout=30) is None
    assert cut_off_at(auth.address, timeout=30) is None
    assert cut_off_at(f"127.0.0.1:{free_port()}", timeout=30) is None


def test_it_renews_and_is_refused_through_a_proxy_as_if_straight(
    auth: Auth, proxy: Relay, me: Identity
) -> None:
    renewed = renew(me, [proxy.address], node_name="web-1")
    assert (renewed.host_id, renewed.tls_cert != me.tls_cert) == (me.host_id, True)
    assert rejected(renewed, (proxy.address,)) is None
    stray = an_identity(host_cas=me.host_cas)
    assert certificate_refused(stray, proxy.address, timeout=30) is not None
    why = rejected(an_identity(), (proxy.address,))
    assert why is not None
    assert "is not the auth server this host joined" in why.message
    proxy.cut_off = True
    assert rejected(renewed, (proxy.address,)) is None, "auth is away, no more"
    with pytest.raises(Unavailable, match=r"is a proxy of cluster test\.example and answers"):
        renew(renewed, [proxy.address], node_name="web-1")


@pytest.mark.parametrize("polite", [True, False])
def test_who_can_not_be_asked_through_one_proxy_is_asked_in_the_next_way(
    auth: Auth, proxy: Relay, me: Identity, polite: bool
) -> None:
    proxy.cut_off, proxy.polite = True, polite
    auth.bench.ask("/v1/resources/remove", kind="node", name=me.host_id)
    stray = an_identity(host_cas=me.host_cas)
    assert rejected(stray, (proxy.address,)) is None
    assert rejected(stray, (proxy.address, auth.address)) is not None


def test_enlisting_goes_by_the_same_way(auth: Auth, proxy: Relay, tmp_path: Path) -> None:
    auth.bench.token()
    first = enlist(auth.enlistment(tmp_path, servers=(proxy.address,), only_proxies=True))
    again = enlist(auth.enlistment(tmp_path, servers=(proxy.address,), token=None))
    assert first == again
    with pytest.raises(Unavailable, match="is an auth server, not a proxy"):
        enlist(auth.enlistment(tmp_path / "other", only_proxies=True))


# doctor


def test_a_check_up_goes_through_the_proxy(auth: Auth, proxy: Relay, me: Identity) -> None:
    def check(*servers: str, only_proxies: bool = False) -> dict[str, tuple[str, str]]:
        found = check_up(
            servers=servers,
            only_proxies=only_proxies,
            pins=(auth.pin,),
            token=None,
            identity=lambda: me,
            clock=auth.bench.clock,
        )
        return {each.what: (each.state, each.words) for each in found}

    well = check(proxy.address)
    assert {state for state, _ in well.values()} == {"ok"}
    assert "leads to auth of cluster test.example" in well[f"proxy {proxy.address}"][1]
    assert well["membership"][0] == "ok"
    assert check(auth.address, only_proxies=True)[f"proxy {auth.address}"][0] == "bad"
    proxy.cut_off = True
    ill = check(proxy.address, only_proxies=True)
    assert ill[f"proxy {proxy.address}"][0] == "bad"
    assert "can not reach the auth server" in ill[f"proxy {proxy.address}"][1]
    assert "membership" not in ill


def test_a_proxy_of_no_cluster_is_no_way(auth: Auth, proxy: Relay) -> None:
    proxy.find = {"proxy": {}, "cluster_name": "a b\x1b[2J"}
    with pytest.raises(Unavailable, match="does not say of which cluster") as why:
        find_auth(proxy.address, auth.bench.clock)
    assert why.value.message.isprintable()
    with pytest.raises(Malformed):
        probe.Way(proxy.address, "a b\x1b[2J")
