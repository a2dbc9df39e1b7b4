"""The system's own tools for accounts: useradd and its family, and visudo. For root.

Nothing here edits /etc/passwd: these know about shadow files, subordinate ids, caches and locks.
Programs are found by absolute path, names are checked, no shell reads the words.
"""

import grp
import os
import pwd
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.model.names import LOGIN

_PLACES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
# They wait up to 15 s for somebody else's lock on /etc/passwd.
_TIME = 20.0
_COMMENT = "made by teleport-lite"
SUDOERS = Path("/etc/sudoers.d")
# Teleport's own are called teleport-HOST-LOGIN, and are none of ours.
_SUDOERS_PREFIX = "teleport-lite-"
_MAX_LINES = 64
_MAX_LINE = 1024
# The user stands in front. A comma here would add another one, and a backslash at the end the
# next line.
_LINE = re.compile(r"[^\s,\\][^\x00-\x1f\x7f]*(?<!\\)")
_SHELL = re.compile(r"/[A-Za-z0-9_.+/-]{1,255}")
# Debian's, Fedora's and systemd's static accounts. A visitor who is called like one would be
# given its files as soon as the package comes.
RESERVED = frozenset(
    """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats
    nobody nogroup adm halt shutdown operator ftp dbus messagebus polkitd tss sshd rpc rpcuser
    nfsnobody chrony ntp postfix postgres mysql mariadb redis mongodb nginx apache httpd named
    bind ldap openldap sssd docker podman containerd kubelet etcd libvirt-qemu qemu avahi rtkit
    cups colord geoclue gdm lightdm sddm uuidd tcpdump syslog landscape pollinate snmp git
    gitlab-runner jenkins zabbix prometheus grafana telegraf elasticsearch kibana vault consul
    nomad teleport teleport-lite wheel sudo users staff shadow utmp video audio disk kmem tty
    sudoers admin-group input render kvm systemd
    """.split()  # noqa: SIM905  # a list of them would be a page
)
_RESERVED_STARTS = ("_", "systemd-", "teleport-")


def find(tool: str) -> str:
    """Raises Unavailable if it is not installed."""
    for place in _PLACES:
        path = f"{place}/{tool}"
        if os.access(path, os.X_OK):
            return path
    raise Unavailable(f"{tool} is not installed on this host")


def check_login(login: str) -> None:
    """May there be a new account of that name? Raises Denied."""
    if not LOGIN.fullmatch(login):
        raise Denied(f"{login[:40]!a} is no name for an account")
    if login.lower() in RESERVED or login.startswith(_RESERVED_STARTS):
        raise Denied(f"{login} is a name of the system's, no account is made for it")
    if group_exists(login):
        raise Denied(f"there is a group {login} already, no account of that name is made")


def group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def groups_of(login: str) -> set[str]:
    """Supplementary ones, as /etc/group and the like have them."""
    return {each.gr_name for each in grp.getgrall() if login in each.gr_mem}


def make_group(name: str, *, system: bool = False) -> None:
    if not group_exists(name):
        _run("groupadd", *(["--system"] if system else []), name)


def sound_groups(names: Iterable[str], *, not_these: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that an account of ours may be in, and those that it may not."""
    good: list[str] = []
    bad: list[str] = []
    for name in dict.fromkeys(names):
        odd = not LOGIN.fullmatch(name) or name in not_these
        (bad if odd or _is_roots(name) else good).append(name)
    return good, bad


def _is_roots(group: str) -> bool:
    try:
        return grp.getgrnam(group).gr_gid == 0
    except KeyError:
        return False


def usable_shell(path: str) -> bool:
    return bool(_SHELL.fullmatch(path)) and Path(path).is_file() and os.access(path, os.X_OK)


def make_account(login: str, *, groups: Sequence[str], shell: str) -> None:
    """With a home, a group of its own and no password. Raises Unavailable."""
    words = ["--create-home", "--user-group", "--comment", _COMMENT, "--groups", ",".join(groups)]
    if shell:
        words += ["--shell", shell]
    _run("useradd", *words, login)


def set_groups(login: str, groups: Sequence[str]) -> None:
    _run("usermod", "--groups", ",".join(groups), login)


def remove_account(login: str) -> None:
    """With its home, if that is its own. Its group goes, too."""
    if pwd.getpwnam(login).pw_uid == 0:
        raise Denied(f"{login} is root")  # whatever group somebody has put it into
    # 12: the home could not be removed, for example as it belongs to somebody else.
    _run("userdel", "--remove", login, fine=(0, 12))
    if group_exists(login):  # where login.defs(5) says USERGROUPS_ENAB no
        _run("groupdel", login)


def sudoers_file(login: str) -> Path:
    """sudo passes over names with a dot (sudoers(5), @includedir); % is in no name of ours."""
    return SUDOERS / f"{_SUDOERS_PREFIX}{login.replace('.', '%')}"


def write_sudoers(login: str, lines: Sequence[str]) -> None:
    """After visudo has found nothing wrong with it. Raises Denied or Unavailable; then there
    is no such file."""
    path = sudoers_file(login)
    path.unlink(missing_ok=True)
    if not lines:
        return
    if login[:1].isupper():  # ALL, aliases and keywords (sudoers(5)): they mean others, too
        raise Denied(f"sudo may take {login} for more than a user")
    if len(lines) > _MAX_LINES:
        raise Denied(f"roles give {login} more than {_MAX_LINES} lines for sudoers")
    for line in lines:
        if len(line) > _MAX_LINE or not _LINE.fullmatch(line):
            raise Denied(f"roles give {login} a line for sudoers that can not be one: {line!a:.80}")
    visudo = find("visudo")
    # The dot keeps sudo from reading it before it is good.
    draft = path.with_name(f".{path.name}")
    text = "".join(f"{line}\n" for line in ("# teleport-lite", *(f"{login} {x}" for x in lines)))
    try:
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o440), "w") as file:
            os.fchmod(file.fileno(), 0o440)
            file.write(text)
        if _call([visudo, "-c", "-f", str(draft)]).returncode:
            raise Denied(f"visudo refuses what roles give {login} for sudoers")
        draft.rename(path)
    except OSError as why:
        raise Unavailable(f"can not write {path}: {why.strerror}") from why
    finally:
        draft.unlink(missing_ok=True)


def _run(tool: str, *words: str, fine: Sequence[int] = (0,)) -> None:
    done = _call([find(tool), *words])
    if done.returncode not in fine:
        said = ascii(done.stderr.decode("utf-8", "replace").strip().replace("\n", "; "))[1:-1]
        raise Unavailable(f"{tool} {words[-1]}: {said[:200] or f'exit status {done.returncode}'}")


def _call(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603  # absolute path, checked names
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TIME,
            cwd="/",
            env={"PATH": ":".join(_PLACES), "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{words[0]} does not end") from None
    except OSError as why:
        raise Unavailable(f"{words[0]}: {why.strerror}") from why
