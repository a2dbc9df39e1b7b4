"""Certificates for tests: a cluster on paper that gives right ones, and a forger for wrong ones.

    cluster = PaperCluster()
    papers = cluster.user("alice", logins=("root",))
    forged = replace(cluster.forgery(), type=HOST).blob()

The forger writes whatever it is told to, and signs it properly: what a verifier refuses, it
must refuse for the reason under test, and not because the bytes fall apart.
"""

import os
import struct
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.user import Options
from teleport_lite.pki.authority import Authority, Signed, new_ca
from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key, public_of_csr, ssh_blob, ssh_line
from teleport_lite.pki.plan import BACKDATE, HostCertPlan, UserCertPlan, host_principals
from teleport_lite.secret import Secret

SshKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SUFFIX = b"-cert-v01@openssh.com"
USER, HOST = 1, 2
FOREVER = (1 << 64) - 1
_SSH_HASHES: dict[bytes, hashes.HashAlgorithm] = {
    b"ssh-rsa": hashes.SHA1(),  # noqa: S303  # forged on purpose
    b"rsa-sha2-256": hashes.SHA256(),
    b"rsa-sha2-512": hashes.SHA512(),
    b"ecdsa-sha2-nistp256": hashes.SHA256(),
    b"ecdsa-sha2-nistp384": hashes.SHA384(),
    b"ecdsa-sha2-nistp521": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """Everything one host, person or bot holds."""

    id: str  # UUID of the host, certificate id of the user
    ssh_private: Secret
    ssh_public: str
    tls_private: Secret
    ssh_cert: str
    tls_cert: str

    @property
    def tls_der(self) -> bytes:
        pem = self.tls_cert.encode()
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


class PaperCluster:
    """Host and user CA of a cluster, and what they sign. Time stands still at `now`."""

    def __init__(self, name: str = "test.example", *, now: datetime | None = None) -> None:
        self.name = name
        self.now = (now or datetime.now(UTC)).replace(microsecond=0)
        self.host_ca = new_ca(CaType.HOST, cluster=name, id="1", now=self.now)
        self.user_ca = new_ca(CaType.USER, cluster=name, id="1", now=self.now)
        self.authority = Authority(self.host_ca, self.user_ca)
        self._serial = 0

    @property
    def ssh_user_cas(self) -> frozenset[bytes]:
        return frozenset({ssh_blob(self.user_ca.public.ssh_key)})

    @property
    def host_cas(self) -> list[str]:
        return [self.host_ca.public.tls_cert]

    @property
    def user_cas(self) -> list[str]:
        return [self.user_ca.public.tls_cert]

    def host(
        self,
        name: str = "web1",
        *,
        roles: tuple[str, ...] = ("Node",),
        host_id: str = "",
        extra: Sequence[str] = ("127.0.0.1",),
        dns_names: tuple[str, ...] = (),
        life: timedelta = timedelta(days=7),
    ) -> Papers:
        host_id = host_id or str(uuid.uuid4())
        keys = _Keys.new()
        plan = HostCertPlan(
            cluster=self.name,
            host_id=host_id,
            name=name,
            roles=roles,
            principals=host_principals(host_id, self.name, name, extra),
            dns_names=dns_names,
            ssh_public=keys.ssh_public,
            tls_public=keys.tls_public,
            starts=self.now - BACKDATE,
            ends=self.now + life,
            serial=self._next(),
        )
        return keys.papers(host_id, self.authority.sign_host(plan))

    def user(
        self,
        name: str = "alice",
        *,
        roles: tuple[str, ...] = ("access",),
        logins: tuple[str, ...] = ("root",),
        traits: dict[str, tuple[str, ...]] | None = None,
        options: Options | None = None,
        source_address: str = "",
        bot: bool = False,
        generation: int = 0,
        life: timedelta = timedelta(hours=12),
    ) -> Papers:
        cert_id = str(uuid.uuid4())
        keys = _Keys.new()
        plan = UserCertPlan(
            cluster=self.name,
            user=name,
            roles=roles,
            logins=logins,
            traits={"logins": logins} if traits is None else traits,
            options=options or Options(),
            ssh_public=keys.ssh_public,
            tls_public=keys.tls_public,
            starts=self.now - BACKDATE,
            ends=self.now + life,
            serial=self._next(),
            source_address=source_address,
            id=cert_id,
            bot=bot,
            generation=generation,
        )
        return keys.papers(cert_id, self.authority.sign_user(plan))

    def forgery(self, key: SshKey | None = None, **changes: object) -> "SshForgery":
        """A user certificate that is right, until `changes` make it wrong."""
        start = int(self.now.timestamp())
        good = SshForgery(
            key=key or ed25519.Ed25519PrivateKey.generate(),
            signer=ssh_private(self.user_ca),
            valid_after=start - 120,
            valid_before=start + 12 * 3600,  # made once for a whole run
        )
        return replace(good, **changes)  # type: ignore[arg-type]  # field names of the dataclass

    def tls_forgery(self, by: CaType = CaType.HOST, /, **changes: object) -> "TlsForgery":
        """The X.509 certificate of a host (or user) that is right until changed."""
        keys, host_id = (self.host_ca if by is CaType.HOST else self.user_ca), str(uuid.uuid4())
        is_host = by is CaType.HOST
        path = f"host/{host_id}" if is_host else "user/alice"
        good = TlsForgery(
            signer=tls_private(keys),
            issuer=x509.load_pem_x509_certificate(keys.public.tls_cert.encode()).subject,
            common_names=(f"{host_id}.{self.name}" if is_host else "alice",),
            uris=(f"spiffe://{self.name}/{path}",),
            starts=self.now - BACKDATE,
            ends=self.now + timedelta(hours=12),
        )
        return replace(good, **changes)  # type: ignore[arg-type]  # field names of the dataclass

    def _next(self) -> int:
        self._serial += 1
        return self._serial


@dataclass(frozen=True, slots=True, kw_only=True)
class SshForgery:
    """Every byte of an SSH certificate, to be chosen. PROTOCOL.certkeys has the order."""

    key: SshKey
    signer: SshKey
    key_type: bytes = b""  # default: as the key
    key_fields: bytes | None = None  # default: as the key
    nonce: bytes = field(default_factory=lambda: os.urandom(32))
    serial: int = 7
    type: int = USER
    key_id: bytes = b"alice"
    principals: Sequence[bytes] = (b"root",)
    valid_after: int
    valid_before: int
    critical: bytes = b""  # see `options`
    extensions: bytes = b""
    reserved: bytes = b""
    ca_blob: bytes | None = None  # default: as the signer
    signature_algorithm: bytes = b""  # default: as the signer, RSA with SHA-512
    signature: bytes | None = None  # the whole signature blob, instead of a real one
    tail: bytes = b""

    def blob(self) -> bytes:
        body = self._body()
        signature = self.signature
        if signature is None:
            signature = ssh_signature(self.signer, body, self.signature_algorithm)
        return body + packed(signature) + self.tail

    def _body(self) -> bytes:
        plain = public_blob(self.key)
        name, fields = _split(plain)
        return b"".join(
            (
                packed(self.key_type or name + SUFFIX),
                packed(self.nonce),
                fields if self.key_fields is None else self.key_fields,
                struct.pack(">QI", self.serial, self.type),
                packed(self.key_id),
                packed(b"".join(map(packed, self.principals))),
                struct.pack(">QQ", self.valid_after, self.valid_before),
                packed(self.critical),
                packed(self.extensions),
                packed(self.reserved),
                packed(public_blob(self.signer) if self.ca_blob is None else self.ca_blob),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsForgery:
    """What an X.509 certificate says, to be chosen. None leaves an extension out."""

    signer: ec.EllipticCurvePrivateKey
    issuer: x509.Name
    public: object = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    common_names: Sequence[str] = ()
    roles: Sequence[str] = ("Node",)
    uris: Sequence[str] = ()
    starts: datetime
    ends: datetime
    is_ca: bool | None = False
    digital_signature: bool | None = True
    key_cert_sign: bool = False
    purposes: Sequence[x509.ObjectIdentifier] | None = (
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    )
    others: Sequence[tuple[x509.ExtensionType, bool]] = ()

    def cert(self) -> x509.Certificate:
        names = [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in self.common_names]
        names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in self.roles]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(names))
            .issuer_name(self.issuer)
            .public_key(self.public.public_key())  # type: ignore[attr-defined]  # any private key
            .serial_number(7)
            .not_valid_before(self.starts)
            .not_valid_after(self.ends)
        )
        for extension, critical in self._extensions():
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.signer, hashes.SHA256())

    def der(self) -> bytes:
        return self.cert().public_bytes(Encoding.DER)

    def pem(self) -> str:
        return self.cert().public_bytes(Encoding.PEM).decode()

    def _extensions(self) -> Iterable[tuple[x509.ExtensionType, bool]]:
        if self.is_ca is not None:
            yield x509.BasicConstraints(ca=self.is_ca, path_length=None), True
        if self.digital_signature is not None:
            yield key_usage(self.digital_signature, self.key_cert_sign), True
        if self.purposes is not None:
            yield x509.ExtendedKeyUsage(self.purposes), False
        if self.uris:
            uris = map(x509.UniformResourceIdentifier, self.uris)
            yield x509.SubjectAlternativeName(uris), False
        yield from self.others


