"""Accounts that a node makes: by the real useradd, on copies of /etc."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.model.user import Condition, HostUserMode, Options, Role
from teleport_lite.node.processes import somebody_runs_as
from tests.node.house import House
from tests.node.own_etc import System, system
from tests.support import eventually

__all__ = ["system"]  # pytest finds fixtures by name

KEEP, DROP = HostUserMode.KEEP, HostUserMode.DROP
SUDO = "ALL=(ALL) NOPASSWD: /usr/bin/true"


def role(mode: HostUserMode | None, **more: object) -> Role:
    shell = str(more.pop("shell", "/bin/sh"))
    return Role(
        name="access",
        allow=Condition(
            logins=("{{internal.logins}}",),
            node_labels={"*": ("*",)},
            **more,  # type: ignore[arg-type]  # whatever a test wants
        ),
        options=Options(create_host_user_mode=mode, create_host_user_default_shell=shell),
    )


@pytest.fixture(scope="module")
def house(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    house.python = system.command(sys.executable)
    house.start()
    yield house
    house.stop()


def roles(house: House, *those: Role) -> None:
    house.roles = list(those)
    house.save_knowledge()


def ended(house: House) -> None:
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitors to end")


def sudoers(system: System, login: str) -> Path:
    return system.path(f"/etc/sudoers.d/teleport-lite-{login}")


def nobody_runs_as(system: System, login: str) -> None:
    uid = int(system.run("id", "-u", login).stdout)
    eventually(lambda: not somebody_runs_as(uid), what="its processes to end")


def open_session(house: House, login: str) -> subprocess.Popen[bytes]:
    papers = house.cluster.user(logins=(login,))
    client = house.visitor(papers).start("echo up; cat", login=login)
    assert client.stdout
    assert client.stdout.readline() == b"up\n"
    return client


def test_an_account_that_is_kept(house: House, system: System) -> None:
    login = "tl-test-keep"
    roles(house, role(KEEP, host_groups=("games", "tl-test-new")))
    done = house.ssh("id -un; pwd; echo $SHELL; id -Gn; touch mine", login=login)
    name, home, shell, groups = done.stdout.decode().splitlines()
    assert (name, home, shell) == (login, f"/home/{login}", "/bin/sh"), done.stderr
    assert set(groups.split()) == {login, "teleport-keep", "games", "tl-test-new"}
    ended(house)
    assert login in system.users()
    assert system.path(f"/home/{login}/mine").exists()
    shadow = system.path("/etc/shadow").read_text()
    assert f"\n{login}:!" in shadow  # no password opens it


def test_groups_of_an_account_that_is_kept_are_those_of_the_roles_now(
    house: House, system: System
) -> None:
    login = "tl-test-groups"
    roles(house, role(KEEP, host_groups=("games",)))
    house.ssh("true", login=login)
    ended(house)
    assert system.groups_of(login) == {"teleport-keep", "games"}
    roles(house, role(KEEP, host_groups=("audio",)))
    assert b"audio" in house.ssh("id -Gn", login=login).stdout
    assert system.groups_of(login) == {"teleport-keep", "audio"}


def test_an_account_that_is_dropped_goes_with_its_home(house: House, system: System) -> None:
    login = "tl-test-drop"
    roles(house, role(DROP))
    client = open_session(house, login)
    assert login in system.users()
    assert system.groups_of(login) == {"teleport-system"}
    client.communicate(timeout=60)
    eventually(lambda: login not in system.users(), what="the account to go")
    ended(house)
    assert not system.path(f"/home/{login}").exists()


def test_it_stays_until_the_last_of_several_connections(house: House, system: System) -> None:
    login = "tl-test-two"
    roles(house, role(DROP))
    # At the same moment: one of them makes it, the other finds it.
    papers = house.cluster.user(logins=(login,))
    both = [house.visitor(papers).start("echo up; cat", login=login) for _ in range(2)]
    for client in both:
        assert client.stdout
        assert client.stdout.readline() == b"up\n"
    both[0].communicate(timeout=60)
    eventually(lambda: len(house.named("tl-ssh-monitor")) == 1, what="one monitor to end")
    assert login in system.users()
    both[1].communicate(timeout=60)
    eventually(lambda: login not in system.users(), what="the account to go")


def test_what_it_has_left_running_does_not_outlive_it(house: House, system: System) -> None:
    login = "tl-test-nohup"
    roles(house, role(DROP))
    done = house.ssh("setsid nohup sleep 1000 >/dev/null 2>&1 & echo $!", login=login)
    pid = int(done.stdout)
    eventually(lambda: login not in system.users(), what="the account to go")
    assert not Path(f"/proc/{pid}").exists()


def test_what_a_killed_monitor_leaves_the_next_login_takes_away(
    house: House, system: System
) -> None:
    login = "tl-test-crash"
    roles(house, role(DROP, host_sudoers=(SUDO,)))
    client = open_session(house, login)
    monitor = house.one("tl-ssh-monitor")
    os.kill(monitor, 9)
    client.communicate(timeout=60)
    nobody_runs_as(system, login)
    assert login in system.users()
    house.ssh("true", login="tl-test-next")
    assert login not in system.users()
    assert not sudoers(system, login).exists()


def test_what_a_crash_leaves_the_next_start_takes_away(house: House, system: System) -> None:
    login = "tl-test-start"
    roles(house, role(DROP))
    client = open_session(house, login)
    monitor = house.one("tl-ssh-monitor")
    os.kill(monitor, 9)
    client.communicate(timeout=60)
    nobody_runs_as(system, login)
    house.stop()
    assert login in system.users()
    house.start()
    eventually(lambda: login not in system.users(), what="the account to go")


def test_sudo_rights_last_as_long_as_the_sessions(house: House, system: System) -> None:
    login = "tl-test-sudo"
    roles(house, role(KEEP, host_sudoers=(SUDO,)))
    client = open_session(house, login)
    file = sudoers(system, login)
    assert file.stat().st_mode & 0o7777 == 0o440
    assert f"{login} {SUDO}\n" in file.read_text()
    assert b"/usr/bin/true" in house.ssh("sudo -n -l", login=login).stdout
    client.communicate(timeout=60)
    ended(house)
    assert not file.exists()


@pytest.mark.parametrize(
    "line",
    ["ALL=(ALL", ", root ALL=(ALL) ALL", "ALL=(ALL) ALL\nmallory ALL=(ALL) ALL", "ALL=ALL \\"],
    ids=["syntax", "comma", "newline", "backslash"],
)
def test_a_line_for_sudoers_that_is_none_gives_nothing(
    house: House, system: System, line: str
) -> None:
    login = "tl-test-odd"
    roles(house, role(KEEP, host_sudoers=(line,)))
    client = open_session(house, login)
    assert list(system.path("/etc/sudoers.d").glob("*teleport*")) == []
    client.communicate(timeout=60)


@pytest.mark.parametrize("login", ["ALL", "ADMINS", "Defaults", "User_Alias"])
def test_a_name_that_sudo_takes_for_something_else_gets_no_sudo(
    house: House, system: System, login: str
) -> None:
    """A line for ALL would be one for everybody, with an alias' name one for all it stands for."""
    roles(house, role(DROP, host_sudoers=(SUDO,)))
    client = open_session(house, login)
    assert list(system.path("/etc/sudoers.d").glob("*teleport*")) == []
    client.communicate(timeout=60)
    ended(house)


