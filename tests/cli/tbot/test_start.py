"""tbot start, as people run it: what it writes, says, and ends with."""

import logging
import os
import signal
import subprocess
import sys

import pytest

from teleport_lite.cli.tbot import start as command
from teleport_lite.errors import Denied, Unavailable
from teleport_lite.testing.fakes import FakeClock
from tests.cli.tbot.makers import TOKEN, PaperAuth
from tests.support import eventually, free_port

VARIABLES = (
    "TELEPORT_BOT_TOKEN",
    "TELEPORT_AUTH_SERVER",
    "TELEPORT_PROXY",
    "TBOT_CONFIG_PATH",
    "TBOT_DEBUG",
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def own_log():
    """`start` sets up logging for its process; this one has others to run."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


@pytest.fixture
def auth(monkeypatch) -> PaperAuth:
    paper = PaperAuth(FakeClock.here())
    monkeypatch.setattr(command, "RealCluster", lambda: paper)
    return paper


@pytest.fixture
def start(run, tmp_path):
    """`tbot start` with everything it needs, unless told otherwise."""

    def tbot(*words: str, token: str = f"--token={TOKEN}"):
        given = [
            token,
            "--auth-server=auth.example.com",
            f"--storage={tmp_path / 'storage'}",
            f"--destination-dir={tmp_path / 'out'}",
            "--oneshot",
        ]
        return run("tbot", "start", *filter(None, given), *words)

    return tbot


def test_oneshot_writes_the_files_and_ends_well(start, auth, tmp_path):
    done = start()
    assert (done.code, done.out) == (0, "")
    assert f"is written to {tmp_path / 'out'}, valid until " in done.err
    assert (tmp_path / "out/key-cert.pub").exists()


def test_what_it_says_can_be_json(start, auth):
    assert '"component": "TBOT"' in start("--log-format=json").err


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (Denied("vm can not join the cluster, token expired or not found"), 4),
        (Unavailable("auth.example.com:3025: connection refused"), 5),
    ],
)
def test_a_failure_is_one_error_and_an_exit_code_and_nothing_is_written(
    start, auth, tmp_path, why, code
):
    auth.failures = [why]
    done = start()
    assert (done.code, done.out) == (code, "")
    assert done.err.splitlines() == [f"ERROR: {why.message}"]
    assert not (tmp_path / "out").exists()


def test_the_token_comes_from_the_environment_too(start, auth, monkeypatch):
    monkeypatch.setenv("TELEPORT_BOT_TOKEN", "env-token-0123456789")
    assert start(token="").code == 0
    assert [asked.token.reveal() for asked in auth.joins] == ["env-token-0123456789"]


def test_the_token_comes_from_a_file_too(start, auth, tmp_path):
    file = tmp_path / "token.file"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert start(token=f"--token={file}").code == 0
    assert [asked.token.reveal() for asked in auth.joins] == [TOKEN]


def test_several_pins_are_all_taken(start, auth):
    pins = ["sha256:" + letter * 64 for letter in "ab"]
    assert start(*(f"--ca-pin={pin}" for pin in pins)).code == 0
    assert [list(asked.pins) for asked in auth.joins] == [pins]


def test_the_file_of_configure_starts_the_bot(run, auth, tmp_path):
    config = tmp_path / "tbot.yaml"
    words = [
        f"--token={TOKEN}",
        "--auth-server=auth.example.com",
        f"--storage={tmp_path / 'storage'}",
        f"--destination={tmp_path / 'out'}",
        "--oneshot",
    ]
    assert run("tbot", "configure", *words, f"--output={config}").code == 0
    done = run("tbot", "start", "-c", str(config))
    assert (done.code, (tmp_path / "out/identity").exists()) == (0, True)


def test_a_file_that_others_can_read_is_refused(run, auth, tmp_path):
    config = tmp_path / "tbot.yaml"
    config.write_text("version: v2\n")
    config.chmod(0o644)
    done = run("tbot", "start", f"--config={config}")
    assert done.code == 4
    assert f"try: chmod 600 {config}" in done.err


def test_what_is_not_there_says_so_before_a_token_is_spent(start, run, auth):
    cases = {
        ("--diag-addr=127.0.0.1:3001",): "tbot has no diagnostics in this version",
        ("--proxy-server=p.example.com:3080",): "--auth-server is given too",
        ("--join-method=iam",): "'iam' is not known here, token is",
    }
    for words, said in cases.items():
        done = start(*words)
        assert (done.code, done.out) == (1, "")
        assert said in done.err
    done = run("tbot", "start", "application")
    assert "only identity is part of this version" in done.err
    assert auth.joins == []


def test_older_words_for_the_same_thing_work(run, auth, tmp_path):
    done = run(
        "tbot",
        "start",
        "legacy",
        f"--token={TOKEN}",
        "-a",
        "auth.example.com",
        f"--data-dir={tmp_path / 'storage'}",
        f"--destination={tmp_path / 'out'}",
        "--oneshot",
    )
    assert (done.code, (tmp_path / "storage/identity.json").exists()) == (0, True)


def test_the_pid_file_is_there_while_it_runs_and_gone_afterwards(start, auth, tmp_path):
    seen = []
    asked = auth.join
    auth.join = lambda request: (seen.append((tmp_path / "pid").read_text()), asked(request))[1]
    assert start(f"--pid-file={tmp_path / 'pid'}").code == 0
    assert seen == [f"{os.getpid()}\n"]
    assert not (tmp_path / "pid").exists()


def test_a_bot_that_waits_for_auth_ends_cleanly_when_told_to(tmp_path):
    """A real process: signals, exit code, and a token that does not stand in its arguments."""
    pid = tmp_path / "pid"
    words = [
        f"--token={TOKEN}",
        f"--auth-server=127.0.0.1:{free_port()}",
        f"--storage={tmp_path / 'storage'}",
        f"--destination={tmp_path / 'out'}",
        f"--pid-file={pid}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "teleport_lite", "tbot", "start", *words], stderr=log
        )

    def tries(count: int):
        return lambda: (tmp_path / "log").read_text().count("next try in about") >= count

    try:
        eventually(tries(1), what="a first try")
        with open(f"/proc/{process.pid}/cmdline") as shown:
            assert TOKEN not in shown.read()
        process.send_signal(signal.SIGUSR1)
        eventually(tries(2), seconds=4, what="a try because of the signal")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert "stopping" in (tmp_path / "log").read_text()
    assert not pid.exists()
