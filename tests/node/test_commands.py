"""What runs for what is asked for."""

import pytest

from teleport_lite.model.user import Options
from teleport_lite.node.commands import Run, sftp_server, to_run
from teleport_lite.node.permit import Refusal, Rights
from teleport_lite.node.wire import Start

ALL = Rights()
NO_FILES = Rights(options=Options(file_copy=False))
SHELL = Start(channel=0)
SFTP = Start(channel=0, subsystem="sftp")


def command(text: bytes) -> Start:
    return Start(channel=0, command=text)


def test_without_force_it_is_what_was_asked_for() -> None:
    assert to_run(SHELL, None, ALL) == Run(None)
    assert to_run(command(b"ls"), None, ALL) == Run(b"ls")
    assert to_run(SFTP, None, ALL) == Run(sftp_server(), files=True)


def test_a_forced_command_takes_the_place_of_everything() -> None:
    assert to_run(SHELL, "x", ALL) == Run(b"x", None, forced=True)
    assert to_run(command(b"ls"), "x", ALL) == Run(b"x", b"ls", forced=True)
    assert to_run(SFTP, "x", NO_FILES) == Run(b"x", sftp_server(), forced=True)


def test_internal_sftp_is_the_system_s() -> None:
    for asked in (SHELL, command(b"rm -rf /"), SFTP):
        run = to_run(asked, "internal-sftp", ALL)
        assert (run.command, run.files) == (sftp_server(), True)
    with_flags = to_run(SFTP, " internal-sftp  -R -l INFO ", ALL)
    assert with_flags.command == sftp_server() + b" -R -l INFO"
    with pytest.raises(Refusal, match="the role forbids copying files"):
        to_run(SFTP, "internal-sftp", NO_FILES)


@pytest.mark.parametrize("forced", [None, "x"])
def test_a_subsystem_that_is_none(forced: str | None) -> None:
    with pytest.raises(Refusal, match="not known here"):
        to_run(Start(channel=0, subsystem="netconf"), forced, ALL)


@pytest.mark.parametrize(
    "text",
    [
        b"scp -t /tmp",
        b"scp -f -- file",
        b"scp -r -p -f x",
        b"scp -rpt x",
        b" /usr/bin/scp -t x",
        b"/usr/lib/openssh/sftp-server",
        b"rsync --server -logDtpre.iLsfxC . x",
    ],
)
def test_copying_by_a_command_is_copying(text: bytes) -> None:
    assert to_run(command(text), None, ALL) == Run(text)
    with pytest.raises(Refusal, match="copying files"):
        to_run(command(text), None, NO_FILES)


@pytest.mark.parametrize(
    "text",
    [b"echo scp -t", b"scp a b", b"myscp -t x", b"rsync a b", b"sftp-servers", b"scp -v a -foo"],
)
def test_what_only_looks_like_it_is_not(text: bytes) -> None:
    assert to_run(command(text), None, NO_FILES) == Run(text)


def test_a_command_with_a_nul_is_refused_whatever_runs() -> None:
    """It would be a variable of what is forced, which can not hold one."""
    for forced in (None, "x"):
        with pytest.raises(Refusal, match="NUL"):
            to_run(command(b"a\0b"), forced, ALL)
