"""Real libpam, real modules, in a service file of the test's own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.node import pam
from tests.node.house import House
from tests.node.own_etc import System, system
from tests.node.test_session import Terminal, env
from tests.support import eventually

LOGIN = "tl-test-pam"
SERVICE = "tl-test"
OPEN = "account required pam_permit.so\nsession required pam_permit.so\n"
# Accounts as `pam_exec` sees them, and the whole of what it has in its environment.
NOTE = "#!/bin/sh\nenv > $0.$PAM_TYPE\n"

__all__ = ["system"]  # pytest finds fixtures by name


@pytest.fixture(scope="module")
def house(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    system.add_user(LOGIN)
    system.pam(SERVICE, OPEN)
    with pam_house(system, tmp_path_factory.mktemp("house"), pam_time=60.0) as house:
        yield house


@pytest.fixture(scope="module")
def hasty(
    house: House, system: System, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """One that waits for modules no longer than a test may take."""
    with pam_house(system, tmp_path_factory.mktemp("hasty"), pam_time=4.0) as hasty:
        yield hasty


@contextmanager
def pam_house(system: System, directory: Path, *, pam_time: float) -> Iterator[House]:
    settings = {
        "pam_service": SERVICE,
        "pam_environment": [["MAIL_OF", "{{external.email}}"], ["NOBODYS", "x{{external.none}}"]],
        "pam_time": pam_time,
    }
    house = House(directory, settings=settings)
    house.python = system.command(sys.executable)
    house.start()
    try:
        yield house
    finally:
        house.stop()


@pytest.fixture(autouse=True)
def plain(system: System) -> Iterator[None]:
    yield
    system.pam(SERVICE, OPEN)


def shown(house: House, *words: str, **more: object) -> tuple[int, str, str]:
    """With what `ssh` tells its user, banners included."""
    done = house.ssh(*words, login=LOGIN, options=["-oLogLevel=INFO"])
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_what_modules_put_into_the_environment_is_there(house: House, system: System) -> None:
    system.path("/etc/tl-test.env").write_text("FROM_FILE=yes\nSSH_TELEPORT_USER=mallory\n")
    system.pam(SERVICE, OPEN + "session required pam_env.so envfile=/etc/tl-test.env\n")
    _, said, _ = shown(house, "env")
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    assert found["FROM_FILE"] == "yes"
    assert found["SSH_TELEPORT_USER"] == "alice"
    assert (found["TELEPORT_USERNAME"], found["TELEPORT_LOGIN"]) == ("alice", LOGIN)
    assert found["TELEPORT_ROLES"] == "access"


def test_limits_are_those_of_the_modules(house: House, system: System) -> None:
    system.path("/etc/tl-test.limits").write_text(f"{LOGIN} hard nofile 321\n{LOGIN} - core 0\n")
    system.pam(SERVICE, OPEN + "session required pam_limits.so conf=/etc/tl-test.limits\n")
    assert shown(house, "ulimit -Hn")[:2] == (0, "321\n")


def test_the_umask_is_that_of_the_modules(house: House, system: System) -> None:
    assert shown(house, "umask")[1] == "0022\n"
    system.pam(SERVICE, OPEN + "session required pam_umask.so umask=0077\n")
    assert shown(house, "umask")[1] == "0077\n"


def test_groups_that_a_module_adds_stay(house: House, system: System) -> None:
    system.path("/etc/security/group.conf").write_text(f"{SERVICE};*;{LOGIN};Al0000-2400;games\n")
    system.pam(SERVICE, "auth required pam_group.so\n" + OPEN)
    assert set(shown(house, "id -Gn")[1].split()) == {LOGIN, "games"}


def test_programs_of_modules_know_who_it_is_and_when_it_is_over(
    house: House, system: System
) -> None:
    note = system.path("/etc/tl-test.sh")
    note.write_text(NOTE)
    note.chmod(0o755)
    system.pam(SERVICE, OPEN + "session required pam_exec.so /etc/tl-test.sh\n")
    papers = house.cluster.user(logins=(LOGIN,))
    assert house.visitor(papers).ssh("true", login=LOGIN).returncode == 0
    opened = Path(f"{note}.open_session").read_text()
    for fact in (f"PAM_USER={LOGIN}", "PAM_RHOST=127.0.0.1", "PAM_TTY=ssh", "NOBODYS="):
        assert fact in opened.splitlines()
    eventually(Path(f"{note}.close_session").exists, what="the session to be closed")


def test_a_session_is_closed_after_its_shells(house: House, system: System) -> None:
    script = system.path("/etc/tl-test-2.sh")
    script.write_text(
        '#!/bin/sh\n[ "$PAM_TYPE" = close_session ] && ps -o comm= --ppid $PPID > $0.over\n:\n'
    )
    script.chmod(0o755)
    system.pam(SERVICE, OPEN + "session required pam_exec.so /etc/tl-test-2.sh\n")
    client = house.visitor(house.cluster.user(logins=(LOGIN,))).start("cat", login=LOGIN)
    house.one("tl-ssh-broker")
    house.one("tl-ssh-pam")
    client.kill()
    over = Path(f"{script}.over")
    eventually(over.exists, what="the session to be closed")
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitor to end")
    assert "tl-ssh-broker" not in over.read_text()


def test_an_account_that_modules_refuse_does_not_get_in(house: House, system: System) -> None:
    system.pam(SERVICE, "account required pam_deny.so\nsession required pam_permit.so\n")
    code, said, told = shown(house, "echo in")
    assert (code, said) == (255, "")
    assert "this account is refused by the host: authentication failure" in told
    house.event("T3007W", login=LOGIN, reason="pam_acct_mgmt: authentication failure")
    eventually(lambda: not house.named("tl-ssh-broker"), what="those of earlier ones to end")


def test_a_refusal_comes_with_the_modules_own_words(house: House, system: System) -> None:
    system.path("/etc/tl-test.msg").write_text("Come back on Monday.\n")
    echo = "account optional pam_echo.so file=/etc/tl-test.msg\n"
    system.pam(SERVICE, f"{echo}account required pam_deny.so\nsession required pam_permit.so\n")
    assert "Come back on Monday." in shown(house, "true")[2]


def test_a_session_that_cannot_be_opened_is_a_refusal(house: House, system: System) -> None:
    system.pam(SERVICE, "account required pam_permit.so\nsession required pam_deny.so\n")
    code, _, told = shown(house, "true")
    assert code == 255
    assert "refused by the host" in told


def test_an_account_that_has_expired_is_refused_with_pam_s_words(
    house: House, system: System
) -> None:
    system.add_user("tl-test-old")
    system.run("chage", "--lastday", "0", "tl-test-old")  # a new password is due
    system.pam(SERVICE, "account required pam_unix.so\nsession required pam_permit.so\n")
    done = house.ssh("true", login="tl-test-old", options=["-oLogLevel=INFO"])
    assert done.returncode == 255
    assert b"refused by the host" in done.stderr


def test_words_of_modules_are_read_before_the_shell_s(house: House, system: System) -> None:
    system.path("/etc/tl-test.msg").write_text("Hello %u.\n")
    system.pam(SERVICE, OPEN + "session optional pam_echo.so file=/etc/tl-test.msg\n")
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
    assert said.index(f"Hello {LOGIN}.") < said.index("shell")
    client.wait(60)
    os.close(master)
    assert "Hello" not in shown(house, "true")[2]  # a command's output is its own


def test_modules_that_ask_get_no_answer(house: House, system: System) -> None:
    # pam_unix would ask for the old password and a new one.
    system.pam(SERVICE, OPEN.replace("pam_permit.so\n", "pam_stress.so no_warn prompt\n", 1))
    assert shown(house, "echo in")[0] in (0, 255)
    system.pam(SERVICE, OPEN)
    assert shown(house, "echo in")[:2] == (0, "in\n")


def test_a_module_that_hangs_ends_that_login_only(hasty: House, system: System) -> None:
    house, seconds = hasty, f"98765.{os.getpid()}"
    system.path("/etc/tl-test-3.sh").write_text(f"#!/bin/sh\nexec sleep {seconds}\n")
    system.path("/etc/tl-test-3.sh").chmod(0o755)
    # Read by the keeper when it starts; whoever comes later finds another file.
    other = house.visitor(house.cluster.user(logins=(LOGIN,))).start("echo in; cat", login=LOGIN)
    assert other.stdout
    assert other.stdout.readline() == b"in\n"
    system.pam(SERVICE, OPEN + "session required pam_exec.so /etc/tl-test-3.sh\n")
    code, _, told = shown(house, "true")
    assert code == 255
    assert "PAM does not answer on this host" in told
    assert other.communicate(b"still here", timeout=60)[0] == b"still here"
    eventually(lambda: not house.named("tl-ssh-pam"), what="the keepers to end")
    eventually(lambda: seconds not in _all_words(), what="the module's program to end")


def test_a_module_that_hangs_at_the_end_is_not_waited_for(hasty: House, system: System) -> None:
    house, seconds = hasty, f"98766.{os.getpid()}"
    script = system.path("/etc/tl-test-5.sh")
    script.write_text(f"#!/bin/sh\n[ $PAM_TYPE = open_session ] || exec sleep {seconds}\n")
    script.chmod(0o755)
    system.pam(SERVICE, OPEN + "session required pam_exec.so /etc/tl-test-5.sh\n")
    assert shown(house, "echo in")[:2] == (0, "in\n")
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitor to end")
    eventually(lambda: not house.named("tl-ssh-pam"), what="the modules to end")
    eventually(lambda: seconds not in _all_words(), what="the module's program to end")


def test_a_module_that_crashes_ends_that_login_only(house: House, system: System) -> None:
    script = system.path("/etc/tl-test-4.sh")
    script.write_text("#!/bin/sh\nkill -SEGV $PPID\nsleep 5\n")
    script.chmod(0o755)
    system.pam(SERVICE, OPEN + "session required pam_exec.so /etc/tl-test-4.sh\n")
    code, _, told = shown(house, "true")
    assert code == 255
    assert "PAM does not answer on this host" in told
    system.pam(SERVICE, OPEN)
    assert shown(house, "echo in")[:2] == (0, "in\n")


def test_traits_fill_the_templates(house: House, system: System) -> None:
    traits = {"logins": (LOGIN,), "email": ("a@b.example", "c")}
    papers = house.cluster.user(logins=(LOGIN,), traits=traits)
    found = house.visitor(papers).ssh("echo [$MAIL_OF] [$NOBODYS]", login=LOGIN)
    assert found.stdout == b"[a@b.example,c] []\n"


# When the node starts


def test_without_libpam_the_node_says_so() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, which is asked for first")
    with pytest.raises(Unavailable) as no:
        pam.check("sshd", library="libno-such-pam.so.0")
    assert no.value.message == "pam: enabled, but libno-such-pam.so.0 can not be loaded here"
    assert no.value.hint


def test_without_its_file_the_node_says_so() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, which is asked for first")
    with pytest.raises(Unavailable) as no:
        pam.check("tl-no-such-service")
    assert no.value.message == "pam: enabled, but there is no /etc/pam.d/tl-no-such-service"


def test_without_root_the_node_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pam.os, "geteuid", lambda: 1000)
    with pytest.raises(Denied, match="does not run as root"):
        pam.check("sshd")


def _all_words() -> str:
    found = ""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += (entry / "cmdline").read_text(errors="replace")
            except OSError:
                continue
    return found
