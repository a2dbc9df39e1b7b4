"""Is this certificate one of ours, and what does it say? The only place that answers.

For SSH user certificates the answer must agree with OpenSSH's sshd: what it refuses we refuse
(`tests/pki/test_against_sshd.py` asks both). In a few places we refuse more: our own CA never
signs such things. For X.509 it is the check of a peer after the TLS handshake.

Whoever is refused hears one sentence, always the same. `Error.log` has the reason.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.model import names
from teleport_lite.pki import keys, source_address
from teleport_lite.pki.keys import MAX_COMMON_NAME, UNREADABLE, check_strength, plain, tls_public
from teleport_lite.pki.keys import ssh_blob as ssh_blob
from teleport_lite.pki.pin import load_ca
from teleport_lite.pki.plan import CERT_ID, MAX_PRINCIPALS
from teleport_lite.pki.ssh_cert import SUFFIX, USER, SshCert, read_ssh_cert
from teleport_lite.pki.visitor import Visitor as Visitor
from teleport_lite.pki.visitor import the_value, visitor_of
from teleport_lite.pki.wire import Reader

# Ours are below 20 kB (`plan.MAX_FACTS`); nothing longer is even parsed.
MAX_SSH_CERT = 32 * 1024
MAX_TLS_CERT = 32 * 1024
# Algorithm of the login -> key type inside the certificate, algorithm of the signature.
# No "ssh-rsa-cert-v01@openssh.com" on the left: that login would be signed with SHA-1.
_LOGIN_ALGORITHMS = {
    "ssh-ed25519" + SUFFIX: ("ssh-ed25519" + SUFFIX, b"ssh-ed25519"),
    "ecdsa-sha2-nistp256" + SUFFIX: ("ecdsa-sha2-nistp256" + SUFFIX, b"ecdsa-sha2-nistp256"),
    "ecdsa-sha2-nistp384" + SUFFIX: ("ecdsa-sha2-nistp384" + SUFFIX, b"ecdsa-sha2-nistp384"),
    "ecdsa-sha2-nistp521" + SUFFIX: ("ecdsa-sha2-nistp521" + SUFFIX, b"ecdsa-sha2-nistp521"),
    "rsa-sha2-256" + SUFFIX: ("ssh-rsa" + SUFFIX, b"rsa-sha2-256"),
    "rsa-sha2-512" + SUFFIX: ("ssh-rsa" + SUFFIX, b"rsa-sha2-512"),
}
# As sshd's CASignatureAlgorithms, without security keys: no "ssh-rsa" (SHA-1), no certificate.
_CA_ALGORITHMS = frozenset(
    {
        b"ssh-ed25519",
        b"ecdsa-sha2-nistp256",
        b"ecdsa-sha2-nistp384",
        b"ecdsa-sha2-nistp521",
        b"rsa-sha2-256",
        b"rsa-sha2-512",
    }
)
# sshd refuses the whole certificate when one of these carries data.
_FLAGS = frozenset(
    {
        b"no-touch-required",
        b"permit-X11-forwarding",
        b"permit-agent-forwarding",
        b"permit-port-forwarding",
        b"permit-pty",
        b"permit-user-rc",
    }
)
_SSH_REFUSED = "user certificate is not accepted"
_TLS_REFUSED = "client certificate is not accepted"
_HASHES = {
    b"rsa-sha2-256": hashes.SHA256(),
    b"rsa-sha2-512": hashes.SHA512(),
    b"ecdsa-sha2-nistp256": hashes.SHA256(),
    b"ecdsa-sha2-nistp384": hashes.SHA384(),
    b"ecdsa-sha2-nistp521": hashes.SHA512(),
}
_FAILED = (*UNREADABLE, InvalidSignature, Error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of a TLS connection. (kind, cluster, name) is the identity."""

    kind: str  # "host" or "user"
    cluster: str
    name: str  # UUID of a host, name of a user
    roles: tuple[str, ...]
    not_after: datetime
    bot_id: str = ""  # instance of a bot; "" for people and hosts


