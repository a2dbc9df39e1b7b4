"""Logging in with a password, which stays with the person who types it.

    tsh                                                             auth
     | -- POST /v1/login/start   LoginStart(client_first) -----------> |
     | <-- LoginChallenge(session, server_first, stretch) -----------  |
     |     key = argon2id(password, stretch)                           |
     | -- POST /v1/login/finish  LoginFinish(client_final, keys) ----> |
     | <-- LoginWelcome(server_final, certificates, CAs) ------------  |

SCRAM-SHA-256-PLUS as in proto/join.py, with the stretched key in hexadecimal as its password:
whoever relays or intercepts the connection can neither log in nor pass for auth, and has
argon2id (RFC 9106) between the transcript and a guess.

A browser can not do that. The page of an invite link sends the password to the proxy that
serves the page, which hands it on (docs/threat-model.md).
"""

from teleport_lite.proto.codec import Message, Statement


class Stretch(Message, frozen=True):
    """Parameters of argon2id (RFC 9106 §3.1)."""

    salt: str  # hexadecimal
    time: int
    memory: int  # KiB
    lanes: int


class LoginStart(Message, frozen=True):
    client_first: str  # names the user
    time: float  # the client's clock, Unix seconds


class LoginChallenge(Statement, frozen=True):
    session: str
    server_first: str
    stretch: Stretch


class LoginFinish(Message, frozen=True):
    session: str
    client_final: str
    ssh_key: str  # OpenSSH public key line
    tls_csr: str  # PEM PKCS#10
    ttl: str = ""  # like 8h; "" is 12 h, and never more than the roles allow


class LoginWelcome(Statement, frozen=True):
    server_final: str
    user: str
    cluster: str
    roles: list[str]
    logins: list[str]
    traits: dict[str, list[str]]
    expires: str  # RFC 3339
    ssh_cert: str
    tls_cert: str  # PEM
    host_cas: list[str]  # PEM
    ssh_host_cas: list[str]  # OpenSSH public key lines


class Confidential(Message, frozen=True):
    """Prints as nothing: a token or a password stands in it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<secret>)"


class InviteLook(Confidential, frozen=True):
    """POST /v1/invite/look, from a proxy: whose invitation is this?"""

    token: str
    source: str  # IP address of the browser


class InviteView(Statement, frozen=True):
    user: str
    cluster: str
    kind: str  # "invite" or "reset"
    expires: str  # RFC 3339
    min_length: int  # of the password, in characters


class InviteAccept(Confidential, frozen=True):
    """POST /v1/invite/accept, from a proxy: sets the password and uses the invitation up."""

    token: str
    password: str
    source: str


class MyNodes(Message, frozen=True):
    """POST /v1/me/nodes, from a person: where may I go?"""

    labels: dict[str, str] = {}
    search: str = ""
