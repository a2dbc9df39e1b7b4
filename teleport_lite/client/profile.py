"""The tsh profile: which clusters somebody is logged in to, and with what.

    ~/.tsh (or $TELEPORT_HOME)                  0700, as every directory below
      current-profile                           name of the profile in use
      <proxy>.yaml                              addresses, user, cluster
      known_hosts                               host CAs for ssh, of all clusters, for other tools
      keys/<proxy>/<user>                       SSH key, 0600; not there if only ssh-agent has it
      keys/<proxy>/<user>.pub, <user>-cert.pub  its public half and certificate
      keys/<proxy>/<user>-ssh/<cluster>-cert.pub  the certificate again, where Teleport has it
      keys/<proxy>/<user>-x509.pem              TLS certificate and key, 0600
      keys/<proxy>/cas/<cluster>.pem            host CAs for TLS
      keys/<proxy>/cas/<cluster>.known_hosts    host CAs for ssh, of this cluster alone

`*.example.com` is about hosts of cluster sub.example.com too. With a file for each cluster the
CA of the one can not vouch for hosts of the other.
Written by `tsh login`; `tctl` reads it, and so does OpenSSH (`tsh config`).
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.client.flat import read_flat, write_flat
from teleport_lite.client.identity_file import IdentityFile, blocks
from teleport_lite.client.papers import public_line
from teleport_lite.errors import Denied, Malformed, NotFound, Unavailable
from teleport_lite.model.names import CLUSTER_NAME, HOST_NAME, USER_NAME, checked
from teleport_lite.pki.keyfile import make_private_dir, read_secret, write_public, write_secret
from teleport_lite.secret import Secret

CURRENT = "current-profile"
LOG_IN = "tsh login --proxy=HOST:3080 --user=NAME"
# Beside the keys of users, which are called as they are.
CAS = "cas"
# A private key, a certificate with a hundred roles, the CAs of a cluster in rotation.
_MAX_FILE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    proxy: str  # host name of the proxy, and the name of the profile
    user: str
    cluster: str
    web_proxy_addr: str = ""  # host:port
    ssh_proxy_addr: str = ""  # host:port; for clients that have only OpenSSH
    auth_addr: str = ""  # host:port; where tctl asks, if not through the proxy

    def __post_init__(self) -> None:
        # An IPv6 address is a name too: colons are safe in a file name.
        checked(HOST_NAME, self.proxy.replace(":", "0"), "proxy name", example="tele.example.com")
        checked(USER_NAME, self.user, "user name", example="alice")
        if self.user == CAS:
            raise Malformed(
                f"a user called {CAS} can have no profile: that is where CAs are kept",
                hint="tsh login --out=FILE, then tsh --identity=FILE",
            )
        checked(CLUSTER_NAME, self.cluster, "cluster name", example="example.com")


@dataclass(frozen=True, slots=True)
class Files:
    """Where the credentials of a profile are."""

    home: Path
    profile: Profile

    @property
    def keys(self) -> Path:
        return self.home / "keys" / self.profile.proxy

    @property
    def ssh_key(self) -> Path:
        return self.keys / self.profile.user

    @property
    def ssh_public(self) -> Path:
        return self.keys / f"{self.profile.user}.pub"

    @property
    def ssh_cert(self) -> Path:
        return self.keys / f"{self.profile.user}-cert.pub"

    @property
    def ssh_cert_too(self) -> Path:
        return self.keys / f"{self.profile.user}-ssh" / f"{self.profile.cluster}-cert.pub"

    @property
    def tls(self) -> Path:
        return self.keys / f"{self.profile.user}-x509.pem"

    @property
    def cas(self) -> Path:
        return self.keys / CAS / f"{self.profile.cluster}.pem"

    @property
    def known_hosts(self) -> Path:
        return self.keys / CAS / f"{self.profile.cluster}.known_hosts"

    @property
    def all_known_hosts(self) -> Path:
        return self.home / "known_hosts"


def current(home: Path) -> Profile | None:
    """The profile in use; None if nobody is logged in. Raises Malformed or Denied."""
    name = _text(home / CURRENT).strip()
    if not name:
        return None
    found = named(home, name)
    if found is None:
        raise Malformed(f"{home / f'{name}.yaml'}: user is missing", hint=LOG_IN)
    return found


def named(home: Path, proxy: str) -> Profile | None:
    """The profile of a proxy, by its host name; None if there is none."""
    checked(HOST_NAME, proxy.replace(":", "0"), "proxy name", example="tele.example.com")
    path = home / f"{proxy}.yaml"
    values = read_flat(_text(path), str(path), hint=LOG_IN)
    if not values:
        return None
    missing = [key for key in ("user", "cluster") if not values.get(key)]
    if missing:
        raise Malformed(f"{path}: {missing[0]} is missing", hint=LOG_IN)
    return Profile(proxy=proxy, **{key: values[key] for key in _KEYS if key in values})


def every(home: Path) -> list[Profile]:
    """All profiles, by name."""
    found = (named(home, path.stem) for path in sorted(home.glob("*.yaml")))
    return [each for each in found if each is not None]


def identity(home: Path, profile: Profile) -> IdentityFile:
    """All credentials of a profile. Raises NotFound, Denied or Malformed."""
    files = Files(home, profile)
    tls = blocks(read_secret(files.tls, limit=_MAX_FILE).decode("ascii", "replace"))
    if [label for label, _ in tls] != ["CERTIFICATE", "PRIVATE KEY"]:
        raise Malformed(f"{files.tls} is not a certificate and its key", hint=LOG_IN)
    return IdentityFile(
        cluster=profile.cluster,
        ssh_private=_private(files.ssh_key),
        ssh_cert=_text(files.ssh_cert).strip(),
        tls_private=Secret(tls[1][1]),
        tls_cert=tls[0][1],
        ssh_host_cas=tuple(_known(_text(files.known_hosts), profile.cluster)),
        host_cas=tuple(block for _, block in blocks(_text(files.cas))),
    )


def certificate(home: Path, profile: Profile) -> str:
    """The SSH certificate line; "" if it is not there."""
    return _text(Files(home, profile).ssh_cert).strip()


def save(home: Path, profile: Profile, credentials: IdentityFile) -> None:
    """Write the profile and make it the current one. What was there is replaced.

    Keys first, the name of the profile last: a crash in between leaves the old one in use.
    """
    make_private_dir(home)
    with _alone(home):
        _save(home, profile, credentials)


def _save(home: Path, profile: Profile, credentials: IdentityFile) -> None:
    files = Files(home, profile)
    for each in (home / "keys", files.keys, files.cas.parent, files.ssh_cert_too.parent):
        make_private_dir(each)
    cert = credentials.ssh_cert.strip() + "\n"
    if credentials.ssh_private:
        write_secret(files.ssh_key, credentials.ssh_private.reveal().encode())
    else:  # only ssh-agent has it
        _unlink(files.ssh_key)
    write_public(files.ssh_public, public_line(cert).encode() + b"\n")
    write_public(files.ssh_cert, cert.encode())
    write_public(files.ssh_cert_too, cert.encode())
    tls = credentials.tls_cert.strip() + "\n" + credentials.tls_private.reveal()
    write_secret(files.tls, tls.encode())
    _trust(home, profile, credentials.host_cas, credentials.ssh_host_cas)
    values = {key: getattr(profile, key) for key in _KEYS}
    write_public(home / f"{profile.proxy}.yaml", write_flat(values).encode(), mode=0o600)
    switch(home, profile)


def trust(
    home: Path,
    profile: Profile,
    host_cas: Iterable[str],
    ssh_host_cas: Iterable[str],
    *,
    told: str,
) -> bool:
    """Whom to believe from now on, as who showed the certificate `told` (PEM) was told; the
    credentials stay as they are. False, and nothing is written, if they are others by now:
    somebody has logged out meanwhile, or in again."""
    with _alone(home):
        try:
            if identity(home, profile).tls_cert != told:
                return False
        except NotFound:
            return False
        _trust(home, profile, host_cas, ssh_host_cas)
        return True


def _trust(
    home: Path, profile: Profile, host_cas: Iterable[str], ssh_host_cas: Iterable[str]
) -> None:
    files = Files(home, profile)
    write_public(files.cas, "".join(f"{ca.strip()}\n" for ca in host_cas).encode())
    mine = [_ca_line(profile.cluster, ca) for ca in ssh_host_cas]
    write_public(files.known_hosts, "".join(mine).encode())
    others = _other_lines(_text(files.all_known_hosts), profile.cluster)
    write_public(files.all_known_hosts, "".join([*others, *mine]).encode())


def switch(home: Path, profile: Profile) -> None:
    """Make it the current one."""
    write_public(home / CURRENT, profile.proxy.encode() + b"\n", mode=0o600)


def remove(home: Path, profile: Profile) -> None:
    """Forget the credentials, and that somebody was logged in there. What is gone is fine."""
    with _alone(home):
        _remove(home, profile)


def _remove(home: Path, profile: Profile) -> None:
    files = Files(home, profile)
    secrets = (files.tls, files.ssh_key)
    certs = (files.ssh_public, files.ssh_cert, files.ssh_cert_too)
    # Of leaf clusters too (client/leaves.py).
    leaves = files.cas.parent.glob("*.leaf")
    marks = [path.with_suffix(end) for path in leaves for end in (".pem", ".known_hosts", ".leaf")]
    for path in (*secrets, *certs, files.cas, files.known_hosts, *marks):
        _unlink(path)
    for directory in (files.ssh_cert_too.parent, files.cas.parent, files.keys):
        with suppress(OSError):  # somebody else's files are in it, or it is gone
            directory.rmdir()
    _unlink(home / f"{profile.proxy}.yaml")
    left = every(home)
    shared = files.all_known_hosts
    if shared.exists() and not any(each.cluster == profile.cluster for each in left):
        write_public(shared, "".join(_other_lines(_text(shared), profile.cluster)).encode())
    if _text(home / CURRENT).strip() == profile.proxy:
        _unlink(home / CURRENT)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Other commands of the same person that change profiles wait meanwhile: in another window, or
    one that goes on behind an ssh (cli/tsh/catch_up.py). Not for one command twice."""
    try:
        directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # whoever reads or writes there says why
        yield
        return
    try:
        with suppress(OSError):  # some file systems of networks know no locks
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


