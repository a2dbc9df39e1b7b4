"""What may be called what."""

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.model import names
from teleport_lite.model.names import checked, checked_host_name

UUID = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
HOSTILE = [
    "", "*", "a b", "a,b", "a\n", "\x1b[2J", "a;id", "$(id)", "../x", "a/b", "-a", "a-", ".a",
    "a..b\x00", "\u00e4", "a" * 254, "a@b", "127.0.0.1,evil", "?", "a%b",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_host_name_needs_no_quoting_anywhere(name: str) -> None:
    with pytest.raises(Malformed, match=r"node name .* is not valid") as refused:
        checked_host_name(name, "node name")
    assert refused.value.message.isprintable()
    assert refused.value.message.isascii()


@pytest.mark.parametrize("name", ["a", "web-1", "web-1.example.com", "10.0.0.5", "WEB", "a" * 253])
def test_ordinary_host_names_pass(name: str) -> None:
    assert checked_host_name(name, "node name") == name


@pytest.mark.parametrize(
    "name",
    [
        "auth.teleport-lite.internal",
        "AUTH.Teleport-Lite.Internal",
        "x.teleport-lite.internal",
        UUID,
        UUID.upper(),
        f"{UUID}.example.com",
    ],
)
def test_no_host_may_be_called_like_auth_or_another_host(name: str) -> None:
    with pytest.raises(Malformed, match="is reserved"):
        checked_host_name(name, "node name")


@pytest.mark.parametrize("login", ["root", "deploy", "a.b-c_d", "_x", "A1"])
def test_system_logins_pass(login: str) -> None:
    assert checked(names.LOGIN, login, "login", example="root") == login


@pytest.mark.parametrize("login", ["deploy,root", "*", "-x", "1a", "a" * 33, "a@b", "root ", ""])
def test_a_login_that_could_be_read_as_several_is_refused(login: str) -> None:
    with pytest.raises(Malformed, match="expected something like 'root'"):
        checked(names.LOGIN, login, "login", example="root")


@pytest.mark.parametrize("text", ["12345678", "secret-value", "a.b_c-d.e", "A" * 128])
def test_token_texts_that_need_no_quoting_pass(text: str) -> None:
    assert names.TOKEN.fullmatch(text)


@pytest.mark.parametrize(
    "text",
    ["short12", "a" * 129, "with/slash", "new\nline1", "$(id)1234", "'quoted'", "nul\x00nul",
     "\u00fcmlaute1", "with space", "12345678\n"],
)  # fmt: skip
def test_token_texts_that_need_quoting_do_not(text: str) -> None:
    assert names.TOKEN.fullmatch(text) is None


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(Malformed) as refused:
        checked(names.USER_NAME, "a b" * 1000, "user name", example="alice")
    assert len(refused.value.message) < 200
