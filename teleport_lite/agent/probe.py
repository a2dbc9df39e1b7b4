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
from teleport_lite.net.way import Way, cluster_in, introduced, introduction, web_of
from teleport_lite.pki.pin import pin_of, pinned
from teleport_lite.proto.join import Bundle
from teleport_lite.proto.retired import retired, when

# Host certificates are backdated by two minutes; beyond that they would not be valid here.
MAX_SKEW = timedelta(minutes=2)
PROBE_TIMEOUT = 10.0
# For who greets first; who waits for us to speak is not waited for long.
BANNER_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Auth:
    """An auth server that answered, and what it says about itself. Not yet believed."""

    way: Way
    bundle: Bundle
    skew: float  # seconds our clock is ahead of its clock

    @property
    def clock_fits(self) -> bool:
        return abs(self.skew) <= MAX_SKEW.total_seconds()


def find_auth(
    address: str, clock: Clock, *, only_proxies: bool = False, timeout: float = PROBE_TIMEOUT
) -> Auth:
    """Ask `address` who it is, without secrets; if it is a proxy, ask auth through it. `timeout`
    is for who answers first there.

    With `only_proxies`, an auth server is the wrong answer. Raises Unavailable or Denied, told
    by the cause.
    """
    wanted = A_PROXY if only_proxies else AN_AUTH
    try:
        wire = Connection.tls(Way(address), stranger_context(), timeout=timeout)
    except ssl.SSLError as why:
        # Some balancers refuse names they do not know; a proxy's own name may do better.
        found = _through_proxy(address, clock)
        if found is None:
            raise _not_tls(address, why, wanted) from why
        return found
    with wire:
        try:
            bundle = introduced(wire)
        except Error as why:
            found = _through_proxy(address, clock)
            if found is None:
                raise _neither(address, why, wanted) from why
            return found
    if only_proxies:
        raise Unavailable(
            f"{address} is an auth server, not a proxy", hint=f"--auth-server={address}"
        )
    return _auth(Way(address), bundle, clock)


def _through_proxy(address: str, clock: Clock) -> Auth | None:
    """Auth behind the proxy at `address`; None if no proxy is there."""
    said = web_of(address, timeout=PROBE_TIMEOUT)
    if said is None:
        return None
    cluster = cluster_in(said)
    if not cluster:
        raise Unavailable(
            f"{address} is a proxy, not an auth server, and does not say of which cluster",
            hint="the auth server's address with port 3025",
        )
    way = Way(address, cluster)
    try:
        wire = Connection.tls(way, stranger_context(), timeout=PROBE_TIMEOUT)
    except (Error, ssl.SSLError) as why:
        raise _cut_off(way, why) from why
    with wire:
        try:
            return _auth(way, introduced(wire), clock)
        except Error as why:
            raise (_cut_off if _broke(why) else _opened)(way, why) from why


def cut_off_at(address: str, *, timeout: float) -> Unavailable | None:
    """Auth did not answer: is it because of a proxy that lost its way there? None if not."""
    cluster = cluster_in(web_of(address, timeout=timeout))
    if not cluster:
        return None
    way = Way(address, cluster)
    try:
        introduction(way, timeout=timeout)
    except (Error, ssl.SSLError) as why:
        return _cut_off(way, why)
    return None


def untrusted(address: str, why: ssl.SSLError) -> Error:
    """We hold an identity, and TLS to auth fails all the same: who does not trust whom?"""
    reason = (why.reason or str(why)).lower().replace("_", " ")
    if isinstance(why, ssl.SSLCertVerificationError):
        return Denied(
            f"{address} is not the auth server this host joined: {why.verify_message}",
            hint="if the cluster was rebuilt, start with a new token; else check the address",
            log="server untrusted",
        )
    if "alert" in reason and ("unknown ca" in reason or "certificate" in reason):
        return Denied(
            f"{address} does not accept this host's certificate ({reason})",
            hint="start with a new token to join again",
            log="client untrusted",
        )
    return Unavailable(f"{address}: TLS handshake failed ({reason})")


def _auth(way: Way, bundle: Bundle, clock: Clock) -> Auth:
    return Auth(way, bundle, clock.now().timestamp() - bundle.time)