_KEYS = ("user", "cluster", "web_proxy_addr", "ssh_proxy_addr", "auth_addr")


def _private(path: Path) -> Secret:
    """Empty when only ssh-agent has it."""
    try:
        return Secret(read_secret(path, limit=_MAX_FILE).decode("ascii", "replace"))
    except NotFound:
        return Secret("")


def _ca_line(cluster: str, ca: str) -> str:
    return f"@cert-authority *.{cluster} {ca.strip()}\n"


def _known(text: str, cluster: str) -> Iterable[str]:
    mark = _ca_line(cluster, "").rstrip("\n")
    return (line.removeprefix(mark) for line in text.splitlines() if line.startswith(mark))


def _other_lines(text: str, cluster: str) -> list[str]:
    mark = _ca_line(cluster, "").rstrip("\n")
    return [f"{line}\n" for line in text.splitlines() if not line.startswith(mark)]


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        return
    except OSError as why:
        raise Denied(f"{path} cannot be removed: {(why.strerror or '').lower()}") from why


def _text(path: Path) -> str:
    """ "" for a file that is not there."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE)
    except FileNotFoundError:
        return ""
    except PermissionError as why:
        raise Denied(f"{path} cannot be read: permission denied") from why
    except OSError as why:
        raise Unavailable(f"{path} cannot be read: {why.strerror}") from why
