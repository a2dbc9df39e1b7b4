"""What a certificate will say, decided before any private key is touched.

A plan that could be built may be signed: `authority.py` has no opinion of its own.
"""

import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from teleport_lite.errors import Error, Malformed
from teleport_lite.model import names
from teleport_lite.model.user import MAX_SESSION_TTL, Options
from teleport_lite.pki.keys import check_ssh_public, check_tls_public
from teleport_lite.pki.source_address import read_networks

# Clocks disagree; a certificate that starts a little in the past still works on a slow one.
BACKDATE = timedelta(minutes=2)
MAX_HOST_LIFE = timedelta(days=30)
MAX_USER_LIFE = MAX_SESSION_TTL
# A bot renews by itself, and may sleep over a weekend.
MAX_BOT_LIFE = timedelta(days=7)
# OpenSSH reads no certificate with more (SSHKEY_CERT_MAX_PRINCIPALS).
MAX_PRINCIPALS = 256
# Roles and traits travel inside the certificate, and readers take at most 32 KiB of it.
MAX_FACTS = 16 * 1024
# Names below it say which role a host plays ("auth.teleport-lite.internal"). Only a host that
# has the role gets the name: a stolen node key must not be able to answer as auth. In front of
# it may stand the UUID of the host itself ("<uuid>.proxy.teleport-lite.internal").
INTERNAL = ".teleport-lite.internal"
CERT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def host_principals(
    host_id: str, cluster: str, name: str, extra: Iterable[str] = ()
) -> tuple[str, ...]:
    """What a host may be called, most certain first, in lower case, without repetitions.

    Lower case, because `ssh WEB1` looks for web1 and compares letter by letter. Raises
    Malformed naming the first one that may not stand in a certificate.
    """
    own = (f"{host_id}.{cluster}", host_id, f"{name}.{cluster}", name)
    wanted = tuple(dict.fromkeys(each.lower() for each in (*own, *extra)))
    for each in wanted:
        if why := _not_a_principal(each, host_id):
            raise Malformed(f"host name {each[:64]!a} can not be used, {why}")
    return wanted


def is_address(principal: str) -> bool:
    try:
        ipaddress.ip_address(principal)
    except ValueError:
        return False
    return "%" not in principal


