"""What is at the other end of an address? One verdict, with the fix.

A failed join is told once, by its first cause: DNS, TCP, TLS, what kind of endpoint answered,
clock, pin, token, role. `teleport-lite doctor` asks the same questions without a token.
"""

import ssl
from dataclasses import dataclass
from datetime import timedelta

from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.model.duration import show_skew
from teleport_lite.net.http import Connection, dial
from teleport_lite.net.tls import stranger_context
from teleport_lite.pki.pin import pin_of, pinned
from teleport_lite.proto.codec import MAX_JOIN, read, write
from teleport_lite.proto.join import AUTH_SERVER_NAME, Bundle

# Host certificates are backdated by two minutes; beyond that they would not be valid here.
MAX_SKEW = timedelta(minutes=2)
PROBE_TIMEOUT = 10.0
# For who greets first; who waits for us to speak is not waited for long.
BANNER_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Auth:
    """An auth server that answered, and what it says about itself. Not yet believed."""

    address: str
    bundle: Bundle
    skew: float  # seconds our clock is ahead of its clock

    @property
    def clock_fits(self) -> bool:
        return abs(self.skew) <= MAX_SKEW.total_seconds()


def find_auth(address: str, clock: Clock) -> Auth:
    """Ask `address` who it is, without secrets. Raises Unavailable or Denied, told by the cause."""
    try:
        with Connection.tls(
            address, stranger_context(), AUTH_SERVER_NAME, timeout=PROBE_TIMEOUT
        ) as wire:
            return _introduce(address, wire, clock)
    except ssl.SSLError as why:
        raise _not_tls(address, why) from why


def _introduce(address: str, wire: Connection, clock: Clock) -> Auth:
    try:
        answer = wire.ask("/v1/ca")
    except Error as why:
        raise _not_auth(address, why) from why
    try:
        bundle = read(Bundle, write(answer), limit=MAX_JOIN)
    except (Error, TypeError) as why:
        raise _not_auth(address, why) from why
    return Auth(address, bundle, clock.now().timestamp() - bundle.time)


def trusted_cas(auth: Auth, pins: tuple[str, ...]) -> list[str]:
    """The host CAs to believe: those that a pin matches; all it shows when there is no pin.

    Raises Denied for a mismatch, Malformed for what are no CAs. Without a pin the proof of the
    join decides (proto/join.py).
    """
    if pins:
        return pinned(auth.bundle.host_cas, pins)
    for ca in auth.bundle.host_cas:
        pin_of(ca)  # one CA certificate each, and nothing that comes along with it
    if not auth.bundle.host_cas:
        raise Malformed(f"{auth.address} shows no CA")
    return list(auth.bundle.host_cas)


def check_clock(auth: Auth) -> None:
    """Raises Denied when certificates of this cluster could not be valid on this host."""
    if auth.clock_fits:
        return
    ahead = "ahead of" if auth.skew > 0 else "behind"
    raise Denied(
        f"the clock of this host is {show_skew(auth.skew)} {ahead} the auth server's "
        f"at {auth.address} (2 minutes are allowed)",
        hint="set the clock, for example: timedatectl set-ntp true",
    )


def _not_tls(address: str, why: ssl.SSLError) -> Unavailable:
    """TCP answers, TLS does not: say what it is if it says so itself."""
    banner = _banner(address)
    reason = (why.reason or "").lower().replace("_", " ")
    if banner.startswith(b"SSH-"):
        return Unavailable(
            f"{address} is an SSH server, not an auth server",
            hint="use the auth server's API port, 3025 by default",
        )
    if "http request" in reason or "wrong version number" in reason or banner:
        return Unavailable(
            f"{address} does not speak TLS, so it is not an auth server ({reason or 'no TLS'})",
            hint="use the auth server's API port, 3025 by default",
        )
    if "version" in reason:
        return Unavailable(
            f"{address} does not speak TLS 1.3, so it is not an auth server of this version",
            hint="check the address with: teleport-lite doctor --auth-server=" + address,
        )
    return Unavailable(
        f"{address}: TLS handshake failed ({reason or why})",
        hint="check the address with: teleport-lite doctor --auth-server=" + address,
    )


def _banner(address: str) -> bytes:
    try:
        with dial(address, timeout=BANNER_TIMEOUT) as wire:
            return wire.recv(64)
    except (OSError, Error):
        return b""


def _not_auth(address: str, why: Exception) -> Error:
    if _is_proxy(address):
        return Unavailable(
            f"{address} is a proxy, not an auth server",
            hint=f"--proxy={address}, or the auth server's address with port 3025",
        )
    if isinstance(why, Unavailable) and "connection broke" in why.message:
        return Unavailable(
            f"{address} speaks TLS but ended the connection, it is not an auth server",
            hint="use the auth server's API port, 3025 by default",
        )
    return Unavailable(
        f"{address} speaks TLS but does not answer like an auth server",
        hint="use the auth server's API port, 3025 by default",
    )


def _is_proxy(address: str) -> bool:
    """Proxies answer /webapi/find (with or without /v1) with a `proxy` block."""
    for path in ("/webapi/find", "/v1/webapi/find", "/webapi/ping"):
        try:
            with Connection.tls(
                address, stranger_context(), "proxy", timeout=PROBE_TIMEOUT
            ) as wire:
                answer = wire.ask(path)
        except (Error, ssl.SSLError):
            continue
        if isinstance(answer, dict) and ("proxy" in answer or "server_version" in answer):
            return True
    return False
