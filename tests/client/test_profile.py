"""The tsh profile on disk."""

from pathlib import Path

import pytest

from teleport_lite.client import profile
from teleport_lite.client.profile import Profile
from teleport_lite.errors import Denied, Malformed, NotFound
from tests.client.test_identity_file import an_identity

ALICE = Profile(
    proxy="tele.example.com",
    user="alice@example.com",
    cluster="tele.example.com",
    web_proxy_addr="tele.example.com:3080",
    auth_addr="tele.example.com:3025",
)


def test_what_is_saved_is_the_current_profile(tmp_path: Path) -> None:
    home, identity = tmp_path / ".tsh", an_identity()
    profile.save(home, ALICE, identity)
    assert profile.current(home) == ALICE
    assert profile.identity(home, ALICE) == identity
    profile.save(home, ALICE, identity)  # a second login replaces the first
    assert profile.current(home) == ALICE


def test_the_files_are_where_other_tools_look_and_private(tmp_path: Path) -> None:
    home = tmp_path / ".tsh"
    profile.save(home, ALICE, an_identity())
    keys = home / "keys/tele.example.com"
    assert (home / "current-profile").read_text() == "tele.example.com\n"
    assert (keys / "cas/tele.example.com.pem").read_text().count("BEGIN CERTIFICATE") == 2
    cert = keys / "alice@example.com-ssh/tele.example.com-cert.pub"
    assert cert.read_text().startswith("ecdsa-sha2-nistp256-cert-v01@openssh.com ")
    assert (home / "known_hosts").read_text() == (
        "@cert-authority *.tele.example.com ssh-ed25519 AAAAold\n"
        "@cert-authority *.tele.example.com ssh-ed25519 AAAAnew\n"
    )
    assert (keys / "alice@example.com").stat().st_mode & 0o777 == 0o600
    assert all(each.stat().st_mode & 0o077 == 0 for each in (home, home / "keys", keys))


def test_nobody_is_logged_in_at_first(tmp_path: Path) -> None:
    assert profile.current(tmp_path) is None
    assert profile.current(tmp_path / "nowhere") is None


def test_a_name_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "a/b", ".."):
        (tmp_path / "current-profile").write_text(name)
        with pytest.raises(Malformed):
            profile.current(tmp_path)
    with pytest.raises(Malformed):
        Profile(proxy="p", user="../alice", cluster="c")


@pytest.mark.parametrize("text", ["", "user: alice\n", "user: [a]\ncluster: c\n", "a: b: c\n"])
def test_a_broken_profile_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "current-profile").write_text("p\n")
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(Malformed, match=str(tmp_path / "p.yaml")):
        profile.current(tmp_path)


def test_a_profile_without_its_keys_is_not_found(tmp_path: Path) -> None:
    home = tmp_path / ".tsh"
    profile.save(home, ALICE, an_identity())
    (home / "keys/tele.example.com/alice@example.com").unlink()
    with pytest.raises(NotFound):
        profile.identity(home, ALICE)


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    home = tmp_path / ".tsh"
    profile.save(home, ALICE, an_identity())
    (home / "keys/tele.example.com/alice@example.com").chmod(0o640)
    with pytest.raises(Denied):
        profile.identity(home, ALICE)
