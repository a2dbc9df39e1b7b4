"""tsh login, logout and status, as people see them."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from teleport_lite.client import identity_file, profile
from teleport_lite.client.profile import Profile
from teleport_lite.testing.certs import PaperCluster
from tests.cli.tsh.conftest import Tsh
from tests.client.fake_proxy import CLUSTER, PASSWORD, FakeProxy, trust
from tests.client.test_profile import credentials
from tests.support import eventually


def enter(tsh: Tsh, proxy: FakeProxy, *words: str) -> None:
    said = tsh(
        "login", f"--proxy={proxy.address}", "--user=alice", f"--ca-pin={proxy.pin}", *words,
        stdin=f"{PASSWORD}\n",
    )  # fmt: skip
    assert said.code == 0, said.err


def test_login_shows_who_one_is(tsh: Tsh, proxy: FakeProxy, home: Path) -> None:
    said = tsh(
        "login", f"--proxy={proxy.address}", "--user=alice", f"--ca-pin={proxy.pin}",
        stdin=f"{PASSWORD}\n",
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    lines = [line.split(":", 1) for line in said.out.splitlines()]
    assert [name for name, _ in lines] == [
        "> Profile URL", "  Logged in as", "  Cluster", "  Roles", "  Logins", "  Valid until",
        "  Extensions",
    ]  # fmt: skip
    values = [value.strip() for _, value in lines]
    assert values[:5] == [f"https://{proxy.address}", "alice", CLUSTER, "access", "root"]
    assert "[valid for 11h59m" in values[5] or "[valid for 12h0m" in values[5]
    assert "permit-pty" in values[6]
    assert profile.current(home) == Profile(
        proxy="localhost",
        user="alice",
        cluster=CLUSTER,
        web_proxy_addr=proxy.address,
        ssh_proxy_addr="localhost:3023",
    )


def test_a_proxy_the_system_vouches_for_needs_no_pin(
    tsh: Tsh, proxy: FakeProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, proxy, tmp_path)
    monkeypatch.setenv("TELEPORT_PROXY", proxy.address)
    monkeypatch.setenv("TELEPORT_USER", "alice")
    assert tsh("login", stdin=PASSWORD).code == 0


def test_one_nobody_vouches_for_gets_no_password(tsh: Tsh, proxy: FakeProxy, home: Path) -> None:
    said = tsh("login", f"--proxy={proxy.address}", "--user=alice", stdin=PASSWORD)
    assert said.code == 4
    assert said.err.startswith(f"ERROR: {proxy.address} shows a certificate that nothing here")
    assert "try: tsh login --ca-pin=PIN" in said.err
    assert "--insecure" in said.err
    assert proxy.asked == []
    assert not home.exists()
    said = tsh("login", f"--proxy={proxy.address}", "--user=alice", "--insecure", stdin=PASSWORD)
    assert said.code == 0
    assert said.err.startswith("WARN: --insecure: nobody has vouched")


def test_a_second_login_is_not_needed_while_the_first_lasts(
    tsh: Tsh, proxy: FakeProxy, alice: Profile
) -> None:
    said = tsh("login", f"--proxy={proxy.address}", "--user=alice")
    assert (said.code, proxy.asked) == (0, [("/v1/me/cas", {})])
    assert said.out.startswith(f"> Profile URL:        https://{proxy.address}\n")
    said = tsh("login", "--force", stdin=PASSWORD)  # proxy, user and CA as before
    assert said.code == 0, said.err
    asked = [path for path, _ in proxy.asked[1:]]
    assert asked == ["/v1/ca", "/v1/login/start", "/v1/login/finish"]


def test_logging_in_to_another_known_cluster_switches(
    tsh: Tsh, proxy: FakeProxy, alice: Profile, home: Path
) -> None:
    bob = Profile(proxy="other.example.com", user="bob", cluster="other.example.com")
    profile.save(home, bob, credentials(PaperCluster("other.example.com"), "bob"))
    said = tsh("status")
    assert said.code == 0
    assert "> Profile URL:        https://other" not in said.out  # it knows no address
    assert said.out.startswith("> Logged in as:       bob\n")
    assert f"\n  Profile URL:        https://{proxy.address}\n" in said.out
    assert tsh("login", "--proxy=localhost").code == 0
    assert profile.current(home) == alice


def test_somebody_else_through_the_same_proxy_takes_over(
    tsh: Tsh, proxy: FakeProxy, alice: Profile, home: Path
) -> None:
    proxy.user = "bob"
    assert tsh("login", "--user=bob", stdin=PASSWORD).code == 0
    assert [each.user for each in profile.every(home)] == ["bob"]
    assert not (home / "keys/localhost/alice-x509.pem").exists()


def test_a_profile_of_another_program_is_replaced(tsh: Tsh, proxy: FakeProxy, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "localhost.yaml").write_text("web_proxy_addr: x\n  nested: 1\n")
    (home / "current-profile").write_text("localhost\n")
    enter(tsh, proxy)
    assert profile.current(home)


def test_the_ttl_and_the_cluster_are_passed_on(tsh: Tsh, proxy: FakeProxy) -> None:
    enter(tsh, proxy, "--ttl=60", CLUSTER)
    assert proxy.asked[-1][1]["ttl"] == "60m"
    said = tsh("login", "--ttl=soon", f"--proxy={proxy.address}")
    assert (said.code, "--ttl" in said.err) == (1, True)
    said = tsh("login", "other.example.com", f"--proxy={proxy.address}", f"--ca-pin={proxy.pin}")
    assert said.code == 3
    assert f"is for cluster {CLUSTER}, not other.example.com" in said.err


def test_an_identity_file_in_place_of_a_profile(
    tsh: Tsh, proxy: FakeProxy, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "alice.identity"
    enter(tsh, proxy, f"--out={path}", "--format=file")
    assert path.stat().st_mode & 0o777 == 0o600
    assert identity_file.load(path).cluster == CLUSTER
    assert not home.exists()
    said = tsh("login", f"--proxy={proxy.address}", "-o", str(path), stdin=PASSWORD)
    assert (said.code, "exists already" in said.err) == (1, True)
    enter(tsh, proxy, "-o", str(path), "--overwrite")
    said = tsh("status", "-i", str(path), "--format=json")
    assert json.loads(said.out)["active"]["username"] == "alice"


def test_a_wrong_password_changes_nothing(tsh: Tsh, proxy: FakeProxy, home: Path) -> None:
    said = tsh(
        "login", f"--proxy={proxy.address}", "--user=alice", f"--ca-pin={proxy.pin}", stdin="no\n"
    )
    assert said.code == 4
    assert said.err == "ERROR: user name or password is wrong\n"
    assert not home.exists()


def test_no_password_is_told(tsh: Tsh, proxy: FakeProxy) -> None:
    said = tsh("login", f"--proxy={proxy.address}", "--user=alice", f"--ca-pin={proxy.pin}")
    assert said.code == 1
    assert said.err.startswith("ERROR: no password for alice was given\n")


def test_the_end_of_input_is_no_password(
    tsh: Tsh, proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", ended)
    words = ("login", f"--proxy={proxy.address}", "--user=alice", f"--ca-pin={proxy.pin}")
    assert "no password for alice" in tsh(*words, terminal=True).err
    assert "longer than 1024" in tsh(*words, stdin="x" * 5000).err


def test_without_a_proxy_there_is_nothing_to_log_in_to(tsh: Tsh) -> None:
    said = tsh("login")
    assert (said.code, said.err.splitlines()[0]) == (1, "ERROR: which proxy is not said")


def test_a_host_without_a_port_is_tried_at_the_usual_ones(tsh: Tsh) -> None:
    said = tsh("login", "--proxy=127.9.9.9", "--user=alice")
    assert said.code == 5
    assert "127.9.9.9:3080" in said.err
    assert "127.9.9.9:443" in said.err


def test_at_a_terminal_the_password_is_asked_for_and_not_shown(
    proxy: FakeProxy, home: Path
) -> None:
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "teleport_lite", "tsh", "login", "--user=alice"]
    command += [f"--proxy={proxy.address}", f"--ca-pin={proxy.pin}"]
    program = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while not shown.endswith(b"Enter password for Teleport user alice: "):
        shown += os.read(main, 1)
    os.write(main, PASSWORD.encode() + b"\n")
    with open(main, "rb", buffering=0) as rest:
        try:
            while piece := rest.read(4096):
                shown += piece
        except OSError:  # how a terminal ends on Linux
            pass
    assert program.wait(30) == 0, shown
    assert b"> Profile URL:" in shown
    assert PASSWORD.encode() not in shown


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_logout_forgets_everything(tsh: Tsh, alice: Profile, home: Path) -> None:
    said = tsh("logout")
    assert (said.code, said.out) == (0, "Logged out all users from all proxies.\n")
    assert [path for path in home.rglob("*") if path.is_file()] == [home / "known_hosts"]
    assert not list((home / "keys").iterdir())
    assert (home / "known_hosts").read_text() == ""
    assert tsh("status").code == 1
    assert tsh("logout").out == "Nobody was logged in.\n"


def test_logout_of_one_proxy_leaves_the_others(tsh: Tsh, alice: Profile, home: Path) -> None:
    bob = Profile(proxy="other.example.com", user="bob", cluster="other.example.com")
    profile.save(home, bob, credentials(PaperCluster("other.example.com"), "bob"))
    assert tsh("logout", "--proxy=third.example.com").code == 4
    said = tsh("logout", "--proxy=localhost", "--user=alice")
    assert (said.code, said.out) == (0, "Logged out alice from localhost.\n")
    assert profile.every(home) == [bob]


def test_status_has_its_forms(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    active = json.loads(tsh("status", "-f", "json").out)["active"]
    assert active.pop("valid_until").endswith("Z")
    assert "permit-pty" in active.pop("extensions")
    assert active == {
        "profile_url": f"https://{proxy.address}",
        "username": "alice",
        "cluster": CLUSTER,
        "roles": ["access"],
        "traits": {"logins": ["root"]},
        "logins": ["root"],
        "kubernetes_enabled": False,
    }
    assert "username: alice" in tsh("status", "--format=yaml").out
    assert "  Traits:             logins: root\n" in tsh("status", "-v").out


def test_not_logged_in_is_exit_1(tsh: Tsh) -> None:
    said = tsh("status")
    assert (said.code, said.out) == (1, "Not logged in.\n")
    said = tsh("status", "--format=json")
    assert (said.code, json.loads(said.out)) == (1, {"active": None, "profiles": []})


def expired(home: Path, alice: Profile) -> None:
    past = datetime.now().astimezone() - timedelta(days=1)
    old = PaperCluster(CLUSTER, now=past)
    profile.save(home, alice, credentials(old, "alice"))


def test_an_expired_login_is_marked_and_asks_for_another(
    tsh: Tsh, alice: Profile, home: Path
) -> None:
    expired(home, alice)
    said = tsh("status")
    assert said.code == 1
    assert "[EXPIRED]" in said.out
    said = tsh("ls")
    assert said.code == 4
    assert said.err.startswith("ERROR: the credentials of the tsh profile localhost have expired")
    assert said.err.endswith("  try: tsh login\n")


def test_at_a_terminal_an_expired_login_is_renewed_on_the_way(
    tsh: Tsh, alice: Profile, home: Path, proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired(home, alice)
    profile.Files(home, alice).cas.write_text("".join(proxy.cluster.host_cas))
    proxy.answers["/v1/me/nodes"] = {"nodes": []}
    monkeypatch.setattr("getpass.getpass", lambda _: PASSWORD)
    said = tsh("ls", terminal=True)
    assert said.code == 0, said.err
    assert "WARN: your login has expired\n" in said.err


def test_another_user_than_the_profiles_is_not_logged_in(tsh: Tsh, alice: Profile) -> None:
    assert tsh("ls", "--user=bob").code == 4
    assert tsh("ls", "--proxy=elsewhere.example.com").code == 4


def test_the_version_tells_of_the_proxy_too(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, home: Path
) -> None:
    said = tsh("version")
    assert said.out.splitlines()[1:] == ["Proxy version: 0.9.0", f"Proxy: {proxy.address}"]
    assert json.loads(tsh("version", "-f", "json").out)["proxyVersion"] == "0.9.0"
    assert len(tsh("version", "--client").out.splitlines()) == 1
    profile.save(home, replace(alice, web_proxy_addr="localhost:1"), credentials())
    said = tsh("version")
    assert said.code == 0
    assert said.err.startswith("WARN: the version of the proxy is not known")


def test_a_new_certificate_goes_to_the_agent_and_leaves_with_logout(
    tsh: Tsh, proxy: FakeProxy, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent(tmp_path, monkeypatch):
        enter(tsh, proxy)
        assert "ED25519-CERT" in listed()
        assert tsh("logout").code == 0
        assert "no identities" in listed()
        enter(tsh, proxy, "--add-keys-to-agent=no")
        assert "no identities" in listed()
        enter(tsh, proxy, "-k", "only", "--force")
        assert "ED25519-CERT" in listed()
        assert not (home / "keys/localhost/alice").exists()
        assert tsh("logout").code == 0
        assert "no identities" in listed()


def test_an_agent_that_was_asked_for_has_to_be_there(tsh: Tsh, proxy: FakeProxy) -> None:
    words = (f"--proxy={proxy.address}", "--user=alice", f"--ca-pin={proxy.pin}")
    said = tsh("login", *words, "--add-keys-to-agent=only", stdin=PASSWORD)
    assert said.code == 5
    assert "SSH_AUTH_SOCK is not set" in said.err
    said = tsh("login", *words, "--add-keys-to-agent=maybe", stdin=PASSWORD)
    assert "expected auto, yes, no or only" in said.err


def test_a_broken_agent_does_not_keep_anybody_out(
    tsh: Tsh, proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nonexistent/agent")
    said = tsh(
        "login", f"--proxy={proxy.address}", "--user=alice", f"--ca-pin={proxy.pin}",
        stdin=PASSWORD,
    )  # fmt: skip
    assert said.code == 0
    assert said.err.startswith("WARN: ssh-agent did not take the key: ")


@contextmanager
def agent(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ssh-agent of its own."""
    path = directory / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        eventually(answers)  # its socket is there a moment before it listens
        yield
    finally:
        process.terminate()
        process.wait(30)


def answers() -> bool:
    done = subprocess.run(["ssh-add", "-l"], capture_output=True, timeout=60)
    return done.returncode in (0, 1)  # 1: it has no keys


def listed() -> str:
    done = subprocess.run(["ssh-add", "-l"], capture_output=True, text=True, timeout=60)
    return done.stdout
