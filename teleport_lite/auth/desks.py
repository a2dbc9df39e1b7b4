"""The auth role as a whole: every desk, connected by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.backup import BackupDesk
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.hosts import Presence
from teleport_lite.auth.invites import InviteDesk
from teleport_lite.auth.issue import Issuer
from teleport_lite.auth.join import JoinDesk
from teleport_lite.auth.keyring import KeyringDesk
from teleport_lite.auth.knowledge import Teacher
from teleport_lite.auth.leaves import LeafDesk
from teleport_lite.auth.life import LifeDesk, life_of
from teleport_lite.auth.local import LocalDesk
from teleport_lite.auth.lockout import Lockout
from teleport_lite.auth.login import LoginDesk
from teleport_lite.auth.me import MeDesk
from teleport_lite.auth.passwords import PasswordBook
from teleport_lite.auth.people import PeopleDesk
from teleport_lite.auth.record import event_doc
from teleport_lite.auth.recordings import Ask, RecordingDesk
from teleport_lite.auth.renew import RenewDesk
from teleport_lite.auth.reseal import ResealDesk
from teleport_lite.auth.resources import ResourceDesk
from teleport_lite.auth.rotation import RotationDesk
from teleport_lite.auth.routes import Board
from teleport_lite.auth.scram import Decoys
from teleport_lite.auth.sessions import SessionDesk
from teleport_lite.auth.sharing import Sharing
from teleport_lite.auth.shelf import Keeping as Keeping
from teleport_lite.auth.shelf import Shelf
from teleport_lite.auth.signatures import SignatureDesk
from teleport_lite.auth.signup import SignupDesk
from teleport_lite.auth.start import names_key
from teleport_lite.auth.status import status_of
from teleport_lite.auth.stream import StreamDesk
from teleport_lite.auth.token_look import TokenLookDesk
from teleport_lite.auth.tokens import TokenDesk
from teleport_lite.auth.trust import TrustDesk
from teleport_lite.auth.uploads import UploadDesk
from teleport_lite.model.system_role import RoleBook
from teleport_lite.store.protocols import Store

MAX_EVENTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Desks:
    """Built by `build`; `auth/api.py` is the only one that asks across them."""

    clock: Clock
    store: Store
    trail: Trail
    cas: Cas
    version: str
    tokens: TokenDesk
    token_looks: TokenLookDesk
    joins: JoinDesk
    renewals: RenewDesk
    local: LocalDesk
    people: PeopleDesk
    logins: LoginDesk
    signup: SignupDesk
    me: MeDesk
    resources: ResourceDesk
    signatures: SignatureDesk
    invites: InviteDesk
    presence: Presence
    teacher: Teacher
    board: Board
    streams: StreamDesk
    sessions: SessionDesk
    uploads: UploadDesk
    recordings: RecordingDesk
    trust: TrustDesk
    leaves: LeafDesk
    sharing: Sharing
    life: LifeDesk
    keyrings: KeyringDesk
    reseals: ResealDesk
    backups: BackupDesk
    rotation: RotationDesk

    def spread(self) -> None:
        """Proxies that came or went are told to everybody, nodes to proxies, and all of it to the
        other auth servers. Once a second."""
        self.presence.heed_clock()
        self.sharing.tick()
        if self.teacher.notice():
            self.presence.tell_everybody()
        self.board.tick()

    def serve_as(self, host_id: str, address: str, *, shared: bool) -> None:
        """Who this auth server is, where it listens, and whether there may be others."""
        self.sharing.serve_as(host_id, address, shared=shared)

    def relearn(self) -> None:
        """What is taught may have changed by itself: locks end."""
        if self.teacher.anew():
            self.presence.tell_everybody()

    def heed(self, topics: frozenset[str]) -> None:
        """The store says what has changed, by whichever auth server. Not from its own thread."""
        if topics & {"cas", "rotations"}:
            self.rotation.look()
        if "trust" in topics:
            self.trust.heed()
        if "keyring" in topics:
            self.reseals.heed()
        self.sharing.heed(topics)

    def status(self) -> dict[str, Any]:
        return status_of(
            clock=self.clock,
            store=self.store,
            cas=self.cas,
            version=self.version,
            presence=self.presence,
            rotation=self.rotation,
            sharing=self.sharing,
            life=self.life,
        )

    def audit(self, after: int, limit: int) -> dict[str, Any]:
        limit = max(1, min(limit, MAX_EVENTS))
        events = self.store.events(after=max(0, after), limit=limit)
        return {"events": [event_doc(seq, event) for seq, event in events]}

    def audit_check(self) -> dict[str, Any]:
        checked, broken_at = self.store.verify_trail()
        return {"checked": checked, "broken_at": broken_at}


def build(
    *,
    clock: Clock,
    chance: Chance,
    store: Store,
    book: RoleBook,
    cluster: str,
    version: str,
    auth_address: str,
    keeping: Keeping | None = None,
    keyring: Callable[[], bytes] | None = None,
    ask_auth: Ask | None = None,
    refresh: Callable[[], bool] = lambda: False,
) -> Desks:
    """Connect everything. `cluster` exists already (`auth/start.py`). Without `keeping` no
    recordings are kept. `keyring` reads the file, for further auth servers; `refresh` has
    ours look at it again."""
    trail = Trail(clock, store)
    cas = Cas(store, cluster)
    tokens = TokenDesk(clock=clock, chance=chance, store=store, trail=trail, book=book)
    issuer = Issuer(
        clock=clock,
        chance=chance,
        store=store,
        cas=cas,
        book=book,
        places=lambda: sharing.places(),
    )
    presence = Presence(clock=clock, store=store)
    life = LifeDesk(clock=clock, trail=trail, presence=presence, life=life_of(store, clock, chance))
    teacher = Teacher(
        clock=clock,
        store=store,
        cas=cas,
        proxies=presence.proxies,
        auths=presence.auths,
        roots=lambda: trust.words(),
        leaves=lambda: leaves.words(),
        life=life.life.word,
        session_recording="node" if keeping is None else keeping.made_by,
    )
    board = Board(clock=clock, hosts=presence)

    def changed() -> None:
        teacher.forget()
        presence.tell_everybody()

    rotation = RotationDesk(
        clock=clock,
        chance=chance,
        store=store,
        trail=trail,
        cas=cas,
        hosts=presence,
        changed=changed,
    )

    def learnt() -> None:
        if teacher.anew():
            presence.tell_everybody()

    def door() -> str:
        """Where people and hosts find a proxy: the first public name of the first that has one."""
        return next((name for place in presence.proxies() for name in place.public), "")

    def servers() -> int:
        return sharing.many

    key = names_key(store, chance)
    lockout = Lockout(clock, store, key)
    decoys = Decoys(key)
    passwords = PasswordBook(clock=clock, store=store, decoys=decoys)
    signup = SignupDesk(
        clock=clock,
        chance=chance,
        store=store,
        trail=trail,
        cluster=cluster,
        key=key,
        passwords=passwords,
        lockout=lockout,
        door=door,
        servers=servers,
    )
    people = PeopleDesk(
        clock=clock,
        chance=chance,
        store=store,
        trail=trail,
        issuer=issuer,
        signup=signup,
        lockout=lockout,
        changed=changed,
    )
    trust = TrustDesk(
        clock=clock, store=store, trail=trail, cas=cas, version=version, changed=changed
    )
    joins = JoinDesk(
        clock=clock,
        chance=chance,
        store=store,
        trail=trail,
        cas=cas,
        tokens=tokens,
        issuer=issuer,
        book=book,
        decoys=decoys.apart("token"),
        version=version,
        door=door,
        came=presence.renewed,
        servers=servers,
    )
    leaves = LeafDesk(
        clock=clock,
        chance=chance,
        store=store,
        trail=trail,
        cas=cas,
        joins=joins,
        issuer=issuer,
        roots=trust.cas,
        proxies=presence.proxies,
        changed=changed,
    )
    sessions = SessionDesk(clock=clock, store=store, trail=trail)
    sharing = Sharing(
        clock=clock,
        store=store,
        trail=trail,
        presence=presence,
        sessions=sessions,
        version=version,
        changed=learnt,
    )
    resources = ResourceDesk(
        clock=clock,
        chance=chance,
        store=store,
        trail=trail,
        cas=cas,
        tokens=tokens,
        presence=presence,
        book=book,
        changed=changed,
        auth_servers=sharing.servers,
        trust=trust,
        leaves=leaves,
    )
    renewals = RenewDesk(
        clock=clock,
        store=store,
        trail=trail,
        issuer=issuer,
        check=rotation.check,
        came=presence.renewed,
    )
    shelf = Shelf(keeping.directory) if keeping else None
    uploads = UploadDesk(
        clock=clock,
        store=store,
        trail=trail,
        sessions=sessions,
        shelf=shelf,
        quota=keeping.quota if keeping else 0,
        me=lambda: sharing.me,
    )
    return Desks(
        clock=clock,
        store=store,
        trail=trail,
        cas=cas,
        version=version,
        tokens=tokens,
        token_looks=TokenLookDesk(
            clock=clock, store=store, trail=trail, cas=cas, tokens=tokens, servers=servers
        ),
        joins=joins,
        trust=trust,
        leaves=leaves,
        renewals=renewals,
        local=LocalDesk(clock=clock, chance=chance, store=store, issuer=issuer),
        people=people,
        logins=LoginDesk(
            clock=clock,
            chance=chance,
            store=store,
            trail=trail,
            cas=cas,
            issuer=issuer,
            passwords=passwords,
            lockout=lockout,
            servers=servers,
        ),
        signup=signup,
        me=MeDesk(
            store=store, cluster=cluster, cas=cas, nodes=resources.nodes, roles_of=trust.roles_of
        ),
        resources=resources,
        signatures=SignatureDesk(
            clock=clock,
            chance=chance,
            trail=trail,
            cas=cas,
            people=people,
            issuer=issuer,
            jump_hosts=lambda: [at for each in presence.proxies() for at in each.ssh_public],
        ),
        invites=InviteDesk(
            clock=clock,
            tokens=tokens,
            people=people,
            signup=signup,
            cas=cas,
            book=book,
            auth_address=auth_address,
            door=door,
        ),
        presence=presence,
        teacher=teacher,
        board=board,
        streams=StreamDesk(
            clock=clock,
            store=store,
            trail=trail,
            presence=presence,
            teacher=teacher,
            renewals=renewals,
            book=book,
            board=board,
            sessions=sessions,
            rotation=rotation,
            version=version,
            door=door,
            seen=leaves.seen,
            came=life.came,
        ),
        sessions=sessions,
        keyrings=KeyringDesk(store=store, trail=trail, keyring=keyring),
        reseals=ResealDesk(store=store, trail=trail, refresh=refresh),
        backups=BackupDesk(
            clock=clock, chance=chance, store=store, trail=trail, cluster=cluster, shelf=shelf
        ),
        sharing=sharing,
        life=life,
        rotation=rotation,
        uploads=uploads,
        recordings=RecordingDesk(
            clock=clock,
            store=store,
            trail=trail,
            sessions=sessions,
            uploads=uploads,
            shelf=shelf,
            retention=keeping.retention if keeping else timedelta(),
            me=lambda: sharing.me,
            ask=ask_auth,
        ),
    )
