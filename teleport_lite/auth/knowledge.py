"""What every agent is told: the CAs, the roles, the locks and the live proxies, as of now."""

from collections.abc import Callable
from threading import Lock

from teleport_lite.ambient import Clock
from teleport_lite.auth.cas import Cas
from teleport_lite.model.authority import CaType
from teleport_lite.proto.resource import lock_doc, role_doc
from teleport_lite.proto.stream import Knowledge, LeafWord, ProxyPlace, RootWord, RotationWord
from teleport_lite.store.protocols import Store


class Teacher:
    """Builds the lesson once per change and hands the same to everybody."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        cas: Cas,
        proxies: Callable[[], list[ProxyPlace]],
        session_recording: str = "node",
        auths: Callable[[], dict[str, str]] = dict,
        roots: Callable[[], list[RootWord]] = list,
        leaves: Callable[[], list[LeafWord]] = list,
        life: str = "",
    ) -> None:
        """`auths` is where other auth servers listen, by UUID; `roots` are the clusters we trust,
        `leaves` those that trust us."""
        self._roots, self._leaves, self._life = roots, leaves, life
        self._auths = auths
        self._clock, self._store, self._cas, self._proxies = clock, store, cas, proxies
        self._session_recording = session_recording
        self._guard = Lock()  # guards the two below
        self._lesson: Knowledge | None = None
        self._noticed: tuple[list[ProxyPlace], dict[str, str]] = [], {}

    def forget(self) -> None:
        """Something of it has changed."""
        with self._guard:
            self._lesson = None

    def notice(self) -> bool:
        """Have proxies or auth servers come or gone since this last said yes? Then everybody is to
        be told.

        Asked once a second: ten proxies that start together are one lesson.
        """
        there = self._proxies(), self._auths()
        with self._guard:
            if there == self._noticed:
                return False
            self._noticed, self._lesson = there, None
            return True

    def anew(self) -> bool:
        """Is there something else to be taught than the last time? Then everybody is to be told."""
        with self._guard:
            before = self._lesson
            if before is not None and self._build(before.serial) == before:
                return False
            self._lesson = None
            return True

    def lesson(self) -> Knowledge:
        with self._guard:
            if self._lesson is None:
                self._lesson = self._build()
            return self._lesson

    def _build(self, serial: int = 0) -> Knowledge:
        """`serial` is of the lesson this is compared with."""
        now, view = self._clock.now(), self._cas.view
        return Knowledge(
            cluster=self._cas.cluster,
            serial=serial or int(now.timestamp() * 1_000_000),
            host_cas=view.tls(CaType.HOST),
            ssh_host_cas=view.ssh(CaType.HOST),
            ssh_user_cas=view.ssh(CaType.USER),
            user_cas=view.tls(CaType.USER),
            roles=[role_doc(role) for role in self._store.roles()],
            locks=[lock_doc(lock) for lock in self._store.locks() if lock.in_force(now)],
            proxies=self._proxies(),
            session_recording=self._session_recording,
            auths=sorted(self._auths().values()),
            roots=self._roots(),
            leaves=self._leaves(),
            life=self._life,
            rotations=[RotationWord(type=k, mark=v) for k, v in sorted(view.marks().items())],
        )
