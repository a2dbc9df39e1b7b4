"""What the processes of the node role are told once, before any of them exists."""

import json
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.model.env_names import ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    data_dir: Path
    # A jump host instead of a node: ways to other hosts in place of shells (`jump.py`).
    jump: bool = False
    # From accept to logged in. OpenSSH gives 120 s; nobody types a password here.
    grace: float = 30.0
    # OpenSSH's MaxAuthTries. Every certificate that is offered and refused counts.
    tries: int = 6
    # How often a monitor looks for new locks by itself when no daemon is there to tell it.
    recheck_every: float = 5.0
    # How long shells have to go after a hang-up, before their processes are left or killed.
    hang_up_time: float = 2.0
    # Who parses strangers' bytes: the first that exists, is not root and does not own data_dir.
    worker_accounts: tuple[str, ...] = ("teleport-lite", "nobody")
    # Address space a worker may take beyond what it starts with. Ten full channels of 2 MiB
    # each way and their packets come to 60 MiB.
    worker_memory: int = 256 << 20
    # Recordings that wait for auth: bytes in all, and what is left of the disk for others.
    recording_spool_quota: int = 1 << 30
    recording_free_floor: int = 64 << 20
    # ssh_service: what nobody may have on this host, whatever roles say.
    port_forwarding: bool = True
    file_copy: bool = True
    x11: bool = False
    # Displays that X11 forwarding may use.
    x11_first: int = 10
    x11_last: int = 1010
    # Names of variables that clients may set, `*` and `?` as in sshd_config(5).
    accept_env: tuple[str, ...] = ACCEPTED
    # ~/.tsh/environment counts.
    permit_user_env: bool = False
    # A file whose text everybody reads before the login, "" for none; or the text itself.
    banner: str = ""
    banner_text: str = ""
    # A file in /etc/pam.d, "" if PAM is not asked; what its modules find in their environment,
    # and how long they may take to let somebody in, and again to let them go.
    pam_service: str = ""
    pam_environment: tuple[tuple[str, str], ...] = ()
    pam_time: float = 20.0
    # Nobody new while auth was silent for long: it may have locked them.
    strict_locks: bool = False
    # Make accounts for logins that have none, where roles say so.
    create_host_users: bool = True


def from_json(data_dir: str, text: str) -> Settings:
    """What `zygote.start` wrote."""
    said = json.loads(text)
    for name in ("worker_accounts", "accept_env", "pam_environment"):
        if name in said:
            said[name] = tuple(
                tuple(each) if isinstance(each, list) else each for each in said[name]
            )
    return Settings(data_dir=Path(data_dir), **said)
