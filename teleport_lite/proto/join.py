"""Joining, as the two sides see it. Data only: no sockets, clocks or keys.

    host                                                            auth
     | -- GET  /v1/ca ------------------------------------------------> |
     | <-- Bundle(cluster, host CA certificates) ---------------------  |
     |     (pins are checked; a new connection trusts these CAs alone)  |
     | -- POST /v1/join/start   JoinStart(client_first) --------------> |
     | <-- JoinChallenge(session, server_first) ----------------------  |
     | -- POST /v1/join/finish  JoinFinish(client_final, hello) ------> |
     |     the proof fits: token spent and host recorded, one transaction
     | <-- Welcome(server_final, host_id, certificates, CAs) ---------  |
     |     the host checks server_final before it believes a word

SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) with the channel binding tls-server-end-point
(RFC 5929 §4): the token is the password and never leaves the host; its slow hash is the
user name. Who terminates TLS without knowing the token can neither answer nor relay.
"""

import hashlib

from teleport_lite.proto.alpn import AUTH_SERVER_NAME as AUTH_SERVER_NAME
from teleport_lite.proto.codec import Message, Statement
from teleport_lite.secret import Secret

# A fixed salt: the name has to be computable by a host that has never met the cluster.
# 16 MiB and some 40 ms a guess (RFC 7914); generated tokens have 128 bits and need none of it.
_NAME_SALT = b"teleport-lite join token name v1"
# RFC 7677 §4. The password is the token itself; see docs/threat-model.md for weak ones.
SCRAM_ITERATIONS = 4096
MECHANISM = "SCRAM-SHA-256-PLUS"
BINDING = "tls-server-end-point"


def token_name(token: Secret) -> str:
    """What a token is called on the wire and looked up by: 64 hex digits."""
    digest = hashlib.scrypt(
        token.reveal().encode(), salt=_NAME_SALT, n=1 << 14, r=8, p=1, maxmem=1 << 26, dklen=32
    )
    return digest.hex()


def server_end_point(certificate_der: bytes) -> bytes:
    """Channel binding of a TLS server certificate signed with SHA-256 (RFC 5929 §4.1)."""
    return hashlib.sha256(certificate_der).digest()


class RetiredPin(Statement, frozen=True):
    """Of a host CA that was rotated away. Only for what is said to people: nothing proves it."""

    pin: str
    at: float  # Unix seconds


class Bundle(Statement, frozen=True):
    """Public: anyone may ask. The pins decide what of it is believed."""

    cluster: str
    version: str
    time: float  # auth's clock, Unix seconds
    host_cas: list[str]  # PEM
    retired: list[RetiredPin] = []  # newest first
    # By type of CA, its mark (model/rotation.py) if it was ever rotated: who has no stream, like a
    # bot, sees that there is something to renew for.
    marks: dict[str, str] = {}


class JoinStart(Message, frozen=True):
    client_first: str  # "" when only the clocks are to be compared, see auth/join.py
    node_name: str
    time: float  # the host's clock, Unix seconds


class JoinChallenge(Statement, frozen=True):
    session: str
    server_first: str


class Hello(Statement, frozen=True):
    """What a host says about itself. Auth decides which names its certificate gets."""

    node_name: str
    roles: list[str]  # flags or canonical names
    ssh_key: str  # OpenSSH public key line
    tls_csr: str  # PEM PKCS#10: proves that the host holds the key
    host_id: str = ""  # "" for a new host; its UUID when a joined host adds a role
    principals: list[str] = []
    version: str = ""


class JoinFinish(Message, frozen=True):
    session: str
    client_final: str
    hello: Hello


class Welcome(Statement, frozen=True):
    server_final: str  # "" on renewal, where TLS has proved the server
    host_id: str
    cluster: str
    roles: list[str]
    ssh_cert: str  # authorized_keys form
    tls_cert: str  # PEM
    host_cas: list[str]  # PEM
    ssh_host_cas: list[str]  # OpenSSH public key lines
    ssh_user_cas: list[str]
    user_cas: list[str]  # PEM
    # While the host CA is rotated, phase update_clients: what to serve with, signed by the CA that
    # people know already, over the same keys. "" when it is the same as above.
    serving_ssh_cert: str = ""
    serving_tls_cert: str = ""
    rotation: str = ""  # mark of the host CA (model/rotation.py) these were made at
    # To bots, which have no stream to hear it from: host:port of those that are alive.
    auths: list[str] = []
    proxies: list[str] = []  # where people and agents reach them


class Renew(Message, frozen=True):
    """A joined host renews over mTLS, with new keys and the roles it has (POST /v1/host/renew)."""

    hello: Hello
