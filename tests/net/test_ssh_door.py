"""What of paramiko we lean on, so that an upgrade that moves it fails here and not in the night."""

import inspect
import re
import socket

import paramiko
import pytest
from paramiko.auth_handler import AuthHandler

from teleport_lite.net import (
    ssh_channels,
    ssh_door,
    ssh_entry,
    ssh_forward,
    ssh_jump,
    ssh_login,
    ssh_policy,
    ssh_wire,
)

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
# Set on every transport, or by it on its packetizer.
SET = ("_expected_packet", "_handler_table", "_initial_kex_done")
MODULES = (ssh_entry, ssh_login, ssh_wire, ssh_channels, ssh_door, ssh_jump, ssh_forward)
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
    listed = {*TRANSPORT, *TABLES, *NAMES, *AUTH, *SET}
    private = set(re.findall(r"(?:self|super\(\)|transport)\.(_[a-z_]+)", ssh_door_source()))
    ours, other = socket.socketpair()
    transport = paramiko.Transport(ours)
    theirs = {
        name
        for name in private - {"__init__"}
        if hasattr(transport, name) or hasattr(AuthHandler, name)
    }
    ours.close()
    other.close()
    assert theirs <= listed


def test_the_transport_sets_what_we_read() -> None:
    ours, theirs = socket.socketpair()
    transport = paramiko.Transport(ours)
    for name in SET[:2]:
        assert hasattr(transport, name)
    assert "self.packetizer._initial_kex_done = True" in inspect.getsource(paramiko.Transport)
    ours.close()
    theirs.close()


def test_a_message_out_of_turn_is_expected_by_nobody() -> None:
    """`EntryTransport.deliver` goes by it: it has to be set throughout a key exchange."""
    source = inspect.getsource(paramiko.Transport._activate_outbound)
    assert "self._expect_packet(MSG_NEWKEYS)" in source
    assert "self._expected_packet = tuple(ptypes)" in inspect.getsource(
        paramiko.Transport._expect_packet
    )


def ssh_door_source() -> str:
    return "".join(map(inspect.getsource, MODULES))


def test_algorithms_exist_in_this_paramiko() -> None:
    assert set(ssh_policy.KEX) <= set(ssh_entry.EntryTransport._kex_info)
    assert set(ssh_policy.CIPHERS) <= set(paramiko.Transport._cipher_info)
    assert set(ssh_policy.MACS) <= set(paramiko.Transport._mac_info)


def test_ciphers_work_in_place() -> None:
    """Older versions of cryptography have no such methods."""
    maker = paramiko.Transport.__new__(paramiko.Transport)
    engine = maker._get_engine("aes128-gcm@openssh.com", b"k" * 16, aead=True)
    data = memoryview(bytearray(32))
    data[:16] = b"sixteen letters."
    engine.encrypt_into(b"n" * 12, data[:16], b"", data)
    assert bytes(data[:16]) != b"sixteen letters."
    engine.decrypt_into(b"n" * 12, data, b"", data[:16])
    assert bytes(data[:16]) == b"sixteen letters."
