"""One end of a TLS connection without a socket: ciphertext in and out, plain bytes in and out.

Tunnels do their TLS here and not in the event loop's own layer, for three reasons. Nothing is
buffered behind our back, so a keystroke never waits behind bulk that has already been written.
One buffer serves all tunnels of a loop, where asyncio keeps 256 KiB for each. And uvloop and
plain asyncio behave alike.
"""

import ssl
import threading
from contextlib import suppress

from teleport_lite.errors import Denied
from teleport_lite.net.mux_frames import HEADER_SIZE, MAX_DATA

# So that other packages can name what they pass on without touching ssl themselves.
Context = ssl.SSLContext

# Read from a socket at a time.
CIPHERTEXT = 128 * 1024
# Decrypted at a time: OpenSSL's memory keeps the size of the largest amount it ever held.
CHUNK = 64 * 1024


class _Scratch(threading.local):
    """Memory for what is being read or written right now; an event loop is one thread."""

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(CIPHERTEXT))
        self.plain = memoryview(bytearray(CHUNK))
        self.out = memoryview(bytearray(HEADER_SIZE + MAX_DATA))


SCRATCH = _Scratch()


class TlsEnd:
    __slots__ = ("_in", "_out", "_tls", "ended", "secure")

    def __init__(
        self, context: Context, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=server_hostname
        )
        self.secure = False  # the handshake is over
        self.ended = False  # the peer has said that no more bytes will come (close_notify)

    def feed(self, ciphertext: memoryview) -> None:
        """Take what has arrived, at most CHUNK at a time."""
        self._in.write(ciphertext)

    def handshake(self) -> bool:
        """Go on with it; True when it is over. A client begins by calling this.

        Raises Denied when the peer's certificate or words are refused, or ours by the peer.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as why:
            raise Denied(_worded(why), log=str(why)) from why
        self.secure = True
        return True

    def read(self, plain: memoryview) -> int:
        """How many bytes are in `plain` now; 0 until more is fed. Raises Denied."""
        size = 0
        try:
            while size < len(plain) and (self._in.pending or self._tls.pending()):
                got = self._tls.read(len(plain) - size, plain[size:])
                if not got:
                    self.ended = True
                    break
                size += int(got)
        except ssl.SSLWantReadError:
            pass  # a part of a record, the rest is on its way
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as why:
            raise Denied(_worded(why), log=str(why)) from why
        return size

    def write(self, plain: bytes | bytearray | memoryview) -> None:
        """Encrypt; `taken` has it then. Only after the handshake."""
        size = self._tls.write(plain)
        while size < len(plain):  # OpenSSL may take one record at a time
            size += self._tls.write(memoryview(plain)[size:])

    def taken(self) -> bytes:
        """What is to be sent now, and is ours no more."""
        return self._out.read()

    @property
    def to_send(self) -> int:
        """How much `taken` would have."""
        return self._out.pending

    def close(self) -> None:
        """Say goodbye, without waiting for the other side's."""
        if self.secure:
            with suppress(ssl.SSLError):
                self._tls.unwrap()

    @property
    def certificate(self) -> bytes:
        """The peer's, DER; b"" if it showed none."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def alpn(self) -> str:
        return self._tls.selected_alpn_protocol() or ""


def _worded(why: ssl.SSLError) -> str:
    if isinstance(why, ssl.SSLCertVerificationError):
        return f"the certificate of the other side is not accepted: {why.verify_message}"
    reason = (why.reason or "unknown").replace("_", " ").lower()
    return f"TLS failed: {reason}"
