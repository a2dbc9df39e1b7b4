"""The auth role in this process: store, desks, API server, and the chores between requests."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from threading import Lock

from teleport_lite import __version__
from teleport_lite.access.decide import locked
from teleport_lite.access.verdict import Refused
from teleport_lite.agent import identity as identities
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import Keys, hello_of, identity_of
from teleport_lite.ambient import Chance, Clock
from teleport_lite.auth.desks import Desks, Keeping, build
from teleport_lite.auth.keyring import MAX_KEYRING
from teleport_lite.auth.start import found_cluster
from teleport_lite.auth.tokens import weakness
from teleport_lite.config.model import AUTH_PORT, Config
from teleport_lite.daemon import send_on
from teleport_lite.daemon.custody import keyring_of
from teleport_lite.daemon.doorman import Doorman as Doorman
from teleport_lite.daemon.further import OTHER_KEYRING, SQLITE, no_keyring
from teleport_lite.daemon.other_auths import OtherAuths
from teleport_lite.daemon.showing import Showing
from teleport_lite.daemon.store_watch import LOOK_EVERY, StoreWatch
from teleport_lite.errors import Denied, Error, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.system_role import AUTH, RoleBook
from teleport_lite.net.accept import Shown
from teleport_lite.net.http import split_address
from teleport_lite.net.https import ApiServer
from teleport_lite.net.listen import ANYWHERE, listen, own_address
from teleport_lite.pki.attest import attested
from teleport_lite.pki.custody import NO_CUSTODY, Custody
from teleport_lite.pki.keyfile import make_private_dir, read_secret
from teleport_lite.pki.pin import issuer_pin
from teleport_lite.pki.seal import Keyring
from teleport_lite.proto.admin import Nothing
from teleport_lite.proto.stream import PATH
from teleport_lite.store.opening import open_store
from teleport_lite.store.protocols import Store, Tx

log = logging.getLogger("teleport_lite.auth")

SOCKET = "auth.sock"
RECORDS = "records"
FLUSH_EVERY = 5.0
SWEEP_EVERY = 60.0
# What agents hear of each other; also the most frames a second that this can make for one.
SPREAD_EVERY = 1.0
# A step names what it was decided on, so no lease is needed: of two that try one is refused.
ROTATE_EVERY = 1.0
# Of clusters that we trust: a lock there holds here after so long.
NEWS_EVERY = 15.0
RETIRE_EVERY = 3600.0
# What the store told of, and could not be read then.
AGAIN = 1.0
RECORDS_EVERY = 600.0
# A backup that nobody asks for any more holds a transaction open.
BACKUPS_EVERY = 30.0
# An agent renews the certificate of its host. A process that is auth alone has no agent.
RENEW_EVERY = 12 * 3600.0
# Seconds for a chore that is under way when we stop; a thread can not be cancelled.
LAST_CHORE = 5.0


class AuthRole:
    """Opened before the event loop runs; `serve` starts the rest."""

    def __init__(
        self,
        config: Config,
        book: RoleBook,
        *,
        clock: Clock,
        chance: Chance,
        own_uid: int,
        custody: Custody = NO_CUSTODY,
    ) -> None:
        """`custody` opens the keyring."""
        self._config, self._clock, self._chance = config, clock, chance
        make_private_dir(config.data_dir)
        ring, self.store = _opened(config, custody)
        self.desks = self._desks(book, ring)
        self._showing = Showing(self.desks, self._use)
        self.store_watch = StoreWatch(self.store, clock)
        self._own_uid = own_uid
        self._server: ApiServer | None = None
        self._chores: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[object]] = set()  # in threads
        self._own: tuple[tuple[str, ...], str, tuple[str, ...]] = ((), "", ())
        self._address = public_address(config)
        self._shared = config.storage.type != SQLITE  # there may be other auth servers
        self._process = chance.uuid()  # who holds a lease
        self._heard: set[str] = set()  # of the store; for the loop
        self._unwatch: Callable[[], None] = lambda: None
        self._renewing = Lock()  # one renewal at a time
        # Told of an identity that was not renewed by the agent of this process.
        self.on_identity: Callable[[Identity], None] = lambda _: None
        self.desks.rotation.follow(self._rotated)
        self.desks.trust.follow(self._showing.show)  # others are let in, or no more
        self._add_static_tokens()

    def _desks(self, book: RoleBook, ring: Keyring) -> Desks:
        config, clock, chance = self._config, self._clock, self._chance
        others = self._others = OtherAuths(
            identity=lambda: self._showing.identity,
            host_cas=lambda: self.desks.cas.tls(CaType.HOST),
            place=lambda host_id: self.desks.sharing.place(host_id),
        )
        return build(
            clock=clock,
            chance=chance,
            store=self.store,
            book=book,
            cluster=found_cluster(
                self.store, name=config.auth.cluster_name, clock=clock, chance=chance
            ),
            version=__version__,
            auth_address=public_address(config),
            refresh=ring.refresh,
            ask_auth=others.ask,
            keyring=lambda: read_secret(config.storage.keyring, limit=MAX_KEYRING),
            keeping=Keeping(
                directory=config.data_dir / RECORDS,
                quota=config.auth.recording_quota,
                retention=config.auth.recording_retention,
                made_by=config.auth.session_recording,
            ),
        )

    @property
    def announced(self) -> str:
        """Where other auth servers, and everybody else, are told to find this one; "" if there can
        be no other."""
        return self._address if self._shared else ""

    def enlist(
        self, roles: tuple[str, ...], node_name: str, principals: tuple[str, ...]
    ) -> Identity:
        """An identity for this process, without a token: it holds the CA. Saved."""
        self._own = (roles, node_name, principals)
        before = identities.load(self._config.data_dir)
        keys = Keys.new()
        hello = hello_of(
            keys,
            node_name=node_name,
            roles=roles,
            host_id=before.host_id if before else "",
            principals=principals,
        )
        identity = identity_of(self.desks.local.admit(hello, roles), keys)
        identities.save(self._config.data_dir, identity)
        if roles == (AUTH,):
            marks = self.desks.cas.view.marks()
            self.desks.sharing.caught_up(marks | {"host": identity.rotation} if marks else {})
        self.desks.serve_as(identity.host_id, self._address, shared=self._shared)
        return identity

    async def serve(self, identity: Identity) -> None:
        server = self._server = ApiServer(
            Doorman(self.desks, self._own_uid),
            stream_path=PATH,
            trace=lambda: self._chance.token(6),
            attested=self._attested,
        )
        self.show(identity)
        await server.start()
        server.listen_tls(listen(self._config.auth.listen_addr, "auth_service.listen_addr"))
        server.listen_unix(self._config.data_dir / SOCKET)
        chores: list[tuple[str, float, Callable[[], object]]] = [
            ("store", LOOK_EVERY, self.store_watch.tick),
            ("flush", FLUSH_EVERY, self.desks.presence.flush),
            ("sweep", SWEEP_EVERY, self._sweep),
            ("spread", SPREAD_EVERY, self.desks.spread),
            ("rotate", ROTATE_EVERY, self.desks.rotation.tick),
            ("news", NEWS_EVERY, self.desks.trust.refresh),
            ("leaves", FLUSH_EVERY, self.desks.leaves.note),
            ("retire", RETIRE_EVERY, self._retire),
            ("backups", BACKUPS_EVERY, self.desks.backups.tidy),
            ("records", RECORDS_EVERY, self._sweep_records),
        ]
        if self._shared:
            chores.append(("send on", send_on.LOOK_EVERY, self._send_on().tick))
        if identity.roles == (AUTH,):
            chores.append(("renew", RENEW_EVERY, self.renew))
        self._chores = [
            asyncio.create_task(self._every(seconds, chore), name=name)
            for name, seconds, chore in chores
        ]
        self._watch()
        log.info("auth service listens on %s", self._config.auth.listen_addr)

    def _send_on(self) -> send_on.SendOn:
        presence = self.desks.presence

        def others() -> dict[str, str]:
            return {k: v for k, v in presence.auths().items() if k != presence.me}

        def ask(address: str) -> str:
            away = f"auth server {address} can not be reached"
            found = self._others.ask_at(address, send_on.PATH, Nothing(), away)
            return str(found.get("trouble", "unknown"))

        return send_on.SendOn(
            clock=self._clock,
            trouble=lambda: self.store.health.trouble,
            others=others,
            ask=ask,
            send=presence.send_away,
        )

    def _watch(self) -> None:
        """What the store tells of is looked at in turn, and not by its own thread."""
        loop, bell = asyncio.get_running_loop(), asyncio.Event()

        def ring(topics: frozenset[str]) -> None:
            self._heard |= topics
            bell.set()

        def told(topics: frozenset[str]) -> None:
            with suppress(RuntimeError):  # the loop has ended, and the process with it
                loop.call_soon_threadsafe(ring, topics)

        async def heed() -> None:
            while True:
                await bell.wait()
                bell.clear()
                topics, self._heard = frozenset(self._heard), set()
                if not await self._do(partial(self.changed, topics)):
                    ring(topics)
                    await asyncio.sleep(AGAIN)

        self._unwatch = self.store.watch(told)
        self._chores.append(asyncio.create_task(heed(), name="heed"))

    def changed(self, topics: frozenset[str]) -> None:
        """This has changed in the store, by us or by another auth server. In a thread."""
        self.desks.heed(topics)

    def show(self, identity: Identity) -> None:
        """Use this certificate, and the CAs as they are now, for connections from here on."""
        self._showing.show(identity)

    def _use(self, shown: Shown) -> None:
        assert self._server is not None
        self._server.show = shown

    def _rotated(self) -> None:
        """The CAs are others now. From any thread, before hosts hear of it.

        An agent in this process renews by itself; with no agent we do it, and with no overlap
        between the CAs an agent could not.
        """
        self._showing.show()
        if (me := self._showing.identity) is None:
            return
        cut_off = not issuer_pin(me.tls_cert, self.desks.cas.tls(CaType.HOST))
        if cut_off or me.roles == (AUTH,):
            self.renew()

    def _attested(self, tlv: bytes, source: tuple[str, int], target: tuple[str, int]) -> str:
        """Asks for the CAs each time: a rotation changes them. A proxy that was locked or removed
        is not believed any more, whatever its certificate says."""
        cas, desks = self.desks.cas, self.desks
        proxy = attested(
            tlv,
            source=source,
            target=target,
            host_cas=cas.tls(CaType.HOST),
            cluster=cas.cluster,
            now=self._clock.now(),
        )
        known = desks.store.host(proxy) is not None
        verdict = locked(desks.store.locks(), self._clock.now(), node=proxy)
        if not known or isinstance(verdict, Refused):
            raise Denied(
                "this proxy is not part of the cluster any more",
                log=f"an address signed by proxy {proxy}, which is locked or was removed",
            )
        return proxy

    def renew(self) -> None:
        """A new certificate for this process itself, in use from the next connection on."""
        with self._renewing:
            identity = self.enlist(*self._own)
            self.show(identity)
            self.on_identity(identity)
        log.info("the certificates of this host were renewed")

    async def close(self) -> None:
        self._unwatch()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if self._under_way:  # they would still say that we are here
            await asyncio.wait(self._under_way, timeout=LAST_CHORE)
        if self._server is not None:
            await self._server.close()
        (self._config.data_dir / SOCKET).unlink(missing_ok=True)
        await self._do(self._last_words)
        await asyncio.to_thread(self.store.close)

    def _last_words(self) -> None:
        self.desks.sharing.end()
        self.desks.presence.flush()

    def _add_static_tokens(self) -> None:
        for each in self._config.auth.tokens:
            token = self.desks.tokens.add_static(each.roles, each.read(log.warning))
            if weakness(token):
                log.warning("a static token for %s: %s", ",".join(token.roles), weakness(token))

    def _sweep(self) -> None:
        """One auth server does it for all, and another one if that one does not."""
        now = self._clock.now()

        def sweep(tx: Tx) -> int:
            until = now + timedelta(seconds=SWEEP_EVERY * 1.5)
            mine = tx.take_lease("sweep", self._process, now=now, until=until)
            return tx.sweep(now) if mine else 0

        self.store.write(sweep)
        self.desks.relearn()  # locks end by themselves, swept or not

    def _retire(self) -> None:
        after, now = self._config.auth.presence_retention, self._clock.now()
        until = now + timedelta(seconds=RETIRE_EVERY * 1.5)
        fence = self.store.write(
            lambda tx: tx.take_lease("retire", self._process, now=now, until=until)
        )
        for host_id in self.desks.presence.retire(after, fence=fence) if fence else ():
            log.info("host %s was not seen for a long time and left the listings", host_id)

    def _sweep_records(self) -> None:
        if gone := self.desks.recordings.sweep():
            log.info("%d recordings were removed, they were older than the retention", gone)

    async def _every(self, seconds: float, chore: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._do(chore)

    async def _do(self, chore: Callable[[], object]) -> bool:
        """False if it is still to be done. What the store can not do is said by who looks after
        it, and not by each chore."""
        work = asyncio.create_task(asyncio.to_thread(chore), name="chore")
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        try:
            await asyncio.shield(work)
        except Error as why:
            if not self.store.health.trouble:
                log.warning("%s", why.message)
            return False
        except Exception:
            log.exception("internal error in a chore of auth")
            return False
        return True


def _opened(config: Config, custody: Custody) -> tuple[Keyring, Store]:
    """The keyring, made if there is none, and the store. A new keyring that does not open what is
    there has sealed nothing, and would keep this host from fetching the right one."""
    place = config.storage.keyring
    fresh = not place.exists()
    ring = keyring_of(place, custody)
    try:
        return ring, open_store(config.storage, ring)
    except Unavailable as why:
        if fresh and OTHER_KEYRING in why.message and config.storage.type != SQLITE:
            place.unlink()
            raise no_keyring(config) from why
        raise


def public_address(config: Config) -> str:
    """Where hosts are told to find auth: what was published, else what others likely see."""
    host, port = split_address(config.auth.listen_addr)
    if config.auth.public_addrs:
        return config.auth.public_addrs[0]
    if config.advertise_ip:
        ip = config.advertise_ip
        return ip if ":" in ip.rpartition("]")[2] else f"{ip}:{port}"
    if host in ("", "0.0.0.0", "::"):
        host = own_address(ANYWHERE) or "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port or AUTH_PORT}"