def packed(data: bytes) -> bytes:
    """An RFC 4251 string."""
    return struct.pack(">I", len(data)) + data


def options(*pairs: tuple[bytes, bytes | None]) -> bytes:
    """Critical options or extensions in the order given; None is a flag, without a value."""
    return b"".join(
        packed(name) + packed(b"" if value is None else packed(value)) for name, value in pairs
    )


def ssh_signature(key: SshKey, data: bytes, algorithm: bytes = b"") -> bytes:
    """A signature blob (RFC 4253 §6.6). `algorithm` "" is the best of the key."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return packed(algorithm or b"ssh-ed25519") + packed(key.sign(data))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        name = _split(public_blob(key))[0]
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_SSH_HASHES[name])))
        return packed(algorithm or name) + packed(mpint(r) + mpint(s))
    algorithm = algorithm or b"rsa-sha2-512"
    raw = key.sign(data, padding.PKCS1v15(), _SSH_HASHES.get(algorithm, hashes.SHA512()))
    return packed(algorithm) + packed(raw)


def mpint(value: int) -> bytes:
    return packed(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


def public_blob(key: SshKey) -> bytes:
    return ssh_blob(ssh_line(key.public_key()))


def ssh_private(ca: CaKeys) -> SshKey:
    assert ca.ssh_private is not None
    key = serialization.load_ssh_private_key(ca.ssh_private.reveal().encode(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    return key


def tls_private(ca: CaKeys) -> ec.EllipticCurvePrivateKey:
    assert ca.tls_private is not None
    key = serialization.load_pem_private_key(ca.tls_private.reveal().encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def key_usage(digital_signature: bool, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        content_commitment=not digital_signature and not key_cert_sign,  # one bit must be set
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    ssh_private: Secret
    ssh_public: str
    tls_private: Secret
    tls_public: str

    @classmethod
    def new(cls) -> "_Keys":
        ssh_private, ssh_public = new_ssh_key()
        tls_private = new_tls_key()
        return cls(
            ssh_private=ssh_private,
            ssh_public=ssh_public,
            tls_private=tls_private,
            tls_public=public_of_csr(csr(tls_private, "paper")),
        )

    def papers(self, id: str, signed: Signed) -> Papers:
        return Papers(
            id=id,
            ssh_private=self.ssh_private,
            ssh_public=self.ssh_public,
            tls_private=self.tls_private,
            ssh_cert=signed.ssh_cert,
            tls_cert=signed.tls_cert,
        )


def _split(plain: bytes) -> tuple[bytes, bytes]:
    """Name and fields of a public key blob."""
    end = 4 + int.from_bytes(plain[:4], "big")
    return plain[4:end], plain[end:]
