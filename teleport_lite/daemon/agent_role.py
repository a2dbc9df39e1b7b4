"""The agent of this process: its stream to auth, its labels, renewals and recordings."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from teleport_lite.agent import identity as identities
from teleport_lite.agent import knowledge as lessons
from teleport_lite.agent.heard import Heard
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.labels import LabelWatch
from teleport_lite.agent.link import Link
from teleport_lite.agent.lives import Lives
from teleport_lite.agent.pending import PendingRenewal
from teleport_lite.agent.renew import due
from teleport_lite.agent.servers import Servers
from teleport_lite.agent.uploads import Uploads
from teleport_lite.ambient import Chance, Clock
from teleport_lite.config.model import Config
from teleport_lite.daemon.health import Health, State
from teleport_lite.daemon.saving import TRY_EVERY, Saving
from teleport_lite.errors import Error
from teleport_lite.model.host import Resource
from teleport_lite.proto.stream import (
    MAX_SESSIONS,
    AgentEvent,
    Announced,
    Beat,
    Knowledge,
    LiveSession,
    ProxyPlace,
    Routes,
)

log = logging.getLogger("teleport_lite.agent")

# After these a beat tells of other sessions than the last one did.
SESSION_CHANGES = frozenset({"session.start", "session.end", "session.join", "session.leave"})
# How often the labels thread looks when nothing is due, so that it notices the end.
LABEL_TICK = 0.5


class AgentRole:
    """Three threads: one talks to auth, one runs label commands, one sends recordings. Started
    and stopped once."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        *,
        servers: "Sequence[str] | Servers",
        address: str,
        resources: Sequence[Resource],
        clock: Clock,
        chance: Chance,
        health: Health,
        on_change: Callable[[], None],
        on_identity: Callable[[Identity], None],
        on_knowledge: Callable[[Knowledge], None] = lambda _: None,
        on_routes: Callable[[Routes], None] = lambda _: None,
        tunnels: Callable[[], list[str]] = list,
        sessions: Callable[[], list[LiveSession]] = list,
        proxy: ProxyPlace | None = None,
        leaves: Callable[[], list[str]] = list,
        auth: str = "",
    ) -> None:
        """`servers` are auth or proxies. Callbacks come from the agent's own threads.

        `tunnels` gives the UUIDs of the proxies that hold a tunnel of ours, from any thread; say
        `nudge` when they change. `sessions` are those that are open on this host, from any thread
        too. `proxy` is where we are reached if this process is one, `auth` where its API is.
        """
        self._config, self._health, self._clock = config, health, clock
        self._on_change, self._on_identity = on_change, on_identity
        self._address, self._proxy, self._auth = address, proxy, auth
        self._tunnels, self._sessions, self._leaves = tunnels, sessions, leaves
        self._on_knowledge, self._resources = on_knowledge, [_announced(each) for each in resources]
        self.labels = _label_watch(config, clock)
        self._jitter = chance.uniform(-1, 1)
        self._rotated, self._renewed_at = dict[str, str](), identities.written_at(config.data_dir)
        self._stopping, self._threads = threading.Event(), list[threading.Thread]()
        self._renewal = PendingRenewal(config.data_dir, identity)
        self._saving, self._heard = Saving(clock, self._not_kept), Heard(config.data_dir, clock)
        self.link = self._link(identity, servers, chance, on_routes)
        self._uploads = self._uploads_to(servers, chance)

    def _link(
        self,
        identity: Identity,
        servers: "Sequence[str] | Servers",
        chance: Chance,
        on_routes: Callable[[Routes], None],
    ) -> Link:
        clock = self._clock
        return Link(
            identity=identity,
            lives=Lives(clock, self._config.data_dir),
            servers=servers,
            node_name=self._config.nodename,
            clock=clock,
            chance=chance,
            report=self._report,
            keys=self._renewal.take,
            renew_due=lambda: due(self._renewed_at, clock.now(), self._jitter),
            on_knowledge=self._learn,
            on_identity=self._renewed,
            on_state=self._state,
            on_routes=on_routes,
            on_trust=self._trusts,
            on_heard=self._hears,
        )

    def _uploads_to(self, servers: "Sequence[str] | Servers", chance: Chance) -> Uploads:
        return Uploads(
            data_dir=self._config.data_dir,
            identity=lambda: self.link.identity,
            servers=servers,
            clock=self._clock,
            chance=chance,
            on_state=self._recordings_wait,
        )

    def start(self) -> None:
        self._health.set("agent", State.STARTING)
        self._saving.save("labels", self._keep_labels)
        works = {
            "agent-link": self._talk,
            "agent-labels": self._watch_labels,
            "agent-uploads": lambda: self._uploads.run(self._stopping),
        }
        for name, work in works.items():
            thread = threading.Thread(target=work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def told(self, event: AgentEvent) -> None:
        """An audit event waits for auth: send it, and what it has changed. From any thread."""
        if event.kind in SESSION_CHANGES:
            self.link.soon()
        self.link.wake()

    def nudge(self) -> None:
        """Something that is reported has changed. From any thread."""
        self.link.nudge()

    def stop(self) -> None:
        """Say goodbye; waits a few seconds for the words to get out."""
        self._stopping.set()
        self.link.wake()
        for thread in self._threads:
            thread.join(timeout=3)
        self._uploads.give_up()
        for thread in self._threads:
            thread.join(timeout=1)

    def _talk(self) -> None:
        self.link.run(self._stopping)

    def _report(self) -> Beat:
        return Beat(
            time=self._clock.now().timestamp(),
            address=self._address,
            labels=self.labels.current(),
            resources=self._resources,
            tunnels=self._tunnels(),
            proxy=self._proxy,
            auth=self._auth,
            sessions=self._sessions()[:MAX_SESSIONS],
            leaves=self._leaves(),
            rotated={} if self._saving.pending else self._rotated,  # others read it from the disk
        )

    def _learn(self, knowledge: Knowledge) -> None:
        self._saving.save(
            "what auth says",
            lambda: lessons.save(self._config.data_dir, knowledge),
            self._on_change,
        )
        self._on_knowledge(knowledge)

    def caught_up(self, rotated: dict[str, str]) -> None:
        """By type of CA, the mark that this whole process has caught up with. From any thread."""
        if rotated != self._rotated:
            self._rotated = rotated
            self.link.nudge()

    def _hears(self) -> None:
        """For who decides whom to let in, and is strict about it."""
        if self._config.node.strict_locks:
            # As of now: what can not be kept is tried again when auth may have gone.
            note = partial(self._heard.note, self._clock.uptime())
            self._saving.save("the time of auth's last word", note)

    def _not_kept(self, trouble: str) -> None:
        self._health.set("disk", State.DEGRADED if trouble else State.OK, trouble)

    def _save(self, identity: Identity) -> None:
        write = partial(identities.save, self._config.data_dir, identity)
        self._saving.save("identity", write, partial(self._renewal.saved, identity))

    def _trusts(self, identity: Identity) -> None:
        """The CAs of the cluster have changed, the certificates of this host have not."""
        self._save(identity)
        log.info("the CAs of the cluster have changed")
        self._on_identity(identity)

    def _renewed(self, identity: Identity) -> None:
        self._save(identity)
        self._renewed_at = self._clock.now()
        log.info("the certificates of this host were renewed")
        self._on_identity(identity)

    def _state(self, words: str) -> None:
        connected = words.startswith("connected")
        self._health.set("agent", State.OK if connected else State.DEGRADED, words)

    def _recordings_wait(self, trouble: str) -> None:
        """Told, and no reason to call this host unwell: sessions are served all the same."""
        words = f"wait on this host: {trouble}" if trouble else ""
        self._health.set("recordings", State.OK, words)

    def _keep_labels(self) -> None:
        lessons.save_labels(self._config.data_dir, self.labels.current())

    def _tell_labels(self) -> None:
        self._saving.save("labels", self._keep_labels, self._on_change)
        self.link.nudge()

    def _watch_labels(self) -> None:
        while not self._stopping.is_set():
            if self.labels.run_due():
                self._tell_labels()
            self._saving.retry()
            self._stopping.wait(min(TRY_EVERY, max(LABEL_TICK, self.labels.next_due())))


def _announced(each: Resource) -> Announced:
    return Announced(kind=each.kind, name=each.name, labels=dict(each.labels), spec=dict(each.spec))


def _label_watch(config: Config, clock: Clock) -> LabelWatch:
    node, before = config.node, {}
    if node.commands:
        with suppress(Error):  # what cannot be read is told by whoever needs it
            before = lessons.load_labels(config.data_dir)
    commands = [(each.name, each.argv, each.period) for each in node.commands]
    return LabelWatch(clock, node.labels, commands, before=before)
