"""The options of a role as documents: what is printed is read back, and slips are named."""

from datetime import timedelta

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.model.user import HostUserMode, Options, RecordMode
from teleport_lite.proto.role_options import options_doc, read_options

EVERYTHING = Options(
    max_session_ttl=timedelta(hours=8),
    port_forwarding=False,
    local_forwarding=False,
    remote_forwarding=False,
    forward_agent=True,
    x11_forwarding=True,
    file_copy=False,
    pin_source_ip=True,
    client_idle_timeout=timedelta(minutes=5),
    disconnect_expired_cert=True,
    max_connections=3,
    max_sessions=2,
    record_session=RecordMode.STRICT,
    create_host_user_mode=HostUserMode.DROP,
    create_host_user_default_shell="/bin/bash",
    force_command="internal-sftp",
)


@pytest.mark.parametrize("options", [Options(), EVERYTHING], ids=["defaults", "everything"])
def test_what_is_printed_is_read_back(options: Options) -> None:
    assert read_options(options_doc(options)) == options


def test_defaults_make_a_short_document() -> None:
    assert set(options_doc(Options())) == {
        "max_session_ttl",
        "port_forwarding",
        "forward_agent",
        "permit_x11_forwarding",
        "ssh_file_copy",
        "pin_source_ip",
    }


def test_off_is_a_mode_although_yaml_reads_it_as_no() -> None:
    assert read_options({"create_host_user_mode": False}).create_host_user_mode is HostUserMode.OFF


def test_the_mode_for_ssh_counts_before_the_default() -> None:
    said = {"record_session": {"default": "strict", "ssh": "best_effort", "desktop": True}}
    assert read_options(said).record_session is RecordMode.BEST_EFFORT
    said = {"record_session": {"default": "strict"}}
    assert read_options(said).record_session is RecordMode.STRICT


WRONG = {
    "a misspelt key": ({"force_comand": "x"}, "force_comand"),
    "a text for yes": ({"disconnect_expired_cert": "yes"}, "disconnect_expired_cert"),
    "yes for a number": ({"max_sessions": True}, "max_sessions"),
    "a negative number": ({"max_connections": -1}, "max_connections"),
    "an unknown mode": ({"create_host_user_mode": "drop"}, "insecure-drop"),
    "an unknown way to record": ({"record_session": {"ssh": "always"}}, "strict"),
    "an unknown direction": ({"ssh_port_forwarding": {"both": {}}}, "both"),
    "two lines": ({"force_command": "a\nb"}, "force_command"),
    "no unit": ({"client_idle_timeout": 5}, "client_idle_timeout"),
    "a list": ([], "mapping"),
}


@pytest.mark.parametrize(("raw", "named"), WRONG.values(), ids=WRONG)
def test_slips_are_named(raw: object, named: str) -> None:
    with pytest.raises(Malformed, match=named):
        read_options(raw)
