"""Driving the system's OpenSSH: which host it believes, who it is, and how it gets there.

The host is called NODE.CLUSTER, a name that only this cluster's host CA signs for and that no
other connection of the person shares. Options of ours stand first, and OpenSSH takes the first
value it meets: what somebody adds can not undo them.
"""

import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from teleport_lite.cli.show import flush
from teleport_lite.cli.tsh.desk import Desk
from teleport_lite.client.facts import Facts
from teleport_lite.client.person import Person
from teleport_lite.errors import Conflict, Malformed, NotFound
from teleport_lite.model.labels import parse_labels
from teleport_lite.model.names import HOST_NAME, LOGIN, UUID, checked

_ADDRESS = re.compile(r"[0-9.]+|\[?[0-9a-fA-F]*:[0-9a-fA-F:.]*\]?")


@dataclass(frozen=True, slots=True)
class Target:
    """A node, under the name that OpenSSH is given."""

    host: str  # name or UUID, and the cluster
    shown: str  # as people know it


def program() -> list[str]:
    """How this very program is called again."""
    found = sys.argv[0] if os.sep in sys.argv[0] else shutil.which(sys.argv[0])
    path = os.path.abspath(found) if found else ""  # noqa: PTH100  # links stay: their name counts
    name = os.path.basename(path).removesuffix(".pyz")  # noqa: PTH119
    if name not in ("tsh", "teleport-lite") or not os.path.isfile(path):  # noqa: PTH113
        return [sys.executable, "-m", "teleport_lite", "tsh"]
    start = [path] if os.access(path, os.X_OK) else [sys.executable, path]
    return start if name == "tsh" else [*start, "tsh"]


def proxy_command(person: Person) -> str:
    """For ProxyCommand; OpenSSH fills in %r, %h and %p."""
    who = (
        f"--identity={person.ssh.key.absolute()}"
        if person.ssh.cert is None
        else f"--user={person.papers.user}"
    )
    words = [*_home(), *program(), "proxy", "ssh", f"--proxy={person.through()}"]
    words += [f"--cluster={person.cluster}", who]
    # Quoted: clients older than OpenSSH 9.6 hand any host name to the shell (CVE-2023-51385).
    return shlex.join(words).replace("%", "%%") + " '%r@%h:%p'"


def _home() -> list[str]:
    """Whoever reads the configuration later may not have the variable."""
    chosen = os.environ.get("TELEPORT_HOME")
    return ["env", f"TELEPORT_HOME={Path(chosen).absolute()}"] if chosen else []


def settings(person: Person) -> list[tuple[str, str]]:
    """What both a command line and a configuration file say."""
    files = person.ssh
    found = [
        ("ProxyCommand", proxy_command(person)),
        ("UserKnownHostsFile", _path(files.known_hosts)),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("StrictHostKeyChecking", "yes"),
        ("UpdateHostKeys", "no"),  # the file is written at every login
        ("IdentityFile", _path(files.key)),
        ("IdentitiesOnly", "yes"),
    ]
    if files.cert is not None:
        found.append(("CertificateFile", _path(files.cert)))
    return found


def flags(person: Person) -> list[str]:
    return [word for name, value in settings(person) for word in ("-o", f"{name}={value}")]


def split_target(text: str, desk: Desk, person: Person) -> tuple[str, str]:
    """(login, host) of `[login@]host`. Raises Malformed."""
    login, at, host = text.rpartition("@")
    login = login if at else desk.login or _usual_login(person)
    checked(LOGIN, login, "login", example="root")
    if not host:
        raise Malformed(f"{text[:80]!a} names no host", hint="tsh ls")
    return login, host


def find(host: str, desk: Desk, person: Person) -> list[Target]:
    """The nodes that `host` means. A name is left to the proxy; labels and addresses are
    looked up here. Raises NotFound or Malformed."""
    if "=" in host:
        nodes = desk.me(person).nodes(labels=parse_labels(host))
    elif _ADDRESS.fullmatch(host):
        wanted = host.strip("[]")
        nodes = [
            node
            for node in desk.me(person).nodes(labels={})
            if node.text("address").rpartition(":")[0].strip("[]") == wanted
        ]
    else:
        name = host.lower().removesuffix(f".{person.cluster}".lower())
        checked(HOST_NAME, name, "host", example="web-1")
        return [Target(f"{name}.{person.cluster}", name)]
    if not nodes:
        raise NotFound(f"no node is {host}, or none that you may reach", hint="tsh ls")
    there = [node for node in nodes if node.text("state", "") == "online"]
    return [_target(node, person) for node in there or nodes]


def _target(node: Facts, person: Person) -> Target:
    uuid = checked(UUID, node.text("id"), "id of a node", example="its UUID")
    return Target(f"{uuid}.{person.cluster}", node.text("hostname"))


def only(found: list[Target], host: str) -> Target:
    if len(found) > 1:
        names = ", ".join(each.shown for each in found[:10])
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise Conflict(f"{len(found)} nodes are {host}: {names}{more}", hint="tsh ls -v")
    return found[0]


def become(words: list[str]) -> NoReturn:
    """Nothing of us is left: signals, the terminal and the exit status are its own."""
    path = installed(words[0])
    flush()
    os.execv(path, words)  # noqa: S606  # that is the point


def installed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NotFound(f"{name} is not installed", hint="apt-get install openssh-client")
    return found


def _usual_login(person: Person) -> str:
    """One's own name here, if it is allowed there; else the one that is, if there is one."""
    import getpass

    logins = person.papers.logins
    try:
        own = getpass.getuser()
    except (KeyError, OSError):
        own = ""
    return logins[0] if own not in logins and len(logins) == 1 else own


def _path(path: Path) -> str:
    """Quoted as ssh_config(5) has it; % would begin a token."""
    text = str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'
