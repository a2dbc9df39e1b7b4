"""The only code that signs with CA keys. Imported by auth and the daemon, by nobody else.

It decides nothing: a plan says everything, and a plan that exists may be signed.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    SSHCertificateBuilder,
    SSHCertificateType,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from teleport_lite.model.authority import CaKeys, CaType, TrustedCa
from teleport_lite.pki.keys import MAX_COMMON_NAME, new_ssh_key, new_tls_key, ssh_line
from teleport_lite.pki.plan import BACKDATE, HostCertPlan, UserCertPlan, is_address, is_dns_name
from teleport_lite.secret import Secret

CA_LIFE = timedelta(days=3650)
# One generation vouches for the next while both are trusted; made anew every day.
VOUCHED_LIFE = timedelta(days=2)
_SIGNS_SSH = frozenset({CaType.HOST, CaType.USER, CaType.OPENSSH})
_SIGNS_TLS = frozenset({CaType.HOST, CaType.USER, CaType.DB})
_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The two certificates of one plan."""

    ssh_cert: str  # "ssh-ed25519-cert-v01@openssh.com AAAA...", no comment
    tls_cert: str  # PEM


def new_ca(type: CaType, *, cluster: str, id: str, now: datetime) -> CaKeys:
    """A CA of `type` with fresh keys: SSH, X.509 or JWT, as the type needs."""
    ssh = new_ssh_key() if type in _SIGNS_SSH else None
    tls = new_tls_key() if type in _SIGNS_TLS else None
    jwt = new_tls_key() if type is CaType.JWT else None
    public = TrustedCa(
        type=type,
        ssh_key=ssh[1] if ssh else "",
        tls_cert=_self_signed(tls, f"{cluster} {type} CA", now) if tls else "",
        jwt_key=_spki(jwt) if jwt else "",
    )
    return CaKeys(
        type=type,
        id=id,
        public=public,
        ssh_private=ssh[0] if ssh else None,
        tls_private=tls,
        jwt_private=jwt,
        created_at=now,
    )


class Authority:
    """The host CA and the user CA, ready to sign. Raises ValueError if they are mixed up."""

    def __init__(self, host: CaKeys, user: CaKeys) -> None:
        if host.type is not CaType.HOST or user.type is not CaType.USER:
            raise ValueError("an authority needs a host CA and a user CA")
        self._host, self._user = _Signer(host), _Signer(user)

    def sign_host(self, plan: HostCertPlan) -> Signed:
        return Signed(ssh_cert=self._ssh_host(plan), tls_cert=self._tls_host(plan))

    def sign_user(self, plan: UserCertPlan) -> Signed:
        return Signed(ssh_cert=self._ssh_user(plan), tls_cert=self._tls_user(plan))

    def vouch(self, ca_pem: str, now: datetime) -> str:
        """A certificate for the next generation of the host CA, PEM, for its servers to show.

        So who trusts this generation alone believes the next one, too ("new with old", RFC 4210
        §4.4). Path lengths do not count it, because both have one name (RFC 5280 §6.1.4 (l)).
        Never the other way round: then the old one would be believed for ever.
        """
        return self._host.vouch(ca_pem, now)

    def _ssh_host(self, plan: HostCertPlan) -> str:
        builder = _ssh_builder(plan).type(SSHCertificateType.HOST).key_id(plan.host_id.encode())
        return self._host.ssh_sign(builder)

    def _ssh_user(self, plan: UserCertPlan) -> str:
        builder = _ssh_builder(plan).type(SSHCertificateType.USER).key_id(plan.user.encode())
        for name, value in _user_extensions(plan).items():
            builder = builder.add_extension(name.encode(), value.encode())
        if plan.source_address:
            builder = builder.add_critical_option(b"source-address", plan.source_address.encode())
        return self._user.ssh_sign(builder)

    def _tls_host(self, plan: HostCertPlan) -> str:
        dns = dict.fromkeys((*filter(is_dns_name, plan.principals), *plan.dns_names))
        addresses = filter(is_address, plan.principals)
        alt_names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(f"spiffe://{plan.cluster}/host/{plan.host_id}"),
            *map(x509.DNSName, dns),
            *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses),
        ]
        common_name = f"{plan.host_id}.{plan.cluster}"
        return self._host.tls_sign(plan, common_name, alt_names, [_CLIENT, _SERVER])

    def _tls_user(self, plan: UserCertPlan) -> str:
        path = f"bot/{plan.user}/{plan.id}" if plan.bot else f"user/{plan.user}"
        alt_names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(f"spiffe://{plan.cluster}/{path}")
        ]
        return self._user.tls_sign(plan, plan.user, alt_names, [_CLIENT])


