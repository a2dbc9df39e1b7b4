"""The tsh profile: which cluster somebody is logged in to, and with what.

    ~/.tsh (or $TELEPORT_HOME)
      current-profile                       name of the profile in use
      <proxy>.yaml                          addresses, user, cluster
      keys/<proxy>/<user>                   identity file (client/identity_file.py), 0600
      keys/<proxy>/cas/<cluster>.pem        host CAs for TLS
      keys/<proxy>/<user>-ssh/<cluster>-cert.pub
      known_hosts                           host CAs for ssh

Written by `tsh login`; `tctl` reads it.
"""

from dataclasses import dataclass
from pathlib import Path

from teleport_lite.client import identity_file
from teleport_lite.client.identity_file import IdentityFile
from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.model.names import CLUSTER_NAME, HOST_NAME, USER_NAME, checked
from teleport_lite.pki.keyfile import make_private_dir, write_public, write_secret

CURRENT = "current-profile"
LOG_IN = "tsh login --proxy=HOST:3080 --user=NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    proxy: str  # host name of the proxy, and the name of the profile
    user: str
    cluster: str
    web_proxy_addr: str = ""  # host:port
    auth_addr: str = ""  # host:port; where tctl asks

    def __post_init__(self) -> None:
        checked(HOST_NAME, self.proxy, "proxy name", example="teleport.example.com")
        checked(USER_NAME, self.user, "user name", example="alice")
        checked(CLUSTER_NAME, self.cluster, "cluster name", example="example.com")


def current(directory: Path) -> Profile | None:
    """The profile in use; None if nobody is logged in. Raises Malformed or Denied."""
    name = _text(directory / CURRENT).strip()
    if not name:
        return None
    checked(HOST_NAME, name, f"name in {directory / CURRENT}", example="teleport.example.com")
    path = directory / f"{name}.yaml"
    return _read(name, _text(path), str(path))


def identity(directory: Path, profile: Profile) -> IdentityFile:
    """Raises NotFound, Denied or Malformed."""
    return identity_file.load(_keys(directory, profile) / profile.user)


def save(directory: Path, profile: Profile, credentials: IdentityFile) -> None:
    """Write the profile and make it the current one. What was there is replaced.

    Keys first, the name of the profile last: a crash in between leaves the old one in use.
    """
    keys = _keys(directory, profile)
    cas, certs = keys / "cas", keys / f"{profile.user}-ssh"
    for each in (directory, directory / "keys", keys, cas, certs):
        make_private_dir(each)
    write_secret(keys / profile.user, identity_file.write(credentials))
    write_public(cas / f"{profile.cluster}.pem", "".join(credentials.host_cas).encode())
    write_public(certs / f"{profile.cluster}-cert.pub", credentials.ssh_cert.encode() + b"\n")
    known = (f"@cert-authority *.{profile.cluster} {ca}\n" for ca in credentials.ssh_host_cas)
    write_public(directory / "known_hosts", "".join(known).encode())
    write_public(directory / f"{profile.proxy}.yaml", _written(profile), mode=0o600)
    write_public(directory / CURRENT, profile.proxy.encode() + b"\n", mode=0o600)


def _keys(directory: Path, profile: Profile) -> Path:
    return directory / "keys" / profile.proxy


_KEYS = ("user", "cluster", "web_proxy_addr", "auth_addr")


def _written(profile: Profile) -> bytes:
    from teleport_lite.config.yaml import dump

    return dump({key: getattr(profile, key) for key in _KEYS}).encode()


def _read(name: str, text: str, source: str) -> Profile:
    from teleport_lite.config.yaml import load_yaml, plain

    tree = load_yaml(text, source)
    found = plain(tree) if tree is not None else {}
    assert isinstance(found, dict)
    values = {key: found[key] or "" for key in _KEYS if key in found}
    if not all(isinstance(value, str) for value in values.values()):
        raise Malformed(f"{source}: its values must be text", hint=LOG_IN)
    missing = [key for key in ("user", "cluster") if not values.get(key)]
    if missing:
        raise Malformed(f"{source}: {missing[0]} is missing", hint=LOG_IN)
    return Profile(proxy=name, **values)


def _text(path: Path) -> str:
    """ "" for a file that is not there."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(64 * 1024)
    except FileNotFoundError:
        return ""
    except PermissionError as why:
        raise Denied(f"{path} cannot be read: permission denied") from why
    except OSError as why:
        raise Unavailable(f"{path} cannot be read: {why.strerror}") from why
