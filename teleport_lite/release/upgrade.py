"""From this version to another: fetch, verify, try, switch, restart, watch; or back to this one.

Whoever serves the release is not trusted. A key that this build carries must have signed the
list of digests, the names in it carry the version, the file must have its digest and state its
version, and a version below ours is only taken when a person says so.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from shutil import rmtree

from teleport_lite.ambient import Clock, SystemClock
from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.net.problems import plain
from teleport_lite.release import attempts
from teleport_lite.release.attempts import Attempt
from teleport_lite.release.fetch import Origin, Progress
from teleport_lite.release.here import Installation, stated
from teleport_lite.release.layout import Layout, alone, make_lib, told_as_errors
from teleport_lite.release.place import prune, run_file, said_by
from teleport_lite.release.sums import SIGNATURE, SUMS, program_name, signed_sums
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.version import Version
from teleport_lite.release.work import Work


class Standing(StrEnum):
    """How this host stands to what its cluster wants."""

    UP_TO_DATE = "up_to_date"
    BEHIND = "upgrade"
    AHEAD = "ahead"  # of what is wanted
    FAILED = "failed"  # what is wanted was tried here, and taken back
    FREE = "free"  # nothing is wanted


def standing(current: Version, wanted: Version | None, failed: Collection[str]) -> Standing:
    if wanted is None:
        return Standing.FREE
    if wanted == current:
        return Standing.UP_TO_DATE
    if wanted < current:
        return Standing.AHEAD
    return Standing.FAILED if str(wanted) in failed else Standing.BEHIND


READY = 90.0  # seconds for a daemon to say that it is ready; a node takes one
STAYS = 5.0  # seconds it must then stay, as one that ends over its data does so at once
_FETCHED = ".fetched"
AGAIN = "teleport-lite upgrade"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A version that will not do here. The old one is in use, as before."""

    version: str
    why: str
    unit: str = ""
    lines: Sequence[str] = ()  # the last of the unit's log


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrader:
    """What an upgrade of this host works with. `systemd` None: switch only, restart nothing.

    `keys` are OpenSSH public keys, `config` a file that the new version must accept.
    """

    here: Installation
    keys: Sequence[str]
    say: Callable[[str], None]
    systemd: Systemd | None
    config: Path | None = None
    ready: float = READY
    stays: float = STAYS
    restart: bool = True
    progress: Progress = lambda _count, _size: None
    clock: Clock = field(default_factory=SystemClock)

    @property
    def layout(self) -> Layout:
        return Layout(self.here.prefix)

    @property
    def current(self) -> Version:
        """What is in use, be it another than the one we run."""
        return Version.parse(self.layout.current() or self.here.version)

    # --- the story

    def finish(self) -> Failure | None:
        """See an upgrade through that was cut short. Most often there is none. Raises Conflict."""
        lib = self.layout.lib
        if attempts.under_way(lib) is None and not (lib / _FETCHED).exists():
            return None
        with told_as_errors("the upgrade stops", AGAIN), alone(lib) as lock:
            rmtree(lib / _FETCHED, ignore_errors=True)
            attempt = attempts.under_way(lib)
            if attempt is None:
                return None
            why = attempts.failed(lib).get(attempt.new, "")
            current = self.layout.current()
            if current == attempt.new and not why:
                self.say(f"an upgrade to {attempt.new} was cut short, going on with it")
                return self._start_anew(attempt, lock)
            if current in (attempt.new, attempt.old):
                self.say(f"an upgrade to {attempt.new} was cut short, going back to {attempt.old}")
                return self._back(attempt, Failure(version=attempt.new, why=why), lock)
            attempts.end(lib)  # a person has put something else in place since
            return None

    def upgrade(self, origin: Origin, target: Version, *, down: bool = False) -> Failure | None:
        """Make `target` the version in use. None if it is, and if all that ran is ready.

        Raises Conflict while another install runs; Denied for a signature that is missing or
        not by one of our keys, and for a version below ours; NotFound, Malformed, Unavailable
        for what is served. Nothing has changed then.
        """
        self._may(target, down)
        lib = self.layout.lib
        with told_as_errors("the upgrade stops", AGAIN):
            make_lib(lib)
            with alone(lib) as lock:
                self._may(target, down)  # again: nobody changes what is in use from here on
                fetched = lib / _FETCHED
                rmtree(fetched, ignore_errors=True)
                try:
                    fetched.mkdir(mode=0o755)
                    self._fetch(origin, target, fetched)
                    return self._try(str(target), fetched, lock)
                finally:
                    rmtree(fetched, ignore_errors=True)

    def _may(self, target: Version, down: bool) -> None:
        if not self.keys:
            raise Denied(
                "this build carries no release keys, so nothing that it fetches can be checked",
                hint="bash install.sh",
            )
        if target < self.current and not down:
            raise Denied(
                f"version {target} is older than {self.current}, which is in use here",
                hint=f"teleport-lite upgrade --version={target} --allow-downgrade",
            )

    def _fetch(self, origin: Origin, target: Version, to: Path) -> None:
        """The three files of a release, into `to`, verified."""
        name = program_name(str(target))
        sums, signature = origin.sums(target)
        try:
            listed = signed_sums(sums, signature, self.keys)
        except Error as why:
            raise type(why)(
                f"version {target} of {origin.address} is refused: {why.message}", hint=why.hint
            ) from why
        if name not in listed:
            raise Denied(
                f"what {origin.address} has as version {target} is the signed list of another one"
            )
        (to / SUMS).write_bytes(sums)
        (to / SIGNATURE).write_bytes(signature)
        origin.program(target, listed[name], to / name, self.progress)
        said = stated(to / name)
        if said is None or said[0] != str(target):
            raise Malformed(f"{name} of {origin.address} does not say that it is {target}")
        by = "" if origin.verified else " (its certificate is not one that this system trusts)"
        self.say(f"fetched {name} from {origin.address}{by}: the signature is good")

    def _try(self, new: str, fetched: Path, lock: int) -> Failure | None:
        """Let the new file speak before anything depends on it; then switch and restart."""
        why = self._objection(new, fetched / program_name(new))
        if why:
            prune(self.layout, Work(say=lambda _: None))  # its tree
            return self._failed(Failure(version=new, why=why))
        attempts.forget(self.layout.lib, new)
        attempt = Attempt(old=str(self.current), new=new, units=self.running())
        attempts.begin(self.layout.lib, attempt)
        why = self._install(fetched / program_name(new), lock, f"--from={fetched}")
        if why:
            return self._back(attempt, Failure(version=new, why=why), lock)
        return self._start_anew(attempt, lock)

    def _start_anew(self, attempt: Attempt, lock: int) -> Failure | None:
        for unit in attempt.units:
            failure = self._restarted(unit, attempt.new)
            if failure is not None:
                return self._back(attempt, failure, lock)
            self.say(f"{unit} runs {attempt.new} and is ready")
        attempts.end(self.layout.lib)
        if not attempt.units:
            self.say(f"{attempt.new} is in place; nothing is restarted")
        return None

    # --- its parts

    def _objection(self, new: str, file: Path) -> str:
        """Why the new version can not be used; "" if it starts here and accepts the config."""
        why, _ = self._ran(file, "self", "unpack", str(self.layout.lib))
        if not why:
            why, said = self._ran(file, "--version")
            if not why and said.split()[1:2] != [f"v{new}"]:
                return f"it says that it is {said[:80]!a}"
        if why:
            return f"it does not start ({why})"
        if self.config is not None:
            why, _ = self._ran(file, "configure", f"--test={self.config}")
            if why:
                return f"it refuses the configuration ({why})"
        return ""

    def _install(self, file: Path, lock: int, *words: str) -> str:
        """By the version itself: it knows its units. Returns why it failed, or ""."""
        where = f"--prefix={self.layout.prefix}"
        more = () if self.systemd is not None else ("--no-systemd",)
        command = ("install", "self", where, "--no-restart", *more, *words)
        why, said = self._ran(file, *command, lock=lock)
        for line in said.splitlines():
            if line != "nothing changed":
                self.say(line)
        return f"it can not be installed ({why})" if why else ""

    def _ran(self, file: Path, *words: str, lock: int | None = None) -> tuple[str, str]:
        """Why a command of a version failed, "" if it did not; and what it said on stdout."""
        try:
            ended = run_file(file, self.layout, *words, lock=lock)
        except Unavailable as late:
            return late.message, ""
        said = ended.stdout.decode(errors="replace").strip()
        return (said_by(ended) if ended.returncode else ""), said

    def _back(self, attempt: Attempt, failure: Failure, lock: int) -> Failure | None:
        """The old version in use again, with its units, and running. None: nothing had failed."""
        if failure.why:
            self.say(f"{failure.why}; going back to {attempt.old}")
            if failure.version not in attempts.failed(self.layout.lib):
                self._note(failure)
        old = self.layout.file(attempt.old)
        if old.is_file():
            if self.layout.current() != attempt.old:
                self.layout.switch(attempt.old)
                self.say(f"switched {self.layout.lib / 'current'} back to {attempt.old}")
            why = self._install(old, lock)
            if why:
                self.say(f"{attempt.old} is in use again, but {why}")
        for unit in attempt.units:
            again = self._restarted(unit, attempt.old)
            self.say(again.why if again else f"{unit} runs {attempt.old} again")
            if again and failure.unit == unit:
                # Whatever keeps both of them from being ready, it is not the new version.
                attempts.forget(self.layout.lib, attempt.new)
        attempts.end(self.layout.lib)
        return failure if failure.why else None

    def running(self) -> tuple[str, ...]:
        """The units that will be restarted."""
        if self.systemd is None or not self.restart or not self.systemd.runs():
            return ()
        return tuple(self.systemd.alive())

    def _restarted(self, unit: str, version: str) -> Failure | None:
        systemd = self.systemd or Systemd()  # there was one when the upgrade began
        why = systemd.restarted(unit, ready=self.ready, stays=self.stays)
        if not why:
            return None
        return Failure(version=version, why=why, unit=unit, lines=systemd.last_lines(unit))

    def _note(self, failure: Failure) -> None:
        """As `_failed`, but a full disk does not keep us from going back."""
        try:
            self._failed(failure)
        except (OSError, Error) as why:
            self.say(f"that {failure.version} failed can not be noted: {plain(str(why))}")

    def _failed(self, failure: Failure) -> Failure:
        attempts.remember(self.layout.lib, failure.version, failure.why, self.clock.now())
        return failure
