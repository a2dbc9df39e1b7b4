"""Binary packets sealed and opened (RFC 4253 §6): AES-GCM, AES-CTR with an EtM MAC, and none yet.

    length (4 bytes, in clear) | padding length, payload, padding | tag

All that we offer leave the length in clear: RFC 5647 §7.3 for GCM, PROTOCOL §1.6 for EtM. The
ciphers themselves are those that paramiko made with the keys of the exchange. Padding is zeros:
all of them are counter modes, to which it makes no difference.
"""

import hmac
from collections.abc import Callable
from struct import Struct
from typing import Any, Protocol

from paramiko import SSHException

LENGTH = 4
# RFC 4253 §6: at least four bytes of padding.
LEAST_PADDING = 4
_U32 = Struct(">I")
_TAMPERED = "a packet has been tampered with"


class Seal(Protocol):
    """One direction, from one key exchange to the next.

    `block` is what the length has to be a multiple of, without itself if `apart`. `tag` is how
    many bytes follow the packet.
    """

    block: int
    apart: bool
    tag: int

    def close(self, plain: memoryview, out: memoryview, number: int) -> None:
        """Write the whole packet to `out`: length, `plain` sealed, tag. They may share bytes, if
        `plain` begins at out[4]. `number` counts packets (RFC 4253 §6.4)."""

    def open(self, packet: memoryview, number: int) -> None:
        """Turn a whole packet into plain text where it stands. Raises SSHException."""


class Clear:
    """Before the first key exchange is over."""

    block, apart, tag = 8, False, 0

    def close(self, plain: memoryview, out: memoryview, number: int) -> None:  # noqa: ARG002
        _U32.pack_into(out, 0, len(plain))
        out[LENGTH:] = plain

    def open(self, packet: memoryview, number: int) -> None:
        """There is nothing to do, and nothing to check."""


class Gcm:
    """RFC 5647, as OpenSSH's aes128-gcm@openssh.com has it: the length is authenticated."""

    block, apart, tag = 16, True, 16

    def __init__(self, engine: Any, iv: bytes) -> None:
        """`engine` is cryptography's AESGCM. RFC 5647 §7.1: the last eight bytes of `iv` count."""
        self._encrypt: Callable[..., int] = engine.encrypt_into
        self._decrypt: Callable[..., int] = engine.decrypt_into
        self._fixed, self._count = bytes(iv[:4]), int.from_bytes(iv[4:], "big")

    def _nonce(self) -> bytes:
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count = (self._count + 1) & 0xFFFF_FFFF_FFFF_FFFF
        return nonce

    def close(self, plain: memoryview, out: memoryview, number: int) -> None:  # noqa: ARG002
        length = _U32.pack(len(plain))
        out[:LENGTH] = length
        self._encrypt(self._nonce(), plain, length, out[LENGTH:])

    def open(self, packet: memoryview, number: int) -> None:  # noqa: ARG002
        try:
            self._decrypt(
                self._nonce(), packet[LENGTH:], packet[:LENGTH], packet[LENGTH : -self.tag]
            )
        except Exception:
            # cryptography's InvalidTag; whatever else it may be, the packet is not to be used.
            raise SSHException(_TAMPERED) from None


class CtrEtm:
    """AES-CTR (RFC 4344 §4), and a MAC over what has been encrypted (PROTOCOL §1.6)."""

    block, apart = 16, True

    def __init__(self, engine: Any, digest: Callable[..., Any], key: bytes) -> None:
        """`engine` is cryptography's CipherContext, for this direction."""
        self._turn: Callable[..., int] = engine.update_into
        self._mac = hmac.new(key, digestmod=digest)
        self.tag = self._mac.digest_size

    def _tag_of(self, packet: memoryview, number: int) -> bytes:
        mac = self._mac.copy()
        mac.update(_U32.pack(number))
        mac.update(packet)
        return mac.digest()

    def close(self, plain: memoryview, out: memoryview, number: int) -> None:
        _U32.pack_into(out, 0, len(plain))
        end = LENGTH + len(plain)
        self._turn(plain, out[LENGTH:end])
        out[end:] = self._tag_of(out[:end], number)

    def open(self, packet: memoryview, number: int) -> None:
        end = len(packet) - self.tag
        if not hmac.compare_digest(self._tag_of(packet[:end], number), packet[end:]):
            raise SSHException(_TAMPERED)
        self._turn(packet[LENGTH:end], packet[LENGTH:end])


def padding(payload: int, seal: Seal) -> int:
    """How much of it a payload of that size needs: 4 to block + 3 bytes."""
    ahead = 1 if seal.apart else LENGTH + 1
    short = -(payload + ahead) % seal.block
    return short if short >= LEAST_PADDING else short + seal.block


def check_length(length: int, seal: Seal, largest: int) -> None:
    """What a stranger says a packet's length is. Raises SSHException."""
    whole = length if seal.apart else length + LENGTH
    # RFC 4253 §6: a packet has at least 16 bytes.
    if not 12 <= length <= largest or whole % seal.block:
        raise SSHException("packet has a bad length")
