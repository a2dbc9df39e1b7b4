"""Limits that roles set: connections, sessions, idleness, the end of the certificate; and the
commands that they force."""

import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paramiko
import pytest

from teleport_lite.model.lock import Target
from teleport_lite.model.user import Options
from teleport_lite.node.commands import sftp_server
from teleport_lite.testing.certs import Papers, options
from tests.node.ends import ask, echoing, wait_for
from tests.node.house import ME, ROLE, House, Visitor, running
from tests.node.test_abuse import Client
from tests.node.test_refusals import ALLOWED, forged_user
from tests.support import eventually, free_port


@pytest.fixture
def house(house: House) -> Iterator[House]:
    """The module's, whose role a test may change."""
    yield house
    house.roles = [ROLE]
    house.save_knowledge()


def limit(house: House, **options: Any) -> None:
    house.roles = [replace(ROLE, options=Options(**options))]
    house.save_knowledge()


def heard(client: subprocess.Popen[bytes]) -> bytes:
    assert client.stderr
    client.wait(60)
    return client.stderr.read()


# --- idle


def test_an_idle_client_is_told_and_cut(house: House) -> None:
    limit(house, client_idle_timeout=timedelta(seconds=1))
    client = house.visitor().start("sleep 300")
    assert b"nothing has moved for 1 s, and the role does not allow more" in heard(client)
    assert client.returncode == 255
    told = house.event("T3006I", reason="idle for 1s")
    assert told["kind"] == "client.disconnect"
    assert house.event("T2004I", command="sleep 300")["facts"]["reason"] == "idle for 1s"


def test_who_keeps_moving_stays(house: House) -> None:
    """Whichever channel it is."""
    limit(house, client_idle_timeout=timedelta(seconds=4))
    talk = "for i in $(seq 16); do sleep 0.3; echo $i; done"
    assert house.visitor().ssh(talk).stdout.split()[-1] == b"16"


def test_forwarded_bytes_count_and_keepalives_do_not(house: House) -> None:
    limit(house, client_idle_timeout=timedelta(seconds=3))
    port = free_port()
    with echoing() as echo:
        options = [f"-L{port}:127.0.0.1:{echo.port}", "-N", "-oServerAliveInterval=1"]
        client = house.visitor().start(options=options)
        wait_for(("127.0.0.1", port))
        started = time.monotonic()
        while time.monotonic() - started < 3.5:
            assert ask(("127.0.0.1", port)) == b"hello"
        assert b"nothing has moved" in heard(client)


# --- the end of the certificate


def short(house: House, seconds: float) -> Papers:
    life = datetime.now(UTC) - house.cluster.now + timedelta(seconds=seconds)
    return house.cluster.user(logins=(ME,), life=life)


def inside(house: House, command: str) -> subprocess.Popen[bytes]:
    """Somebody who has come in with a certificate for a few seconds, `{}` in the command."""
    for seconds in (2, 8, 40):  # whichever is enough to log in
        words = f"echo in; {command.format(seconds)}"
        client = house.visitor(short(house, seconds)).start(words)
        assert client.stdout
        if client.stdout.readline() == b"in\n":
            return client
        client.wait(60)
    raise AssertionError("nobody gets in in 40 s")


def test_the_end_of_the_certificate_is_the_end(house: House) -> None:
    limit(house, disconnect_expired_cert=True)
    client = inside(house, "sleep 300")
    assert b"the certificate has expired" in heard(client)
    house.event("T3006I", reason="the certificate has expired")


def test_or_not_if_no_role_says_so(house: House) -> None:
    client = inside(house, "sleep {}.5; echo still here")
    assert client.communicate(timeout=90)[0] == b"still here\n"


def test_whoever_is_cut_is_told_why(house: House) -> None:
    client = house.visitor().start("echo in; sleep 300")
    assert client.stdout
    assert client.stdout.readline() == b"in\n"
    house.lock(Target.USER, "alice")
    house.tell("recheck")
    try:
        assert b": user alice is locked" in heard(client)
        house.event("T3006I", reason="user alice is locked")
    finally:
        house.unlock_all()


# --- how many


def test_sessions_on_a_connection(house: House) -> None:
    limit(house, max_sessions=2)
    client = Client(house)
    first = client.transport.open_session(timeout=30)
    first.exec_command("read x")
    second = client.transport.open_session(timeout=30)
    second.exec_command("read x")
    reason = "too many sessions: 2 on a connection, says the role"
    with pytest.raises(paramiko.ChannelException) as no:
        client.transport.open_session(timeout=30)
    assert no.value.code == 1
    house.event("T1006W", reason=reason, maximum="2")
    first.close()

    def opened() -> bool:
        try:
            client.transport.open_session(timeout=30).close()
        except paramiko.ChannelException:
            return False
        return True

    eventually(opened, what="the first to be gone")
    client.close()


