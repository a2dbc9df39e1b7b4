"""Taking things away from a process: descriptors, privileges, room to grow. All for good."""

import ctypes
import errno
import os
import pwd
import resource
import signal
import struct
from collections.abc import Iterable
from pathlib import Path

from teleport_lite.errors import Denied
from teleport_lite.net.ssh_policy import MAX_FORWARDS, MAX_SESSIONS
from teleport_lite.net.ssh_tap import MAX_PARTIES
from teleport_lite.node.landlock import shut_in

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

# linux/capability.h: two words each for effective, permitted and inheritable
_CAPABILITY_VERSION_3 = 0x20080522

# A socket, two lines, three descriptors for each of ten sessions, some to spare, those who have
# joined, and everything that is forwarded.
_WORKER_FILES = 64 + MAX_SESSIONS * MAX_PARTIES + MAX_FORWARDS

# UIDs that nobody gives out: systemd's list (UIDS-GIDS.md) has them as unused, and PIDs stay
# below 4 million.
_FIRST_WORKER = 0x70000000

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def name(text: str) -> None:
    """What `ps -o comm` shows; at most 15 characters."""
    buffer = ctypes.create_string_buffer(text.encode()[:15])
    _libc.prctl(_PR_SET_NAME, buffer, 0, 0, 0)


def keep_only(fds: Iterable[int]) -> None:
    """Close every descriptor above stderr but these."""
    low = 3
    for fd in sorted(set(fds)):
        if fd >= low:
            os.closerange(low, fd)
            low = fd + 1
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def errors_only() -> None:
    """Nothing is read or answered; standard error stays for what should not have happened."""
    _to_nowhere(0, 1)


def no_terminal() -> None:
    """Standard input, output and error lead nowhere."""
    _to_nowhere(0, 1, 2)


def _to_nowhere(*fds: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in fds:
        os.dup2(null, fd)
    if null not in fds:
        os.close(null)


def default_signals() -> None:
    """Undo what the parent set; Python's own SIGPIPE and SIGXFSZ stay ignored."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def deaf_to_the_end() -> None:
    """What systemd sends to all in a unit or a login session (SIGHUP comes with it there) is for
    the monitor, who ends this process in its turn (`family.py`).

    A handler, since what is ignored stays so in programs that are started.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)


def secretive() -> None:
    """No core file, and no look into our memory for other processes of the same user.

    Ends with the next exec, so a shell of the login user's is as usual.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """Lost by the next change of the user."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Processes that lose their parent below us become our children, not init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def worker_account(candidates: Iterable[str], data_dir: Path) -> pwd.struct_passwd:
    """Whom a worker becomes. Raises Denied if there is nobody fit for it."""
    owner = data_dir.stat().st_uid
    for candidate in candidates:
        try:
            found = pwd.getpwnam(candidate)
        except KeyError:
            continue
        if found.pw_uid not in (0, owner):
            return found
    raise Denied("no account to run SSH workers as", hint="useradd --system teleport-lite")


def confine_worker(
    account: pwd.struct_passwd | None, *, memory: int, file: int = 0, outlive: bool = False
) -> None:
    """Become a user of one's own in the group of `account` (None: stay who we are, the daemon has
    no privileges, and open no file any more), and give up the rest.

    `memory` is how many bytes the address space may still grow, `file` how large a file that is
    open may get. There will be no other process, no thread, no file, no new privilege, and no
    core file; and no life after the parent's, unless it is to `outlive` it.
    """
    os.chdir("/")
    if account is not None:
        os.setgroups([])
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        check_gone(_become_one_of_a_kind(account), account.pw_gid)
    _no_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    secretive()
    limits = (
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_NOFILE, _WORKER_FILES),
        (resource.RLIMIT_AS, _address_space() + memory),
    )
    for what, most in limits:
        resource.setrlimit(what, (most, most))
    if account is None:  # still who the daemon is, whose files these are
        shut_in()
    # After setresuid, which clears it: without its monitor a worker has no business.
    if not outlive:
        die_with_parent()


def _become_one_of_a_kind(account: pwd.struct_passwd) -> int:
    """The UID: nobody else's, or where there are no such, as in some containers, the account's.

    Processes of one account may signal, slow down and limit each other.
    """
    for uid in (_FIRST_WORKER + os.getpid(), account.pw_uid):
        try:
            os.setresuid(uid, uid, uid)
        except OSError as why:
            if why.errno != errno.EINVAL:
                raise
            continue
        return uid
    raise Denied(f"{account.pw_name} is not known to this user namespace")


def _no_capabilities() -> None:
    """Empty every set (capset(2)): changing the user leaves what is inheritable as it was."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, bytes(2 * 3 * 4)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


def check_gone(uid: int, gid: int) -> None:
    """Raises Denied unless this process is `uid` and `gid` and can be nothing else again."""
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise Denied("privileges were not dropped")
    if uid == 0:
        return
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise Denied("dropped privileges came back")


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