def _opened(way: Way, why: Exception) -> Unavailable:
    """Somebody in the middle answers in place of auth."""
    return Unavailable(
        f"{way.address} leads to a proxy of cluster {way.cluster}, but TLS ends before the auth "
        "server",
        hint="docs/proxy.md: a balancer in front of a proxy has to pass TLS on unopened",
        log=repr(why),
    )


def _cut_off(way: Way, why: Exception) -> Unavailable:
    """A proxy is there, and no way through it."""
    return Unavailable(
        f"{way.address} is a proxy of cluster {way.cluster} and answers, but it can not reach "
        "the auth server",
        hint="journalctl -u teleport-lite, on the proxy",
        log=repr(why),
    )


def trusted_cas(auth: Auth, pins: tuple[str, ...]) -> list[str]:
    """The host CAs to believe: those that a pin matches; all it shows when there is no pin.

    Raises Denied for a mismatch, Malformed for what are no CAs. Without a pin the proof of the
    join decides (proto/join.py).
    """
    if pins:
        return _pinned(auth, pins)
    for ca in auth.bundle.host_cas:
        pin_of(ca)  # one CA certificate each, and nothing that comes along with it
    if not auth.bundle.host_cas:
        raise Malformed(f"{auth.way.name} shows no CA")
    return list(auth.bundle.host_cas)


def _pinned(auth: Auth, pins: tuple[str, ...]) -> list[str]:
    try:
        return pinned(auth.bundle.host_cas, pins)
    except Denied as why:
        gone = retired(auth.bundle, pins)
        if gone is None:
            raise
        raise Denied(
            f"the pinned CA is not in use any more: {auth.way.name} says that the host CA was "
            f"rotated on {when(gone)}; {why.message}",
            hint="take the pin of now from the auth host: tctl status",
        ) from why


def check_clock(auth: Auth) -> None:
    """Raises Unavailable when certificates of this cluster could not be valid on this host.

    No refusal: a host that was just switched on sets its clock a moment later.
    """
    if auth.clock_fits:
        return
    ahead = "ahead of" if auth.skew > 0 else "behind"
    raise Unavailable(
        f"the clock of this host is {show_skew(auth.skew)} {ahead} the auth server's "
        f"at {auth.way.name} (2 minutes are allowed)",
        hint="set the clock, for example: timedatectl set-ntp true",
    )


def _not_tls(address: str, why: ssl.SSLError, wanted: "_Wanted") -> Unavailable:
    """TCP answers, TLS does not: say what it is if it says so itself."""
    banner = _banner(address)
    reason = (why.reason or "").lower().replace("_", " ")
    if banner.startswith(b"SSH-"):
        return Unavailable(f"{address} is an SSH server, not {wanted.what}", hint=wanted.hint)
    if "http request" in reason or "wrong version number" in reason or banner:
        return Unavailable(
            f"{address} does not speak TLS, so it is not {wanted.what} ({reason or 'no TLS'})",
            hint=wanted.hint,
        )
    check = f"check the address with: teleport-lite doctor {wanted.flag}={address}"
    if "version" in reason:
        return Unavailable(
            f"{address} does not speak TLS 1.3, so it is not {wanted.what} of this version",
            hint=check,
        )
    return Unavailable(f"{address}: TLS handshake failed ({reason or why})", hint=check)


def _banner(address: str) -> bytes:
    try:
        with dial(address, timeout=BANNER_TIMEOUT) as wire:
            return wire.recv(64)
    except (OSError, Error):
        return b""


def _broke(why: Exception) -> bool:
    return isinstance(why, Unavailable) and "the connection broke" in why.message


def _neither(address: str, why: Exception, wanted: "_Wanted") -> Error:
    if _broke(why):
        return Unavailable(
            f"{address} speaks TLS but ended the connection, it is not {wanted.what}",
            hint=wanted.hint,
        )
    return Unavailable(
        f"{address} speaks TLS but does not answer like {wanted.what}", hint=wanted.hint
    )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What somebody thought is at an address."""

    what: str
    flag: str
    hint: str


AN_AUTH = _Wanted(
    "an auth server", "--auth-server", "use the auth server's API port, 3025 by default"
)
A_PROXY = _Wanted("a proxy", "--proxy", "use the proxy's web port, 3080 by default")
