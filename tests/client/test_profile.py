"""The tsh profile on disk."""

import base64
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.client import profile
from teleport_lite.client.flat import read_flat, write_flat
from teleport_lite.client.identity_file import IdentityFile
from teleport_lite.client.papers import read_papers
from teleport_lite.client.profile import Files, Profile
from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from tests.support import eventually

KIND = "ssh-ed25519-cert-v01@openssh.com"
TELE, OTHER = PaperCluster("tele.example.com"), PaperCluster("other.example.com")
ALICE = Profile(
    proxy="tele.example.com",
    user="alice@example.com",
    cluster="tele.example.com",
    web_proxy_addr="tele.example.com:3080",
    ssh_proxy_addr="[::1]:3023",
    auth_addr="tele.example.com:3025",
)
BOB = Profile(proxy="other.example.com", user="bob", cluster="other.example.com")


def credentials(
    cluster: PaperCluster = TELE,
    user: str = "alice@example.com",
    logins: tuple[str, ...] = ("root",),
) -> IdentityFile:
    papers = cluster.user(user, logins=logins)
    return IdentityFile(
        cluster=cluster.name,
        ssh_private=papers.ssh_private,
        ssh_cert=papers.ssh_cert.strip(),
        tls_private=papers.tls_private,
        tls_cert=papers.tls_cert,
        ssh_host_cas=(cluster.host_ca.public.ssh_key.strip(),),
        host_cas=tuple(cluster.host_cas),
    )


def test_what_is_saved_is_the_current_profile(tmp_path: Path) -> None:
    home, identity = tmp_path / ".tsh", credentials()
    profile.save(home, ALICE, identity)
    assert profile.current(home) == ALICE
    assert profile.identity(home, ALICE) == identity
    profile.save(home, ALICE, identity)  # a second login replaces the first
    assert profile.current(home) == ALICE


def test_the_files_are_where_other_tools_look_and_private(tmp_path: Path) -> None:
    home, saved = tmp_path / ".tsh", credentials()
    profile.save(home, ALICE, saved)
    keys = home / "keys/tele.example.com"
    assert (home / "current-profile").read_text() == "tele.example.com\n"
    assert (keys / "cas/tele.example.com.pem").read_text() == TELE.host_cas[0]
    for path in ("alice@example.com-cert.pub", "alice@example.com-ssh/tele.example.com-cert.pub"):
        assert (keys / path).read_text() == saved.ssh_cert + "\n"
    assert (keys / "alice@example.com.pub").read_text().startswith("ssh-ed25519 AAAA")
    assert (home / "known_hosts").read_text() == (
        f"@cert-authority *.tele.example.com {saved.ssh_host_cas[0]}\n"
    )
    secret = [
        path for path in keys.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()
    ]
    assert [path.name for path in sorted(secret)] == [
        "alice@example.com",
        "alice@example.com-x509.pem",
    ]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in secret)
    below = [home, *(each for each in home.rglob("*") if each.is_dir())]
    assert all(each.stat().st_mode & 0o777 == 0o700 for each in below)


def test_several_clusters_live_side_by_side(tmp_path: Path) -> None:
    profile.save(tmp_path / ".tsh", ALICE, credentials())
    home = tmp_path / ".tsh"
    profile.save(home, BOB, credentials(OTHER, "bob"))
    assert profile.current(home) == BOB
    assert profile.every(home) == [BOB, ALICE]
    assert profile.named(home, "tele.example.com") == ALICE
    assert profile.named(home, "third.example.com") is None
    profile.switch(home, ALICE)
    assert profile.current(home) == ALICE
    known = (home / "known_hosts").read_text()
    assert known.count("@cert-authority") == 2
    profile.save(home, ALICE, credentials())
    assert sorted((home / "known_hosts").read_text().split()) == sorted(known.split())
    assert profile.identity(home, BOB).ssh_host_cas == credentials(OTHER, "bob").ssh_host_cas


def test_a_cluster_does_not_vouch_for_hosts_of_one_that_is_named_below_it(tmp_path: Path) -> None:
    home, below = tmp_path / ".tsh", PaperCluster("sub.tele.example.com")
    sub = Profile(proxy="sub.example.com", user="bob", cluster=below.name)
    profile.save(home, ALICE, credentials())
    profile.save(home, sub, credentials(below, "bob"))
    mine = Files(home, sub).known_hosts.read_text()
    assert (
        mine == f"@cert-authority *.sub.tele.example.com {below.host_ca.public.ssh_key.strip()}\n"
    )


