"""The login (RFC 4252): paramiko's questions, put in our words.

It decides nothing: the clerk asks the monitor, which checks certificate and signature by itself.
Requests are read by the strict reader first, since paramiko's takes missing fields for zeros.
"""

from dataclasses import dataclass
from typing import Protocol, cast

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, MSG_USERAUTH_BANNER
from paramiko.pkey import PublicBlob

from teleport_lite.pki.wire import Reader, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    ok: bool
    reason: str = ""
    last: bool = False  # of the login tries: say goodbye


class Clerk(Protocol):
    """Those who decide, as seen from the door. Calls raise EOFError when they are gone."""

    def sign(self, exchange_hash: bytes) -> bytes: ...

    def login(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> Answer: ...

    def watched(self) -> tuple[int, ...]: ...

    def hear(self, fd: int) -> None: ...

    def ask(self, what: str) -> Answer: ...

    def close(self, channel: int) -> None: ...


class Sender(Protocol):
    """The transport, as the login needs it beside what paramiko does with it."""

    def send(self, payload: bytes) -> None: ...


class Door(paramiko.ServerInterface):
    """What is not here is refused: paramiko's own answers are all no."""

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  # paramiko's signature
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        assert isinstance(key, _Offered)
        return AUTH_SUCCESSFUL if key.would_do(username) else AUTH_FAILED


class _Offered(paramiko.PKey):
    """Any key a client offers, unread: the monitor reads it. Paramiko itself would read it, and
    hang up when it cannot; here an odd key fails, and the next one may fit."""

    def __init__(self, handler: "Auth", algorithm: str, blob: bytes) -> None:
        self._handler, self._algorithm, self._raw = handler, algorithm, blob
        self.public_blob = PublicBlob(algorithm, blob)

    def would_do(self, login: str) -> bool:
        """With a signature at hand the question is put once, with it."""
        return self._handler.signed or self._handler.present(
            login, self._algorithm, self._raw, None
        )

    def verify_ssh_sig(self, data: bytes, msg: paramiko.Message) -> bool:  # noqa: ARG002  # why:
        """`data` is what paramiko thinks was signed. The monitor puts that together itself."""
        login = self._handler.auth_username or ""
        return self._handler.present(login, self._algorithm, self._raw, msg.asbytes())


class Auth(AuthHandler):
    """The server's half of RFC 4252."""

    def __init__(self, transport: Sender, desk: Clerk, banner: str) -> None:
        super().__init__(cast(paramiko.Transport, transport))
        self._entry, self._desk, self._banner = transport, desk, banner
        self._was_last = self.signed = False

    def present(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> bool:
        answer = self._desk.login(login, algorithm, certificate, signature)
        self._was_last = answer.last
        if answer.reason:  # only who has proved to be somebody is told one
            self._show(f"{answer.reason}\n")
        return answer.ok

    def _parse_userauth_request(self, m: paramiko.Message) -> None:
        """RFC 4252 §5, §7. Read strictly first: paramiko takes missing fields for zeros."""
        reader = Reader(m.asbytes())
        _login, _service, method = reader.text(), reader.text(), reader.text()
        if method == b"publickey":
            self.signed = reader.take(1) != b"\0"
            for _ in ("algorithm", "key", "signature")[: 3 if self.signed else 2]:
                reader.text()
            reader.end()
        banner, self._banner = self._banner, ""
        if banner:  # RFC 4252 §5.4: before the login is answered; once is enough
            self._show(banner)
        super()._parse_userauth_request(m)  # type: ignore[misc]  # not in stubs

    def _show(self, words: str) -> None:
        self._entry.send(bytes([MSG_USERAUTH_BANNER]) + text(words.encode()) + text(b"en"))

    def _parse_userauth_info_response(self, _m: paramiko.Message) -> None:
        """We ask no questions; paramiko would count to the number of answers it names."""
        raise paramiko.SSHException("an answer to a question that nobody asked")

    def _generate_key_from_request(self, algorithm: str, keyblob: bytes) -> paramiko.PKey:
        return _Offered(self, algorithm, keyblob)

    def _send_auth_result(self, username: str, method: str, result: int) -> None:
        super()._send_auth_result(username, method, result)  # type: ignore[misc]  # not in stubs
        if self._was_last:
            self._disconnect_no_more_auth()  # type: ignore[attr-defined]  # not in stubs
