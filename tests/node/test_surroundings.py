"""What a shell finds around it, file by file and then through the system's own ssh."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.node import surroundings as module
from teleport_lite.node.account import Account
from teleport_lite.node.surroundings import (
    MAX_GREETING,
    Surroundings,
    login_umask,
    parse_environment,
    user_environment,
)
from tests.node.house import House
from tests.node.own_etc import System, system
from tests.node.test_session import Terminal, env
from tests.support import eventually

__all__ = ["system"]  # pytest finds fixtures by name

LOGIN = "tl-test-env"


def account(home: Path) -> Account:
    return Account(name="me", uid=os.getuid(), gid=os.getgid(), home=str(home), shell="/bin/sh")


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ENVIRONMENT", "MOTD"):
        monkeypatch.setattr(module, name, tmp_path / name)
    return tmp_path


# /etc/environment


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=b", {"A": "b"}),
        ('A="b c"  # why', {"A": "b c"}),
        ("A='b'", {"A": "b"}),
        ("  export A=b", {"A": "b"}),
        ("# A=b\n\nC=d", {"C": "d"}),
        ("A=1\nA", {}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        ("A-B=c\n=d\nA B=c", {}),
        ("A=one\\\n  two", {"A": "onetwo"}),
        ("A=\0", {}),
        ("PATH=/x", {"PATH": "/x"}),
    ],
)
def test_the_syntax_of_pam_env(text: str, found: dict[str, str]) -> None:
    assert parse_environment(text) == found


def test_the_system_s_file_counts_unless_pam_has_read_it(etc: Path) -> None:
    (etc / "ENVIRONMENT").write_text("A=file\nPATH=/file\n")
    ours = Surroundings(account=account(etc)).env("sid", {}, forced=False)
    assert (ours[b"A"], ours[b"PATH"]) == (b"file", b"/file")
    theirs = Surroundings(account=account(etc), modules={"A": "pam"}).env("sid", {}, forced=False)
    assert (theirs[b"A"], theirs[b"PATH"][:4]) == (b"pam", b"/usr")


def test_a_file_without_end_is_cut(etc: Path) -> None:
    (etc / "ENVIRONMENT").write_text("".join(f"A{at}=x\n" for at in range(100_000)))
    assert len(Surroundings(account=account(etc)).env("sid", {}, forced=False)) < 1100


# ~/.tsh/environment


def test_the_user_s_own_file(tmp_path: Path) -> None:
    write(tmp_path, "A=b\n# no\nPATH=/mine\nLD_PRELOAD=/evil\nnonsense\nQ='kept'\n")
    assert user_environment(account(tmp_path)) == ({"A": "b", "PATH": "/mine", "Q": "'kept'"}, "")


def test_no_file_is_nothing_to_say(tmp_path: Path) -> None:
    assert user_environment(account(tmp_path)) == ({}, "")


def test_a_file_that_others_may_read_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, "A=b\n").chmod(0o640)
    found, why = user_environment(account(tmp_path))
    assert not found
    assert why.endswith(f"chmod 600 {tmp_path}/.tsh/environment")


def test_what_is_no_file_of_the_user_s_does_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.unlink()
    os.mkfifo(path, 0o600)
    assert user_environment(account(tmp_path))[1].endswith("it must be a file of your own")
    path.unlink()
    path.symlink_to("/etc/environment")
    assert user_environment(account(tmp_path))[0] == {}
    assert user_environment(account(tmp_path))[1]


def test_a_file_that_is_too_large_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, "A=" + "x" * 70_000)
    assert "larger than" in user_environment(account(tmp_path))[1]


def write(home: Path, text: str) -> Path:
    path = home / ".tsh" / "environment"
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(text)
    return path


# Who wins


def test_later_ones_win_and_ours_last(etc: Path) -> None:
    (etc / "ENVIRONMENT").write_text("LANG=system\nSSH_TTY=system\nONE=system\n")
    write(etc, "ONE=user\nSSH_CLIENT=user\n")
    around = Surroundings(account=account(etc), told={"SSH_CLIENT": "ours"}, user_file=True)
    asked = {b"LANG": b"client", b"HOME": b"client", b"TELEPORT_JOIN_MODE": b"peer"}
    found = around.env("the-sid", asked, forced=False)
    assert found[b"LANG"] == b"system"
    assert found[b"ONE"] == b"user"
    assert found[b"SSH_CLIENT"] == b"ours"
    assert found[b"HOME"] == os.fsencode(etc)
    assert found[b"SSH_SESSION_ID"] == found[b"TELEPORT_SESSION"] == b"the-sid"
    assert b"TELEPORT_JOIN_MODE" not in found


def test_with_a_forced_command_the_user_s_file_does_not_count(etc: Path) -> None:
    write(etc, "PATH=/mine\n")
    around = Surroundings(account=account(etc), user_file=True)
    assert around.env("sid", {}, forced=False)[b"PATH"] == b"/mine"
    assert around.env("sid", {}, forced=True)[b"PATH"] != b"/mine"


# What is read first


def test_the_message_of_the_day_is_for_login_shells_on_terminals(etc: Path) -> None:
    (etc / "MOTD").write_text("Welcome\n")
    around = Surroundings(account=account(etc), last_login="Last login: now", notice="note")
    assert around.greeting(login_shell=True, terminal=True) == b"note\nLast login: now\nWelcome\n"
    assert around.greeting(login_shell=True, terminal=False) == b"note\n"
    assert around.greeting(login_shell=False, terminal=True) == b""


def test_with_pam_its_modules_say_it(etc: Path) -> None:
    (etc / "MOTD").write_text("Welcome\n")
    around = Surroundings(account=account(etc), modules={}, last_login="Last", notice="motd")
    assert around.greeting(login_shell=True, terminal=True) == b"motd\n"


def test_who_has_hushed_the_login_reads_nothing(etc: Path) -> None:
    (etc / "MOTD").write_text("Welcome\n")
    (etc / ".hushlogin").touch()
    around = Surroundings(account=account(etc), last_login="Last", notice="x", no_home="no home")
    assert around.greeting(login_shell=True, terminal=True) == b"no home\n"


def test_a_long_message_does_not_block_the_terminal(etc: Path) -> None:
    (etc / "MOTD").write_text("x" * 100_000)
    said = Surroundings(account=account(etc)).greeting(login_shell=True, terminal=True)
    assert len(said) <= MAX_GREETING


@pytest.mark.parametrize(
    ("text", "umask"),
    [
        ("UMASK 027\n", 0o027),
        ("# UMASK 077\nUMASK\t\t077\n", 0o077),
        ("UMASK 9\n", 0o022),
        ("", 0o022),
        ("UMASK 0777777\n", 0o022),
    ],
)
def test_the_umask_of_login_defs(tmp_path: Path, text: str, umask: int) -> None:
    (tmp_path / "defs").write_text(text)
    assert login_umask(tmp_path / "defs") == umask
    assert login_umask(tmp_path / "none") == 0o022


# Through ssh


@pytest.fixture(scope="module")
def house(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("house")
    settings = {
        "permit_user_env": True,
        "accept_env": ["MY_*"],
        "banner": str(directory / "banner"),
    }
    (directory / "banner").write_text("Only for friends.\n\x1b[31mRed\n")
    system.add_user(LOGIN)
    house = House(directory, settings=settings)
    house.python = system.command(sys.executable)
    house.start()
    yield house
    house.stop()


def test_only_what_the_config_accepts_arrives(house: House) -> None:
    done = house.ssh(
        "env", login=LOGIN, options=["-oSendEnv=*"], env=env(MY_OWN="1", COLORTERM="no", PAGER="x")
    )
    found = dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)
    assert found["MY_OWN"] == "1"
    assert not {"COLORTERM", "PAGER"} & set(found)
    assert found["TELEPORT_SESSION"] == found["SSH_SESSION_ID"]


def test_where_the_proxy_is_stands_in_the_environment(house: House) -> None:
    house.save_knowledge(proxies=[{"name": "a"}, {"name": "b", "public": ["p.example:3080"]}])
    said = house.ssh("echo $SSH_SESSION_WEBPROXY_ADDR", login=LOGIN).stdout
    assert said == b"p.example:3080\n"


@given(st.text(st.characters(max_codepoint=300), max_size=300))
def test_any_text_is_a_file_of_variables(text: str) -> None:
    for name, value in parse_environment(text).items():
        assert re.fullmatch("[A-Za-z0-9_]+", name)
        assert "\0" not in value


def test_the_banner_comes_before_the_login(house: House) -> None:
    done = house.ssh("true", login=LOGIN, options=["-oLogLevel=INFO"])
    assert done.stderr == b"Only for friends.\n?[31mRed\n"
    stranger = house.visitor(cert="").ssh("true", login=LOGIN, options=["-oLogLevel=INFO"])
    assert stranger.stderr.startswith(b"Only for friends.\n")


def test_the_user_s_file_is_read_as_the_user(house: House, system: System) -> None:
    done = house.ssh("umask 077; mkdir .tsh; echo MINE=yes > .tsh/environment", login=LOGIN)
    assert done.returncode == 0, done.stderr
    assert house.ssh("echo $MINE", login=LOGIN).stdout == b"yes\n"
    house.ssh("chmod 644 .tsh/environment", login=LOGIN)
    assert house.ssh("echo $MINE", login=LOGIN).stdout == b"\n"
    said = house.ssh(login=LOGIN, options=["-T"]).stderr
    assert b"is not read: others must not read or write it" in said


def test_the_umask_and_the_environment_of_the_system(house: House, system: System) -> None:
    defs = system.path("/etc/login.defs")
    defs.write_text(re.sub(r"(?m)^UMASK.*", "UMASK 027", defs.read_text()))
    system.path("/etc/environment").write_text('OF_ALL="a b"\n')
    assert house.ssh("umask; echo $OF_ALL", login=LOGIN).stdout == b"0027\na b\n"


def test_a_home_that_is_missing(house: House, system: System) -> None:
    system.run("useradd", "--no-create-home", "--shell", "/bin/sh", "tl-test-away")
    done = house.ssh("pwd; echo $HOME", login="tl-test-away")
    assert done.stdout == b"/\n/home/tl-test-away\n"
    # sshd's words.
    assert done.stderr == (
        b"Could not chdir to home directory /home/tl-test-away: No such file or directory\n"
    )


def test_a_shell_that_turns_everybody_away(house: House, system: System) -> None:
    system.add_user("tl-test-locked", "--shell", "/usr/sbin/nologin")
    for words in ((), ("true",)):
        done = house.ssh(*words, login="tl-test-locked")
        assert done.returncode == 1
        assert b"This account is currently not available." in done.stdout


def test_while_nobody_may_log_in_the_reason_is_shown(house: House, system: System) -> None:
    nologin = system.path("/etc/nologin")
    nologin.write_text("Back at noon.\n")
    try:
        done = house.ssh("true", login=LOGIN, options=["-oLogLevel=INFO"])
        assert done.returncode == 255
        assert b"\nBack at noon.\n" in done.stderr
        reason = "only root may log in while /etc/nologin exists"
        house.event("T3007W", login=LOGIN, reason=reason)
        assert house.ssh("true").returncode == 0
        stranger = house.visitor(cert="").ssh("true", login=LOGIN, options=["-oLogLevel=INFO"])
        assert b"Back at noon." not in stranger.stderr
    finally:
        nologin.unlink()


def test_a_terminal_shows_the_message_of_the_day_first(house: House, system: System) -> None:
    system.path("/etc/motd").write_text("Mind the step.\n")
    master, slave = os.openpty()
    visitor = house.visitor(house.cluster.user(logins=(LOGIN,)))
    client = visitor.start(
        login=LOGIN, options=["-tt"], stdin=slave, stdout=slave, stderr=slave, env=env(TERM="dumb")
    )
    os.close(slave)
    terminal = Terminal(master)
    os.write(master, b"echo sh''ell; exit\n")
    eventually(lambda: "shell" in terminal.so_far(), what=terminal.so_far())
    said = terminal.so_far()
    assert said.index("Mind the step.") < said.index("shell")
    client.wait(60)
    os.close(master)
    assert b"Mind" not in house.ssh("true", login=LOGIN, options=["-tt"]).stdout
