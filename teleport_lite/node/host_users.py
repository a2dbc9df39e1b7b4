"""Accounts that this host makes for visitors, where roles say so, and takes away again.

Ours are marked by a group, as Teleport marks them: `teleport-keep` for those that stay,
`teleport-system` for those that go with the last session. What bears no mark is never touched.

Everything happens under one lock for the whole host. Each connection also holds a shared lock
on its account's file, which the kernel takes back however the connection ends; so who gets it
alone is the last one, and what a crash has left is found by the next login, or the next start.
"""

import fcntl
import grp
import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from teleport_lite.access.host_user import HostUser
from teleport_lite.errors import Denied, Error, Unavailable
from teleport_lite.model.names import LOGIN
from teleport_lite.model.user import HostUserMode
from teleport_lite.node import host_tools as tools
from teleport_lite.node.processes import somebody_runs_as

# Of the host and not of a data directory: two nodes on one host share its accounts. Gone after a
# boot, as sessions are.
LOCKS = Path("/run/teleport-lite.accounts")
DROP_GROUP, KEEP_GROUP = "teleport-system", "teleport-keep"
_MARKS = (DROP_GROUP, KEEP_GROUP)
_LOCK_TIME = 15.0
_LOCK_STEP = 0.05
# The user's own systemd goes ten seconds after its last session (logind.conf(5), UserStopDelaySec).
_LEAVE_TIME = 15.0
_LEAVE_STEP = 0.5