def is_dns_name(principal: str) -> bool:
    """RFC 1123 labels, and not all digits at the end: those are addresses to browsers."""
    labels = principal.split(".")
    return (
        len(principal) <= 253
        and all(_LABEL.fullmatch(label) for label in labels)
        and not labels[-1].isdigit()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCertPlan:
    """An SSH and an X.509 certificate for one host. Raises ValueError if it may not exist."""

    cluster: str
    host_id: str
    name: str
    roles: tuple[str, ...]
    principals: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    ssh_public: str
    tls_public: str
    starts: datetime
    ends: datetime
    serial: int

    def __post_init__(self) -> None:
        _named(names.CLUSTER_NAME, self.cluster, "cluster name")
        _named(names.UUID, self.host_id, "host id")
        _named(names.HOST_NAME, self.name, "host name")
        if not self.roles:
            raise ValueError("a host certificate without roles serves nothing")
        for role in self.roles:
            _named(names.RESOURCE_NAME, role, "role")
        self._check_principals()
        for dns_name in self.dns_names:
            self._check_dns_name(dns_name)
        _check_public(self.ssh_public, self.tls_public)
        _check_life(self.starts, self.ends, MAX_HOST_LIFE, "host")
        _check_serial(self.serial)

    def _check_principals(self) -> None:
        # PROTOCOL.certkeys: an empty list would be "valid for any principal".
        if not self.principals:
            raise ValueError("a host certificate without principals is valid for every host")
        if len(self.principals) > MAX_PRINCIPALS:
            raise ValueError(f"a certificate has at most {MAX_PRINCIPALS} principals")
        if self.principals[0] != f"{self.host_id}.{self.cluster}".lower():
            raise ValueError("the first principal of a host is <uuid>.<cluster>")
        for principal in self.principals:
            if why := _not_a_principal(principal, self.host_id):
                raise ValueError(f"principal {principal[:64]!a} can not be used, {why}")

    def _check_dns_name(self, dns_name: str) -> None:
        if not is_dns_name(dns_name):
            raise ValueError(f"DNS name {dns_name[:64]!a} is not one")
        label = dns_name.lower().removesuffix(INTERNAL)
        own = {role.lower() for role in self.roles}
        own |= {f"{self.host_id}.{role}" for role in own}  # one host among several of its role
        if label != dns_name.lower() and label not in own:
            raise ValueError(f"DNS name {dns_name[:64]!a} belongs to a role the host does not have")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCertPlan:
    """An SSH and an X.509 certificate for a person or a bot. Raises ValueError likewise."""

    cluster: str
    user: str
    roles: tuple[str, ...]
    logins: tuple[str, ...]
    traits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    ssh_public: str
    tls_public: str
    starts: datetime
    ends: datetime
    serial: int
    source_address: str = ""
    id: str
    bot: bool = False
    generation: int = 0

    def __post_init__(self) -> None:
        _named(names.CLUSTER_NAME, self.cluster, "cluster name")
        _named(names.USER_NAME, self.user, "user name")
        _named(CERT_ID, self.id, "certificate id")
        for role in self.roles:
            _named(names.RESOURCE_NAME, role, "role")
        for login in self.logins:
            _named(names.LOGIN, login, "login")
        if len(self.logins) > MAX_PRINCIPALS:
            raise ValueError(f"a certificate has at most {MAX_PRINCIPALS} logins")
        if len(self.roles_json) + len(self.traits_json) > MAX_FACTS:
            raise ValueError(f"roles and traits of {self.user} take more than {MAX_FACTS} bytes")
        if self.source_address:
            read_networks(self.source_address)
        elif self.options.pin_source_ip:
            raise ValueError(f"a role pins {self.user} to an address, and none was given")
        if self.generation < 0:
            raise ValueError("a generation counts from zero")
        _check_public(self.ssh_public, self.tls_public)
        limit = MAX_BOT_LIFE if self.bot else min(MAX_USER_LIFE, self.options.max_session_ttl)
        _check_life(self.starts, self.ends, limit, "user")
        _check_serial(self.serial)

    @property
    def principals(self) -> tuple[str, ...]:
        """The logins. Without any, a name nobody has: an empty list may be read as "anybody"."""
        return self.logins or (f"no-login-{self.id}",)

    @property
    def roles_json(self) -> str:
        return json.dumps({"version": "v1", "roles": self.roles}, separators=(",", ":"))

    @property
    def traits_json(self) -> str:
        return json.dumps(self.traits, separators=(",", ":"), sort_keys=True)


def _not_a_principal(principal: str, host_id: str) -> str:
    """Why `principal` may not stand in a host certificate; "" if it may."""
    if is_address(principal):
        address = ipaddress.ip_address(principal)
        if address.is_unspecified or address.is_multicast:
            return "it is the address of no host"
        return ""
    # No "*" or "?" (ssh matches host principals as patterns), no comma, no space.
    if not names.HOST_NAME.fullmatch(principal):
        return "expected a host name or an IP address"
    lower = principal.lower()
    if lower.endswith(INTERNAL):
        return f"names under {INTERNAL[1:]} are given by role"
    first = lower.partition(".")[0]
    if names.UUID.fullmatch(first) and first != host_id:
        return "it is the id of another host"
    return ""


def _named(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise ValueError(f"{what} {value[:64]!a} is not valid")


def _check_public(ssh_public: str, tls_public: str) -> None:
    try:
        check_ssh_public(ssh_public)
    except Error as why:
        raise ValueError(why.message) from why
    check_tls_public(tls_public)


def _check_life(starts: datetime, ends: datetime, limit: timedelta, whose: str) -> None:
    if starts.tzinfo is None or ends.tzinfo is None:
        raise ValueError("the life of a certificate needs a time zone")
    if not starts < ends:
        raise ValueError(f"a {whose} certificate ends after it starts")
    if ends - starts > limit + BACKDATE:
        raise ValueError(f"this {whose} certificate may live {limit} at the most")


def _check_serial(serial: int) -> None:
    # 64 bits for SSH (PROTOCOL.certkeys); X.509 wants it positive (RFC 5280 §4.1.2.2).
    if not 0 < serial < 1 << 64:
        raise ValueError("serial must fit into 64 bits and not be zero")
