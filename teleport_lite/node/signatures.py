"""The monitor's line to the signer, and what it makes of the exchange hashes of a connection."""

from teleport_lite.errors import Denied, Malformed
from teleport_lite.node.wire import FromSigner, Host, Link, Reply, Sign, ToSigner, Who

# It answers in a millisecond; one that is silent so long is stuck.
_PATIENCE = 5.0


class Signatures:
    """Calls raise Denied if the signer refuses, EOFError if it is gone or stuck."""

    def __init__(self, signer: Link) -> None:
        self._signer = signer
        self._signer.set_timeout(_PATIENCE)
        # RFC 4253 §7.2: the hash of the first key exchange, for the whole connection.
        self.session_id: bytes | None = None

    def host(self) -> Host:
        """Which one we are."""
        host = self._ask(ToSigner(who=Who())).host
        if host is None:
            raise Denied("the signer does not know this host")
        return host

    def sign(self, asked: Sign, *, logged_in: bool) -> Reply:
        """One signature before the login, as in sshd; after it one for each key exchange. Raises
        Malformed for more."""
        if self.session_id is not None and not logged_in:
            raise Malformed("the worker asks for a second signature before the login")
        signature = self._ask(ToSigner(sign=asked)).signature
        if signature is None:
            raise Denied("the signer gave no signature")
        if self.session_id is None:
            self.session_id = asked.exchange_hash
        return Reply(ok=True, data=signature)

    def _ask(self, asked: ToSigner) -> FromSigner:
        self._signer.send(asked)
        answer = self._signer.receive(FromSigner)
        if answer.reason:
            raise Denied(answer.reason)
        return answer
