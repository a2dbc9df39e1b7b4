"""The life of a bot: join once, renew from then on, leave the files. Read `once` first."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from teleport_lite.agent import identity as identities
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import JoinRequest, Keys, join
from teleport_lite.agent.pending import PendingKeys
from teleport_lite.agent.renew import marks_at, renew_at
from teleport_lite.agent.servers import Servers
from teleport_lite.ambient import Chance, Clock
from teleport_lite.cli.tbot import output
from teleport_lite.cli.tbot.settings import CERTIFICATE_TTL, Settings
from teleport_lite.cli.tbot.wake import Wake
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.duration import parse_duration, show_duration
from teleport_lite.model.system_role import BOT
from teleport_lite.pki.keyfile import make_private_dir
from teleport_lite.pki.verify import check_leaf, ends_at
from teleport_lite.secret import Secret

log = logging.getLogger("teleport_lite.tbot")

ANOTHER = "tctl bots add, then tbot start --token=..."
# First and longest pause after a failure. An hour of validity leaves room for a dozen tries.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
JITTER = 0.1
# A laptop may sleep through a wait; the wall clock is looked at this often.
LOOK_EVERY = timedelta(minutes=1)


class Cluster(Protocol):
    """The questions a bot has for auth."""

    def join(self, request: JoinRequest) -> Identity: ...

    def renew(
        self, identity: Identity, server: str, *, node_name: str, keys: Keys, patience: float
    ) -> Identity: ...

    def marks(self, identity: Identity, server: str) -> dict[str, str] | None: ...


class RealCluster:
    def join(self, request: JoinRequest) -> Identity:
        return join(request)

    def renew(
        self, identity: Identity, server: str, *, node_name: str, keys: Keys, patience: float
    ) -> Identity:
        return renew_at(identity, server, node_name=node_name, keys=keys, patience=patience)

    def marks(self, identity: Identity, server: str) -> dict[str, str] | None:
        return marks_at(identity, server)


class Waiter(Protocol):
    def wait(self, seconds: float) -> Wake: ...


class Bot:
    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        chance: Chance,
        cluster: Cluster,
        say: Callable[[str], None],
    ) -> None:
        self._settings, self._clock, self._chance = settings, clock, chance
        self._cluster, self._say = cluster, say
        self._servers = Servers(settings.servers, clock)
        self._token: Secret | None = None
        self._marks: dict[str, str] | None = None  # of the CAs, before the last renewal

    def once(self) -> Identity:
        """Join or renew, and write every destination.

        Raises Unavailable when auth is away, Denied or NotFound when it says no, Malformed when a
        token is needed and there is none. Before auth is asked, every directory that exists is
        checked; on failure nothing of what programs use has changed.
        """
        self._look_at_directories()
        identity = self._fresh()
        for destination in self._settings.destinations:
            output.write(destination, identity)
        self._tell(identity)
        return identity

    def forever(self, waiter: Waiter) -> None:
        """Renew until told to stop. Auth being away is waited out as long as there is hope."""
        failures = 0
        while True:
            try:
                heard = self._heard()
                self._marks = self._marks if heard is None else heard
                self.once()
                failures, pause = 0, self._settings.renewal_interval
            except Unavailable as why:
                failures += 1
                pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE)
                log.warning("%s; next try in about %s", why.message, show_duration(pause))
            if self._pause(pause, waiter) is Wake.STOP:
                log.info("stopping")
                return

    def _look_at_directories(self) -> None:
        for path in (self._settings.storage, *self._settings.destinations):
            if path.is_symlink() or path.exists():
                make_private_dir(path)

    def _fresh(self) -> Identity:
        current = self._kept()
        if current is None:
            return self._join()
        self._learn(current)
        try:
            renewed = self._renewed(current)
        except (Denied, NotFound) as why:
            if self._settings.token is None:
                raise Denied(f"this bot can not renew: {why.message}", hint=ANOTHER) from why
            self._say(f"this bot can not renew: {why.message}; joining again with the token")
            return self._join()
        identities.save(self._settings.storage, renewed)
        self._learn(renewed)
        return renewed

    def _kept(self) -> Identity | None:
        storage = self._settings.storage
        kept = identities.load(storage)
        if kept is not None and kept.roles != (BOT,):
            raise Malformed(
                f"storage {storage} holds the identity of a host, a bot needs its own directory",
                hint="tbot start --storage=/var/lib/teleport-lite/bot",
            )
        return kept

    def _learn(self, known: Identity) -> None:
        """Where else auth can be asked; it stands in the identity, so a restart knows it too."""
        self._servers.learn(known.proxies if self._settings.only_proxies else known.auths)

    def _renewed(self, current: Identity) -> Identity:
        """With a new key, at the first server that answers. An expired certificate is told before
        auth would refuse it."""
        check_leaf(current.tls_cert, current.user_cas, self._clock.now())
        keys, first = Keys.single(), None  # the same keys: an answer of the last may be lost
        for address in self._servers:
            try:
                renewed = self._cluster.renew(
                    current,
                    address,
                    node_name=self._settings.node_name,
                    keys=keys,
                    patience=self._servers.patience,
                )
            except Unavailable as why:
                self._servers.failed(address)
                first = first or why
            else:
                self._servers.worked(address)
                return renewed
        assert first is not None
        raise first

    def _join(self) -> Identity:
        """The token is spent by it, so the keys stay on disk until the answer is there, too."""
        settings = self._settings
        token = self._read_token()
        keeper = PendingKeys(settings.storage, token, make=Keys.single)
        joined = self._cluster.join(
            JoinRequest(
                servers=tuple(self._servers),
                only_proxies=settings.only_proxies,
                token=token,
                pins=settings.ca_pins,
                roles=(BOT,),
                node_name=settings.node_name,
                clock=self._clock,
                say=self._say,
                keeper=keeper,
            )
        )
        identities.save(settings.storage, joined)
        keeper.drop()
        self._learn(joined)
        return joined

    def _read_token(self) -> Secret:
        """Read once: standard input has it only once."""
        source = self._settings.token
        if source is None:
            raise Malformed("a token is needed to join, and none was given", hint=ANOTHER)
        self._token = self._token or source.read(self._say)
        return self._token

    def _tell(self, identity: Identity) -> None:
        ends = ends_at(identity.tls_cert)
        life, wanted = ends - self._clock.now(), self._settings.certificate_ttl
        default = parse_duration(CERTIFICATE_TTL)
        if wanted != default and abs(life - wanted) > timedelta(minutes=1):
            self._say(
                f"--certificate-ttl: the cluster gave {show_duration(life)}, "
                f"asking it for {show_duration(wanted)} is not part of this version"
            )
        log.info(
            "bot %s of cluster %s is written to %s, valid until %s",
            identity.host_id,
            identity.cluster,
            ", ".join(map(str, self._settings.destinations)),
            ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    def _rotating(self) -> bool:
        """Has a rotation of a CA begun or gone on? Its phases may be shorter than our interval."""
        heard = self._heard()
        if heard is None or heard == (self._marks or {}):
            return False
        log.info("the CAs of the cluster are being rotated, renewing now")
        return True

    def _heard(self) -> dict[str, str] | None:
        try:
            known = identities.load(self._settings.storage)
        except Error:  # told by who needs it
            return None
        for address in self._servers if known else ():
            assert known is not None
            if (marks := self._cluster.marks(known, address)) is not None:
                return marks
            self._servers.failed(address)
        return None

    def _pause(self, length: timedelta, waiter: Waiter) -> Wake:
        until = self._clock.now() + length * self._chance.uniform(1 - JITTER, 1 + JITTER)
        while (left := until - self._clock.now()) > timedelta(0):
            wake = waiter.wait(min(left, LOOK_EVERY).total_seconds())
            if wake is not Wake.TIME:
                return wake
            if until - self._clock.now() > timedelta(0) and self._rotating():
                return Wake.RENEW
        return Wake.TIME