class HostUsers:
    """For one connection at most: `enter` once, then `leave`. Only root gets anywhere."""

    def __init__(
        self,
        *,
        note: Callable[[str], None],
        locks: Path = LOCKS,
        patience: float = _LEAVE_TIME,
    ) -> None:
        self._note, self._locks, self._patience = note, locks, patience
        self._login, self._held = "", -1

    def enter(self, login: str, plan: HostUser | None) -> None:
        """Make the account, or make it as it is to be. One that is not ours stays as it is; one
        of ours is held without a plan, too, so that nobody takes it away meanwhile.

        Raises Denied or Unavailable when there is none and none can be made.
        """
        if plan is None and _mark(login) is None:
            return
        with self._alone():
            self._sweep(but=login)
            mark = _mark(login)
            if mark is None and (plan is None or _exists(login)):
                return
            self._hold(login)
            if mark is None and plan is not None:
                self._make(login, plan)
            elif mark is not None and plan is not None:
                self._adjust(login, plan, mark)
            self._give_sudo(login, plan.sudoers if plan is not None else ())

    def drops(self) -> bool:
        """Is it an account that goes, once nobody uses it any more?"""
        return self._held >= 0 and _mark(self._login) == DROP_GROUP

    def leave(self) -> None:
        """Our own part is over. Whoever is the last one tidies up. Raises nothing: what cannot
        be done now is left to the next sweep."""
        if self._held < 0:
            return
        deadline = time.monotonic() + self._patience
        try:
            while not self._leave(last_try=time.monotonic() >= deadline):
                time.sleep(_LEAVE_STEP)
        except Error as why:
            self._note(f"account {self._login} stays for now: {why.message}")
        finally:
            os.close(self._held)
            self._held = -1

    def _leave(self, *, last_try: bool) -> bool:
        """Done? Not while there are processes that are about to end."""
        with self._alone():
            if not _try_lock(self._held):
                return True  # of somebody else who is still there
            if not last_try and self._is_busy(self._login):
                fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            self._tidy(self._login)
            return True

    def _is_busy(self, login: str) -> bool:
        return _mark(login) == DROP_GROUP and somebody_runs_as(pwd.getpwnam(login).pw_uid)

    def sweep(self) -> None:
        """Take away what nobody uses and a crash has left. Raises Denied or Unavailable."""
        if any(_members(mark) for mark in _MARKS):
            with self._alone():
                self._sweep()

    # --- all below happens under the lock

    def _sweep(self, but: str = "") -> None:
        for login in sorted({name for mark in _MARKS for name in _members(mark)} - {but}):
            fd = self._lock_file(login)
            try:
                if _try_lock(fd):
                    self._tidy(login)
            except Error as why:
                self._note(f"account {login} stays for now: {why.message}")
            finally:
                os.close(fd)

    def _tidy(self, login: str) -> None:
        """Nobody is logged in as that any more."""
        with suppress(OSError):
            tools.sudoers_file(login).unlink(missing_ok=True)
        if _mark(login) == DROP_GROUP:
            if self._is_busy(login):
                self._note(f"account {login} stays for now: it has processes")
                return
            tools.remove_account(login)
            self._note(f"account {login} was removed")
        with suppress(OSError):
            (self._locks / login).unlink()

    def _make(self, login: str, plan: HostUser) -> None:
        tools.check_login(login)
        mark = DROP_GROUP if plan.mode is HostUserMode.DROP else KEEP_GROUP
        shell = plan.shell
        if shell and not tools.usable_shell(shell):
            self._note(f"account {login}: there is no shell {shell!a:.80} here")
            shell = ""
        tools.make_account(login, groups=self._groups(login, plan, mark), shell=shell)
        self._note(f"account {login} was made")

    def _adjust(self, login: str, plan: HostUser, mark: str) -> None:
        """What has been promised to stay, stays; the other way round is as good as a promise."""
        if mark == DROP_GROUP and plan.mode is HostUserMode.KEEP:
            mark = KEEP_GROUP
        groups = self._groups(login, plan, mark)
        if set(groups) != tools.groups_of(login):
            tools.set_groups(login, groups)

    def _groups(self, login: str, plan: HostUser, mark: str) -> list[str]:
        good, bad = tools.sound_groups(plan.groups, not_these=_MARKS)
        if bad:
            self._note(f"account {login}: roles name groups that it can not be in: {bad!a:.200}")
        tools.make_group(mark, system=True)
        for name in good:
            tools.make_group(name)
        return [mark, *good]

    def _give_sudo(self, login: str, lines: tuple[str, ...]) -> None:
        """Without it somebody can do less than meant, which is no reason to keep them out."""
        try:
            tools.write_sudoers(login, lines)
        except Error as why:
            self._note(f"account {login} has no sudo: {why.message}")

    # --- locks

    def _hold(self, login: str) -> None:
        self._held, self._login = self._lock_file(login), login
        # Others hold it together with us; alone it is held under the lock of the host only.
        fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _lock_file(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._locks / name, flags, 0o600)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self._locks.mkdir(mode=0o700, exist_ok=True)
            status = self._locks.lstat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise Denied(f"{self._locks} is not ours alone")
            fd = self._lock_file(".lock")
        except OSError as why:
            raise Unavailable(f"no locks in {self._locks}: {why.strerror}") from why
        try:
            deadline = time.monotonic() + _LOCK_TIME
            while not _try_lock(fd):
                if time.monotonic() > deadline:
                    raise Unavailable("another login is making accounts for too long")
                time.sleep(_LOCK_STEP)
            yield
        except (OSError, KeyError) as why:  # an account that somebody else has removed meanwhile
            raise Unavailable(f"accounts can not be managed: {why}") from why
        finally:
            os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _exists(login: str) -> bool:
    try:
        pwd.getpwnam(login)
    except (KeyError, ValueError):
        return False
    return True


def _members(group: str) -> tuple[str, ...]:
    try:
        return tuple(name for name in grp.getgrnam(group).gr_mem if LOGIN.fullmatch(name))
    except KeyError:
        return ()


def _mark(login: str) -> str | None:
    """The mark of an account that is ours. Root never is, whatever group it was put into."""
    try:
        if pwd.getpwnam(login).pw_uid == 0:
            return None
    except (KeyError, ValueError):
        return None
    return next((mark for mark in (KEEP_GROUP, DROP_GROUP) if login in _members(mark)), None)
