"""The matrix: right and wrong SSH user certificates, with the verdict of both judges.

`ours` is what our verifier must say, `sshd` what OpenSSH says (checked against the real one in
test_against_sshd.py). The first may be no where the second is yes, never the other way round.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from teleport_lite.pki.keys import ssh_line
from teleport_lite.testing.certs import (
    FOREVER,
    HOST,
    SUFFIX,
    PaperCluster,
    SshForgery,
    SshKey,
    mpint,
    options,
    packed,
    public_blob,
    ssh_private,
    ssh_signature,
)

ED = "ssh-ed25519-cert-v01@openssh.com"
RSA512 = "rsa-sha2-512-cert-v01@openssh.com"
RSA256 = "rsa-sha2-256-cert-v01@openssh.com"
P256 = "ecdsa-sha2-nistp256-cert-v01@openssh.com"
P384 = "ecdsa-sha2-nistp384-cert-v01@openssh.com"
P521 = "ecdsa-sha2-nistp521-cert-v01@openssh.com"


@cache
def rsa_key(bits: int, nth: int = 0, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(exponent, bits)


@cache
def ec_key(bits: int, nth: int = 0) -> ec.EllipticCurvePrivateKey:
    curve = {256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1}[bits]
    return ec.generate_private_key(curve())


@cache
def ed_key(nth: int = 0) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@cache
def cluster() -> PaperCluster:
    return PaperCluster()


def ca() -> SshKey:
    return ssh_private(cluster().user_ca)


def now() -> int:
    return int(cluster().now.timestamp())


def trusted() -> dict[str, SshKey]:
    """The CAs that both judges trust. Ours is Ed25519; the others must be read right too."""
    ecdsa = {f"ecdsa-{bits}": ec_key(bits, 9) for bits in (256, 384, 521)}
    return {"ed25519": ca(), "rsa": rsa_key(2048, 9), **ecdsa}


def trusted_blobs() -> frozenset[bytes]:
    return frozenset(public_blob(each) for each in trusted().values())


def trusted_lines() -> str:
    return "".join(ssh_line(each.public_key()) + "\n" for each in trusted().values())


@dataclass(frozen=True, kw_only=True)
class Case:
    ours: bool
    sshd: bool
    make: Callable[[str], SshForgery | bytes]  # given the login
    algorithm: str = ED
    key: Callable[[], SshKey] = ed_key  # signs the login
    sign_as: bytes = b""  # algorithm of that signature; "" is the one announced
    signature: Callable[[bytes], bytes] | None = None  # instead of a real one

    def blob(self, login: str) -> bytes:
        made = self.make(login)
        return made if isinstance(made, bytes) else made.blob()

    def sign(self, data: bytes) -> bytes:
        if self.signature:
            return self.signature(data)
        plain = self.algorithm.encode().removesuffix(SUFFIX)
        return ssh_signature(self.key(), data, self.sign_as or plain)


def user(key: SshKey | None = None, **changes: object) -> Callable[[str], SshForgery]:
    """A right certificate for the login, with `changes`."""

    def make(login: str) -> SshForgery:
        wanted = {"principals": (login.encode(),), **changes}
        return cluster().forgery(key or ed_key(), **wanted)

    return make


def named(*principals: bytes) -> Callable[[str], SshForgery]:
    """The login stands where LOGIN stands."""

    def make(login: str) -> SshForgery:
        names = tuple(each.replace(b"LOGIN", login.encode()) for each in principals)
        return cluster().forgery(ed_key(), principals=names)

    return make


def critical(*pairs: tuple[bytes, bytes | None]) -> Callable[[str], SshForgery]:
    return user(critical=options(*pairs))


def extensions(*pairs: tuple[bytes, bytes | None]) -> Callable[[str], SshForgery]:
    return user(extensions=options(*pairs))


def cut(make: Callable[[str], SshForgery], size: int) -> Callable[[str], bytes]:
    return lambda login: make(login).blob()[:size]


def nested(login: str) -> SshForgery:
    """CVE-2025-49825: a user's certificate, rightly signed, poses as the CA key."""
    thief = ed_key(5)
    own = cluster().forgery(thief, principals=(login.encode(),)).blob()
    return cluster().forgery(
        ed_key(),
        principals=(login.encode(),),
        signer=thief,
        ca_blob=own,
        signature_algorithm=ED.encode(),
    )


