"""Names of environment variables: which ones a client may set, and which ones nobody may."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from teleport_lite.errors import Malformed

# Debian's sshd (AcceptEnv LANG LC_* COLORTERM NO_COLOR), the time zone of the visitor, and what
# git asks for the second version of its protocol with.
ACCEPTED = ("LANG", "LC_*", "COLORTERM", "NO_COLOR", "TZ", "GIT_PROTOCOL")
MAX_PATTERNS = 64
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_PATTERN = re.compile(r"[A-Za-z_*?][A-Za-z0-9_*?]{0,127}")
# They say which code a loader, a shell, an interpreter or a tool runs, or who somebody is. A
# forced command, and whatever runs with more rights than the visitor, trusts them.
_NEVER = re.compile(
    r"(?:LD|DYLD|BASH|PYTHON|PERL|PERL5|RUBY|GEM|LUA|NODE|NPM|JAVA|JDK|_JAVA|GCONV|GLIBC|MALLOC"
    r"|SSH|SUDO|TELEPORT|TERMINFO|TERMCAP|XDG|DBUS|SYSTEMD|PAM|KRB5|LESS|OPENSSL|SSL)(?:_.*|[A-Z]*)"
    r"|PATH|[A-Z]+PATH|ENV|IFS|PS[0-4]|CDPATH|FPATH|ZDOTDIR|SHELLOPTS|BASHOPTS|PROMPT_COMMAND"
    r"|HOME|USER|LOGNAME|SHELL|MAIL|MAILCHECK|PWD|OLDPWD|UID|EUID|TMPDIR|TMP|TEMP|HISTFILE"
    r"|EDITOR|VISUAL|PAGER|BROWSER|MANPAGER|LOCALDOMAIN|RES_OPTIONS|HOSTALIASES|RESOLV_.*"
    r"|GIT_(?!PROTOCOL$|AUTHOR_|COMMITTER_).*"
)


def never(name: str) -> bool:
    """Whatever is configured, no client sets this."""
    return _NEVER.fullmatch(name) is not None


def accepts(patterns: Iterable[str], name: str) -> bool:
    """`*` and `?` as in sshd_config(5), AcceptEnv."""
    if not NAME.fullmatch(name) or never(name):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Raises Malformed for a pattern that is none, or that stands for one forbidden name."""
    found = tuple(patterns)
    if len(found) > MAX_PATTERNS:
        raise Malformed(f"must be at most {MAX_PATTERNS} names, got {len(found)}")
    for pattern in found:
        if not _PATTERN.fullmatch(pattern):
            raise Malformed(f"{pattern[:64]!a} is no name of a variable, like LANG or LC_*")
        if never(pattern.rstrip("*")) or never(pattern):
            raise Malformed(f"{pattern} is never accepted: it decides which code runs, or as whom")
    return found
