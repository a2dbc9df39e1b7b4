"""What a shell finds around it: its environment, and what its user reads first.

All of it is read here by the login user. Files are read under a limit, and one that cannot be
read is as good as none: nobody is kept out by a message of the day.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from teleport_lite.model.env_names import ACCEPTED, NAME, never
from teleport_lite.node.account import Account

ENVIRONMENT = Path("/etc/environment")
LOGIN_DEFS = Path("/etc/login.defs")
MOTD = Path("/etc/motd")
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USER_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/games"
_UMASK = 0o022
_MAX_FILE = 64 * 1024
# As Teleport has it for ~/.tsh/environment.
_MAX_LINES = 1000
# A terminal that nobody reads from yet holds about 14 KiB; then writing would wait for ever.
MAX_GREETING = 8 * 1024
_KEY = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Of all shells of one connection."""

    account: Account
    told: Mapping[str, str] = field(default_factory=dict)  # by us; nobody can change it
    # PAM's, /etc/environment included. None: it was not asked, so we read that file.
    modules: Mapping[str, str] | None = None
    accept: tuple[str, ...] = ACCEPTED  # what clients may set
    user_file: bool = False  # ~/.tsh/environment counts
    notice: str = ""  # what PAM's modules have to say
    last_login: str = ""
    no_home: str = ""  # why the shell does not start at home

    def env(self, sid: str, asked: Mapping[bytes, bytes], *, forced: bool) -> dict[bytes, bytes]:
        """In sshd's order, later ones win: the client's, the account's, the system's, the user's
        file, ours. A forced command is to run as the administrator meant it, so there the
        user's file does not count."""
        found = {name: value for name, value in asked.items() if not never(os.fsdecode(name))}
        layers = [self._of_the_account(), self._of_the_system()]
        if self.user_file and not forced:
            layers.append(user_environment(self.account)[0])
        layers.append({**self.told, "SSH_SESSION_ID": sid, "TELEPORT_SESSION": sid})
        for layer in layers:
            found |= {os.fsencode(name): os.fsencode(value) for name, value in layer.items()}
        return found

    def greeting(self, *, login_shell: bool, terminal: bool) -> bytes:
        """What stands on the terminal, or in standard error, before the shell says anything."""
        parts = [self.no_home]
        if login_shell and not self._hushed():
            parts.append(self.notice)
            if self.user_file:
                parts.append(user_environment(self.account)[1])
            if terminal and self.modules is None:
                parts += [self.last_login, _text(MOTD, MAX_GREETING)]
        lines = "".join(part if part.endswith("\n") else f"{part}\n" for part in parts if part)
        return lines.encode("utf-8", "surrogateescape")[:MAX_GREETING]

    def _hushed(self) -> bool:
        return os.access(Path(self.account.home, ".hushlogin"), os.F_OK)

    def _of_the_account(self) -> dict[str, str]:
        account = self.account
        return {
            "USER": account.name,
            "LOGNAME": account.name,
            "HOME": account.home,
            "SHELL": account.shell,
            "PATH": _ROOT_PATH if account.uid == 0 else _USER_PATH,
            "MAIL": f"/var/mail/{account.name}",
        }

    def _of_the_system(self) -> Mapping[str, str]:
        if self.modules is not None:
            return self.modules
        return parse_environment(_text(ENVIRONMENT, _MAX_FILE))


def parse_environment(text: str) -> dict[str, str]:
    """/etc/environment as pam_env(8) reads it: comments end lines, `export` is passed over, a
    value that begins with a quote loses its quotes, and a name alone unsets."""
    found: dict[str, str] = {}
    joined = re.sub(r"\\\n[ \t]*", "", text)
    for raw in joined.splitlines()[:_MAX_LINES]:
        line = raw.partition("#")[0].strip().removeprefix("export ").lstrip()
        name, equals, value = line.partition("=")
        if not _KEY.fullmatch(name) or "\0" in value:
            continue
        if not equals:
            found.pop(name, None)
            continue
        if value[:1] in ('"', "'"):
            value = value[1:].removesuffix('"').removesuffix("'")
        found[name] = value
    return found


def user_environment(account: Account) -> tuple[dict[str, str], str]:
    """~/.tsh/environment, lines of NAME=value: what it says, and why it does not count, if so.

    Others must not be able to write it, and since it often holds secrets, not to read it.
    """
    path = Path(account.home, ".tsh", "environment")
    try:
        text = _own_text(path, account.uid)
    except FileNotFoundError:
        return {}, ""
    except OSError as why:
        return {}, f"{path} is not read: {why.strerror}"
    found: dict[str, str] = {}
    for line in text.splitlines()[:_MAX_LINES]:
        name, equals, value = line.strip().partition("=")
        sound = equals and NAME.fullmatch(name) and "\0" not in value
        # PATH is what most such files are for, and takes no right from anybody.
        if sound and (name == "PATH" or not never(name)):
            found[name] = value
    return found, ""


def _own_text(path: Path, uid: int) -> str:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != uid:
            raise OSError(0, "it must be a file of your own")
        if status.st_mode & 0o077:
            raise OSError(0, f"others must not read or write it; chmod 600 {path}")
        raw = file.read(_MAX_FILE + 1)
    if len(raw) > _MAX_FILE:
        raise OSError(0, f"it is larger than {_MAX_FILE} bytes")
    return raw.decode("utf-8", "surrogateescape")


def login_umask(path: Path = LOGIN_DEFS) -> int:
    """UMASK of login.defs(5), 022 if it does not say."""
    for line in _text(path, _MAX_FILE).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "UMASK" and re.fullmatch(r"[0-7]{1,4}", words[1]):
            return int(words[1], 8) & 0o777
    return _UMASK


def _text(path: Path, limit: int) -> str:
    """Of a file of the system's. Nothing that could make us wait is opened for long."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return (file.read(limit) or b"").decode("utf-8", "surrogateescape")
    except OSError:
        return ""
