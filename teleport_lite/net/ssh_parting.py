"""The end of a connection, if it is our idea: the client is told why (RFC 4253 §11.1)."""

from teleport_lite.net.ssh_entry import EntryTransport
from teleport_lite.pki.wire import text

# RFC 4253 §11.1, §12.
_MSG_DISCONNECT, _BY_APPLICATION = 1, 11


class PartingTransport(EntryTransport):
    _parting = ""

    def part(self, reason: str) -> None:
        """It is over now. Raises EOFError, which leaves the loop without a word in the log."""
        self._parting = reason
        raise EOFError(reason)

    def goodbye(self) -> bytes:
        """What is sent last. OpenSSH's client shows it."""
        if not self._parting:
            return super().goodbye()
        code = _BY_APPLICATION.to_bytes(4, "big")
        return bytes([_MSG_DISCONNECT]) + code + text(self._parting.encode()) + text(b"en")
