"""What the makers make is right until a test makes it wrong."""

import pytest

from teleport_lite.pki.keys import check_ssh_public, public_of_csr
from teleport_lite.proto.codec import MAX_JOIN, read, write
from teleport_lite.proto.join import Hello, token_name
from teleport_lite.testing.fakes import T0
from teleport_lite.testing.makers import TOKEN, a_hello, a_token


def test_a_token_is_one_that_auth_would_know() -> None:
    token = a_token()
    assert token.name == token_name(token.text)
    assert token.text.reveal() == TOKEN
    assert not token.expired(T0)
    assert a_token(once=True).once


def test_a_hello_is_one_that_auth_would_take() -> None:
    hello = a_hello("web-9", roles=["app"])
    assert (hello.node_name, hello.roles) == ("web-9", ["app"])
    assert check_ssh_public(hello.ssh_key) == hello.ssh_key
    assert public_of_csr(hello.tls_csr).startswith("-----BEGIN PUBLIC KEY-----")
    assert read(Hello, write(hello), limit=MAX_JOIN) == hello
    assert a_hello().ssh_key != a_hello().ssh_key


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError):
        a_hello(name="web-1")
    with pytest.raises(TypeError):
        a_token(value="x")
