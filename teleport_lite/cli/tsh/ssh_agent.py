"""The SSH key in the agent, for as long as its certificate lasts.

`ssh-add` finds the certificate beside the key. The agent forgets both by itself in time.
"""

import os
import subprocess
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from teleport_lite.cli.exit import warn
from teleport_lite.client.identity_file import IdentityFile
from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.pki.keyfile import write_public, write_secret
from teleport_lite.secret import Secret

# The agent answers at once; one that asks its owner to confirm waits for people.
PATIENCE = 60


class Adding(StrEnum):
    AUTO = "auto"  # if there is an agent that takes it
    YES = "yes"
    NO = "no"
    ONLY = "only"  # and never to the disk


def adding(text: str) -> Adding:
    try:
        return Adding(text.lower())
    except ValueError:
        raise Malformed(
            f"--add-keys-to-agent is {text[:20]!a}, expected auto, yes, no or only"
        ) from None


def there_is_one() -> bool:
    return bool(os.environ.get("SSH_AUTH_SOCK"))


def add(key: Path, left: timedelta, how: Adding) -> None:
    """Load a key and the certificate beside it. Raises Unavailable if the agent was asked for
    and does not take it."""
    if how is Adding.NO or (how is Adding.AUTO and not there_is_one()):
        return
    failed = _ssh_add("-q", "-t", str(max(1, int(left.total_seconds()))), str(key))
    if failed and how is Adding.AUTO:
        warn(f"ssh-agent did not take the key: {failed}")
    elif failed:
        raise Unavailable(
            f"ssh-agent did not take the key: {failed}", hint="tsh login --add-keys-to-agent=no"
        )


def add_only(credentials: IdentityFile, name: str, left: timedelta) -> IdentityFile:
    """Load the key from memory alone; returns what may be written to disk."""
    memory = os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm"  # noqa: S108  # of root, and sticky
    with TemporaryDirectory(prefix="tsh-", dir=memory) as directory:
        key = Path(directory) / name
        write_secret(key, credentials.ssh_private.reveal().encode())
        write_public(key.with_name(f"{name}-cert.pub"), credentials.ssh_cert.encode() + b"\n")
        add(key, left, Adding.ONLY)
    return replace(credentials, ssh_private=Secret(""))


def drop(public: Path) -> None:
    """Take key and certificate out again. That they are not there is fine."""
    if there_is_one() and public.exists():
        _ssh_add("-q", "-d", str(public.with_suffix("")))


def _ssh_add(*words: str) -> str:
    """What went wrong; "" if nothing did."""
    if not there_is_one():
        return "there is none, SSH_AUTH_SOCK is not set"
    try:
        done = subprocess.run(  # noqa: S603  # our own words
            ["ssh-add", *words],  # noqa: S607  # of the person's own PATH, as ssh itself
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
        )
    except FileNotFoundError:
        return "ssh-add is not installed"
    except (OSError, subprocess.TimeoutExpired) as why:
        return str(why)
    said = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"exit {done.returncode}")
