"""The two ways to the auth service: its socket on its own host, and TLS from elsewhere."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from teleport_lite.errors import Denied, Error, Unauthenticated, Unavailable
from teleport_lite.secret import Secret

START_AUTH = "systemctl start teleport-lite, or teleport-lite start --roles=auth"
# The socket answers at once or not at all.
LOCAL_PATIENCE = 10.0
# For one of several auth servers, before the next one is asked.
ONE_OF_MANY = 5.0
SERVER_LOG = "journalctl -u teleport-lite"


@dataclass(frozen=True, slots=True)
class UnixDoor:
    """The admin socket. Who may use it is decided by the other end: root, or its own user."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def open(self) -> socket.socket:
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        wire.settimeout(LOCAL_PATIENCE)
        try:
            wire.connect(str(self.path))
        except OSError as why:
            wire.close()
            raise no_socket(self.path, why) from why
        return wire


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsDoor:
    """Mutual TLS. The far end must be the auth service of the cluster that signed us.

    At `address` may be a proxy: it passes the bytes on to auth, and auth is checked all the same.
    """

    address: str  # host:port
    cluster: str
    source: str  # where the credentials come from, for messages
    cert: str
    key: Secret
    host_cas: Sequence[str]
    others: Sequence[str] = ()  # asked in turn while the ones before can not be reached

    @property
    def name(self) -> str:
        return self.address

    def open(self) -> socket.socket:
        try:
            return self._open()
        except Unavailable:
            for address in self.others:
                with suppress(Unavailable):
                    return replace(self, address=address, others=()).open()
            raise

    def _open(self) -> socket.socket:
        # Only here: ssl and what it brings cost 20 ms that the socket does not need.
        import ssl

        from teleport_lite.net.dial import TIMEOUT, handshake
        from teleport_lite.net.tls import client_context
        from teleport_lite.proto.alpn import AUTH_SERVER_NAME, to_auth

        context = client_context(self.cert, self.key, self.host_cas)
        # As `net.way.Way`: auth itself does not mind being asked by name.
        context.set_alpn_protocols([to_auth(self.cluster)])
        try:
            patience = ONE_OF_MANY if self.others else TIMEOUT
            return handshake(self.address, context, AUTH_SERVER_NAME, timeout=patience)
        except ssl.SSLCertVerificationError as why:
            from teleport_lite.client.rotated import rotated

            if gone := rotated(self.address, self.cluster, self.host_cas):
                raise gone from why
            raise Denied(
                f"{self.address} is not the auth service of cluster {self.cluster}, which "
                f"{self.source} is for: {why.verify_message}",
                hint=f"teleport-lite doctor --auth-server={self.address}",
            ) from why
        except OSError as why:
            raise broken(self.address, why) from why


def no_socket(path: Path, why: OSError) -> Error:
    """One cause, and what to do about it."""
    if isinstance(why, PermissionError):
        return Denied(
            f"cannot reach the auth socket {path}: permission denied, only root and the "
            "service's user may",
            hint="sudo tctl status",
        )
    if isinstance(why, FileNotFoundError):
        return Unavailable(
            f"cannot reach the auth socket {path}: there is none, auth is not running here",
            hint=START_AUTH,
        )
    if isinstance(why, ConnectionRefusedError):
        return Unavailable(
            f"cannot reach the auth socket {path}: auth has stopped, nobody listens",
            hint=START_AUTH,
        )
    reason = why.strerror or str(why)
    return Unavailable(f"cannot reach the auth socket {path}: {reason}", hint=START_AUTH)


def broken(name: str, why: OSError) -> Error:
    """A connection that ended badly. TLS says why in an alert (RFC 8446 §6.2)."""
    alert = str(getattr(why, "reason", "") or "")
    if "CERTIFICATE_EXPIRED" in alert:
        return Unauthenticated(f"{name}: your certificate has expired", hint="tsh login")
    if "ALERT" in alert and ("CERTIFICATE" in alert or "UNKNOWN_CA" in alert):
        return Unauthenticated(
            f"{name} does not accept your certificate ({_words(alert)})", hint="tsh login"
        )
    if "EOF" in alert:
        return Unavailable(
            f"{name} ended the connection; if it is a proxy, the auth service may be down",
            hint=f"teleport-lite doctor --auth-server={name}",
        )
    if alert:
        return Unavailable(
            f"{name} does not speak our TLS ({_words(alert)}), is it another service",
            hint=f"teleport-lite doctor --auth-server={name}",
        )
    if isinstance(why, TimeoutError):
        return Unavailable(f"{name} did not answer in time", hint=SERVER_LOG)
    reason = (why.strerror or str(why) or type(why).__name__).lower()
    return Unavailable(f"{name} broke the connection: {reason}", hint=SERVER_LOG)


def readable(path: Path) -> OSError | None:
    """Why the socket cannot be used, or None. Looks without connecting."""
    try:
        path.stat()
    except OSError as why:
        return why
    return None


def _words(alert: str) -> str:
    return alert.lower().replace("_", " ")
