"""`tctl auth sign` and `tctl auth export`: certificates and CAs to take away."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.issue import HOST_LIFE, Issuer
from teleport_lite.auth.people import PeopleDesk
from teleport_lite.errors import Malformed
from teleport_lite.model.authority import CaType
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.host import Host
from teleport_lite.model.names import checked_host_name
from teleport_lite.pki.authority import Signed
from teleport_lite.pki.keys import check_ssh_public, public_of_csr
from teleport_lite.proto.admin import SignHost, SignUser
from teleport_lite.proto.resource import moment

MAX_NAMES = 32
# name on the command line -> (CA, which form)
EXPORTS = {
    "host": (CaType.HOST, "known_hosts"),
    "user": (CaType.USER, "authorized_keys"),
    "openssh": (CaType.OPENSSH, "authorized_keys"),
    "tls-host": (CaType.HOST, "pem"),
    "tls-user": (CaType.USER, "pem"),
    "tls": (CaType.HOST, "pem"),
    "db": (CaType.DB, "pem"),
}


class SignatureDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        trail: Trail,
        cas: Cas,
        people: PeopleDesk,
        issuer: Issuer,
        jump_hosts: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`jump_hosts` are addresses at which ssh reaches proxies, host:port."""
        self._clock, self._chance, self._trail = clock, chance, trail
        self._cas, self._people, self._issuer = cas, people, issuer
        self._jump_hosts = jump_hosts

    def user(self, caller: Caller, asked: SignUser) -> dict[str, Any]:
        signed, ends = self._people.sign(caller, asked)
        return self._parcel(signed, ends)

    def host(self, caller: Caller, asked: SignHost) -> dict[str, Any]:
        """For a machine that does not run teleport-lite, like an sshd of its own."""
        if not 0 < len(asked.names) <= MAX_NAMES:
            raise Malformed(f"a host certificate needs 1 to {MAX_NAMES} names")
        names = [checked_host_name(name, "host name") for name in asked.names]
        ttl = parse_duration(asked.ttl, "ttl")
        if not timedelta(minutes=1) <= ttl <= HOST_LIFE:
            raise Malformed("ttl of a host certificate must be between 1m and 720h")
        facts = {"names": ",".join(names), "user": caller.label, "addr.remote": caller.address}
        host = Host(
            id=self._chance.uuid(),
            name=names[0],
            roles=(),
            joined_at=self._clock.now(),
            token_id="",
            ssh_key=check_ssh_public(asked.ssh_key),
            tls_key=public_of_csr(asked.tls_csr),
            principals=tuple(names[1:]),
        )
        with self._trail.attempt("cert.create", ok="TC000I", refused="TC000E", **facts):
            plan = self._issuer.plan_host(host, life=ttl)
            return self._parcel(self._issuer.sign(plan), plan.ends)

    def export(self, word: str) -> dict[str, Any]:
        """Raises Malformed for a type that does not exist."""
        found = EXPORTS.get(word.lower())
        if found is None:
            raise Malformed(
                f"type {word[:40]!a} does not exist", hint=f"one of {', '.join(EXPORTS)}"
            )
        type, form = found
        cluster = self._cas.cluster
        if form == "pem":
            return {"text": "".join(self._cas.tls(type))}
        if form == "known_hosts":
            hosts = ",".join((f"*.{cluster}", cluster, *map(_as_known, self._jump_hosts())))
            lines = [f"@cert-authority {hosts} {key} type=host" for key in self._cas.ssh(type)]
        else:
            tail = f"clustername={cluster}&type={type.value}"
            lines = [f"cert-authority {key} {tail}" for key in self._cas.ssh(type)]
        return {"text": "".join(f"{line}\n" for line in lines)}

    def _parcel(self, signed: Signed, ends: datetime) -> dict[str, Any]:
        return {
            "ssh_cert": signed.ssh_cert,
            "tls_cert": signed.tls_cert,
            "cluster": self._cas.cluster,
            "host_cas": self._cas.tls(CaType.HOST),
            "ssh_host_cas": self._cas.ssh(CaType.HOST),
            "user_cas": self._cas.tls(CaType.USER),
            "ssh_user_cas": self._cas.ssh(CaType.USER),
            "expires": moment(ends),
        }


def _as_known(address: str) -> str:
    """host:port as ssh looks it up in known_hosts: with the port, unless that is 22 (sshd(8))."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return host if port == "22" else f"[{host}]:{port}"