def test_an_account_that_was_there_before_is_left_alone(house: House, system: System) -> None:
    login = "tl-test-old"
    system.add_user(login)
    roles(house, role(DROP, host_groups=("games",), host_sudoers=(SUDO,)))
    client = open_session(house, login)
    assert system.groups_of(login) == set()
    assert not sudoers(system, login).exists()
    client.communicate(timeout=60)
    ended(house)
    assert login in system.users()


@pytest.mark.parametrize("login", ["jenkins", "systemd-mail", "_hidden", "tl-test-group"])
def test_names_of_the_system_are_refused(house: House, system: System, login: str) -> None:
    if login == "tl-test-group":
        system.run("groupadd", login)
    roles(house, role(KEEP))
    done = house.ssh("true", login=login)
    assert done.returncode == 255
    assert login not in system.users()
    house.event("T3007W", login=login)


def test_groups_of_root_and_our_own_marks_are_not_given(house: House, system: System) -> None:
    login = "tl-test-wheel"
    roles(house, role(KEEP, host_groups=("root", "teleport-system", "a,b", "-x", "audio")))
    assert house.ssh("true", login=login).returncode == 0
    assert system.groups_of(login) == {"teleport-keep", "audio"}


@pytest.mark.parametrize("mode", [None, HostUserMode.OFF])
def test_without_a_yes_of_the_roles_nothing_is_made(
    house: House, system: System, mode: HostUserMode | None
) -> None:
    roles(house, role(mode))
    assert house.ssh("true", login="tl-test-no").returncode == 255
    house.event("T3007W", login="tl-test-no", reason="no account tl-test-no")
    assert "tl-test-no" not in system.users()


