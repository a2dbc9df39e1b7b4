"""tsh play: as something to read, and on a terminal, with its keys."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from teleport_lite.client.play import Player
from teleport_lite.client.profile import Profile
from tests.auth.tapes import SID
from tests.cli.tsh.conftest import Tsh
from tests.cli.tsh.recordings_rig import reading, refusal, timed
from tests.client.fake_proxy import FakeProxy

EVIL = "\x1b]0;owned\x07\x1b]52;c;AAAA\x07\x1b[6n\x1b[c\x1bP$qm\x1b\\\x1b[?1000h\x1b(0\x0e"


def tape(tmp_path: Path, *events: tuple[float, str]) -> str:
    path = tmp_path / "x.cast"
    path.write_bytes(timed(*events))
    return str(path)


# Something to read


def test_text_is_what_stood_on_the_lines(tsh: Tsh, home: Path, tmp_path: Path) -> None:
    path = tape(tmp_path, (0, "$ \x1b[1mls\x1b[0m\r\n"), (1, f"{EVIL}file\r\n$ "), (2, "\u202ex"))
    said = tsh("play", path, "--format=text")
    assert (said.code, said.out) == (0, "$ ls\nfile\n$ \\u202ex\n")
    assert "\x1b" not in said.out


def test_events_as_json_and_yaml(tsh: Tsh, home: Path, tmp_path: Path) -> None:
    path = tape(tmp_path, (0.5, "a\x1b[31m"), (1.5, "ü\x07"))
    found = json.loads(tsh("play", path, "-f", "json").out)
    assert [each["type"] for each in found] == ["start", "output", "output", "end"]
    assert found[0]["session"] == {"sid": SID, "user": "alice"}
    assert (found[0]["at"], found[0]["width"]) == ("2026-03-02T11:00:00Z", 80)
    assert (found[1]["time"], found[1]["data"]) == (0.5, "a\x1b[31m")
    said = tsh("play", path, "-f", "yaml").out
    assert yaml.safe_load(said)[2]["data"] == "ü\x07"
    for out in (said, tsh("play", path, "-f", "json").out):
        assert "\x1b" not in out
        assert "\x07" not in out


def test_where_nobody_watches_it_does_not_wait(tsh: Tsh, home: Path, tmp_path: Path) -> None:
    path = tape(tmp_path, (0, "one\r\n"), (3600, f"{EVIL}\x1b[?1049htwo\r\n"))
    said = tsh("play", path)
    assert said.code == 0
    assert said.out.startswith("one\r\n\x1b[?1049htwo\r\n")
    assert "\x1b[?1049l" in said.out
    assert "\x1b]" not in said.out
    assert "\x1b[6n" not in said.out


def test_a_recording_of_auth_is_played(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/recordings/read"] = reading(timed((0, "hello"), (1, " you")), piece=10)
    said = tsh("play", SID, "--format=text")
    assert (said.code, said.out, said.err) == (0, "hello you\n", "")
    proxy.answers["/v1/recordings/read"] = reading(timed((0, "x")), complete=False)
    assert "this recording is incomplete" in tsh("play", SID, "-f", "text").err


def test_what_auth_refuses_is_said(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/recordings/read"] = refusal(
        409, "conflict", f"session {SID} still goes on", f"tsh join {SID}"
    )
    said = tsh("play", SID)
    assert said.code == 1
    assert said.err == f"ERROR: session {SID} still goes on\n  try: tsh join {SID}\n"


@pytest.mark.parametrize("what", ["nosuch", "nosuch.cast", "/", SID[:-1]])
def test_what_is_neither_id_nor_file_is_not_found(tsh: Tsh, home: Path, what: str) -> None:
    said = tsh("play", what)
    assert said.code == 3
    assert "tsh recordings ls" in said.err


@pytest.mark.parametrize("raw", [b"", b"\x7fELF", b'{"version": 1}\n', b"\x1f\x8b\x08garbage"])
def test_what_is_no_recording_is_named(tsh: Tsh, home: Path, tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.cast").write_bytes(raw)
    said = tsh("play", str(tmp_path / "x.cast"))
    assert said.code == 1
    assert "x.cast" in said.err


def test_lines_that_are_none_are_left_out_and_counted(tsh: Tsh, home: Path, tmp_path: Path) -> None:
    path = tape(tmp_path, (0, "a"))
    with Path(path).open("ab") as file:
        file.write(b'broken\n[1, "o", "b"]\n[2, "o", "cut')
    said = tsh("play", path, "-f", "text")
    assert said.out == "ab\n"
    assert "2 lines" in said.err


@pytest.mark.parametrize("speed", ["3x", "fast", "0", "-1x", "nan", ""])
def test_speeds_are_those_there_are(tsh: Tsh, home: Path, tmp_path: Path, speed: str) -> None:
    said = tsh("play", tape(tmp_path, (0, "a")), f"--speed={speed}")
    assert said.code == 1
    assert "0.5x, 1x, 2x, 4x, 8x" in said.err


# On a terminal


class Viewer:
    """tsh in a process of its own, on a terminal that we hold the other end of."""

    def __init__(self, *words: str) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
        command = [sys.executable, "-m", "teleport_lite", "tsh", "play", *words]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        self.seen = b""

    def sees(self, text: bytes, *, times: int = 1) -> None:
        deadline = time.monotonic() + 30
        while self.seen.count(text) < times:
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)

    def types(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def ends(self) -> int:
        """Its code, with the terminal as it was and all that was shown read."""
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        with contextlib.suppress(OSError):
            os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def viewer(*words: str) -> Iterator[Viewer]:
    made = Viewer(*words)
    try:
        yield made
    finally:
        made.close()


def test_it_plays_to_its_end_and_puts_everything_back(tmp_path: Path) -> None:
    path = tape(tmp_path, (0, "\x1b[?1049h\x1b[?25lone"), (0.2, f"{EVIL}two"), (0.3, "three"))
    with viewer(path) as screen:
        assert screen.ends() == 0
        assert b"Keys: space" in screen.seen
        assert b"three" in screen.seen
        assert b"\x1b[?1049l" in screen.seen
        assert b"\x1b[?25h" in screen.seen
        for attack in (
            b"\x1b]",
            b"\x1b[6n",
            b"\x1b[c",
            b"\x1bP",
            b"\x1b[?1000h",
            b"\x1b(0",
            b"\x0e",
        ):
            assert attack not in screen.seen


@pytest.mark.parametrize(("keys", "code"), [(b"q", 0), (b"\x1b", 0), (b"\x03", 130), (b"\x04", 0)])
def test_keys_that_end_it(tmp_path: Path, keys: bytes, code: int) -> None:
    with viewer(tape(tmp_path, (0, "\x1b[?1049hone"), (3600, "two"))) as screen:
        screen.sees(b"one")
        screen.types(keys)
        assert screen.ends() == code
        assert b"\x1b[?1049l" in screen.seen
        assert b"two" not in screen.seen


@pytest.mark.parametrize("keys", [b"q", b"\x1b[D\x03"], ids=["quit", "back"])
def test_a_flood_of_one_moment_can_be_left(tmp_path: Path, keys: bytes) -> None:
    flood = [(0.0, "x" * 16_000)] * 1000
    with viewer(tape(tmp_path, (0, "one"), *flood, (0, "last"), (3600, "two"))) as screen:
        screen.sees(b"one")
        screen.types(keys)
        assert screen.ends() in (0, 130)
        assert b"last" not in screen.seen


def test_arrows_skip_forth_and_back(tmp_path: Path) -> None:
    with viewer(tape(tmp_path, (0, "one"), (4, "two"), (8, "three"), (3600, "four"))) as screen:
        screen.sees(b"one")
        screen.types(b"\x1b[C")
        screen.sees(b"two")
        screen.types(b"\x1bOC")
        screen.sees(b"three")
        screen.types(b"\x1b[D\x1b[D")
        screen.sees(b"one", times=2)
        screen.types(b"xyz\x1b[Aq")
        assert screen.ends() == 0
        assert b"four" not in screen.seen


def test_space_stops_and_goes_on(tmp_path: Path) -> None:
    with viewer(tape(tmp_path, (0, "one"), (4, "two"))) as screen:
        screen.sees(b"one")
        screen.types(b" \x1b[C")  # a skip works while it stands still
        screen.sees(b"two")
        screen.types(b"+-")
        assert screen.process.poll() is None
        screen.types(b" ")
        assert screen.ends() == 0


def test_idle_time_is_skipped(tmp_path: Path) -> None:
    events = [(number * 3600.0, f"<{number}>") for number in range(3)]
    with viewer(tape(tmp_path, *events), "--skip-idle-time", "--speed=8x") as screen:
        assert screen.ends() == 0
        assert b"<2>" in screen.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_whoever_ends_it_gets_the_terminal_back(tmp_path: Path, number: signal.Signals) -> None:
    with viewer(tape(tmp_path, (0, "\x1b[?1049hone"), (3600, "two"))) as screen:
        screen.sees(b"one")
        assert screen.raw()
        screen.process.send_signal(number)
        assert screen.ends() == 128 + number
        assert b"\x1b[?1049l" in screen.seen


def test_a_terminal_that_goes_away_ends_it(tmp_path: Path) -> None:
    with viewer(tape(tmp_path, (0, "one"), (3600, "two"))) as screen:
        screen.sees(b"one")
        os.close(screen.master)
        assert screen.process.wait(30) != 0


def test_a_larger_screen_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "wide.cast"
    path.write_bytes(b'{"version": 2, "width": 200, "height": 24}\n[0, "o", "x"]\n')
    with viewer(str(path)) as screen:
        assert screen.ends() == 0
        assert b"recorded on a terminal of 200 x 24, yours has 80 x 24" in screen.seen


def test_where_nobody_watches_an_interrupt_puts_the_terminal_back_too(
    tsh: Tsh, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Player._show_to

    def interrupted(self: Player, position: float) -> Iterator[str]:
        yield from shown(self, position)
        raise KeyboardInterrupt

    monkeypatch.setattr(Player, "_show_to", interrupted)
    done = tsh("play", tape(tmp_path, (0, "\x1b[?1049h\x1b[31mred")))
    assert done.code == 130
    assert done.out.endswith("\x1b[?1049l\x1b[0m\x1b[?25h\n")
