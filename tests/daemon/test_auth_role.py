"""The auth role in a process: its store, its identity, its chores."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent import identity as identities
from teleport_lite.config.token_source import StaticToken, TokenSource
from teleport_lite.daemon import auth_role
from teleport_lite.daemon.auth_role import AuthRole, public_address
from teleport_lite.daemon.metrics import render
from teleport_lite.daemon.process import Process
from teleport_lite.errors import Conflict, Malformed, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.net.way import Way
from teleport_lite.plugin.builtin import builtin_book, seat_builtin
from teleport_lite.plugin.guests import Guests
from teleport_lite.proto.admin import LockAdd
from teleport_lite.testing.fakes import FakeChance, FakeClock
from tests.auth.bench import ROOT
from tests.daemon.configs import a_config
from tests.support import eventually
from tests.tunnel_rig import until


def a_role(home: Path, *, clock: FakeClock | None = None, **changes: Any) -> AuthRole:
    config = a_config(home, **changes)
    clock = clock or FakeClock.here()
    return AuthRole(config, builtin_book(), clock=clock, chance=FakeChance(), own_uid=0)


def serving(role: AuthRole, work: Callable[[], Any]) -> Any:
    """Run `work` in a thread while the role serves."""

    async def go() -> Any:
        identity = role.enlist(("Auth",), "auth-1", ())
        try:
            await role.serve(identity)
            return await asyncio.to_thread(work)
        finally:
            await role.close()

    return asyncio.run(go())


def test_a_first_start_makes_a_cluster_and_a_second_one_finds_it(tmp_path: Path) -> None:
    first = a_role(tmp_path)
    me = first.enlist(("Auth",), "auth-1", ())
    pins = first.desks.cas.pins()
    first.store.close()
    second = a_role(tmp_path)
    assert second.desks.cas.pins() == pins
    assert second.enlist(("Auth",), "auth-1", ()).host_id == me.host_id
    second.store.close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keyring").stat().st_mode & 0o777 == 0o600


def test_a_cluster_is_not_renamed_by_a_config_file(tmp_path: Path) -> None:
    a_role(tmp_path).store.close()
    config = a_config(tmp_path)
    config = replace(config, auth=replace(config.auth, cluster_name="other.example"))
    with pytest.raises(Conflict, match=r"belongs to cluster test\.example"):
        AuthRole(config, builtin_book(), clock=FakeClock.here(), chance=FakeChance(), own_uid=0)


def test_two_processes_do_not_share_a_database(tmp_path: Path) -> None:
    first = a_role(tmp_path)
    with pytest.raises(Unavailable):
        a_role(tmp_path)
    first.store.close()


def test_it_answers_on_its_port_and_on_its_socket(tmp_path: Path) -> None:
    role = a_role(tmp_path)

    def ask() -> list[str]:
        me = identities.load(tmp_path / "data")
        assert me is not None
        context = client_context(None, None, me.host_cas)
        address = role._config.auth.listen_addr
        with Connection.tls(Way(address), context) as wire:
            over_tls = wire.ask("/v1/ca")["cluster"]
        with Connection.unix(tmp_path / "data" / "auth.sock") as wire:
            return [over_tls, wire.ask("/v1/status", {})["cluster"]]

    assert serving(role, ask) == ["test.example", "test.example"]
    assert not (tmp_path / "data" / "auth.sock").exists()


def test_auth_alone_renews_its_own_certificate(tmp_path: Path) -> None:
    """No agent does it for this process, and hosts would be locked out after a month."""
    role = a_role(tmp_path)

    def renewed() -> tuple[bytes, bytes]:
        address = role._config.auth.listen_addr
        context = client_context(None, None, identities.load(tmp_path / "data").host_cas)  # type: ignore[union-attr]

        def shown() -> bytes:
            with Connection.tls(Way(address), context) as wire:
                return wire.peer_certificate

        before = shown()
        role.renew()
        return before, shown()

    before, after = serving(role, renewed)
    assert before != after


@pytest.mark.parametrize(("roles", "renews"), [(("Auth",), True), (("Auth", "App"), False)])
def test_the_chore_that_renews_is_there_for_auth_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roles: tuple[str, ...], renews: bool
) -> None:
    done: list[str] = []
    for name in ("RENEW_EVERY", "FLUSH_EVERY"):
        monkeypatch.setattr(auth_role, name, 0.01)
    monkeypatch.setattr(AuthRole, "renew", lambda self: done.append("renewed"))
    role = a_role(tmp_path)
    monkeypatch.setattr(type(role.desks.presence), "flush", lambda self: done.append("flushed"))

    async def go() -> None:
        await role.serve(role.enlist(roles, "auth-1", ()))
        assert ("renew" in [chore.get_name() for chore in role._chores]) is renews
        await until(lambda: done.count("flushed") > 2 and (not renews or "renewed" in done))
        await role.close()

    asyncio.run(go())
    assert ("renewed" in done) is renews


def test_a_chore_that_is_under_way_ends_before_the_goodbye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could tell the others that this auth server is there, after they have heard that it is
    not."""
    role, done = a_role(tmp_path), list[str]()
    begun, goes_on = threading.Event(), threading.Event()

    def flush() -> None:
        begun.set()
        assert goes_on.wait(60)
        done.append("flushed")

    monkeypatch.setattr(auth_role, "FLUSH_EVERY", 0.01)
    monkeypatch.setattr(auth_role, "LAST_CHORE", 60.0)
    monkeypatch.setattr(role.desks.leaves, "note", flush)
    monkeypatch.setattr(role.desks.sharing, "end", lambda: done.append("goodbye"))

    async def go() -> None:
        await role.serve(role.enlist(("Auth",), "auth-1", ()))
        assert role._server is not None
        close = role._server.close

        async def closed() -> None:
            done.append("closed")
            await close()

        monkeypatch.setattr(role._server, "close", closed)
        await until(begun.is_set)
        closing = asyncio.ensure_future(role.close())
        await until(lambda: all(chore.done() for chore in role._chores))
        for _ in range(10):  # turns of the loop
            await asyncio.sleep(0)
        assert done == []
        goes_on.set()
        await closing

    try:
        asyncio.run(go())
    finally:
        goes_on.set()
    assert done == ["flushed", "closed", "goodbye"]


