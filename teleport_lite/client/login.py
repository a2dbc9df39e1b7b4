"""Logging in, from the side of the person. Read `login` first: it is the whole story.

proto/login.py draws the conversation. The proxy passes the bytes on and opens nothing. The
password never leaves this process: stretched, it is the password of a SCRAM proof that is
bound to the TLS connection (RFC 5802, RFC 5929), and auth has to prove that it knows it too.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from scramp import ScramClient, ScramException

from teleport_lite import __version__
from teleport_lite.ambient import Chance, Clock
from teleport_lite.client.identity_file import IdentityFile
from teleport_lite.client.papers import public_line, read_papers
from teleport_lite.client.ping import Ping, ping
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.duration import show_skew
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context, stranger_context
from teleport_lite.net.way import Way
from teleport_lite.pki.keys import (
    check_ssh_public,
    csr,
    new_portable_ssh_key,
    new_ssh_key,
    new_tls_key,
)
from teleport_lite.pki.passwords import stretch
from teleport_lite.pki.pin import pin_of, pinned
from teleport_lite.pki.verify import ends_at
from teleport_lite.proto.codec import MAX_JOIN, read, write
from teleport_lite.proto.join import BINDING, MECHANISM, Bundle, server_end_point
from teleport_lite.proto.login import LoginChallenge, LoginFinish, LoginStart, LoginWelcome
from teleport_lite.proto.retired import retired, when
from teleport_lite.proto.skew import install_line, majors_ahead
from teleport_lite.release.version import Version
from teleport_lite.secret import Secret

# Certificates are backdated by two minutes; beyond that they would not be valid here.
MAX_SKEW = timedelta(minutes=2)
# RFC 5802 §5.1 leaves the size open; 18 bytes are its own examples'.
_NONCE = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    proxy: str  # host:port
    user: str
    password: Callable[[], Secret]  # asked when it is clear who will be told that we know it
    clock: Clock
    chance: Chance
    pins: tuple[str, ...] = ()  # parsed; what was typed counts alone
    known_cas: tuple[str, ...] = ()  # PEM; of an earlier login through this proxy
    insecure: bool = False
    ttl: str = ""
    cluster: str = ""  # the one that is expected, if somebody said
    say: Callable[[str], None] = lambda _: None  # gets warnings, one line each
    portable: bool = False  # an SSH key that may stand in a single file (client/identity_file.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Made here; only the public halves are sent."""

    ssh_private: Secret
    ssh_public: str
    tls_private: Secret

    @classmethod
    def new(cls, *, portable: bool) -> "Keys":
        ssh_private, ssh_public = new_portable_ssh_key() if portable else new_ssh_key()
        return cls(ssh_private=ssh_private, ssh_public=ssh_public, tls_private=new_tls_key())


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    user: str
    ping: Ping
    credentials: IdentityFile


def login(request: LoginRequest) -> LoggedIn:
    """Prove the password and come back with credentials, which the caller saves.

    Raises Denied (nobody vouches for the proxy, wrong cluster, we are too old, clock, password,
    lock-out),
    Unavailable (address) or Malformed, each with the one cause and what to do.
    """
    said = introduce(request)
    check_version(said, request)
    if request.cluster not in ("", said.cluster):
        raise NotFound(
            f"{request.proxy} is for cluster {said.cluster}, not {request.cluster}",
            hint="tsh clusters",
        )
    way = Way(request.proxy, said.cluster)
    bundle = _bundle(way)
    cas = trusted(bundle, request, said)
    _check_clock(bundle, request)
    keys = Keys.new(portable=request.portable)
    welcome = _talk(way, cas, request, keys)
    return LoggedIn(
        user=welcome.user, ping=said, credentials=_checked(welcome, keys, bundle, cas, request)
    )


def introduce(request: LoginRequest) -> Ping:
    """Ask the proxy which cluster it is for.

    Its own certificate has to be vouched for by the system, unless we know the CAs of the
    cluster from elsewhere: then they decide, and the answer is nothing but a direction.
    """
    try:
        return ping(request.proxy, insecure=request.insecure)
    except Denied:
        if not (request.pins or request.known_cas):
            raise
    return ping(request.proxy, insecure=True)