def test_sessions_that_are_opened_before_any_has_started(house: House) -> None:
    limit(house, max_sessions=1)
    client = Client(house)
    channels = [client.transport.open_session(timeout=30) for _ in range(2)]
    channels[0].exec_command("read x")
    start = struct.pack(">I", 6) + b"read x"
    assert not client.request(channels[1], b"exec", start)
    client.close()


def turned_away(visitor: Visitor) -> bytes:
    done = visitor.ssh("true", options=["-oLogLevel=INFO"])
    return b"" if done.returncode == 0 else done.stderr


def test_connections_of_a_user_to_the_host(tmp_path: Path) -> None:
    """Also those that an earlier daemon has taken in, and not those that have been killed. Who is
    turned away pays no penalty: four failed logins would keep everybody out for a while."""
    with running(tmp_path, limits={"punish_everybody": True}) as house:
        limit(house, max_connections=1)
        first = house.visitor().start("echo in; read x")
        assert first.stdout
        assert first.stdout.readline() == b"in\n"
        reason = "too many connections: 1 to a host, says the role"
        for _ in range(4):
            assert reason.encode() in turned_away(house.visitor())
        house.event("T1006W", reason=reason)
        somebody = house.visitor(house.cluster.user("bob", logins=(ME,)))
        assert not turned_away(somebody)
        assert house.counters()["dropped_penalty"] == 0
        restart(house)
        assert reason.encode() in turned_away(house.visitor())
        os.kill(house.one("tl-ssh-monitor"), signal.SIGKILL)  # the first, when it is the only one
        eventually(lambda: not turned_away(house.visitor()), what="the place to be free")


def restart(house: House) -> None:
    house.tell("quit")
    house.daemon.wait(30)
    for pipe in (house.daemon.stdin, house.daemon.stdout):
        assert pipe
        pipe.close()
    house.start()


# --- forced commands


def test_a_role_s_command_runs_whatever_is_asked_for(house: House) -> None:
    limit(house, force_command="echo forced: $SSH_ORIGINAL_COMMAND")
    visitor = house.visitor()
    assert visitor.ssh("cat /etc/passwd").stdout == b"forced: cat /etc/passwd\n"
    assert visitor.ssh(input=b"exit 3\n").stdout == b"forced:\n"
    asked = sftp_server()
    assert visitor.ssh("sftp", options=["-s"]).stdout == b"forced: %s\n" % asked
    assert visitor.ssh("true", options=["-tt"]).stdout == b"forced: true\r\n"
    assert visitor.ssh("netconf", options=["-s"]).returncode == 1


def test_the_certificate_s_own_command_counts_first(house: House) -> None:
    limit(house, force_command="echo of the role")
    papers = forged_user(
        house,
        critical=options((b"force-command", b"echo of the certificate")),
        extensions=ALLOWED,
    )
    assert house.visitor(papers).ssh("true").stdout == b"of the certificate\n"


def test_roles_that_force_different_commands_let_nobody_in(house: House) -> None:
    other = replace(ROLE, name="other", options=Options(force_command="b"))
    house.roles = [replace(ROLE, options=Options(force_command="a")), other]
    house.save_knowledge()
    papers = house.cluster.user(logins=(ME,), roles=("access", "other"))
    assert house.visitor(papers).ssh("true").returncode == 255
    house.event("T3007W", reason="roles access and other force different commands")


def test_internal_sftp_is_files_and_nothing_else(house: House, tmp_path: Path) -> None:
    limit(house, force_command="internal-sftp")
    visitor = house.visitor()
    [*_, _target, _p, port] = visitor.command()
    flags = [word for word in visitor.command() if word.startswith("-o")]
    (tmp_path / "source").write_text("whole")
    batch = f"put {tmp_path}/source {tmp_path}/copy\n".encode()
    words = ["sftp", "-F", "none", *flags, "-P", port, "-b", "-", f"{ME}@127.0.0.1"]
    subprocess.run(words, input=batch, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "copy").read_text() == "whole"
    done = visitor.ssh(f"touch {tmp_path}/made")
    assert done.returncode != 0 or done.stdout == b""
    assert not (tmp_path / "made").exists()


def test_internal_sftp_without_copying_files_is_nothing(house: House) -> None:
    limit(house, force_command="internal-sftp", file_copy=False)
    done = house.visitor().ssh("true")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the role forbids copying files" in done.stderr