def test_a_chore_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    role = a_role(tmp_path)
    tries: list[int] = []

    def flush() -> int:
        tries.append(1)
        raise [Unavailable("the disk is full"), ZeroDivisionError()][len(tries) % 2]

    monkeypatch.setattr(auth_role, "FLUSH_EVERY", 0.01)
    monkeypatch.setattr(type(role.desks.presence), "flush", lambda self: flush())

    async def go() -> None:
        await role.serve(role.enlist(("Auth",), "auth-1", ()))
        while len(tries) < 4:
            await asyncio.sleep(0.01)
        monkeypatch.undo()
        await role.close()

    asyncio.run(asyncio.wait_for(go(), 60))
    assert "the disk is full" in caplog.text
    assert "internal error in a chore of auth" in caplog.text


def test_what_has_expired_is_swept_and_no_longer_taught(tmp_path: Path) -> None:
    clock = FakeClock.here()
    role = a_role(tmp_path, clock=clock)
    role.desks.resources.lock(ROOT, LockAdd(target="user", value="alice", ttl="1m"))
    lesson = role.desks.teacher.lesson()
    assert len(lesson.locks) == 1
    clock.tick(minutes=2)
    role._sweep()
    assert role.store.locks() == []
    assert role.desks.teacher.lesson().locks == []
    role.store.close()


# Static tokens


def with_tokens(home: Path, *tokens: StaticToken) -> AuthRole:
    config = a_config(home)
    config = replace(config, auth=replace(config.auth, tokens=tokens))
    return AuthRole(config, builtin_book(), clock=FakeClock.here(), chance=FakeChance(), own_uid=0)


def static(text: str, *roles: str, weak: bool = False) -> StaticToken:
    return StaticToken(roles=roles, source=TokenSource.parse(text), weak_ok=weak)