def check_version(said: Ping, request: LoginRequest) -> None:
    """Before a password is typed. Raises Denied if the cluster does not understand us any more."""
    if _older(__version__, said.least):
        raise Denied(
            f"{request.proxy} runs teleport-lite {said.version} and understands clients from "
            f"{said.least} on; this one is {__version__}",
            hint=install_line(request.proxy),
        )
    ahead = majors_ahead(said.version, __version__)
    if ahead:
        which = "newer" if ahead > 0 else "older"
        request.say(
            f"{request.proxy} runs teleport-lite {said.version}, {which} by "
            f"{abs(ahead)} major than this {__version__}; to have the same: "
            f"{install_line(request.proxy)}"
        )


def _older(version: str, least: str) -> bool:
    """False too for what is no version."""
    try:
        return Version.parse(version) < Version.parse(least)
    except Malformed:
        return False


def trusted(bundle: Bundle, request: LoginRequest, said: Ping) -> list[str]:
    """The host CAs to believe. Raises Denied if none of those that are shown is vouched for."""
    if bundle.cluster != said.cluster:
        raise Denied(
            f"{request.proxy} says it is for cluster {said.cluster!a}, and leads to "
            f"{bundle.cluster!a}"
        )
    pins = request.pins or _known_pins(bundle, request, said)
    if said.verified and not pins:
        # What we have known before counts alone: a proxy that was broken into has a good web
        # certificate too.
        pins = said.pins
    if pins:
        return _vouched(bundle, pins, request)
    if not request.insecure or not bundle.host_cas:
        raise Denied(
            f"{request.proxy} does not say which CA its cluster has",
            hint="tsh login --ca-pin=PIN with the pin that tctl status shows on the auth host",
        )
    for ca in bundle.host_cas:
        pin_of(ca)  # one CA certificate each, and nothing that comes along with it
    return list(bundle.host_cas)


def _known_pins(bundle: Bundle, request: LoginRequest, said: Ping) -> tuple[str, ...]:
    """Of an earlier login. A CA that was rotated since then vouches for nobody: it is as if there
    had been none, if the proxy's own certificate is vouched for, and people are told.

    That it was rotated is the proxy's word. One that was broken into could say so; but it could
    not prove that it knows the password, and would learn what a first login tells it.
    """
    pins = tuple(map(pin_of, request.known_cas))
    gone = retired(bundle, pins)
    if gone is None or set(pins) & set(map(pin_of, bundle.host_cas)):
        return pins
    words = f"the host CA of cluster {bundle.cluster} was rotated on {when(gone)}"
    if not (said.verified or request.insecure):
        raise Denied(
            f"{words}, and nothing here vouches for the new one",
            hint="tsh login --ca-pin=PIN with the pin that tctl status shows on the auth host",
        )
    request.say(f"{words}; the new one is taken from {request.proxy}")
    return ()


def _vouched(bundle: Bundle, pins: tuple[str, ...], request: LoginRequest) -> list[str]:
    try:
        return pinned(bundle.host_cas, pins)
    except Denied as why:
        if request.pins:
            raise
        if not request.known_cas:
            raise Denied(
                f"{request.proxy} leads to a cluster {bundle.cluster} with another CA than it says",
                hint="tsh login --ca-pin=PIN with the pin that tctl status shows on the auth host",
                log=why.message,
            ) from why
        raise Denied(
            f"{request.proxy} leads to another cluster {bundle.cluster} than the one you "
            "logged in to before: it has another CA",
            hint="tsh logout, if its CA was replaced since then, and tsh login --ca-pin=PIN",
            log=why.message,
        ) from why


def _check_clock(bundle: Bundle, request: LoginRequest) -> None:
    skew = request.clock.now().timestamp() - bundle.time
    if abs(skew) <= MAX_SKEW.total_seconds():
        return
    ahead = "ahead of" if skew > 0 else "behind"
    raise Denied(
        f"the clock of this machine is {show_skew(skew)} {ahead} the cluster's "
        "(2 minutes are allowed)",
        hint="set the clock, for example: timedatectl set-ntp true",
    )


def _bundle(way: Way) -> Bundle:
    """What auth says of itself, to anybody. Not yet believed."""
    with _connect(way, stranger_context()) as wire:
        return read(Bundle, write(wire.ask("/v1/ca")), limit=MAX_JOIN)