def nested_plain_algorithm(login: str) -> SshForgery:
    return replace(nested(login), signature_algorithm=b"ssh-ed25519")


def bits_flipped(login: str) -> bytes:
    blob = cluster().forgery(ed_key(), key_id=b"alice", principals=(login.encode(),)).blob()
    return blob.replace(b"alice", b"blice")


def source(text: bytes) -> Callable[[str], SshForgery]:
    return critical((b"source-address", text))


def wrong_curve(login: str) -> SshForgery:
    fields = packed(b"nistp384") + public_blob(ec_key(256))[4 + 19 + 4 + 8 :]
    return cluster().forgery(ec_key(256), key_fields=fields, principals=(login.encode(),))


def compressed(login: str) -> SshForgery:
    point = ec_key(256).public_key().public_numbers()
    short = bytes([2 + point.y % 2]) + point.x.to_bytes(32, "big")
    fields = packed(b"nistp256") + packed(short)
    return cluster().forgery(ec_key(256), key_fields=fields, principals=(login.encode(),))


def off_curve(login: str) -> SshForgery:
    fields = packed(b"nistp256") + packed(b"\x04" + b"\x01" * 64)
    return cluster().forgery(ec_key(256), key_fields=fields, principals=(login.encode(),))


def rsa_fields(e: bytes, n: bytes) -> Callable[[str], SshForgery]:
    return user(rsa_key(2048), key_fields=packed(e) + packed(n))


def modulus() -> bytes:
    n = rsa_key(2048).public_key().public_numbers().n
    return n.to_bytes(257, "big")


def signed_with(algorithm: bytes) -> Callable[[str], SshForgery]:
    return user(signer=rsa_key(2048, 9), signature_algorithm=algorithm)


def ca_signature(signature: Callable[[bytes], bytes]) -> Callable[[str], SshForgery]:
    """The CA's own signature, bent afterwards."""

    def make(login: str) -> SshForgery:
        forged = user()(login)
        blob = replace(forged, signature=b"").blob()
        return replace(forged, signature=signature(ssh_signature(ca(), blob[:-4])))

    return make


def twisted_ca(login: str) -> SshForgery:
    """The trusted RSA CA, its exponent written with a zero byte too many."""
    numbers = rsa_key(2048, 9).public_key().public_numbers()
    blob = packed(b"ssh-rsa") + packed(b"\0\x01\0\x01") + mpint(numbers.n)
    return user(signer=rsa_key(2048, 9), ca_blob=blob)(login)


def ecdsa_numbers(data: bytes) -> bytes:
    """The two numbers of a right signature, each with its length."""
    blob = ssh_signature(ec_key(256), data)
    return blob[4 + len("ecdsa-sha2-nistp256") + 4 :]


def ecdsa_with_more(data: bytes) -> bytes:
    return packed(b"ecdsa-sha2-nistp256") + packed(ecdsa_numbers(data) + b"\0")


def ecdsa_padded(data: bytes) -> bytes:
    """The same numbers, the first with zero bytes in front."""
    numbers = ecdsa_numbers(data)
    size = int.from_bytes(numbers[:4], "big")
    return packed(b"ecdsa-sha2-nistp256") + packed(
        packed(b"\0\0" + numbers[4 : 4 + size]) + numbers[4 + size :]
    )


def yes(make: Callable[[str], SshForgery | bytes], **more: object) -> Case:
    return Case(ours=True, sshd=True, make=make, **more)  # type: ignore[arg-type]  # fields of Case


def no(make: Callable[[str], SshForgery | bytes], **more: object) -> Case:
    return Case(ours=False, sshd=False, make=make, **more)  # type: ignore[arg-type]  # likewise


def stricter(make: Callable[[str], SshForgery | bytes], **more: object) -> Case:
    """sshd takes it; our CA never signs it, so we do not."""
    return Case(ours=False, sshd=True, make=make, **more)  # type: ignore[arg-type]  # likewise


