"""Words of the join that two sides have to compute alike, for ever."""

import hashlib

from teleport_lite.proto.join import server_end_point, token_name
from teleport_lite.secret import Secret
from teleport_lite.testing.makers import TOKEN


def test_the_name_of_a_token_never_changes() -> None:
    """Yesterday's node computes it like this, and asks for its token by it."""
    assert (
        token_name(Secret(TOKEN))
        == "002e993d205c96832a7be1ab5bcfabd162b3916523130ee702e439ea30d4eb10"
    )


def test_tokens_that_differ_have_names_that_differ() -> None:
    assert token_name(Secret("token-one")) != token_name(Secret("token-two"))


def test_the_binding_is_the_sha_256_of_the_certificate() -> None:
    assert server_end_point(b"DER") == hashlib.sha256(b"DER").digest()
