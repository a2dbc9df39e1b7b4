"""Paramiko's packets, with the limits it lacks (RFC 4253 §4.2, §6)."""

from paramiko import Message, SSHException
from paramiko.common import MSG_IGNORE, MSG_NAMES, cMSG_UNIMPLEMENTED
from paramiko.packet import Packetizer

from teleport_lite.net.ssh_policy import (
    MAX_BANNER,
    MAX_PACKET_BEFORE_LOGIN,
    REKEY_BYTES,
    REKEY_PACKETS,
)


class GuardedPackets(Packetizer):
    """Given to `Transport` as its `packetizer_class`. Nothing here is private to paramiko."""

    REKEY_BYTES = REKEY_BYTES
    REKEY_PACKETS = REKEY_PACKETS
    largest = MAX_PACKET_BEFORE_LOGIN

    def start_handshake(self, timeout: float) -> None:
        """Would start a thread. The monitor sees to it that nobody stays without a login."""

    def readline(self, timeout: float) -> str:  # noqa: ARG002  # the monitor has the clock
        """The client's identification: its first line, since only servers may say more before."""
        line = b""
        while not line.endswith(b"\n"):
            if len(line) >= MAX_BANNER:
                raise SSHException("identification line is too long")
            line += self.read_all(1)
            if line[:4] != b"SSH-"[: len(line)]:
                raise SSHException("client does not speak SSH")
        return line.rstrip(b"\r\n").decode("ascii", "replace")

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Paramiko would take a packet of 2^31 bytes, and allocate them, before any login."""
        if not 0 <= n <= self.largest:
            raise SSHException("packet has a bad length")
        return super().read_all(n, check_rekey)

    def read_message(self) -> tuple[int, Message]:
        kind, message = super().read_message()
        if kind in MSG_NAMES:
            return kind, message
        # RFC 4253 §11.4. Paramiko's loop would stumble over a name it does not have.
        reply = Message()
        reply.add_byte(cMSG_UNIMPLEMENTED)
        reply.add_int(message.seqno)
        self.send_message(reply)
        return MSG_IGNORE, Message()