MATRIX: dict[str, Case] = {
    "plain and right": yes(user()),
    "right, RSA key with SHA-512": yes(
        user(rsa_key(2048)), algorithm=RSA512, key=lambda: rsa_key(2048)
    ),
    "right, RSA key with SHA-256": yes(
        user(rsa_key(2048)), algorithm=RSA256, key=lambda: rsa_key(2048)
    ),
    "right, P-256 key": yes(
        user(ec_key(256)),
        algorithm=P256,
        key=lambda: ec_key(256),
    ),
    "right, P-384 key": yes(
        user(ec_key(384)),
        algorithm=P384,
        key=lambda: ec_key(384),
    ),
    "right, P-521 key": yes(
        user(ec_key(521)),
        algorithm=P521,
        key=lambda: ec_key(521),
    ),
    "right, login signature with padded numbers": yes(
        user(ec_key(256)), algorithm=P256, signature=ecdsa_padded
    ),
    "right, RSA CA with SHA-512": yes(signed_with(b"rsa-sha2-512")),
    "right, RSA CA with SHA-256": yes(signed_with(b"rsa-sha2-256")),
    "right, ECDSA CA": yes(user(signer=ec_key(256, 9))),
    "right, P-384 CA": yes(user(signer=ec_key(384, 9))),
    "right, P-521 CA": yes(user(signer=ec_key(521, 9))),
    "right, login is the last of several": yes(named(b"bob", b"carol", b"LOGIN")),
    "right, 256 principals": yes(named(*(b"p%d" % n for n in range(255)), b"LOGIN")),
    "right, valid for ever": yes(user(valid_after=0, valid_before=FOREVER)),
    "right, with flags": yes(extensions((b"permit-X11-forwarding", None), (b"permit-pty", None))),
    "right, unknown extension": yes(extensions((b"new@example.com", b"anything"))),
    "right, reserved field filled": yes(user(reserved=b"later")),
    "right, no nonce": yes(user(nonce=b"")),
    "right, largest serial": yes(user(serial=FOREVER)),
    "right, forced command": yes(critical((b"force-command", b"true"))),
    "right, source address": yes(source(b"10.0.0.0/8,127.0.0.0/8")),
    "right, source address without mask": yes(source(b"127.0.0.1")),
    "right, source address everywhere": yes(source(b"0.0.0.0/0")),
    "right, source address with a wide number": yes(source(b"127.0.0.1/032")),
    # Who signed it
    "another CA": no(user(signer=ed_key(3))),
    "names our CA, signed by another": no(
        lambda login: user(signer=ed_key(3), ca_blob=public_blob(ca()))(login)
    ),
    "signed by itself": no(user(signer=ed_key())),
    "a certificate as CA": no(nested),
    "a certificate as CA, plain algorithm": no(nested_plain_algorithm),
    "CA signature with SHA-1": no(signed_with(b"ssh-rsa")),
    "CA signature of another algorithm than said": no(
        user(signer=rsa_key(2048, 9), signature=packed(b"ssh-ed25519") + packed(b"\0" * 64))
    ),
    "CA key with trailing bytes": no(lambda login: user(ca_blob=public_blob(ca()) + b"\0")(login)),
    "CA key written differently": stricter(twisted_ca),
    "CA signature with trailing bytes": no(ca_signature(lambda raw: raw + b"\0")),
    "CA signature cut": no(ca_signature(lambda raw: raw[:-1])),
    "CA signature empty": no(ca_signature(lambda raw: b"")),
    "CA signature of zeros": no(
        ca_signature(lambda raw: packed(b"ssh-ed25519") + packed(b"\0" * 64))
    ),
    "ECDSA CA signature of zeros": no(
        user(
            signer=ec_key(256, 9),
            signature=packed(b"ecdsa-sha2-nistp256") + packed(mpint(0) + mpint(0)),
        )
    ),
    "one letter of the key id changed": no(bits_flipped),
    # What it is
    "host certificate": no(user(type=HOST)),
    "type 0": no(user(type=0)),
    "type 3": no(user(type=3)),
    "type 257": no(user(type=257)),
    "plain key under a certificate algorithm": no(lambda login: public_blob(ed_key())),
    "certificate under the plain algorithm": no(user(), algorithm="ssh-ed25519"),
    "RSA certificate with a SHA-1 login": no(
        user(rsa_key(2048)),
        algorithm="ssh-rsa-cert-v01@openssh.com",
        key=lambda: rsa_key(2048),
        sign_as=b"ssh-rsa",
    ),
    "Ed25519 certificate announced as RSA": no(user(), algorithm=RSA512, sign_as=b"ssh-ed25519"),
    "P-256 certificate announced as P-384": no(
        user(ec_key(256)),
        algorithm=P384,
        key=lambda: ec_key(256),
        sign_as=b"ecdsa-sha2-nistp256",
    ),
    "unknown key type": no(user(key_type=b"ssh-new-cert-v01@openssh.com")),
    "key type without its suffix": no(user(key_type=b"ssh-ed25519")),
    "key type in capitals": no(user(key_type=b"SSH-ED25519-cert-v01@openssh.com")),
    "RSA key type with a hash in it": stricter(
        user(rsa_key(2048), key_type=RSA512.encode()), algorithm=RSA512, key=lambda: rsa_key(2048)
    ),
    # When
    "expired": no(lambda login: user(valid_before=now() - 1)(login)),
    "expired long ago": no(user(valid_after=0, valid_before=1)),
    "not yet valid": no(lambda login: user(valid_after=now() + 6 * 3600)(login)),
    "inverted life": no(lambda login: user(valid_after=now() + 60, valid_before=now() - 60)(login)),
    "no life": no(user(valid_after=0, valid_before=0)),
    # For whom
    "no principals": no(user(principals=())),
    "another principal": no(named(b"somebody-else")),
    "empty principal": no(named(b"")),
    "wildcard principal": no(named(b"*")),
    "principal with a wildcard": no(named(b"LOGIN*")),
    "principals as a list in one": no(named(b"LOGIN,other")),
    "list that ends with the login": no(named(b"other,LOGIN")),
    "principal with a space": no(named(b" LOGIN")),
    "principal with a newline": no(named(b"LOGIN\n")),
    "principal with NUL and more": no(named(b"LOGIN\0x")),
    "principal with a last NUL": stricter(named(b"LOGIN\0")),
    "257 principals": no(named(*(b"p%d" % n for n in range(256)), b"LOGIN")),
    # On which terms
    "unknown critical option": no(critical((b"new-rule@example.com", b"x"))),
    "unknown critical flag": no(critical((b"new-rule@example.com", None))),
    "extension among the critical options": no(critical((b"permit-pty", None))),
    "security key wanted": stricter(critical((b"verify-required", None))),
    "critical option twice": no(critical((b"force-command", b"a"), (b"force-command", b"b"))),
    "critical options out of order": stricter(
        critical((b"source-address", b"127.0.0.1/32"), (b"force-command", b"true"))
    ),
    "forced command without value": no(critical((b"force-command", None))),
    "empty forced command": stricter(critical((b"force-command", b""))),
    "forced command with NUL": no(critical((b"force-command", b"a\0b"))),
    "forced command with more behind": no(
        user(critical=packed(b"force-command") + packed(packed(b"a") + b"x"))
    ),
    "forced command without its length": no(
        user(critical=packed(b"force-command") + packed(b"true"))
    ),
    "critical options cut": no(user(critical=options((b"force-command", b"a"))[:-1])),
    "flag with a value": no(extensions((b"permit-pty", b"x"))),
    **{
        f"flag {flag.decode()} with a value": no(extensions((flag, b"x")))
        for flag in (
            b"no-touch-required",
            b"permit-X11-forwarding",
            b"permit-agent-forwarding",
            b"permit-port-forwarding",
            b"permit-user-rc",
        )
    },
    "flag with raw data": no(user(extensions=packed(b"permit-pty") + packed(b"x"))),
    "flag twice": stricter(extensions((b"permit-pty", None), (b"permit-pty", None))),
    "extensions out of order": stricter(
        extensions((b"permit-pty", None), (b"permit-X11-forwarding", None))
    ),
    "extensions cut": no(user(extensions=options((b"permit-pty", None))[:-1])),
    "64 kB of extensions": stricter(extensions((b"x@y", b"A" * 65536))),
    # From where
    "source address elsewhere": no(source(b"192.0.2.0/24")),
    "source address empty": no(source(b"")),
    "source address without value": no(critical((b"source-address", None))),
    "source address garbage": no(source(b"!!")),
    "source address, then garbage": no(source(b"127.0.0.1/32,!!")),
    "source address, then nothing": no(source(b"127.0.0.1/32,")),
    "source address with host bits": no(source(b"127.0.0.1/8")),
    "source address with a space": no(source(b"10.0.0.0/8, 127.0.0.0/8")),
    "source address with a netmask": no(source(b"127.0.0.0/255.0.0.0")),
    "source address /33": no(source(b"127.0.0.1/33")),
    "source address /-1": no(source(b"127.0.0.1/-1")),
    "source address with no mask behind the slash": no(source(b"127.0.0.1/")),
    "source address of IPv6": no(source(b"::/0")),
    "source address of mapped IPv4": no(source(b"::ffff:127.0.0.0/104")),
    "source address as a name": no(source(b"localhost")),
    "source address negated": no(source(b"!10.0.0.0/8")),
    "source address wild": no(source(b"127.0.0.*")),
    "source address with a last NUL": stricter(source(b"127.0.0.1\0")),
    "source address of two numbers": stricter(source(b"127.1")),
    "65 source addresses": stricter(source(b",".join([b"127.0.0.1/32"] * 65))),
    # Its bytes
    "nothing at all": no(lambda login: b""),
    "four bytes": no(lambda login: b"\xff\xff\xff\xff"),
    "trailing byte": no(user(tail=b"\0")),
    "last bytes missing": no(cut(user(), -10)),
    "first half": no(cut(user(), 150)),
    "1 MB key id": no(user(key_id=b"A" * (1 << 20))),
    "another principal with NUL": no(named(b"LOGIN", b"x\0y")),
    "another principal with a last NUL": stricter(named(b"LOGIN", b"x\0")),
    "unknown extension with NUL": no(extensions((b"new\0er@example.com", b"anything"))),
    "key id with NUL": no(user(key_id=b"ali\0ce")),
    "key id that is no user name": stricter(user(key_id=b"alice from sales")),
    "key id with an escape": stricter(user(key_id=b"alice\x1b]0;x\x07")),
    "empty key id": stricter(user(key_id=b"")),
    # The user's own key
    "RSA key of 1024 bits": no(user(rsa_key(1024)), algorithm=RSA512, key=lambda: rsa_key(1024)),
    "RSA key with a negative modulus": no(
        rsa_fields(b"\x01\0\x01", b"\x80" + b"\1" * 255),
        algorithm=RSA512,
        key=lambda: rsa_key(2048),
    ),
    "RSA key with exponent 1": no(
        rsa_fields(b"\x01", modulus()), algorithm=RSA512, key=lambda: rsa_key(2048)
    ),
    "RSA key with exponent 3": stricter(
        user(rsa_key(2048, 0, 3)), algorithm=RSA512, key=lambda: rsa_key(2048, 0, 3)
    ),
    "P-256 key on a wrong curve name": no(wrong_curve, algorithm=P256, key=lambda: ec_key(256)),
    "P-256 key off the curve": no(off_curve, algorithm=P256, key=lambda: ec_key(256)),
    "P-256 key compressed": no(compressed, algorithm=P256, key=lambda: ec_key(256)),
    "Ed25519 key of 31 bytes": no(user(key_fields=packed(b"\1" * 31))),
    "Ed25519 key of 33 bytes": no(user(key_fields=packed(b"\1" * 33))),
    # The proof that the visitor holds it
    "login signed by another key": no(user(), key=lambda: ed_key(4)),
    "RSA login signed by another key": no(
        user(rsa_key(2048)), algorithm=RSA512, key=lambda: rsa_key(2048, 1)
    ),
    "ECDSA login signed by another key": no(
        user(ec_key(256)), algorithm=P256, key=lambda: ec_key(256, 1)
    ),
    "ECDSA login signature with trailing bytes inside": no(
        user(ec_key(256)), algorithm=P256, signature=ecdsa_with_more
    ),
    "login signature of other data": no(
        user(), signature=lambda data: ssh_signature(ed_key(), data + b"x")
    ),
    "login signature empty": no(user(), signature=lambda data: b""),
    "login signature cut": no(user(), signature=lambda data: ssh_signature(ed_key(), data)[:-1]),
    "login signature with trailing bytes": no(
        user(), signature=lambda data: ssh_signature(ed_key(), data) + b"\0"
    ),
    "login signature named after the certificate": no(user(), sign_as=ED.encode()),
    "login signed with SHA-1 where SHA-512 was said": no(
        user(rsa_key(2048)), algorithm=RSA512, key=lambda: rsa_key(2048), sign_as=b"ssh-rsa"
    ),
    "login signed with SHA-256 where SHA-512 was said": no(
        user(rsa_key(2048)), algorithm=RSA512, key=lambda: rsa_key(2048), sign_as=b"rsa-sha2-256"
    ),
    "ECDSA login signature of zeros": no(
        user(ec_key(256)),
        algorithm=P256,
        signature=lambda data: packed(b"ecdsa-sha2-nistp256") + packed(mpint(0) + mpint(0)),
    ),
}
