"""Words of a login."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.proto.codec import MAX_JOIN, Message, read
from teleport_lite.proto.login import (
    InviteAccept,
    InviteLook,
    LoginChallenge,
    LoginFinish,
    LoginStart,
    MyNodes,
)

READ = (LoginStart, LoginFinish, LoginChallenge, InviteLook, InviteAccept, MyNodes)
FIELDS = sorted({name for kind in READ for name in kind.__struct_fields__})
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    leaf, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
almost = st.dictionaries(st.sampled_from(FIELDS), anything).map(json.dumps).map(str.encode)


@pytest.mark.parametrize("kind", READ)
# For each message; tests/fuzz has the time for more. A busy machine is no reason to fail.
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(raw=st.binary() | almost)
@example(raw=b"[" * 10_000)
@example(raw=b'{"time": 1e999, "client_first": ""}')
def test_a_stranger_can_only_make_us_say_malformed(kind: type[Message], raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert isinstance(read(kind, raw, limit=MAX_JOIN), kind)


@pytest.mark.parametrize(
    "message",
    [
        InviteLook(token="s3cret-token", source="192.0.2.1"),
        InviteAccept(token="s3cret-token", password="s3cret-password", source="192.0.2.1"),
    ],
)
def test_what_holds_a_password_or_a_token_shows_neither(message: Message) -> None:
    for shown in (repr(message), str(message), f"{message}", f"{[message]}"):
        assert "s3cret" not in shown


def test_a_password_that_is_no_text_is_not_repeated() -> None:
    raw = b'{"token": "t", "password": ["s3cret"], "source": "x"}'
    with pytest.raises(Malformed) as why:
        read(InviteAccept, raw, limit=MAX_JOIN)
    assert "s3cret" not in f"{why.value.message}{why.value.hint}{why.value.log}"
    assert "password" in why.value.message