class _Signer:
    """One CA with its keys parsed once: signing is on the path of every join."""

    def __init__(self, keys: CaKeys) -> None:
        if keys.ssh_private is None or keys.tls_private is None:
            raise ValueError(f"{keys.type} CA {keys.id} has no keys to sign with")
        ssh = serialization.load_ssh_private_key(keys.ssh_private.reveal().encode(), None)
        tls = serialization.load_pem_private_key(keys.tls_private.reveal().encode(), None)
        if not isinstance(ssh, ed25519.Ed25519PrivateKey):
            raise ValueError(f"{keys.type} CA {keys.id} has no Ed25519 key for SSH")
        if not isinstance(tls, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{keys.type} CA {keys.id} has no ECDSA key for X.509")
        self._ssh, self._tls = ssh, tls
        self._cert = x509.load_pem_x509_certificate(keys.public.tls_cert.encode())
        if (
            self._cert.public_key() != tls.public_key()
            or ssh_line(ssh.public_key()) != keys.public.ssh_key
        ):
            raise ValueError(f"{keys.type} CA {keys.id} has private keys that do not fit")
        ski = self._cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self._aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)

    def ssh_sign(self, builder: SSHCertificateBuilder) -> str:
        return builder.sign(self._ssh).public_bytes().decode()

    def tls_sign(
        self,
        plan: HostCertPlan | UserCertPlan,
        common_name: str,
        alt_names: list[x509.GeneralName],
        usages: list[x509.ObjectIdentifier],
    ) -> str:
        public = serialization.load_pem_public_key(plan.tls_public.encode())
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(common_name, plan.roles))
            .issuer_name(self._cert.subject)
            .public_key(public)  # type: ignore[arg-type]  # the plan has checked its type
            .serial_number(plan.serial)
            .not_valid_before(plan.starts)
            .not_valid_after(plan.ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(alt_names), critical=False)
            .add_extension(_ski(public), critical=False)
            .add_extension(self._aki, critical=False)
        )
        return builder.sign(self._tls, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def vouch(self, ca_pem: str, now: datetime) -> str:
        ca = x509.load_pem_x509_certificate(ca_pem.encode())
        if ca.subject != self._cert.subject:
            raise ValueError("a CA vouches for the next generation of itself only")
        builder = (
            x509.CertificateBuilder()
            .subject_name(ca.subject)
            .issuer_name(self._cert.subject)
            .public_key(ca.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + VOUCHED_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(_ski(ca.public_key()), critical=False)
            .add_extension(self._aki, critical=False)
        )
        return builder.sign(self._tls, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _ssh_builder(plan: HostCertPlan | UserCertPlan) -> SSHCertificateBuilder:
    public = serialization.load_ssh_public_key(plan.ssh_public.encode())
    return (
        SSHCertificateBuilder()
        .public_key(public)  # type: ignore[arg-type]  # the plan has checked its type
        .serial(plan.serial)
        .valid_principals([principal.encode() for principal in plan.principals])
        .valid_after(int(plan.starts.timestamp()))
        .valid_before(int(plan.ends.timestamp()))
    )


def _user_extensions(plan: UserCertPlan) -> dict[str, str]:
    """What OpenSSH reads ("" is a flag: present means yes), then what only we read."""
    allowed = {
        "permit-pty": True,
        "permit-port-forwarding": plan.options.port_forwarding,
        "permit-agent-forwarding": plan.options.forward_agent,
        "permit-X11-forwarding": plan.options.x11_forwarding,
    }
    extensions = {name: "" for name, yes in allowed.items() if yes}
    extensions["teleport-roles"] = plan.roles_json
    extensions["teleport-traits"] = plan.traits_json
    extensions["teleport-id"] = plan.id
    if plan.bot:
        extensions["teleport-generation"] = str(plan.generation)
    return extensions


def _self_signed(private: Secret, common_name: str, now: datetime) -> str:
    key = serialization.load_pem_private_key(private.reveal().encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = _subject(common_name, ())
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFE)
        # RFC 5280 §4.2.1.9: with 0, nobody it signs can be a CA.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(ski, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _subject(common_name: str, roles: tuple[str, ...]) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:MAX_COMMON_NAME]),
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, role) for role in roles),
        ]
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    """A CA signs certificates and lists of revoked ones; a leaf signs handshakes."""
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _ski(public: object) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(public)  # type: ignore[arg-type]  # checked


def _spki(private: Secret) -> str:
    key = serialization.load_pem_private_key(private.reveal().encode(), None)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(Encoding.PEM, spki).decode()
