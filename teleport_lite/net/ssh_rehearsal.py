"""The client of a connection that is only a rehearsal (`node/rehearsal.py`): it has no key, and
believes any host."""

import base64
import logging
import signal
import socket

import paramiko

from teleport_lite.net.ssh_hostkey import ShownKey
from teleport_lite.net.ssh_policy import HOST_KEY
from teleport_lite.pki.wire import text

# What OpenSSH's clients, those of today and those of some years ago, agree on with us. Paramiko
# knows one of them by its older name only.
AGREEMENTS = (
    ("curve25519-sha256@libssh.org", "aes128-ctr"),
    ("mlkem768x25519-sha256", "aes256-gcm@openssh.com"),
)
# Nobody looks at more than their shape.
_KEY = text(HOST_KEY.encode()) + text(bytes(32))
HOST_LINE = f"{HOST_KEY} {base64.b64encode(_KEY).decode()}"
SIGNATURE = text(HOST_KEY.encode()) + text(bytes(64))
SECONDS = 10


def visit(sock: socket.socket, agreement: tuple[str, str]) -> None:
    """Log in and run a command. In a process that is for nothing else: there will be a thread,
    and an alarm that ends it all."""
    signal.alarm(SECONDS)
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
    visitor = _Visitor(sock)
    options = visitor.get_security_options()
    options.kex, options.ciphers = ((each,) for each in agreement)
    options.digests = ("hmac-sha2-256-etm@openssh.com",)
    visitor.start_client(timeout=SECONDS)
    visitor.auth_publickey("nobody", ShownKey(HOST_KEY, _KEY, lambda _data: SIGNATURE))
    channel = visitor.open_session()
    channel.set_environment_variable("LANG", "C")
    channel.exec_command("true")
    channel.recv_exit_status()
    channel.close()
    visitor.close()


class _Visitor(paramiko.Transport):
    _CLIENT_ID = "OpenSSH_rehearsal"  # clients of that name get more

    def _verify_key(self, _host_key: bytes, _signature: bytes) -> None:
        """The host's is no better than ours."""