def test_tokens_of_the_config_file_are_known_and_never_written(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-from-a-file\n")
    file.chmod(0o600)
    role = with_tokens(
        tmp_path, static("a-token-in-the-file", "Node", "Proxy"), static(str(file), "App")
    )
    listed = role.desks.invites.list_tokens(signups=False)["tokens"]
    assert [(each["token"], each["roles"], each["static"]) for each in listed] == [
        ("a-token-in-the-file", ["Node", "Proxy"], True),
        ("a-token-from-a-file", ["App"], True),
    ]
    assert role.store.tokens() == []
    role.store.close()


def test_a_static_token_that_can_be_guessed_is_refused_or_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Malformed, match="shorter than 16"):
        with_tokens(tmp_path, static("short-one", "Node"))
    other = tmp_path / "other"
    other.mkdir()
    role = with_tokens(other, static("short-one", "Node", weak=True))
    role.store.close()
    assert "can be guessed" in caplog.text
    assert "short-one" not in caplog.text


# Where hosts are told to find auth


@pytest.mark.parametrize(
    ("listens", "more", "address"),
    [
        ("10.0.0.5:3025", {}, "10.0.0.5:3025"),
        ("[fd00::5]:3025", {}, "[fd00::5]:3025"),
        ("0.0.0.0:3025", {"advertise_ip": "192.0.2.9"}, "192.0.2.9:3025"),
        ("0.0.0.0:3025", {"advertise_ip": "192.0.2.9:443"}, "192.0.2.9:443"),
    ],
)
def test_the_address_that_is_published(
    tmp_path: Path, listens: str, more: dict[str, str], address: str
) -> None:
    config = a_config(tmp_path, **more)
    config = replace(config, auth=replace(config.auth, listen_addr=listens))
    assert public_address(config) == address
    named = replace(config, auth=replace(config.auth, public_addrs=("auth.example:443",)))
    assert public_address(named) == "auth.example:443"


def test_metrics_count_hosts_and_streams(tmp_path: Path) -> None:
    config = a_config(tmp_path)
    guests = seat_builtin(Guests())
    process = Process(config, guests, clock=FakeClock.here(), chance=FakeChance())
    process.open_auth(("Auth",))
    assert process.auth is not None
    text = render(process, tasks=7).decode()
    assert "process_state 3.0" in text
    assert "teleport_registered_servers 1.0" in text
    assert "teleport_connected_resources 0.0" in text
    assert "teleport_build_info" in text
    assert "teleport_lite_tasks 7.0" in text
    process.auth.store.close()


# Several auth servers: what the store tells of, and chores that one of them does


def test_what_another_auth_server_changes_is_heeded(tmp_path: Path) -> None:
    role = a_role(tmp_path)
    heard: list[frozenset[str]] = []
    role.changed = heard.append  # type: ignore[method-assign]

    def lock() -> None:
        role.desks.resources.lock(ROOT, LockAdd(target="user", value="alice"))
        eventually(lambda: any("locks" in topics for topics in heard))

    serving(role, lock)


def test_one_auth_server_sweeps_for_all(tmp_path: Path) -> None:
    clock = FakeClock.here()
    role = a_role(tmp_path, clock=clock)
    role.desks.resources.lock(ROOT, LockAdd(target="user", value="alice", ttl="1m"))
    clock.tick(minutes=2)
    until = clock.now() + timedelta(minutes=1)
    role.store.write(lambda tx: tx.take_lease("sweep", "another", now=clock.now(), until=until))
    role._sweep()
    assert len(role.store.locks()) == 1
    clock.tick(minutes=2)
    role._sweep()
    assert role.store.locks() == []
    role.store.close()


def test_one_that_was_stopped_for_longer_than_its_lease_removes_nobody(tmp_path: Path) -> None:
    clock = FakeClock.here()
    role = a_role(tmp_path, clock=clock)
    role.enlist(("Auth",), "auth-1", ())
    host = role.store.hosts()[0][0]
    old = replace(host, id="aaaaaaaa-1111-4111-8111-111111111111", token_id="t", ssh_key="k")
    role.store.write(lambda tx: tx.put_host(old))
    clock.tick(days=30)
    now = clock.now()
    mine = role.store.write(
        lambda tx: tx.take_lease("retire", "me", now=now, until=now + timedelta(hours=1))
    )
    later = now + timedelta(hours=2)
    role.store.write(
        lambda tx: tx.take_lease("retire", "another", now=later, until=later + timedelta(hours=1))
    )
    presence = role.desks.presence
    assert presence.retire(timedelta(days=7), fence=mine) == []
    assert presence.retire(timedelta(days=7), fence=mine + 1) == [old.id]
    role.store.close()
