"""What of paramiko we lean on, so that an upgrade that moves it fails here and not in the night."""

import inspect
import re

import paramiko
import pytest
from paramiko.auth_handler import AuthHandler

from teleport_lite.net import ssh_channels, ssh_door, ssh_entry, ssh_forward, ssh_jump, ssh_policy

# Private to paramiko, and used or overridden by net/ssh_*.py.
TRANSPORT = (
    "_auth_trigger",
    "_ensure_authed",
    "_parse_newkeys",
    "_send_message",
)
TABLES = ("_kex_info",)
NAMES = (
    "_CLIENT_ID",
    "_preferred_ciphers",
    "_preferred_compression",
    "_preferred_kex",
    "_preferred_keys",
    "_preferred_macs",
    "_preferred_pubkeys",
)
AUTH = (
    "_disconnect_no_more_auth",
    "_generate_key_from_request",
    "_parse_userauth_info_response",
    "_parse_userauth_request",
    "_send_auth_result",
)


@pytest.mark.parametrize("name", TRANSPORT)
def test_transport_has_what_we_override(name: str) -> None:
    theirs = inspect.signature(getattr(paramiko.Transport, name))
    ours = inspect.signature(getattr(ssh_door._Transport, name))
    assert len(ours.parameters) == len(theirs.parameters)


@pytest.mark.parametrize("name", [*NAMES, *TABLES])
def test_transport_has_the_settings_we_change(name: str) -> None:
    assert hasattr(paramiko.Transport, name)


@pytest.mark.parametrize("name", AUTH)
def test_auth_handler_has_what_we_override(name: str) -> None:
    assert callable(getattr(AuthHandler, name))


def test_the_login_asks_our_key_for_the_signature() -> None:
    """Were it to verify by itself, it would verify what it believes was signed."""
    source = inspect.getsource(AuthHandler._parse_userauth_request)
    assert "self._generate_key_from_request(" in source
    assert "key.verify_ssh_sig(" in source
    assert source.index("check_auth_publickey") < source.index("key.verify_ssh_sig(")


def test_nothing_private_is_used_beyond_this_list() -> None:
    """The list is for the reader of an upgrade's change log: keep it short."""
    listed = {*TRANSPORT, *TABLES, *NAMES, *AUTH, "_handler_table"}
    private = set(re.findall(r"(?:self|super\(\)|transport)\.(_[a-z_]+)", ssh_door_source()))
    theirs = {
        name
        for name in private - {"__init__"}
        if hasattr(paramiko.Transport, name) or hasattr(AuthHandler, name)
    }
    assert theirs <= listed


def ssh_door_source() -> str:
    return "".join(
        map(inspect.getsource, (ssh_entry, ssh_channels, ssh_door, ssh_jump, ssh_forward))
    )


def test_algorithms_exist_in_this_paramiko() -> None:
    assert set(ssh_policy.KEX) <= set(ssh_entry.EntryTransport._kex_info)
    assert set(ssh_policy.CIPHERS) <= set(paramiko.Transport._cipher_info)
    assert set(ssh_policy.MACS) <= set(paramiko.Transport._mac_info)
