"""The account of the system that a login means, and becoming it."""

import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from teleport_lite.errors import Denied
from teleport_lite.node.confine import check_gone

_SHADOW = Path("/etc/shadow")
_SECONDS_A_DAY = 86400
_LOGIN_UID = Path("/proc/self/loginuid")
_NOT_SET = str(2**32 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    name: str
    uid: int
    gid: int
    home: str
    shell: str


def find_account(login: str, now: datetime, *, shadow: Path = _SHADOW) -> Account:
    """The account behind `login`. Raises Denied, always the same; `log` has the reason.

    A locked password ("!") is no obstacle: certificates do not need one, and accounts without
    any are common. An expired account is one, as PAM and sshd have it.
    """
    try:
        found = pwd.getpwnam(login)
    except (KeyError, ValueError):
        raise _denied(f"no account {login}") from None
    # Another name for root would pass every rule that is written about "root".
    if found.pw_uid == 0 and login != "root":
        raise _denied(f"account {login} is another name of root")
    if os.geteuid() not in (0, found.pw_uid):
        raise _denied(f"this node does not run as root and can not become {login}")
    if os.geteuid() == 0 and _expired(login, now, shadow):
        raise _denied(f"account {login} has expired")
    return Account(
        name=found.pw_name,
        uid=found.pw_uid,
        gid=found.pw_gid,
        home=found.pw_dir or "/",
        shell=found.pw_shell or "/bin/sh",
    )


def exists(login: str) -> bool:
    try:
        pwd.getpwnam(login)
    except (KeyError, ValueError):
        return False
    return True


def set_login_uid(uid: int, file: Path = _LOGIN_UID) -> None:
    """For the kernel's audit trail: whoever this process and its children become, it was `uid`
    who logged in. Only root can say it, and only once; pam_loginuid(8) does the same."""
    with suppress(OSError):  # a kernel without audit, or a container
        if file.read_text().strip() == _NOT_SET:
            file.write_text(str(uid))


def become(account: Account, *, groups: bool = True) -> str:
    """Be that user from here on, in their home, with no way back. Raises Denied or OSError.

    Without `groups` those stay that this process has: PAM's modules have chosen them. Returns
    why the home cannot be entered, in sshd's words, or "".
    """
    if os.geteuid() == 0:
        if groups:
            os.initgroups(account.name, account.gid)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        check_gone(account.uid, account.gid)
    try:
        os.chdir(account.home)
    except OSError as why:
        os.chdir("/")
        return f"Could not chdir to home directory {account.home}: {why.strerror}"
    return ""


def _expired(login: str, now: datetime, shadow: Path) -> bool:
    """Field 8 of shadow(5): days since 1970, after which the account is no more."""
    try:
        lines = shadow.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return False
    for line in lines:
        fields = line.split(":")
        if fields[0] == login and len(fields) > 7 and fields[7].strip():
            try:
                return now.timestamp() // _SECONDS_A_DAY >= int(fields[7])
            except ValueError:
                return True  # nobody knows what it means, so the answer is no
    return False


def _denied(reason: str) -> Denied:
    return Denied("login is not possible", log=reason)
