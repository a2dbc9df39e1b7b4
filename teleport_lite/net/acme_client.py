"""One order of a certificate by ACME (RFC 8555), answered on our own port (RFC 8737).

The libraries do the protocol; here stands which parts of it we use. Calls block for as long as
a minute and a half, so they belong into a thread.
"""

import hashlib
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from acme import challenges, client, messages
from acme.errors import ConflictError
from acme.errors import Error as AcmeError
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

from teleport_lite import __version__
from teleport_lite.errors import NotFound, Unavailable
from teleport_lite.pki.acme_keys import ec_key, order_request
from teleport_lite.pki.keys import new_tls_key
from teleport_lite.secret import Secret

TIMEOUT = 30
# Debug lines of the library hold whole messages.
logging.getLogger("acme").setLevel(logging.INFO)
# name, SHA-256 of the key authorization; what it returns ends the offer
Offer = Callable[[str, bytes], Callable[[], None]]


class _Response(challenges.KeyAuthorizationChallengeResponse):
    typ = "tls-alpn-01"


class _TlsAlpn01(challenges.KeyAuthorizationChallenge):
    """The library has dropped this one; what it says of challenges in general still fits."""

    typ = "tls-alpn-01"
    response_cls = _Response

    def validation(self, account_key: JWK, **_: Any) -> bytes:
        return hashlib.sha256(self.key_authorization(account_key).encode()).digest()


challenges.ChallengeResponse.register(_Response)
challenges.Challenge.register(_TlsAlpn01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """With one authority. `uri` is "" until it has registered us."""

    key: Secret
    uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    chain: str  # PEM, ours first
    key: Secret


class AcmeClient:
    def __init__(self, directory: str, account: Account, *, email: str = "") -> None:
        """Raises Unavailable, as everything here."""
        self._key = JWKEC(key=ec_key(account.key))
        self._email, self._uri = email, account.uri
        with _worded(directory):
            net = client.ClientNetwork(
                self._key,
                alg=ES256,
                user_agent=f"teleport-lite/{__version__}",
                timeout=TIMEOUT,
            )
            # The machine's own list of authorities, as of every other program on it.
            found = ssl.get_default_verify_paths().cafile
            net.verify_ssl = found or True  # type: ignore[assignment]  # requests takes a path too
            self._directory = directory
            self._acme = client.ClientV2(client.ClientV2.get_directory(directory, net), net)

    def register(self) -> str:
        """The URI of our account, made when there is none. Agrees to the terms of service."""
        with _worded(self._directory):
            if self._uri:
                self._use(self._uri)
                return self._uri
            wish = messages.NewRegistration.from_data(
                email=self._email or None, terms_of_service_agreed=True
            )
            try:
                self._uri = self._acme.new_account(wish).uri
            except ConflictError as known:
                self._uri = known.location
                self._use(self._uri)
            return self._uri

    def order(self, names: Sequence[str], offer: Offer) -> Issued:
        """A certificate for `names`. `offer` makes our port answer the authority's questions.

        Raises NotFound if the authority has forgotten our account.
        """
        key = new_tls_key()
        withdraw: list[Callable[[], None]] = []
        with _worded(self._directory):
            try:
                order = self._acme.new_order(order_request(key, names))
                for each in order.authorizations:
                    if each.body.status != messages.STATUS_VALID:
                        name = each.body.identifier.value
                        challenge = _challenge_of(each.body, name)
                        withdraw.append(offer(name, challenge.chall.validation(self._key)))
                        self._acme.answer_challenge(challenge, challenge.response(self._key))
                done = self._acme.poll_and_finalize(order)
            finally:
                for done_with in withdraw:
                    done_with()
        return Issued(chain=done.fullchain_pem, key=key)

    def _use(self, uri: str) -> None:
        self._acme.net.account = messages.RegistrationResource(
            uri=uri, body=messages.Registration()
        )


def _challenge_of(authorization: messages.Authorization, name: str) -> messages.ChallengeBody:
    for each in authorization.challenges:
        if isinstance(each.chall, _TlsAlpn01):
            return each
    raise Unavailable(f"the authority does not offer the tls-alpn-01 challenge for {name}")


@contextmanager
def _worded(directory: str) -> Iterator[None]:
    """Whatever the libraries raise, as one sentence. requests' errors are OSErrors."""
    try:
        yield
    except messages.Error as why:
        if why.code == "accountDoesNotExist":
            raise NotFound(f"{directory} does not know our account any more") from why
        detail = f"{why.code or 'error'}: {why.detail or why.title or 'no reason given'}"
        raise Unavailable(f"{directory} refused: {_short(detail)}") from why
    except AcmeError as why:
        raise Unavailable(f"{directory}: {_short(_reason(why))}", log=repr(why)) from why
    except (OSError, ValueError, TypeError, KeyError, AttributeError, JoseError) as why:
        raise Unavailable(f"{directory} can not be used: {_short(str(why))}") from why


def _reason(why: AcmeError) -> str:
    """What the authority found wrong, if it says so."""
    found = [
        f"{each.body.identifier.value}: {challenge.error.detail}"
        for each in getattr(why, "failed_authzrs", ())
        for challenge in each.body.challenges
        if challenge.error is not None
    ]
    return "; ".join(found) or str(why) or type(why).__name__


def _short(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:400]