def test_what_is_removed_is_gone_and_nothing_else(tmp_path: Path) -> None:
    home = tmp_path / ".tsh"
    profile.save(home, BOB, credentials(OTHER, "bob"))
    profile.save(home, ALICE, credentials())
    profile.remove(home, ALICE)
    assert profile.every(home) == [BOB]
    assert profile.current(home) is None
    assert not (home / "keys/tele.example.com").exists()
    assert "tele.example.com" not in (home / "known_hosts").read_text()
    assert profile.identity(home, BOB)
    profile.remove(home, ALICE)  # twice is no harm
    assert profile.every(home) == [BOB]


def test_a_key_that_only_the_agent_has_is_not_missed(tmp_path: Path) -> None:
    profile.save(tmp_path / ".tsh", ALICE, credentials())
    Files(tmp_path / ".tsh", ALICE).ssh_key.unlink()
    assert profile.identity(tmp_path / ".tsh", ALICE).ssh_private == Secret("")


def test_the_certificate_says_who_one_is(tmp_path: Path) -> None:
    profile.save(tmp_path / ".tsh", ALICE, credentials())
    papers = read_papers(profile.certificate(tmp_path / ".tsh", ALICE), "f")
    assert (papers.user, papers.logins, papers.roles) == (
        "alice@example.com",
        ("root",),
        ("access",),
    )
    assert not papers.expired(TELE.now)
    assert not [each for each in papers.extensions if each.startswith("teleport")]
    for line in ("", "ssh-ed25519 AAAA", "ssh-ed25519-cert-v01@openssh.com AAAA", "x y z"):
        with pytest.raises(Malformed, match="f holds no SSH certificate"):
            read_papers(line, "f")


@given(st.text() | st.text(alphabet="abc: \"\n#\\'-[]"))
def test_strangers_lines_are_pairs_or_malformed(text: str) -> None:
    with suppress(Malformed):
        found = read_flat(text, "f", hint="")
        assert read_flat(write_flat(found), "f", hint="") == found


@given(st.text() | st.binary().map(lambda raw: f"{KIND} {base64.b64encode(raw).decode()}"))
def test_any_line_is_papers_or_malformed(line: str) -> None:
    with suppress(Malformed):
        read_papers(line, "f")
        raise AssertionError("nobody guesses a certificate")


@pytest.mark.parametrize(
    "value", ["alice", "yes", "No", "123", "", "a: b", "[::1]:3080", 'q"\\', "ünï", "10.0.0.1:3080"]
)
def test_any_text_is_written_as_yaml_and_read_back(value: str) -> None:
    from teleport_lite.config.yaml import load_yaml, plain

    written = write_flat({"user": value, "cluster": "c"})
    assert read_flat(written, "f", hint="") == {"user": value, "cluster": "c"}
    tree = load_yaml(written, "f")
    assert tree is not None
    assert plain(tree) == {"user": value, "cluster": "c"}


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


def test_nobody_may_be_called_like_the_directory_of_cas() -> None:
    with pytest.raises(Malformed, match="a user called cas can have no profile"):
        replace(ALICE, user="cas")


def test_a_profile_without_its_keys_is_not_found(tmp_path: Path) -> None:
    home = tmp_path / ".tsh"
    profile.save(home, ALICE, credentials())
    Files(home, ALICE).tls.unlink()
    with pytest.raises(NotFound):
        profile.identity(home, ALICE)


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    home = tmp_path / ".tsh"
    profile.save(home, ALICE, credentials())
    for path in (Files(home, ALICE).tls, Files(home, ALICE).ssh_key):
        path.chmod(0o640)
        with pytest.raises(Denied):
            profile.identity(home, ALICE)
        path.chmod(0o600)


def test_two_logins_at_once_lose_nothing_of_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one stands still with what it has read, until the other one has to wait for it."""
    home, real, first = tmp_path / ".tsh", profile._other_lines, threading.Event()

    def slowly(text: str, cluster: str) -> list[str]:
        if cluster == ALICE.cluster:
            first.set()
            eventually(lambda: waits_for(home), what="the other login")
        return real(text, cluster)

    monkeypatch.setattr(profile, "_other_lines", slowly)
    alice = threading.Thread(target=profile.save, args=(home, ALICE, credentials()))
    alice.start()
    assert first.wait(60)
    profile.save(home, BOB, credentials(OTHER, "bob"))
    alice.join(60)
    lines = (home / "known_hosts").read_text().splitlines()
    assert {line.split()[1] for line in lines} == {"*.tele.example.com", "*.other.example.com"}


def waits_for(home: Path) -> bool:
    """Does somebody wait for the lock on it? As proc_locks(5) has it."""
    waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "-> FLOCK" in line]
    return any(line.split()[6].endswith(f":{home.stat().st_ino}") for line in waiting)
