"""Key pairs: made here, and checked here when somebody else made them.

Allowed for SSH: Ed25519, ECDSA on the three NIST curves, RSA from 2048 to 8192 bits.
Allowed for TLS: ECDSA P-256 and P-384, Ed25519, RSA from 2048 to 8192 bits.
"""

import base64
import binascii
import hashlib

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from teleport_lite.errors import Malformed
from teleport_lite.secret import Secret

# NIST SP 800-57: 2048 bits is the least. Past 8192 a signature check costs milliseconds.
MIN_RSA, MAX_RSA = 2048, 8192
# CA/Browser Forum baseline requirements §6.1.6. Huge exponents make checking slow.
MIN_RSA_EXPONENT, MAX_RSA_EXPONENT = (1 << 16) + 1, (1 << 32) - 1
# An RSA key of 8192 bits takes 1.4 kB as a line and 2.2 kB as a request.
MAX_PUBLIC_LINE = 8 * 1024
MAX_CSR = 16 * 1024
# RFC 5280 appendix A.1, ub-common-name. Longer ones are cut: nobody decides by it.
MAX_COMMON_NAME = 64
SSH_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
    }
)
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
# What the loaders of `cryptography` raise on hostile input; `pki` catches exactly these.
UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
    Warning,  # of oddities it still takes, where warnings are errors
)


def new_ssh_key() -> tuple[Secret, str]:
    """An Ed25519 key: the private half in OpenSSH's format, the public half as a line."""
    private = ed25519.Ed25519PrivateKey.generate()
    return Secret(_pem(private, serialization.PrivateFormat.OpenSSH)), ssh_line(
        private.public_key()
    )


def new_tls_key() -> Secret:
    """An ECDSA P-256 key as PKCS#8 PEM: what every TLS library reads."""
    private = ec.generate_private_key(ec.SECP256R1())
    return Secret(_pem(private, serialization.PrivateFormat.PKCS8))


def new_portable_ssh_key() -> tuple[Secret, str]:
    """An SSH key that OpenSSH finds anywhere in a file: ECDSA P-256 as PKCS#8, and its line.

    OpenSSH's own format has to stand at the very top of a file, and 9.6 is the first version
    that reads Ed25519 as PKCS#8.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    return Secret(_pem(private, serialization.PrivateFormat.PKCS8)), ssh_line(private.public_key())


def csr(private: Secret, common_name: str) -> str:
    """A PKCS#10 request (RFC 2986), PEM: proves that the sender holds the private key."""
    key = serialization.load_pem_private_key(private.reveal().encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("a request needs an ECDSA or RSA key")
    name = x509.NameAttribute(NameOID.COMMON_NAME, common_name[:MAX_COMMON_NAME])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([name]))
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def public_of_csr(pem: str) -> str:
    """The public key of a request, PEM SPKI, after checking that its own signature fits.

    Raises Malformed. Nothing else in the request is believed or even read.
    """
    if "PRIVATE KEY" in pem:
        raise Malformed("certificate request holds a private key, send the request alone")
    if len(pem) > MAX_CSR:
        raise Malformed(f"certificate request has {len(pem)} characters, the most is {MAX_CSR}")
    try:
        request = x509.load_pem_x509_csr(one_pem(pem, "CERTIFICATE REQUEST"))
        hash_used = request.signature_hash_algorithm
        if hash_used is not None and not isinstance(hash_used, SOUND_HASHES):
            raise ValueError(f"signed with {hash_used.name}")
        if not request.is_signature_valid:
            raise ValueError("its signature does not fit its key")
        return tls_public(request.public_key())
    except UNREADABLE as why:
        raise Malformed(
            f"certificate request can not be used: {plain(why)}", log=repr(why)
        ) from why


def check_ssh_public(line: str) -> str:
    """`line` as "type base64", without comment. Raises Malformed for what we do not sign."""
    if "PRIVATE KEY" in line:
        raise Malformed("SSH public key is a private key, send the .pub file and make a new key")
    words = line.split()
    if len(line) > MAX_PUBLIC_LINE or len(words) < 2 or len(line.strip().splitlines()) > 1:
        raise Malformed("SSH public key is not a line like 'ssh-ed25519 AAAA...'")
    if "-cert-v01@" in words[0]:
        raise Malformed("SSH public key is a certificate, send the key it was made for")
    if words[0] not in SSH_TYPES:
        raise Malformed(
            f"SSH public key type {words[0][:40]!a} is not allowed, use ssh-ed25519",
            hint="ssh-keygen -t ed25519",
        )
    try:
        key = serialization.load_ssh_public_key(f"{words[0]} {words[1]}".encode())
        check_strength(key)
        return ssh_line(key)
    except UNREADABLE as why:
        raise Malformed(f"SSH public key can not be used: {plain(why)}", log=repr(why)) from why


def check_tls_public(pem: str) -> str:
    """`pem` (SubjectPublicKeyInfo) in its canonical form. Raises ValueError."""
    try:
        return tls_public(serialization.load_pem_public_key(one_pem(pem, "PUBLIC KEY")))
    except UNREADABLE as why:
        raise ValueError(f"TLS public key can not be used: {plain(why)}") from why


def ssh_fingerprint(line: str) -> str:
    """As `ssh-keygen -lf` shows it: SHA256: and unpadded base64. Raises Malformed."""
    digest = hashlib.sha256(ssh_blob(line)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def ssh_blob(line: str) -> bytes:
    """The bytes of an OpenSSH public key or certificate line. Raises Malformed."""
    try:
        return base64.b64decode(line.split()[1], validate=True)
    except (IndexError, binascii.Error, ValueError) as why:
        raise Malformed("SSH public key is not a line like 'ssh-ed25519 AAAA...'") from why


def ssh_line(key: object) -> str:
    if not isinstance(key, PublicKey):
        raise ValueError("key type is not allowed")
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def tls_public(key: object) -> str:
    """PEM SPKI of a key that TLS certificates may carry. Raises ValueError for any other."""
    strong = check_strength(key)
    if isinstance(strong, ec.EllipticCurvePublicKey) and strong.key_size > 384:
        raise ValueError(f"curve {strong.curve.name} is not allowed")
    return strong.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def check_strength(key: object) -> PublicKey:
    """`key`, of a kind and size that we let near a certificate. Raises ValueError."""
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA <= key.key_size <= MAX_RSA:
            raise ValueError(f"RSA key of {key.key_size} bits, {MIN_RSA} to {MAX_RSA} are allowed")
        exponent = key.public_numbers().e
        if not MIN_RSA_EXPONENT <= exponent <= MAX_RSA_EXPONENT:
            raise ValueError("RSA exponent is out of range")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
            raise ValueError(f"curve {key.curve.name} is not allowed")
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError("key type is not allowed")
    return key


SOUND_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def one_pem(pem: str, label: str) -> bytes:
    """`pem` if it is exactly one block of that label. A second block could smuggle in a CA."""
    text = pem.strip()
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    if not (text.startswith(begin) and text.endswith(end)) or text.count("-----BEGIN") != 1:
        raise ValueError(f"not exactly one PEM block of type {label}")
    return text.encode("ascii")


def plain(why: BaseException) -> str:
    """What went wrong, in one printable line; the libraries quote their input."""
    return ascii(str(why))[1:-1][:160] or type(why).__name__


def _pem(
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    form: serialization.PrivateFormat,
) -> str:
    return key.private_bytes(Encoding.PEM, form, serialization.NoEncryption()).decode()
