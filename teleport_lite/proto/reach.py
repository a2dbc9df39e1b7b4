"""Asking a proxy for the SSH port of a node: one line each way, then the node's bytes.

client                                                proxy
 | -- TLS 1.3, ALPN teleport-proxy-ssh, client certificate -->  |
 | -- {"target": "root@web-1:22"} LF  ----------------------->  |  the certificate says who asks
 | <-- {"ok": true, ...} LF  or  {"ok": false, ...} LF  ------  |
 | <=================== SSH, end to end ====================>   |

A node of another cluster, a leaf of ours: `cluster` names it, and `proof` is the wish, signed by
whoever wishes it (pki/proof.py). Our proxy opens a stream in a tunnel of the leaf and passes the
line on with what the leaf has to know; the leaf's proxy answers.

client                our proxy                               proxy of the leaf
 | -- request ---------> | -- SYN, Open("reach", client) ---------> |
 |                       | -- the same request LF ----------------> |  the proof says who asks
 | <-- answer ---------- | <-- {"ok": true, ...} LF --------------- |
 | <============ SSH, end to end, with the node of the leaf ======> |
"""

from teleport_lite.proto.codec import Message, Statement

# A target is a name of at most 255 characters or a few labels; a proof holds a certificate.
MAX_REQUEST = 32 * 1024
MAX_ANSWER = 16 * 1024


class ReachRequest(Message, frozen=True):
    """`host` is a name, a UUID, or labels like `env=prod,role=db`."""

    host: str
    port: int = 0  # 0, 22 and 3022 mean the SSH service of the node; there is no other
    login: str = ""  # who it will be there, "" if not known yet; the node decides again
    cluster: str = ""  # "" is the proxy's own
    proof: str = ""  # of who asks, where another cluster is meant

    @property
    def words(self) -> tuple[str, ...]:
        """What a proof is over."""
        return self.host, str(self.port), self.login


class ReachAnswer(Statement, frozen=True):
    ok: bool
    host_id: str = ""
    host_name: str = ""
    code: str = ""  # of errors.py, when not ok
    message: str = ""
    hint: str = ""
    cas: str = ""  # `ca_digest` of the host CAs of now: a client that knows others asks for them
