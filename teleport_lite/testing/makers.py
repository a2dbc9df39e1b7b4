"""Nouns and messages that are right until a test makes them wrong.

token = a_token(once=True)
hello = a_hello(roles=["node", "app"])
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from teleport_lite.auth.scram import make_verifier
from teleport_lite.model.token import JoinToken
from teleport_lite.pki.keys import csr, new_ssh_key, new_tls_key
from teleport_lite.proto.join import Hello, token_name
from teleport_lite.secret import Secret
from teleport_lite.testing.fakes import T0

# 32 hex digits, like the ones auth makes up.
TOKEN = "0123456789abcdef0123456789abcdef"


def a_token(text: str = TOKEN, **changes: Any) -> JoinToken:
    """Lets nodes in for half an hour from T0 on."""
    secret = Secret(text)
    token = JoinToken(
        name=token_name(secret),
        text=secret,
        roles=("Node",),
        verifier=make_verifier(secret, b"sixteen of bytes"),
        expires_at=T0 + timedelta(minutes=30),
        created_at=T0,
        created_by="test",
    )
    return replace(token, **changes)


def a_hello(node_name: str = "web-1", **changes: Any) -> Hello:
    """A node that introduces itself, with fresh keys of its own."""
    fields: dict[str, Any] = {
        "node_name": node_name,
        "roles": ["node"],
        "ssh_key": new_ssh_key()[1],
        "tls_csr": csr(new_tls_key(), node_name),
    }
    return Hello(**(fields | changes))
