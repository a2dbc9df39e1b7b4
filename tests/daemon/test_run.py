"""What start refuses, before anything listens."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent.servers import Servers
from teleport_lite.config.model import KeyPair
from teleport_lite.config.token_source import TokenSource
from teleport_lite.daemon import logs, patience
from teleport_lite.daemon.notify import Notify
from teleport_lite.daemon.process import Process, own_server
from teleport_lite.daemon.run import _wanted, _write_pid, run
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.net.http import Connection, dial
from teleport_lite.plugin.builtin import seat_builtin
from teleport_lite.plugin.guests import Guests
from teleport_lite.testing.fakes import FakeChance, FakeClock
from tests.daemon.configs import TEXT, a_config
from tests.daemon.systemds import Systemd
from tests.net.servers import Little, silence
from tests.support import eventually, free_port

GUESTS = seat_builtin(Guests())


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "set_up", lambda config, debug: None)


def refused(home: Path, **changes: Any) -> Error:
    config = a_config(home, **changes)
    with pytest.raises(Error) as why:
        run(config, GUESTS, clock=FakeClock.here(), chance=FakeChance())
    assert not (home / "data").exists()
    return why.value


def test_no_role_is_no_daemon(tmp_path: Path) -> None:
    why = refused(tmp_path, roles=frozenset())
    assert (type(why), why.message) == (Malformed, "no role is enabled")


def test_a_bot_is_run_by_tbot(tmp_path: Path) -> None:
    why = refused(tmp_path, roles=frozenset({"Bot"}))
    assert why.hint == "tbot start --help"


def test_a_further_auth_server_needs_storage_that_is_shared(tmp_path: Path) -> None:
    why = refused(tmp_path, token=TokenSource.parse("secret-value-of-ours"))
    assert "storage that it shares with the first one" in why.message
    assert "postgresql" in why.hint
    assert "leave out --token" in why.hint


def test_a_pin_that_is_none_is_told_before_anything_else(tmp_path: Path) -> None:
    with Little(silence) as server:
        why = refused(
            tmp_path,
            roles=frozenset({"App"}),
            ca_pins=("md5:0",),
            auth_servers=(server.address,),
        )
        assert "CA pin 'md5:0' is not valid" in why.message
        assert server.met == 0


def test_without_any_address_nobody_is_joined(tmp_path: Path) -> None:
    token = TokenSource.parse("secret-value-of-ours")
    why = refused(tmp_path, roles=frozenset({"App"}), auth_servers=(), token=token)
    assert "no auth server is configured" in why.message
    assert "--auth-server" in why.hint


def test_a_host_without_identity_and_token_is_told_how_to_join(tmp_path: Path) -> None:
    why = refused(tmp_path, roles=frozenset({"App"}), auth_servers=("127.0.0.1:1",))
    assert "a token is needed to join as App" in why.message


def test_a_role_whose_service_is_not_built_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _wanted(a_config(tmp_path, roles=frozenset({"App"})), GUESTS) == ("App",)
    assert "its service is not built yet" in caplog.text


# Who has served, and is refused


def test_what_systemd_watches_over_is_started_again_if_it_is_not_for_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a proxy may be on a disk that comes later. By hand it is told as it is."""
    missing = KeyPair(cert_file=tmp_path / "web.pem", key_file=tmp_path / "web.key")

    def ended(name: str) -> Error:
        config = a_config(tmp_path / name, roles=frozenset({"Auth", "Proxy"}))
        config = replace(config, proxy=replace(config.proxy, https_keypairs=(missing,)))
        with pytest.raises(Error, match=r"web.pem: does not exist") as why:
            run(config, GUESTS, clock=FakeClock.here(), chance=FakeChance())
        return why.value

    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert isinstance(ended("by hand"), NotFound)
    with Systemd(tmp_path, monkeypatch) as systemd:
        assert isinstance(ended("as a unit"), Unavailable)
        assert any("opening the store" in each for each in systemd.rest())


def test_a_host_that_has_joined_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_config(tmp_path, roles=frozenset({"App"}), auth_servers=("127.0.0.1:1",))
    monkeypatch.setattr(patience, "PATIENCE", 0.0)

    def refuse(*_: object) -> None:
        raise Denied("this host was removed from the cluster")

    monkeypatch.setattr(Process, "enlist", refuse)
    with Systemd(tmp_path, monkeypatch):
        for kind in (Denied, Unavailable):
            with pytest.raises(kind, match="was removed"):
                run(config, GUESTS, clock=FakeClock.here(), chance=FakeChance())
            config.data_dir.mkdir(exist_ok=True)
            (config.data_dir / "identity.json").touch()


# An address that is taken


def test_an_address_that_is_taken_ends_the_start_with_its_cause(tmp_path: Path) -> None:
    with Little(silence) as taken:
        text = TEXT.format(home=tmp_path / "data", port=taken.port)
        config = a_config(tmp_path, text)
        with pytest.raises(Unavailable, match=r"auth_service.listen_addr: can not listen") as why:
            run(config, GUESTS, clock=FakeClock.here(), chance=FakeChance())
    assert "ss -ltnp" in why.value.hint
    assert not (tmp_path / "data" / "auth.sock").exists()


