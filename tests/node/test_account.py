"""Which account a login means, and which it must not mean."""

import os
import pwd
from datetime import UTC, datetime
from pathlib import Path

import pytest

from teleport_lite.errors import Denied
from teleport_lite.node import account as module
from teleport_lite.node.account import exists, find_account

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TODAY = int(NOW.timestamp()) // 86400
ME = pwd.getpwuid(os.geteuid()).pw_name


def entry(name: str, uid: int, home: str = "/home/x", shell: str = "/bin/sh") -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, 1000, "", home, shell))


@pytest.fixture
def passwd(monkeypatch: pytest.MonkeyPatch) -> dict[str, pwd.struct_passwd]:
    """A passwd of our own, and a daemon that is root."""
    table: dict[str, pwd.struct_passwd] = {}
    monkeypatch.setattr(module.pwd, "getpwnam", table.__getitem__)
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    return table


def why(login: str, shadow: Path = Path("/nonexistent")) -> str:
    with pytest.raises(Denied) as no:
        find_account(login, NOW, shadow=shadow)
    assert no.value.message == "login is not possible"
    return no.value.log


def test_an_account_that_is_there(passwd: dict[str, pwd.struct_passwd]) -> None:
    passwd["alice"] = entry("alice", 1000, "/home/alice", "/bin/zsh")
    found = find_account("alice", NOW, shadow=Path("/nonexistent"))
    assert (found.name, found.uid, found.home, found.shell) == (
        "alice",
        1000,
        "/home/alice",
        "/bin/zsh",
    )


def test_one_that_is_not() -> None:
    assert why("no-such-account") == "no account no-such-account"
    assert not exists("no-such-account")
    assert exists(ME)


@pytest.mark.parametrize("login", ["\0", "a\0b", ""])
def test_names_that_are_none(login: str) -> None:
    assert "no account" in why(login)
    assert not exists(login)


def test_root_by_another_name(passwd: dict[str, pwd.struct_passwd]) -> None:
    passwd["toor"] = entry("toor", 0)
    passwd["root"] = entry("root", 0, "/root")
    assert why("toor") == "account toor is another name of root"
    assert find_account("root", NOW, shadow=Path("/nonexistent")).uid == 0


def test_no_shell_and_no_home_get_the_usual_ones(passwd: dict[str, pwd.struct_passwd]) -> None:
    passwd["bare"] = entry("bare", 1000, "", "")
    found = find_account("bare", NOW, shadow=Path("/nonexistent"))
    assert (found.home, found.shell) == ("/", "/bin/sh")


@pytest.mark.parametrize(
    ("expires", "refused"),
    [
        ("", False),
        (str(TODAY + 1), False),
        (str(TODAY), True),
        (str(TODAY - 1), True),
        ("0", True),
        ("soon", True),
    ],
)
def test_an_account_that_has_expired(
    passwd: dict[str, pwd.struct_passwd], tmp_path: Path, expires: str, refused: bool
) -> None:
    passwd["alice"] = entry("alice", 1000)
    shadow = tmp_path / "shadow"
    shadow.write_text(f"bob:!:1:0:9:7:::\nalice:!:19000:0:99999:7::{expires}:\n")
    if refused:
        assert why("alice", shadow) == "account alice has expired"
    else:
        assert find_account("alice", NOW, shadow=shadow).name == "alice"


def test_a_locked_password_is_no_obstacle(
    passwd: dict[str, pwd.struct_passwd], tmp_path: Path
) -> None:
    passwd["alice"] = entry("alice", 1000)
    shadow = tmp_path / "shadow"
    shadow.write_text("alice:!:19000:0:99999:7:::\n")
    assert find_account("alice", NOW, shadow=shadow).name == "alice"


def test_without_root_only_our_own_user_comes_in(
    passwd: dict[str, pwd.struct_passwd], monkeypatch: pytest.MonkeyPatch
) -> None:
    passwd["me"], passwd["alice"] = entry("me", 1234), entry("alice", 1000)
    monkeypatch.setattr(module.os, "geteuid", lambda: 1234)
    assert find_account("me", NOW).uid == 1234
    assert why("alice") == "this node does not run as root and can not become alice"


def test_the_login_uid_is_said_once(tmp_path: Path) -> None:
    file = tmp_path / "loginuid"
    file.write_text("4294967295")
    module.set_login_uid(1000, file)
    assert file.read_text() == "1000"
    module.set_login_uid(1001, file)
    assert file.read_text() == "1000"
    module.set_login_uid(1000, tmp_path / "none")  # a kernel without audit


def test_a_home_that_cannot_be_entered_is_told_in_sshd_s_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[str] = []
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)

    def chdir(place: str) -> None:
        went.append(place)
        if place != "/":
            raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(module.os, "chdir", chdir)
    account = module.Account(name="a", uid=1000, gid=1000, home="/gone", shell="/bin/sh")
    said = module.become(account)
    assert said == "Could not chdir to home directory /gone: No such file or directory"
    assert went == ["/gone", "/"]
