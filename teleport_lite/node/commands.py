"""What to run for what a client asks for: a command, a login shell, a subsystem, or what the
certificate or the role has put in its place."""

import os
import re
from dataclasses import dataclass

from teleport_lite.node.permit import Refusal, Rights, demand
from teleport_lite.node.wire import Start

# Debian; Fedora; Arch and Alpine; the BSDs.
SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)
# sshd_config(5), ForceCommand: files, and nothing else.
_INTERNAL_SFTP = "internal-sftp"
# What the other ends of scp -O, sftp -s and rsync are. Who may run commands has other ways to
# copy a file; this keeps the word for those who do not look for one.
_COPIES = re.compile(
    rb"\s*(?:\S*/)?(?:scp(?:\s+-\S+)*\s+-[a-zA-Z]*[tf]\b|sftp-server\b|rsync\s+--server\b)"
)


@dataclass(frozen=True, slots=True)
class Run:
    """`command` None is a login shell. `original` is what was asked for, if it does not run."""

    command: bytes | None
    original: bytes | None = None
    forced: bool = False
    files: bool = False  # it is the system's sftp-server, which can be asked for a log


def to_run(asked: Start, force_command: str | None, rights: Rights) -> Run:
    """Raises Refusal.

    As in sshd, subsystems run in the user's shell, and a forced command takes the place of
    subsystems, too.
    """
    if asked.command is not None and b"\0" in asked.command:
        raise Refusal("a command has no NUL in it")
    if force_command is not None:
        forced = _forced(force_command, rights)
        files = force_command.split()[:1] == [_INTERNAL_SFTP]
        return Run(forced, _original(asked), forced=True, files=files)
    if asked.subsystem:
        demand(f"request subsystem {asked.subsystem}", rights)
        return Run(sftp_server(), files=True)
    demand("request shell" if asked.command is None else "request exec", rights)
    if asked.command is not None and _COPIES.match(asked.command):
        demand("request subsystem sftp", rights)
    return Run(asked.command)


def _forced(command: str, rights: Rights) -> bytes:
    first, _, rest = command.strip().partition(" ")
    if first != _INTERNAL_SFTP:
        return command.encode()
    demand("request subsystem sftp", rights)
    return b" ".join(filter(None, (sftp_server(), rest.strip().encode())))


def _original(asked: Start) -> bytes | None:
    if not asked.subsystem:
        return asked.command
    if asked.subsystem != "sftp":
        raise Refusal("that subsystem is not known here")
    return next((path.encode() for path in SFTP_SERVERS if os.access(path, os.X_OK)), b"sftp")


def sftp_server() -> bytes:
    """The system's own, which comes with OpenSSH."""
    for path in SFTP_SERVERS:
        if os.access(path, os.X_OK):
            return path.encode()
    raise Refusal("this host has no sftp-server; it comes with OpenSSH")
