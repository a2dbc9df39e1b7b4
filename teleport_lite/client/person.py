"""Whose credentials a command of tsh uses: those of a profile, or of an identity file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.client import profile
from teleport_lite.client.doors import TlsDoor
from teleport_lite.client.papers import Papers, read_papers
from teleport_lite.errors import NotFound, Unauthenticated
from teleport_lite.secret import Secret

PROXY_PORT = 3080


@dataclass(frozen=True, slots=True, kw_only=True)
class SshFiles:
    """What OpenSSH is told to use."""

    key: Path
    cert: Path | None  # None: it stands in `key`
    known_hosts: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    cluster: str
    proxy: str  # host:port of its web port; "" if nobody said
    source: str  # where the credentials come from, for messages
    papers: Papers
    ssh: SshFiles
    tls_cert: str
    tls_key: Secret
    host_cas: Sequence[str]
    # On the way to a leaf, `cluster`: the cluster that the credentials are of, and its host CAs,
    # which its proxy is known by.
    root: str = ""
    root_cas: Sequence[str] = ()

    @property
    def proxy_cas(self) -> Sequence[str]:
        """Whom the proxy has its certificate from."""
        return self.root_cas or self.host_cas

    def door(self) -> TlsDoor:
        """To auth, through the proxy. Raises Unauthenticated if no proxy is known."""
        return TlsDoor(
            address=self.through(),
            cluster=self.cluster,
            source=self.source,
            cert=self.tls_cert,
            key=self.tls_key,
            host_cas=self.host_cas,
        )

    def through(self) -> str:
        """The address of the proxy."""
        if not self.proxy:
            raise Unauthenticated(
                f"{self.source} does not say which proxy it is for",
                hint="tsh ls --identity=FILE --proxy=HOST:3080",
            )
        return self.proxy


def by_file(path: Path, proxy: str) -> Person:
    """Raises NotFound, Denied or Malformed."""
    from teleport_lite.client.identity_file import load

    found = load(path)
    return Person(
        cluster=found.cluster,
        proxy=proxy,
        source=str(path),
        papers=read_papers(found.ssh_cert, str(path)),
        # OpenSSH reads all three from the one file, and passes over what is not for it.
        ssh=SshFiles(key=path, cert=None, known_hosts=path),
        tls_cert=found.tls_cert,
        tls_key=found.tls_private,
        host_cas=found.host_cas,
    )


def by_profile(home: Path, chosen: profile.Profile) -> Person:
    """Raises Unauthenticated when its keys are gone, Denied or Malformed."""
    try:
        found = profile.identity(home, chosen)
    except NotFound as why:
        raise Unauthenticated(
            f"not logged in to {chosen.proxy}: {why.message}", hint=profile.LOG_IN
        ) from why
    files = profile.Files(home, chosen)
    return Person(
        cluster=chosen.cluster,
        proxy=chosen.web_proxy_addr,
        source=f"the tsh profile {chosen.proxy}",
        papers=read_papers(found.ssh_cert, str(files.ssh_cert)),
        ssh=SshFiles(key=files.ssh_key, cert=files.ssh_cert, known_hosts=files.known_hosts),
        tls_cert=found.tls_cert,
        tls_key=found.tls_private,
        host_cas=found.host_cas,
    )


def not_logged_in(where: str = "") -> Unauthenticated:
    return Unauthenticated(
        f"not logged in to {where}" if where else "not logged in", hint=profile.LOG_IN
    )