def _connect(way: Way, context: ssl.SSLContext) -> Connection:
    try:
        return Connection(way.tls(context), way.name)
    except ssl.SSLCertVerificationError as why:
        raise Denied(
            f"{way.name} shows a CA but holds no certificate of it "
            f"({why.verify_message.lower()}); something may be intercepting the connection",
        ) from why
    except ssl.SSLError as why:
        raise Unavailable(
            f"{way.name} does not lead to the auth service of cluster {way.cluster} "
            f"({(why.reason or str(why)).lower().replace('_', ' ')}), it may be down",
            hint=f"teleport-lite doctor --auth-server={way.address}",
        ) from why


def _talk(way: Way, cas: list[str], request: LoginRequest, keys: Keys) -> LoginWelcome:
    """The proof, on a connection that trusts `cas` alone.

    The password is asked for first: an open conversation does not wait for people.
    """
    password = request.password()
    with _connect(way, client_context(None, None, cas)) as wire:
        binding = (BINDING, server_end_point(wire.peer_certificate))
        nonce = request.chance.token(_NONCE)
        # The stretched password is known only once auth has said how to stretch it.
        opening = ScramClient([MECHANISM], request.user, "unused", binding, nonce)
        asked = LoginStart(
            client_first=opening.get_client_first(), time=request.clock.now().timestamp()
        )
        challenge = read(LoginChallenge, write(wire.ask("/v1/login/start", asked)), limit=MAX_JOIN)
        key = stretch(password, challenge.stretch)
        proof = ScramClient([MECHANISM], request.user, key.reveal(), binding, nonce)
        finish = LoginFinish(
            session=challenge.session,
            client_final=_final(proof, challenge),
            ssh_key=keys.ssh_public,
            tls_csr=csr(keys.tls_private, request.user),
            ttl=request.ttl,
        )
        welcome = read(LoginWelcome, write(wire.ask("/v1/login/finish", finish)), limit=MAX_JOIN)
        _believe(proof, welcome)
        return welcome


def _final(proof: ScramClient, challenge: LoginChallenge) -> str:
    try:
        proof.get_client_first()  # the same words as before: same name, same nonce
        proof.set_server_first(challenge.server_first)
        final = proof.get_client_final()
    except (ScramException, ValueError) as why:
        raise Denied("the auth server's challenge is not SCRAM", log=repr(why)) from why
    assert isinstance(final, str)
    return final


def _believe(proof: ScramClient, welcome: LoginWelcome) -> None:
    """Only a server that knows the password can make this (RFC 5802 §3, ServerSignature)."""
    try:
        proof.set_server_final(welcome.server_final)
    except (ScramException, ValueError) as why:
        raise Denied(
            "the auth server could not prove that it knows the password; "
            "something may be intercepting the connection",
            hint="tsh login --ca-pin=PIN with the pin that tctl status shows on the auth host",
            log=repr(why),
        ) from why


def _checked(
    welcome: LoginWelcome, keys: Keys, bundle: Bundle, cas: list[str], request: LoginRequest
) -> IdentityFile:
    """The credentials, if they are what was asked for. Raises Malformed."""
    papers = read_papers(welcome.ssh_cert, "the answer of the auth server")
    ends_at(welcome.tls_cert)  # one certificate, and nothing that comes along with it
    pins = {pin_of(ca) for ca in cas}
    wrong = (
        "user" * (welcome.user != request.user or papers.user != request.user)
        or "cluster" * (welcome.cluster != bundle.cluster)
        or "SSH key" * (public_line(welcome.ssh_cert) != keys.ssh_public.strip())
        or "CA" * pins.isdisjoint(map(pin_of, welcome.host_cas))
        or "SSH CA" * (not welcome.ssh_host_cas)
        or "life" * papers.expired(request.clock.now())
    )
    if wrong:
        raise Malformed(f"the auth server answered with certificates of the wrong {wrong}")
    try:
        client_context(welcome.tls_cert, keys.tls_private, welcome.host_cas)
    except (Error, ssl.SSLError) as why:
        raise Malformed("the auth server answered with a certificate that does not fit") from why
    return IdentityFile(
        cluster=welcome.cluster,
        ssh_private=keys.ssh_private,
        ssh_cert=welcome.ssh_cert.strip(),
        tls_private=keys.tls_private,
        tls_cert=welcome.tls_cert,
        ssh_host_cas=tuple(map(check_ssh_public, welcome.ssh_host_cas)),
        host_cas=tuple(welcome.host_cas),
    )