def test_after_it_was_freed_the_same_directory_starts(tmp_path: Path) -> None:
    test_an_address_that_is_taken_ends_the_start_with_its_cause(tmp_path)
    process = opened(a_config(tmp_path))

    async def start_and_stop() -> None:
        await process.serve()
        await process.close()

    asyncio.run(start_and_stop())


def test_a_diagnostic_address_that_is_taken_ends_it_cleanly(tmp_path: Path) -> None:
    with Little(silence) as taken:
        config = a_config(tmp_path, diag_addr=taken.address)
        with pytest.raises(Unavailable, match="diag_addr"):
            run(config, GUESTS, clock=FakeClock.here(), chance=FakeChance())
    with pytest.raises(Unavailable):
        dial(config.auth.listen_addr)


# Where things are


def opened(config: Any) -> Process:
    process = Process(config, GUESTS, clock=FakeClock.here(), chance=FakeChance())
    process.open_auth(_wanted(config, GUESTS))
    return process


@pytest.mark.parametrize(
    ("listens", "reached"),
    [
        ("0.0.0.0:3025", "127.0.0.1:3025"),
        ("[::]:3025", "127.0.0.1:3025"),
        ("127.0.0.1:3025", "127.0.0.1:3025"),
        ("10.0.0.5:3025", "10.0.0.5:3025"),
        ("[fd00::5]:3025", "[fd00::5]:3025"),
    ],
)
def test_its_own_agent_finds_auth_where_it_listens(listens: str, reached: str) -> None:
    assert own_server(listens) == reached


def a_node(tmp_path: Path, **node: Any) -> Process:
    config = a_config(tmp_path, auth_servers=("127.0.0.1:3025",))
    config = replace(config, node=replace(config.node, **node))
    process = Process(config, GUESTS, clock=FakeClock(), chance=FakeChance())
    process._roles, process._servers = ("Node",), Servers(config.auth_servers)
    return process


@pytest.mark.parametrize(
    ("node", "address"),
    [
        ({"listen_addr": "10.0.0.5:3022"}, "10.0.0.5:3022"),
        ({"listen_addr": "[fd00::5]:3022"}, "[fd00::5]:3022"),
        ({"listen_addr": "0.0.0.0:3022", "public_addrs": ("web:22",)}, "web:22"),
    ],
)
def test_a_node_tells_where_it_is_reached(
    tmp_path: Path, node: dict[str, Any], address: str
) -> None:
    assert a_node(tmp_path, **node).address() == address


def test_a_node_on_every_interface_tells_one_that_others_see(tmp_path: Path) -> None:
    address = a_node(tmp_path, listen_addr="0.0.0.0:3022").address()
    assert address.endswith(":3022")
    assert not address.startswith("0.0.0.0")


def test_a_process_without_the_node_role_has_no_address(tmp_path: Path) -> None:
    process = a_node(tmp_path)
    process._roles = ("App",)
    assert process.address() == ""


def test_its_addresses_are_in_its_certificate(tmp_path: Path) -> None:
    process = a_node(tmp_path, listen_addr="10.0.0.5:3022", public_addrs=("web.example:22",))
    assert process._principals() == ("web.example",)
    assert a_node(tmp_path, listen_addr="10.0.0.5:3022")._principals() == ("10.0.0.5",)


def test_a_pid_file_that_a_sandbox_forbids_is_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with pytest.raises(Error, match="is no directory"):
        _write_pid(tmp_path / "none" / "pid", Notify())
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    _write_pid(tmp_path / "none" / "pid", Notify())
    assert "systemd does without" in caplog.text


# From start to stop, for real


def daemon(tmp_path: Path, text: str, *words: str) -> "subprocess.Popen[str]":
    path = tmp_path / "auth.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return subprocess.Popen(
        [sys.executable, "-m", "teleport_lite", "start", "-c", str(path), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TELEPORT_LITE_CONFIG": str(tmp_path / "none.yaml")},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop_and_leaves_nothing_behind(
    tmp_path: Path, number: int
) -> None:
    port, diag = free_port(), free_port()
    text = TEXT.format(home=tmp_path / "data", port=port)
    pid_file, door = tmp_path / "pid", tmp_path / "data" / "auth.sock"
    keyring = f"teleport:\n  storage: {{type: sqlite, keyring: {tmp_path / 'keyring'}}}"
    text = text.replace("teleport:", keyring, 1)
    flags = (f"--pid-file={pid_file}", f"--diag-addr=127.0.0.1:{diag}")
    with daemon(tmp_path, text, *flags) as process:
        try:
            eventually(lambda: pid_file.exists() or process.poll() is not None, seconds=60)
            assert process.poll() is None, process.stdout.read()  # type: ignore[union-attr]
            assert pid_file.read_text() == f"{process.pid}\n"
            with Connection.unix(door) as wire:
                status = wire.ask("/v1/status", {})
            assert status["cluster"] == "test.example"
            started = time.monotonic()
            process.send_signal(number)
            said = process.stdout.read()  # type: ignore[union-attr]
            assert process.wait(timeout=60) == 0
            assert time.monotonic() - started < 30, "it waits for nobody"
        finally:
            process.kill()
    assert not pid_file.exists()
    assert not door.exists()
    lines = said.splitlines()
    assert all(" INFO [" in line or " WARN [" in line for line in lines), said
    assert lines[-1].endswith("[DAEMON] stopping")