def verify_user_certificate(
    blob: bytes,
    *,
    algorithm: str,
    login: str | None,
    trusted_cas: frozenset[bytes],
    peer_ip: str,
    now: datetime,
) -> Visitor:
    """Who offers this certificate for `login`, from `peer_ip`, with signature `algorithm`.

    Without a login it may be for any: a jump host opens no shells, so it asks for none.
    `trusted_cas` are plain SSH key blobs. Raises Denied. That the visitor holds the private key
    is another question, see `verify_login_signature`.
    """
    try:
        cert = _read(blob, algorithm)
        _check_ca(cert, trusted_cas, blob)
        # From here on the CA vouches for every field.
        _check_terms(cert, login, now)
        force_command = _obey(cert, peer_ip)
        return visitor_of(cert, login or "", force_command)
    except _FAILED as why:
        raise Denied(_SSH_REFUSED, log=plain(why)) from why


def verify_login_signature(blob: bytes, *, algorithm: str, signed: bytes, signature: bytes) -> bool:
    """Did the key in certificate `blob` make `signature` (RFC 4252 §7) over `signed`?

    Its algorithm must be the one announced: a visitor who says rsa-sha2-512 may not sign with
    SHA-1.
    """
    try:
        key_type, expected = _LOGIN_ALGORITHMS[algorithm]
        reader = Reader(signature)
        if reader.text() != expected:
            return False
        raw = reader.text()
        reader.end()
        _verify(_load(blob, key_type).public_key(), expected, raw, signed)
    except (KeyError, *_FAILED):
        return False
    return True


def _read(blob: bytes, algorithm: str) -> SshCert:
    if len(blob) > MAX_SSH_CERT:
        raise ValueError(f"certificate of {len(blob)} bytes")
    if algorithm not in _LOGIN_ALGORITHMS:
        raise ValueError(f"login algorithm {algorithm} is not allowed")
    cert = read_ssh_cert(blob)
    if cert.key_type != _LOGIN_ALGORITHMS[algorithm][0]:
        raise ValueError(f"login algorithm {algorithm} with a key of type {cert.key_type}")
    return cert


def _load(blob: bytes, key_type: str) -> SSHCertificate:
    """A second, independent reading; it also refuses options out of order or given twice."""
    loaded = load_ssh_public_identity(key_type.encode() + b" " + base64.b64encode(blob))
    assert isinstance(loaded, SSHCertificate)  # its name ends in -cert-v01@openssh.com
    check_strength(loaded.public_key())
    return loaded


def _check_ca(cert: SshCert, trusted_cas: frozenset[bytes], blob: bytes) -> None:
    # Whole blobs are compared, before any arithmetic with a stranger's key. A certificate can
    # not be in the set, so it can not sign another one (CVE-2025-49825).
    if cert.ca_blob not in trusted_cas:
        raise ValueError("signed by a CA we do not trust")
    if cert.signature_algorithm not in _CA_ALGORITHMS:
        raise ValueError(f"CA signature algorithm {cert.signature_algorithm!r} is not allowed")
    loaded = _load(blob, cert.key_type)
    check_strength(loaded.signature_key())
    try:
        loaded.verify_cert_signature()
    except InvalidSignature:
        raise ValueError("the CA has not signed this") from None


def _check_terms(cert: SshCert, login: str | None, now: datetime) -> None:
    if cert.type != USER:
        raise ValueError("not a user certificate")
    if not cert.valid_after <= now.timestamp() < cert.valid_before:
        raise ValueError("expired or not yet valid")
    # PROTOCOL.certkeys lets an empty list mean "any". sshd stopped believing that, so do we.
    if not 0 < len(cert.principals) <= MAX_PRINCIPALS:
        raise ValueError(f"{len(cert.principals)} principals")
    if login is None:
        if not any(names.LOGIN.fullmatch(each.decode("latin-1")) for each in cert.principals):
            raise ValueError("no principal is a login")
        return
    if not names.LOGIN.fullmatch(login):
        raise ValueError(f"login {login!a} is not one")
    # Whole byte strings: "deploy,root" is one odd name, not two (CVE-2026-35414).
    if login.encode() not in cert.principals:
        raise ValueError(f"login {login} is not among the principals")


