"""What the auth role needs from a place that remembers.

Three implementations: `memory` (tests and tools), `sqlite` (default), `postgres` (several
auth servers). One contract suite, `tests/store/test_contract.py`, holds for all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.event import Event
from teleport_lite.model.guess import Guesses
from teleport_lite.model.host import Host, Report
from teleport_lite.model.invite import Invite
from teleport_lite.model.lease import Lease
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.rotation import Rotation
from teleport_lite.model.token import JoinToken
from teleport_lite.model.trust import RemoteCluster, TrustedCluster
from teleport_lite.model.user import Role, User
from teleport_lite.proto.backup_file import Row, Table
from teleport_lite.store.health import StoreHealth

T = TypeVar("T")
# What somebody reads, thinks about, and writes anew.
Known = TypeVar("Known", Host, User, Password, RemoteCluster, TrustedCluster)

# How long a host may ask again with the same key and the same once-token, because the answer
# to its join was lost. A reboot in the middle of a join fits; a stolen token gains nothing.
REPLAY_WINDOW = timedelta(minutes=10)
# Networks a person logs in from: home, work, telephone, and a dozen hotels.
KEPT_SOURCES = 16


class Tx(Protocol):
    """One transaction. Every method is a single statement that says whether it took effect.

    Time comes in with the calls (`now`, `Event.at`). A token that was expired at any of these
    times stays dead, even when the clock is put back afterwards and even when the change that
    brought the time is undone. An invite that was expired at any of them is gone.
    """

    def add_token(self, token: JoinToken) -> bool:
        """False if one with the same text exists. One that expired before `token.created_at`
        is no longer there for this purpose, swept or not."""

    def remove_token(self, name: str) -> bool: ...

    def spend_token(self, name: str, *, roles: Sequence[str], key: str, now: datetime) -> bool:
        """Use a token for `roles`, atomically. True exactly when it is there, has not expired,
        covers every role and, if good once, was not used yet. A second use of a once-token by
        the same `key` (fingerprint of the host's SSH key) within REPLAY_WINDOW of the first is
        the retry of a lost answer and succeeds too. No roles, or no key, is nobody's."""

    def is_still(self, kind: type[Known], name: str, was: Known | None) -> bool:
        """Is what is kept under this name (of a host its UUID, of a password its user) still what
        somebody has read, None for nothing? Ask first in a change that was decided on it: two that
        read at once must not undo each other's work, and what was removed must not come back."""

    def add_host(self, host: Host) -> bool:
        """False if there is one of that id, or one that has its SSH key."""

    def put_host(self, host: Host) -> None:
        """Insert or replace. What the host reported before stays."""

    def remove_host(self, host_id: str) -> bool: ...

    def put_report(self, host_id: str, report: Report, *, news: bool = False) -> bool:
        """False if no such host. Who watches "hosts" is told of it only if it is `news`."""

    def add_user(self, user: User) -> bool: ...
    def put_user(self, user: User) -> None: ...

    def change_user(self, user: User) -> bool:
        """Replace one that is there; False if it is not."""

    def remove_user(self, name: str) -> bool:
        """With password, invite and login sources: who gets the name later inherits nothing."""

    def put_password(self, password: Password) -> bool:
        """Insert or replace. False if there is no such user."""

    def put_invite(self, invite: Invite) -> bool:
        """In place of the one its user had, if any. False if there is no such user."""

    def use_invite(self, name: str, *, now: datetime) -> bool:
        """True exactly once, if it is there and has not expired."""

    def remove_invite(self, name: str) -> bool: ...

    def note_login(self, user: str, source: str, at: datetime) -> bool:
        """Remember where a user has logged in from; the latest KEPT_SOURCES are kept. False if
        there is no such user."""

    def count_guess(self, name: str, source: str, *, stranger: bool, now: datetime) -> int:
        """One more wrong password: how many in a row that makes. 0, and nothing changes, if there
        are MAX_GUESSES. Rows that are over go, and of strangers all but the latest
        KEPT_STRANGERS; `Guesses.running` says what is over."""

    def end_guesses(self, name: str, source: str, *, now: datetime) -> bool:
        """The row is over. False, and it stays, if there are MAX_GUESSES in it."""

    def forget_guesses(self, name: str) -> bool:
        """From all places. False if there were none."""

    def add_role(self, role: Role) -> bool: ...
    def put_role(self, role: Role) -> None: ...
    def remove_role(self, name: str) -> bool: ...
    def put_lock(self, lock: Lock) -> None: ...
    def remove_lock(self, lock_id: str) -> bool: ...

    def add_recording(self, recording: Recording) -> bool:
        """False if one of the same session is there."""

    def remove_recording(self, sid: str) -> bool: ...

    def add_ca(self, keys: CaKeys) -> bool:
        """False if one with the same type and id exists."""

    def change_ca(
        self, type: CaType, id: str, *, active: bool, last_rotated: datetime | None
    ) -> bool:
        """False if there is none."""

    def remove_ca(self, type: CaType, id: str) -> bool: ...

    def put_rotation(self, rotation: Rotation, *, after: int) -> bool:
        """Replace the rotation of that type if the serial of the one that is there is `after`
        (0: there is none). False, and nothing changed, if it is another. The store counts on:
        what is kept has serial `after` + 1, whatever `rotation` says."""

    def put_trusted(self, cluster: TrustedCluster) -> None:
        """Insert or replace. Its private key is sealed."""

    def remove_trusted(self, name: str) -> bool: ...
    def put_remote(self, cluster: RemoteCluster) -> None: ...
    def remove_remote(self, name: str) -> bool: ...

    def take_lease(self, name: str, holder: str, *, now: datetime, until: datetime) -> int:
        """Take or extend the lease for a job. Returns its fence, which grows when the holder
        changes, or 0 if another has it until later than `now`."""

    def holds_lease(self, name: str, fence: int) -> bool:
        """Is `fence` still that of the last holder? Ask first in every change of the job: one
        that was stopped for longer than its lease must not write any more."""

    def drop_lease(self, name: str, fence: int) -> bool:
        """Others may take it at once. False if it is another's by now."""

    def set_meta(self, key: str, value: str) -> None: ...

    def add_meta(self, key: str, value: str) -> bool:
        """Set only if absent."""

    def record(self, event: Event) -> None:
        """Append to the audit trail, as part of this transaction."""

    def sweep(self, now: datetime) -> int:
        """Delete tokens, invites and locks that have expired; returns how many."""

    def reseal(self) -> int:
        """Seal under the first key of the keyring what is sealed under another; how many rows."""

    def on_commit(self, call: Callable[[], None]) -> None:
        """Run `call` once this transaction is durable, before `write` returns. Keep it short."""


class Store(Protocol):
    def write(self, change: Callable[[Tx], T]) -> T:
        """Run `change` in a transaction and return its answer once it is durable.

        Whatever `change` raises undoes everything it did and is raised here. Raises
        Unavailable when the store can not write (disk full, locked by another process).
        Callable from any thread; callers wait, and those who wait together share one fsync.
        Not callable from within a change. A change must not keep `tx`, and must be quick:
        everybody else waits for it.
        """

    # Reads see everything that was acknowledged, from any thread, and raise Unavailable when
    # the store cannot be read. Lists are sorted: tokens by expiry (never last), CAs by type and
    # age, everything else by name, invites by that of their user. What has expired is listed
    # until it is swept: ask `expired(now)` and `in_force(now)`.

    def token(self, name: str) -> JoinToken | None: ...
    def tokens(self) -> list[JoinToken]: ...
    def host(self, host_id: str) -> tuple[Host, Report] | None: ...
    def host_by_key(self, ssh_key: str) -> Host | None:
        """The host that joined with this public key (OpenSSH line, as in Host.ssh_key)."""

    def hosts(self) -> list[tuple[Host, Report]]: ...
    def user(self, name: str) -> User | None: ...
    def users(self) -> list[User]: ...
    def password(self, user: str) -> Password | None: ...
    def with_password(self) -> frozenset[str]:
        """Names of the users who have one."""

    def invite(self, name: str) -> Invite | None: ...
    def invites(self) -> list[Invite]: ...
    def login_sources(self, user: str) -> frozenset[str]: ...
    def guesses(self, name: str | None = None) -> list[Guesses]:
        """At one name, or all, over or not; sorted by name and source."""

    def role(self, name: str) -> Role | None: ...
    def roles(self) -> list[Role]: ...
    def locks(self) -> list[Lock]: ...
    def recording(self, sid: str) -> Recording | None: ...

    def recordings(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        user: str = "",
        before: Recording | None = None,
        limit: int = 1000,
    ) -> list[Recording]:
        """Those that started in `since` <= ... < `until`, the latest first; of one user if named.
        `before` is the last of the page before."""

    def old_recordings(self, stored_before: datetime, *, limit: int = 1000) -> list[Recording]:
        """Those that were stored earlier, the oldest first."""

    def recordings_size(self) -> int:
        """Bytes that all of them take on the disk."""

    def cas(self, type: CaType | None = None) -> list[CaKeys]: ...
    def rotation(self, type: CaType) -> Rotation:
        """Where that type stands; standby with serial 0 if it was never rotated."""

    def trusted_clusters(self) -> list[TrustedCluster]: ...
    def remote_clusters(self) -> list[RemoteCluster]: ...
    def lease(self, name: str) -> Lease | None: ...
    def meta(self, key: str) -> str | None: ...

    def watch(self, call: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """Have `call` told what changes: of "cas", "rotations", "roles", "locks", "users",
        "hosts", "tokens", "trust", "keyring" (everything was sealed anew). By any process that
        uses this store, ours too, after the commit and soon, in order, from a thread of the store;
        several changes may come as one, and after a connection was lost everything is named.
        `call` must be quick and may read but not write. Call what is returned to end it.
        """

    def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        """Oldest first, with their sequence numbers (from 1, without gaps)."""

    def verify_trail(self) -> tuple[int, int | None]:
        """Events checked, and the sequence number of the first whose hash chain is broken."""

    @property
    def health(self) -> StoreHealth: ...

    def look(self) -> str:
        """Is what could not be written before well again? "" if all is well, or the cause. While
        there is one every `write` is refused at once. For a chore that runs every second."""

    def snapshot(self) -> "Snapshot":
        """All of it as of now, for a backup. Close it soon: it holds a transaction open."""

    def close(self) -> None: ...


class Snapshot(Protocol):
    """One moment of a store. Not for several threads at once; `close` may be called twice.

    Raises Unavailable when the store can not be read.
    """

    schema: int
    tables: Mapping[str, Table]  # in the order to fill them in

    def rows(self, table: str) -> Iterator[Row]:
        """As they stand there: secrets stay sealed."""

    def sealed_under(self) -> Mapping[str, int]:
        """Ids of keys, in hex, and how many rows are sealed under each."""

    def vouch(self, digest: bytes) -> bytes:
        """Sealed, so that nobody without the keyring can say that it was us. b"" without one."""

    def close(self) -> None: ...


class Sealer(Protocol):
    """Encrypts what must not be readable in a stolen database; see `pki/seal.py`."""

    def seal(self, plain: bytes, purpose: str) -> bytes: ...

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """Raises ValueError if it was sealed under another key or purpose, or changed."""

    def current(self, sealed: bytes) -> bool:
        """Is it sealed under the key that seals now?"""
