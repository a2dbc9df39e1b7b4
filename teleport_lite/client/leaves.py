"""Leaf clusters of the cluster somebody is logged in to, as a profile keeps them.

    keys/<proxy>/cas/<leaf>.pem          host CAs for TLS, as those of the profile's own cluster
    keys/<proxy>/cas/<leaf>.known_hosts  host CAs for ssh
    keys/<proxy>/cas/<leaf>.leaf         name of the cluster that one is logged in to

Nobody logs in to a leaf: it takes the certificates of its root. The last file says so, to
`tsh proxy ssh`, which has no time to ask.

Who has an identity file in place of a profile keeps the same in leaves/<digest of its host CAs>/.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from teleport_lite.client.facts import Facts
from teleport_lite.client.identity_file import blocks
from teleport_lite.client.person import Person, SshFiles
from teleport_lite.client.profile import Files, Profile
from teleport_lite.errors import NotFound
from teleport_lite.model.names import CLUSTER_NAME
from teleport_lite.pki.keyfile import make_private_dir, write_public

MARK = ".leaf"
# A public key in OpenSSH's form, without the comment: nothing else gets into a known_hosts file.
_KEY = re.compile(r"[a-z0-9@.-]{1,64} [A-Za-z0-9+/]{16,4096}={0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    name: str
    status: str  # online or offline, seen from the root
    labels: dict[str, str]
    host_cas: tuple[str, ...]  # PEM
    ssh_host_cas: tuple[str, ...]  # OpenSSH lines

    @property
    def plain(self) -> dict[str, Any]:
        return {"cluster_name": self.name, "status": self.status, "labels": self.labels}


def leaves_of(said: Facts) -> list[Leaf]:
    """Of the answer to `/v1/me/clusters`. Raises Malformed for one that can not be read."""
    return [
        Leaf(
            name=each.text("name"),
            status=each.text("status"),
            labels=each.labels("labels"),
            host_cas=tuple(each.texts("host_cas")),
            ssh_host_cas=tuple(each.texts("ssh_host_cas")),
        )
        for each in said.each("clusters")
        if CLUSTER_NAME.fullmatch(each.text("name"))
    ]


def keep(home: Path, profile: Profile, leaves: Iterable[Leaf]) -> None:
    """Know these, and no others, from now on."""
    keep_in(Files(home, profile).cas.parent, profile.cluster, leaves)


def place_of_file(home: Path, person: Person) -> Path:
    """Where it is kept for an identity file: another cluster, also of the same name, has another
    place."""
    digest = hashlib.sha256("\n".join(person.host_cas).encode()).hexdigest()
    return home / "leaves" / digest[:32]


def keep_in(directory: Path, cluster: str, leaves: Iterable[Leaf]) -> None:
    """Leaves of `cluster`."""
    make_private_dir(directory)
    names = set()
    for leaf in leaves:
        if leaf.name.lower() == cluster.lower():
            continue
        names.add(leaf.name)
        keys = (" ".join(line.split()[:2]) for line in leaf.ssh_host_cas)
        lines = [f"@cert-authority *.{leaf.name} {key}\n" for key in keys if _KEY.fullmatch(key)]
        tls = "".join(f"{ca.strip()}\n" for ca in leaf.host_cas)
        write_public(directory / f"{leaf.name}.pem", tls.encode())
        write_public(directory / f"{leaf.name}.known_hosts", "".join(lines).encode())
        write_public(directory / f"{leaf.name}{MARK}", f"{cluster}\n".encode())
    _forget_in(directory, names)


def forget(home: Path, profile: Profile, *, but: Iterable[str] = ()) -> None:
    """Of the leaves that a profile knows, all but these."""
    _forget_in(Files(home, profile).cas.parent, set(but))


def _forget_in(directory: Path, kept: Collection[str]) -> None:
    for mark in directory.glob(f"*{MARK}"):
        name = mark.name.removesuffix(MARK)
        if name not in kept:
            for ending in (".pem", ".known_hosts", MARK):
                (directory / f"{name}{ending}").unlink(missing_ok=True)


def known(home: Path, profile: Profile) -> list[str]:
    """Names of the leaves that a profile knows."""
    return _known_in(Files(home, profile).cas.parent)


def _known_in(directory: Path) -> list[str]:
    marks = directory.glob(f"*{MARK}")
    return sorted(mark.name.removesuffix(MARK) for mark in marks)


def at_leaf(person: Person, home: Path, profile: Profile, name: str) -> Person:
    """The same person, on the way to a leaf that the profile knows. Raises NotFound."""
    return at_leaf_in(person, Files(home, profile).cas.parent, name)


def at_leaf_in(person: Person, directory: Path, name: str) -> Person:
    found = next((each for each in _known_in(directory) if each.lower() == name.lower()), None)
    if found is None:
        raise NotFound(
            f"cluster {name[:128]} is not known, you are logged in to {person.cluster}",
            hint="tsh clusters",
        )
    tls = (directory / f"{found}.pem").read_text(errors="replace")
    known_hosts = directory / f"{found}.known_hosts"
    return replace(
        person,
        cluster=found,
        root=person.cluster,
        host_cas=tuple(block for _, block in blocks(tls)),
        root_cas=tuple(person.host_cas),
        ssh=SshFiles(key=person.ssh.key, cert=person.ssh.cert, known_hosts=known_hosts),
    )