def _obey(cert: SshCert, peer_ip: str) -> str | None:
    """Check what the critical options and the flags demand; the forced command, if any."""
    _check_text(*cert.principals, *(name for name, _ in (*cert.critical, *cert.extensions)))
    for name, data in cert.extensions:
        if name in _FLAGS and data:
            raise ValueError(f"extension {name!r} carries data")
    options = dict(cert.critical)
    address = options.pop(b"source-address", None)
    command = options.pop(b"force-command", None)
    if options:
        raise ValueError(f"critical option {next(iter(options))!r} is not known")
    if address is not None:
        networks = source_address.read_networks(the_value(address).decode("ascii"))
        if not source_address.matches(networks, source_address.read_address(peer_ip)):
            raise ValueError(f"not from {peer_ip}")
    return None if command is None else _command(the_value(command))


def _check_text(*texts: bytes) -> None:
    """To sshd these are strings of C, and one that goes on behind its end spoils the whole."""
    if any(b"\0" in each for each in texts):
        raise ValueError("a principal or the name of an option holds a NUL")


def _command(value: bytes) -> str:
    if not value or b"\0" in value:
        raise ValueError("force-command is empty or holds a NUL")
    return value.decode()


def _verify(key: object, algorithm: bytes, raw: bytes, signed: bytes) -> None:
    """Raises InvalidSignature or ValueError."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(raw, signed)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        reader = Reader(raw)
        pair = encode_dss_signature(reader.mpint(), reader.mpint())  # RFC 5656 §3.1.2
        reader.end()
        key.verify(pair, signed, ec.ECDSA(_HASHES[algorithm]))
    else:
        assert isinstance(key, rsa.RSAPublicKey)
        key.verify(raw, signed, padding.PKCS1v15(), _HASHES[algorithm])


# --- X.509 ---------------------------------------------------------------------------------

# Exactly what `authority.py` writes. The names can hold no slash, so nothing is ambiguous.
_CLUSTER = f"spiffe://({names.CLUSTER_NAME.pattern})"
_HOST_URI = re.compile(f"{_CLUSTER}/host/({names.UUID.pattern})")
_USER_URI = re.compile(f"{_CLUSTER}/user/({names.USER_NAME.pattern})")
_BOT_URI = re.compile(f"{_CLUSTER}/bot/({names.USER_NAME.pattern})/({CERT_ID.pattern})")
_KNOWN = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
)


def peer_identity(
    cert_der: bytes, *, host_cas: Sequence[str], user_cas: Sequence[str], now: datetime
) -> Peer:
    """Who a TLS client is. `host_cas` and `user_cas` are PEM, one certificate each.

    A host only by a host CA, a user or bot only by a user CA, signed by it directly. Raises
    Denied. Cheap enough for every connection: the CAs are parsed once.
    """
    try:
        if len(cert_der) > MAX_TLS_CERT:
            raise ValueError(f"certificate of {len(cert_der)} bytes")
        leaf = x509.load_der_x509_certificate(cert_der)
        host_ca = _issuer(leaf, host_cas)
        _check_leaf(leaf, host_ca or _issuer(leaf, user_cas), now)
        return _identify(leaf, is_host=host_ca is not None)
    except _FAILED as why:
        raise Denied(_TLS_REFUSED, log=plain(why)) from why


def check_leaf(cert_pem: str, ca_pems: Sequence[str], now: datetime) -> None:
    """Is this host or user certificate signed by one of these CAs, and valid now?

    For a certificate of our own, so the reason is told. Raises Denied.
    """
    try:
        leaf = x509.load_pem_x509_certificate(keys.one_pem(cert_pem, "CERTIFICATE"))
        _check_leaf(leaf, _issuer(leaf, ca_pems), now)
    except _FAILED as why:
        raise Denied(f"certificate can not be used: {plain(why)}") from why


def ends_at(cert_pem: str) -> datetime:
    """The last moment a certificate of our own is valid. Raises Malformed."""
    try:
        leaf = x509.load_pem_x509_certificate(keys.one_pem(cert_pem, "CERTIFICATE"))
        return leaf.not_valid_after_utc
    except UNREADABLE as why:
        raise Malformed(f"certificate can not be read: {plain(why)}") from why


@lru_cache(maxsize=64)
def _ca(pem: str) -> x509.Certificate:
    return load_ca(pem)


def _issuer(leaf: x509.Certificate, ca_pems: Sequence[str]) -> x509.Certificate | None:
    return next((ca for ca in map(_ca, ca_pems) if _issued(leaf, ca)), None)


def _issued(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    # While a CA is rotated two have the same name; the signature tells them apart.
    if leaf.issuer != ca.subject:
        return False
    try:
        leaf.verify_directly_issued_by(ca)
    except InvalidSignature:
        return False
    return True


def _check_time(cert: x509.Certificate, what: str, now: datetime) -> None:
    starts, ends = cert.not_valid_before_utc, cert.not_valid_after_utc
    if now < starts:
        raise ValueError(f"{what} is not valid before {starts:%Y-%m-%d %H:%M:%S} UTC")
    if now > ends:
        raise ValueError(f"{what} has expired on {ends:%Y-%m-%d %H:%M:%S} UTC")


def _check_leaf(leaf: x509.Certificate, ca: x509.Certificate | None, now: datetime) -> None:
    if ca is None:
        raise ValueError("it is signed by no CA of the cluster")
    _check_time(leaf, "it", now)
    _check_time(ca, "its CA", now)
    if not isinstance(leaf.signature_hash_algorithm, keys.SOUND_HASHES):
        raise ValueError("it is signed with a weak hash")
    tls_public(leaf.public_key())
    # A certificate without one of these three raises ExtensionNotFound.
    extensions = leaf.extensions
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise ValueError("it is a CA")
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    if not usage.digital_signature or usage.key_cert_sign:
        raise ValueError("its key usage is not that of a leaf")
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise ValueError("it is not for TLS clients")
    # RFC 5280 §4.2: what is critical and not understood is refused.
    if any(each.critical and not isinstance(each.value, _KNOWN) for each in extensions):
        raise ValueError("it has a critical extension we do not know")


def _identify(leaf: x509.Certificate, *, is_host: bool) -> Peer:
    alt_names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uri = _only(alt_names.get_values_for_type(x509.UniformResourceIdentifier), "URI")
    patterns = (_HOST_URI,) if is_host else (_USER_URI, _BOT_URI)
    found = next(filter(None, (pattern.fullmatch(uri) for pattern in patterns)), None)
    if found is None:
        raise ValueError("its URI is none that this CA gives")
    cluster, name, *bot_id = found.groups()
    common_name = _only(_values(leaf, NameOID.COMMON_NAME), "common name")
    expected = f"{name}.{cluster}" if is_host else name
    if common_name != expected[:MAX_COMMON_NAME]:
        raise ValueError("its common name and its URI differ")
    return Peer(
        kind="host" if is_host else "user",
        cluster=cluster,
        name=name,
        roles=tuple(_values(leaf, NameOID.ORGANIZATION_NAME)),
        not_after=leaf.not_valid_after_utc,
        bot_id="".join(bot_id),
    )


def _values(leaf: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    # A value that is not text comes as bytes; such a name is none of ours.
    return [str(each.value) for each in leaf.subject.get_attributes_for_oid(oid)]


def _only(values: list[str], what: str) -> str:
    if len(values) != 1:
        raise ValueError(f"{len(values)} values of {what}, expected one")
    return values[0]
