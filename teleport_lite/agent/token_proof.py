"""Proving a join token over one connection, and having auth prove in return that it knows it.

SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), bound to the TLS connection (RFC 5929). The token never
leaves this process. Hosts that join and leaves that join a root do the same.
"""

from dataclasses import dataclass

from scramp import ScramClient, ScramException

from teleport_lite.errors import Denied
from teleport_lite.net.http import Connection
from teleport_lite.proto.codec import MAX_JOIN, read, write
from teleport_lite.proto.join import (
    BINDING,
    MECHANISM,
    JoinChallenge,
    JoinStart,
    server_end_point,
)
from teleport_lite.secret import Secret


@dataclass(frozen=True, slots=True)
class TokenProof:
    """For the question that spends the token. `scram` is how the answer is judged."""

    session: str
    client_final: str
    scram: ScramClient

    def believe(self, server_final: str) -> None:
        """Only a server that knows the token can say this (RFC 5802 §3, ServerSignature).

        Raises Denied.
        """
        try:
            self.scram.set_server_final(server_final)
        except (ScramException, ValueError) as why:
            raise Denied(
                "the auth server could not prove that it knows the token; "
                "something may be intercepting the connection",
                hint="give the CA pin: --ca-pin (see: tctl status)",
                log=repr(why),
            ) from why


def prove_token(
    wire: Connection, token: Secret, name: str, *, asked_by: str, now: float
) -> TokenProof:
    """`name` is `token_name` of the token, `asked_by` who wants to join, `now` in Unix seconds.

    Raises Denied, Malformed or Unavailable.
    """
    binding = (BINDING, server_end_point(wire.peer_certificate))
    scram = ScramClient([MECHANISM], name, token.reveal(), channel_binding=binding)
    asked = JoinStart(client_first=scram.get_client_first(), node_name=asked_by, time=now)
    challenge = read(JoinChallenge, write(wire.ask("/v1/join/start", asked)), limit=MAX_JOIN)
    try:
        scram.set_server_first(challenge.server_first)
        final = scram.get_client_final()
    except (ScramException, ValueError) as why:
        raise Denied("the auth server's challenge is not SCRAM", log=repr(why)) from why
    return TokenProof(challenge.session, final, scram)
