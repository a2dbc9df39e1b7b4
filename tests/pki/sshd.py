"""A real OpenSSH sshd on loopback, and a client that sends it any bytes as a public key.

OpenSSH's own client refuses to send most forged certificates, so it would test nothing.
"""

import functools
import logging
import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.auth_handler import AuthHandler

from tests.support import eventually, free_port

BINARY = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
LOGIN = pwd.getpwuid(os.getuid()).pw_name
# Seconds for a server that is there, on a machine with more to do. Paramiko's own are 15.
PATIENCE = 60.0
_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {dir}/host_key
TrustedUserCAKeys {dir}/cas
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
MaxAuthTries 100000
MaxStartups 1000
LoginGraceTime 600
RequiredRSASize 2048
LogLevel VERBOSE
"""
# Newer servers make a source wait after failures, and failures are what we are here for.
_NEWER = "PerSourcePenalties no\n"


@contextmanager
def sshd(directory: Path, trusted_cas: str) -> Iterator["RawClient"]:
    assert BINARY
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it
    (directory / "cas").write_text(trusted_cas)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "host_key"]
    subprocess.run(command, check=True)
    port, config = free_port(), directory / "config"
    config.write_text(_CONFIG.format(port=port, dir=directory) + _NEWER)
    if subprocess.run([BINARY, "-t", "-f", config], capture_output=True).returncode:
        config.write_text(_CONFIG.format(port=port, dir=directory))
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([BINARY, "-D", "-e", "-f", config], stderr=log)
    try:
        eventually(lambda: _answers(port), what="sshd to listen")
        client = RawClient(port)
        yield client
        client.close()
    finally:
        server.terminate()
        server.wait(60)


@dataclass
class RawKey:
    """What paramiko asks of a key; `blob` may be anything at all."""

    algorithm: str
    blob: bytes
    sign: Callable[[bytes], bytes]
    public_blob: None = None

    def can_sign(self) -> bool:
        return True

    def get_name(self) -> str:
        return self.algorithm

    def asbytes(self) -> bytes:
        return self.blob

    def sign_ssh_data(self, data: bytes, algorithm: str) -> paramiko.Message:
        return paramiko.Message(self.sign(data))


@functools.cache
def version() -> str:
    """Of the client, which is packaged with the server: "OpenSSH_9.2p1 ..."."""
    return subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr


class RawClient:
    def __init__(self, port: int) -> None:
        self._port = port
        self.address = ""  # where the latest connection comes from
        self._transport: paramiko.Transport | None = None
        paramiko.util.get_logger("paramiko").setLevel(logging.CRITICAL)

    def accepts(self, key: RawKey, login: str = LOGIN) -> bool:
        """The server's verdict. A connection is used again until it is let in or cut off."""
        used = self._transport is not None and self._transport.is_active()
        verdict = self._ask(key, login)
        if verdict is None and used:  # whatever came before may have ended it, and not this key
            verdict = self._ask(key, login)
        return bool(verdict)

    def _ask(self, key: RawKey, login: str) -> bool | None:
        """None: the connection has ended without a word about it."""
        transport = self._connected()
        handler = _Verbatim(transport)
        transport.auth_handler = handler
        answered = threading.Event()
        try:
            handler.auth_publickey(login, key, answered)
            handler.wait_for_response(answered)
        except paramiko.BadAuthenticationType:
            raise  # the server does not take public keys at all: a fault of this test
        except (paramiko.SSHException, EOFError, OSError) as why:
            if "timeout" in str(why):
                raise  # no verdict either
            if isinstance(why, paramiko.AuthenticationException) and transport.is_active():
                return False
            self.close()
            return None
        self.close()
        return True

    def close(self) -> None:
        if self._transport:
            self._transport.close()
            self._transport.join(10)
            self._transport = None

    def _connected(self) -> paramiko.Transport:
        if self._transport is None or not self._transport.is_active():
            self.close()
            peer = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
            # It tells connections of ours from those of others.
            host, port = peer.getsockname()
            self.address = f"{host}:{port}"
            self._transport = transport = paramiko.Transport(peer)
            transport.banner_timeout = transport.handshake_timeout = PATIENCE
            transport.auth_timeout = PATIENCE
            transport.start_client(timeout=PATIENCE)
        return self._transport


class _Verbatim(AuthHandler):
    def _finalize_pubkey_algorithm(self, key_type: str) -> str:
        return key_type  # paramiko would choose for RSA


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
        return peer.recv(4) == b"SSH-"
    return False