def test_a_signature_comes_before_the_account(house: House, system: System) -> None:
    """Whoever has only seen somebody's certificate makes nothing here."""
    login = "tl-test-seen"
    roles(house, role(KEEP))
    papers, thief = house.cluster.user(logins=(login,)), house.cluster.user(logins=(login,))
    wrong = replace(papers, ssh_private=thief.ssh_private)
    assert house.visitor(wrong).ssh("true", login=login).returncode == 255
    assert login not in system.users()


def test_a_shell_that_is_not_here_is_not_given(house: House, system: System) -> None:
    login = "tl-test-shell"
    roles(house, role(KEEP, shell="/bin/no-such-shell"))
    assert house.ssh("echo in", login=login).stdout == b"in\n"
    assert "no-such-shell" not in system.path("/etc/passwd").read_text()


def test_an_account_of_ours_is_not_taken_from_under_a_session_without_a_plan(
    house: House, system: System
) -> None:
    login = "tl-test-plan"
    roles(house, role(DROP))
    first = open_session(house, login)
    roles(house, role(None))
    second = open_session(house, login)
    first.communicate(timeout=60)
    eventually(lambda: len(house.named("tl-ssh-monitor")) == 1, what="one monitor to end")
    assert login in system.users()
    second.communicate(timeout=60)
    eventually(lambda: login not in system.users(), what="the account to go")


def test_an_account_that_somebody_else_uses_stays_until_they_are_gone(
    house: House, system: System
) -> None:
    login = "tl-test-busy"
    roles(house, role(DROP))
    client = open_session(house, login)
    uid = int(system.run("id", "-u", login).stdout)
    with subprocess.Popen(["sleep", "1000"], user=uid, group=uid, extra_groups=[]) as other:
        client.communicate(timeout=60)
        eventually(lambda: not house.named("tl-ssh-broker"), what="the session to end")
        assert login in system.users()
        other.kill()
        other.wait()
        eventually(lambda: login not in system.users(), what="the account to go")
    ended(house)


def test_an_account_in_use_survives_another_start(house: House, system: System) -> None:
    login = "tl-test-restart"
    roles(house, role(DROP))
    client = open_session(house, login)
    code = "from teleport_lite.node.host_users import HostUsers; HostUsers(note=print).sweep()"
    swept = system.run(sys.executable, "-c", code)
    assert (swept.returncode, swept.stdout) == (0, ""), swept.stderr
    assert login in system.users()
    assert house.ssh("echo in", login=login).stdout == b"in\n"
    client.communicate(timeout=60)
    eventually(lambda: login not in system.users(), what="the account to go")


def test_a_recording_is_whole_when_the_account_goes(house: House, system: System) -> None:
    login = "tl-test-cast"
    roles(house, role(DROP))
    done = house.ssh("echo re''corded", login=login, options=["-tt"])
    assert b"recorded" in done.stdout
    eventually(lambda: login not in system.users(), what="the account to go")
    ended(house)
    records = house.data_dir / "log" / "records"
    facts = [json.loads(path.read_text()) for path in records.glob("*.json")]
    [ours] = [each for each in facts if each["login"] == login]
    assert ours["complete"]


@pytest.mark.parametrize("shell", ["/bin/bash", "/usr/sbin/nologin"])
def test_who_may_only_copy_files_starts_no_shell(house: House, system: System, shell: str) -> None:
    """Its start-up files are files that can be copied there."""
    login = f"tl-test-files-{Path(shell).name}"
    system.add_user(login, "--shell", shell)
    home = system.path(f"/home/{login}")
    (home / ".bashrc").write_text(f"touch /home/{login}/was-run\n")
    only = Role(name="only-files", options=Options(force_command="internal-sftp"))
    roles(house, role(None), only)
    visitor = house.visitor(house.cluster.user(logins=(login,), roles=("access", "only-files")))
    hello = b"\0\0\0\x05\x01\0\0\0\x03"  # SSH_FXP_INIT, version 3
    for words, options in ((("sftp",), ("-s",)), (("any command",), ())):
        client = visitor.start(*words, login=login, options=options)
        assert client.stdin
        assert client.stdout
        client.stdin.write(hello)
        client.stdin.flush()
        assert client.stdout.read(5)[4:] == b"\x02"  # SSH_FXP_VERSION
        client.communicate(timeout=60)
    assert not (home / "was-run").exists()
