"""Which is needed: joining, adding a role, or going on?"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent import identity as identities
from teleport_lite.agent import pending
from teleport_lite.agent import renew as renewals
from teleport_lite.agent.enlist import enlist
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.pending import FILE as PENDING
from teleport_lite.agent.pending import PendingRenewal
from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.secret import Secret
from teleport_lite.testing.makers import TOKEN
from tests.agent.rig import Auth, Hijacker
from tests.agent.test_rotation import rotate
from tests.support import free_port


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data"


def files(home: Path) -> list[str]:
    return sorted(os.listdir(home)) if home.exists() else []


def joined(auth: Auth, home: Path, **changes: Any) -> Identity:
    auth.bench.token("node,app")
    return enlist(auth.enlistment(home, **changes))


def never() -> Secret:
    raise AssertionError("the token is read")


# Joining


def test_a_new_host_joins_and_keeps_one_private_file(auth: Auth, home: Path) -> None:
    me = joined(auth, home)
    assert files(home) == ["identity.json"]
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "identity.json").stat().st_mode & 0o777 == 0o600
    assert identities.load(home) == me
    assert TOKEN not in (home / "identity.json").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"token": lambda: Secret("no-such-token-here")},
        {"pins": ("sha256:" + "0" * 64,)},
        {"roles": ("Proxy",)},
        {"token": None},
        {"servers": ("127.0.0.1:1",)},
        {"node_name": "no such name"},
    ],
    ids=["token", "pin", "role", "no token", "address", "name"],
)
def test_a_host_that_is_refused_has_nothing_on_its_disk(
    auth: Auth, home: Path, changes: dict[str, Any]
) -> None:
    auth.bench.token()
    with pytest.raises(Error):
        enlist(auth.enlistment(home, **changes))
    assert not home.exists()


@pytest.mark.parametrize("relays", [False, True])
def test_a_host_that_met_a_hijacker_has_nothing_on_its_disk(
    auth: Auth, home: Path, relays: bool
) -> None:
    auth.bench.token()
    with Hijacker(auth, relays=relays) as hijacker, pytest.raises(Denied):
        enlist(auth.enlistment(home, servers=(hijacker.address,), pins=()))
    assert not home.exists()


def test_a_directory_that_was_there_stays_there(auth: Auth, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "theirs").write_text("x")
    with pytest.raises(Denied):
        enlist(auth.enlistment(home, token=lambda: Secret("no-such-token-here")))
    assert files(home) == ["theirs"]


def test_without_a_token_a_new_host_is_told_how_to_get_one(auth: Auth, home: Path) -> None:
    with pytest.raises(Malformed, match="a token is needed to join as Node") as why:
        enlist(auth.enlistment(home, token=None))
    assert "tctl tokens add" in why.value.hint


def test_a_token_that_cannot_be_read_is_told_before_anybody_is_asked(
    auth: Auth, home: Path
) -> None:
    def unreadable() -> Secret:
        raise Malformed("token file /etc/token is empty")

    with pytest.raises(Malformed, match="is empty"):
        enlist(auth.enlistment(home, token=unreadable, servers=("127.0.0.1:1",)))


# Going on


def test_a_restart_needs_neither_token_nor_pin(auth: Auth, home: Path) -> None:
    me = joined(auth, home)
    before = len(auth.bench.events())
    assert enlist(auth.enlistment(home, token=None, pins=())) == me
    assert enlist(auth.enlistment(home, token=never)) == me
    assert len(auth.bench.events()) == before
    assert auth.said == []


def test_a_restart_while_auth_is_away_goes_on(auth: Auth, home: Path) -> None:
    me = joined(auth, home)
    away = (f"127.0.0.1:{free_port()}",)
    assert enlist(auth.enlistment(home, servers=away, token=never)) == me


def test_a_host_with_more_roles_than_asked_for_goes_on(auth: Auth, home: Path) -> None:
    me = joined(auth, home, roles=("Node", "App"))
    assert enlist(auth.enlistment(home, roles=("Node",), token=never)) == me


def test_a_damaged_identity_is_told_with_the_way_out(auth: Auth, home: Path) -> None:
    joined(auth, home)
    (home / "identity.json").write_text('{"cluster": 1}')
    with pytest.raises(Malformed, match="is damaged") as why:
        enlist(auth.enlistment(home))
    assert f"move {home / 'identity.json'} aside" in why.value.hint


# A role more


def test_a_role_is_added_under_the_same_id(auth: Auth, home: Path) -> None:
    me = joined(auth, home)
    more = enlist(auth.enlistment(home, roles=("Node", "App")))
    assert (more.host_id, more.roles) == (me.host_id, ("Node", "App"))
    assert more.ssh_private != me.ssh_private
    assert auth.said == ["adding App to this host, with the token"]
    assert files(home) == ["identity.json"]
    assert auth.joined() == ["web-1"]


def test_a_role_needs_a_token_and_the_old_identity_stays_without(auth: Auth, home: Path) -> None:
    me = joined(auth, home)
    with pytest.raises(Malformed, match="a token is needed to join as App"):
        enlist(auth.enlistment(home, roles=("Node", "App"), token=None))
    with pytest.raises(Denied, match="token expired or not found"):
        enlist(
            auth.enlistment(home, roles=("Node", "App"), token=lambda: Secret("no-such-token-here"))
        )
    assert identities.load(home) == me
    assert files(home) == ["identity.json"]


# A cluster that is not the one it joined


@pytest.fixture
def rebuilt(auth: Auth) -> Iterator[Auth]:
    """The same name, other keys, as after a lost database."""
    with Auth(seed="rebuilt") as other:
        yield other


def test_a_rebuilt_cluster_is_joined_anew_and_the_old_identity_kept(
    auth: Auth, rebuilt: Auth, home: Path
) -> None:
    old = joined(auth, home)
    rebuilt.bench.token()
    me = enlist(rebuilt.enlistment(home))
    assert me.host_id != old.host_id
    assert files(home) == ["identity.json", "identity.json.old-1"]
    kept = (home / "identity.json.old-1").read_bytes()
    assert identities.loads(kept, "x") == old
    assert "is not the auth server this host joined" in rebuilt.said[0]
    assert "identity.json.old-1" in rebuilt.said[1]


def test_without_a_token_it_is_one_clear_error(auth: Auth, rebuilt: Auth, home: Path) -> None:
    old = joined(auth, home)
    with pytest.raises(Denied, match="is not the auth server this host joined") as why:
        enlist(rebuilt.enlistment(home, token=None))
    assert "start with a new token" in why.value.hint
    assert identities.load(home) == old


def test_a_rejoin_that_fails_leaves_the_old_identity_in_place(
    auth: Auth, rebuilt: Auth, home: Path
) -> None:
    old = joined(auth, home)
    with pytest.raises(Denied, match="token expired or not found"):
        enlist(rebuilt.enlistment(home))
    assert identities.load(home) == old
    assert files(home) == ["identity.json"]


def test_a_hijacker_does_not_pass_for_a_rebuilt_cluster(auth: Auth, home: Path) -> None:
    old = joined(auth, home)
    for relays in (False, True):
        with Hijacker(auth, relays=relays) as hijacker, pytest.raises(Denied):
            enlist(auth.enlistment(home, servers=(hijacker.address,), pins=()))
        assert not hijacker.knows(TOKEN)
    assert identities.load(home) == old
    assert files(home) == ["identity.json"]


def test_a_host_that_was_removed_joins_anew_with_a_token(auth: Auth, home: Path) -> None:
    old = joined(auth, home)
    auth.bench.ask("/v1/resources/remove", kind="node", name=old.host_id)
    with pytest.raises(Error, match="is not part of this cluster any more"):
        enlist(auth.enlistment(home, token=None))
    me = enlist(auth.enlistment(home))
    assert me.host_id != old.host_id
    assert "identity.json.old-1" in files(home)


def test_a_locked_host_does_not_get_around_its_lock_with_a_token(auth: Auth, home: Path) -> None:
    old = joined(auth, home)
    auth.bench.ask("/v1/locks/add", target="node", value=old.host_id)
    assert enlist(auth.enlistment(home, token=never)) == old
    assert auth.joined() == ["web-1"]


def test_a_certificate_that_auth_no_longer_takes_is_told(auth: Auth, home: Path) -> None:
    """Of another cluster's CA, while the server is the right one."""
    old = joined(auth, home)
    with Auth(seed="other") as other:
        other.bench.token()
        stray = enlist(other.enlistment(home.parent / "other"))
    identities.save(home, replace(stray, host_cas=old.host_cas))
    with pytest.raises(Denied, match="does not accept this host's certificate") as why:
        enlist(auth.enlistment(home, token=None))
    assert "start with a new token" in why.value.hint
    assert enlist(auth.enlistment(home)).host_cas == old.host_cas


