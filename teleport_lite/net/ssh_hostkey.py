"""The host key, in two halves: the process that has it, and the one that shows its certificate."""

import io
from collections.abc import Callable

import paramiko

from teleport_lite.errors import Malformed
from teleport_lite.secret import Secret


class HostKey:
    """The private half. Lives in the signer process and nowhere else."""

    def __init__(self, private: Secret) -> None:
        """`private` is an OpenSSH private key, Ed25519. Raises Malformed."""
        try:
            self._key = paramiko.Ed25519Key.from_private_key(io.StringIO(private.reveal()))
        except (paramiko.SSHException, ValueError, AssertionError):
            # The library quotes what it reads.
            raise Malformed("the host's SSH key can not be read") from None

    def sign(self, data: bytes) -> bytes:
        """A signature blob: string "ssh-ed25519", string signature (RFC 8709 §6)."""
        return self._key.sign_ssh_data(data).asbytes()


class ShownKey(paramiko.PKey):
    """The public half, as paramiko wants a server key to be; signing is asked of somebody else.

    `Transport.add_server_key` files it under `get_name()`; a key exchange puts `asbytes()` into
    the exchange hash as K_S and calls `sign_ssh_data(hash, name)`. For a certificate the name
    has the suffix -cert-v01@openssh.com, the bytes are the certificate, and the signature is
    that of the plain key (PROTOCOL.certkeys).
    """

    def __init__(self, name: str, blob: bytes, sign: Callable[[bytes], bytes]) -> None:
        self._name, self._blob, self._sign = name, blob, sign
        self.public_blob = None

    def get_name(self) -> str:
        return self._name

    def asbytes(self) -> bytes:
        return self._blob

    def get_bits(self) -> int:
        return 256

    def can_sign(self) -> bool:
        return True

    @property
    def _fields(self) -> tuple[str, bytes]:
        return self._name, self._blob

    def sign_ssh_data(
        self,
        data: bytes,
        algorithm: str | None = None,  # noqa: ARG002  # Ed25519 has only one
    ) -> paramiko.Message:
        return paramiko.Message(self._sign(data))