def test_auth_that_comes_up_while_it_is_asked_refuses_nobody(
    auth: Auth, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut all hosts start at once. The first try is met by nobody."""
    old = joined(auth, home)
    begin = Connection.tls
    tries: list[str] = []

    def tls(*words: Any, **more: Any) -> Any:
        tries.append("once")
        if len(tries) == 1:
            raise Unavailable("Connection refused")
        return begin(*words, **more)

    monkeypatch.setattr(Connection, "tls", tls)
    assert enlist(auth.enlistment(home, token=never)) == old
    assert len(tries) == 3


# A lost answer


def test_keys_of_an_unanswered_join_are_used_again(
    auth: Auth, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.bench.token("bot")
    ask = Connection.ask

    def lossy(self: Connection, path: str, message: Any = None) -> Any:
        answer = ask(self, path, message)
        if path == "/v1/join/finish":
            raise Unavailable("the connection broke")
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "ask", lossy)
        with pytest.raises(Unavailable):
            enlist(auth.enlistment(home, roles=("Bot",)))
    assert files(home) == [PENDING]
    assert TOKEN not in (home / PENDING).read_text()
    [lost] = [host.id for host, _ in auth.bench.store.hosts() if host.name == "web-1"]
    assert enlist(auth.enlistment(home, roles=("Bot",))).host_id == lost
    assert files(home) == ["identity.json"]


# A renewal that is killed, and a CA that is rotated before the host is back


class Killed(BaseException):
    """As by SIGKILL: nobody catches it."""


class Trap:
    """Kills at the nth call of those that are watched: before it, or after it took effect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nth: int, *, after: bool) -> None:
        self._patch, self._nth, self._after, self.calls = monkeypatch, nth, after, 0

    def watch(self, place: Any, name: str) -> None:
        real = getattr(place, name)

        def call(*args: Any, **words: Any) -> Any:
            self.calls += 1
            fatal = self.calls == self._nth
            if fatal and not self._after:
                raise Killed
            answer = real(*args, **words)
            if fatal:
                raise Killed
            return answer

        self._patch.setattr(place, name, call)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_host_that_is_killed_at_any_step_of_a_renewal_keeps_its_uuid(
    auth: Auth, home: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    auth.bench.token()
    nth, killed = 0, True
    while killed:
        nth += 1
        place = home / str(nth)
        me = enlist(auth.enlistment(place))
        killed = False
        with monkeypatch.context() as patch:
            trap = Trap(patch, nth, after=after)
            trap.watch(pending, "write_secret")
            trap.watch(renewals, "_renew_at")
            trap.watch(identities, "write_secret")
            trap.watch(Path, "unlink")
            try:
                _renewed(auth, place, me)
            except Killed:
                killed = True
        rotate(auth, grace_period="0s")  # it is away meanwhile
        again = enlist(auth.enlistment(place))
        assert again.host_id == me.host_id, f"killed at call {nth}"
        assert files(place) == ["identity.json"]
    assert nth == 5, "keys, question, identity, keys that are dropped; and one that is not killed"


def _renewed(auth: Auth, home: Path, me: Identity) -> None:
    """As link and agent role do it."""
    renewal = PendingRenewal(home, me)
    keys = renewal.take()
    renewed = renewals.renew(me, [auth.address], node_name="web-1", keys=keys)
    identities.save(home, renewed)
    renewal.saved(renewed)


def test_a_host_whose_identity_another_machine_has_renewed_is_a_new_one(
    auth: Auth, home: Path
) -> None:
    me = joined(auth, home)
    renewals.renew(me, [auth.address], node_name="web-1")  # with keys that are not here
    PendingRenewal(home, me).take()
    rotate(auth, grace_period="0s")
    assert enlist(auth.enlistment(home)).host_id != me.host_id
