"""tsh recordings ls and export, tsh sessions ls, against a fake auth service."""

import errno
import json
import os
from pathlib import Path

import pytest

from teleport_lite.client.profile import Profile
from tests.auth.tapes import SID, a_tape
from tests.cli.tsh.conftest import Tsh
from tests.cli.tsh.recordings_rig import a_recording, a_session, reading, refusal
from tests.client.fake_proxy import FakeProxy


def test_recordings_are_listed(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    cut = a_recording(complete=False, host_name="", user="bob")
    proxy.answers["/v1/recordings/list"] = {"recordings": [a_recording(), cut]}
    said = tsh("recordings", "ls")
    assert (said.code, said.err) == (0, "")
    head, _, first, second = said.out.splitlines()
    assert head.split() == ["ID", "User", "Login", "Node", "Started", "Length", "Size", "State"]
    assert first.split() == [
        *(SID, "alice", "root", "web-1", "02", "Mar", "26", "11:00", "UTC"),
        *("2m5s", "2.0", "KiB", "complete"),
    ]
    assert "bob" in second
    assert "0f9d2a54-1111-4222-8333-0123456789ab" in second
    assert second.endswith("incomplete")


def test_filters_are_asked_for(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/recordings/list"] = {"recordings": []}

    def asked(*words: str) -> dict[str, object]:
        said = tsh("recordings", "ls", *words)
        assert said.code == 0, said.err
        fields = proxy.asked[-1][1]
        assert isinstance(fields, dict)
        return fields

    found = asked("--from-utc=2026-03-01", "--to-utc=2026-03-02", "--limit=7", "--search=web,top")
    assert found == {
        "since": "2026-03-01T00:00:00Z",
        "until": "2026-03-03T00:00:00Z",
        "user": "",
        "search": "web top",
        "after": "",
        "limit": 7,
    }
    found = asked("--from-utc=2026-03-01T08:00:00Z", "--of=bob")
    assert (found["since"], found["until"], found["user"]) == ("2026-03-01T08:00:00Z", "", "bob")
    day = asked()["since"]
    week = asked("--last=7d")["since"]
    assert isinstance(day, str)
    assert isinstance(week, str)
    assert "2026" < week < day
    assert asked("--last=999999999h")["since"] == ""
    assert asked("--to-utc=9999-12-31")["until"] == ""


@pytest.mark.parametrize(
    "words",
    [
        ("--last=soon",),
        ("--from-utc=yesterday",),
        ("--from-utc=2026-02-30",),
        ("--last=1h", "--to-utc=2026-03-02"),
    ],
)
def test_times_that_mean_nothing_are_refused(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, words: tuple[str, ...]
) -> None:
    said = tsh("recordings", "ls", *words)
    assert said.code == 1
    assert "--last" in said.err or "--from-utc" in said.err
    assert proxy.asked == []


def test_pages_are_asked_for_until_there_is_enough(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teleport_lite.client.recordings.PAGE", 2)
    ids = [f"{number:08x}{SID[8:]}" for number in range(3)]
    pages = [[a_recording(sid=ids[0]), a_recording(sid=ids[1])], [a_recording(sid=ids[2])]]
    proxy.answers["/v1/recordings/list"] = lambda asked: {
        "recordings": pages[1 if asked["after"] else 0]
    }
    said = tsh("recordings", "ls", "--format=json", "--limit=5")
    assert [each["sid"] for each in json.loads(said.out)] == ids
    assert [fields["after"] for _, fields in proxy.asked] == ["", ids[1]]


def test_none_and_more_are_said(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/recordings/list"] = {"recordings": []}
    assert "none of the last 24 hours" in tsh("recordings", "ls").err
    assert tsh("recordings", "ls", "--last=2d").err == ""
    proxy.answers["/v1/recordings/list"] = {"recordings": [a_recording()]}
    assert "there may be more" in tsh("recordings", "ls", "--limit=1").err


def test_names_that_attack_the_terminal_are_shown_escaped(
    tsh: Tsh, alice: Profile, proxy: FakeProxy
) -> None:
    bad = "x\x1b]0;owned\x07\n\u202ey"
    proxy.answers["/v1/recordings/list"] = {
        "recordings": [a_recording(user=bad, login=bad, host_name=bad)]
    }
    proxy.answers["/v1/sessions/list"] = {
        "sessions": [a_session(user=bad, login=bad, host_name=bad, command=bad, parties=[bad])]
    }
    for words in (("recordings", "ls"), ("sessions", "ls")):
        for form in ("text", "json", "yaml"):
            out = tsh(*words, f"--format={form}").out
            assert not any(char in out for char in "\x1b\x07\u202e"), form
        assert len(tsh(*words).out.splitlines()) == 3


def test_open_sessions_are_listed(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/sessions/list"] = {
        "sessions": [a_session(parties=["bob", "eve"], modes=["observer", "peer"], command="top")]
    }
    said = tsh("sessions", "ls")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[2].split() == [
        *(SID, "ssh", "alice", "root", "web-1", "02", "Mar", "26", "11:00", "UTC"),
        *("bob,eve", "observer,peer", "top"),
    ]
    assert json.loads(tsh("sessions", "ls", "-f", "json").out)[0]["sid"] == SID


# Export


def test_a_recording_becomes_a_file_of_ones_own(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tape = a_tape(*["x" * 100] * 20)
    proxy.answers["/v1/recordings/read"] = reading(tape, piece=500)
    said = tsh("recordings", "export", SID.upper())
    assert (said.code, said.err) == (0, "")
    path = tmp_path / f"{SID}.cast"
    assert said.out == f"{len(tape)} bytes were written to {SID}.cast.\n"
    assert path.read_bytes() == tape
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*.cast.*"))


def test_a_file_that_is_there_is_kept(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, tmp_path: Path
) -> None:
    path = tmp_path / "mine"
    path.write_text("precious")
    proxy.answers["/v1/recordings/read"] = reading()
    said = tsh("recordings", "export", SID, f"--out={path}")
    assert said.code == 1
    assert "exists already" in said.err
    assert path.read_text() == "precious"


def test_where_no_file_can_be_is_told_apart(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.answers["/v1/recordings/read"] = reading()
    said = tsh("recordings", "export", SID, f"--out={tmp_path}/none/x.cast")
    assert (said.code, f"{tmp_path}/none is no directory" in said.err) == (3, True)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "link", refused)
    said = tsh("recordings", "export", SID, f"--out={tmp_path}/x.cast")
    assert (said.code, "may not be written" in said.err) == (4, True)
    assert not list(tmp_path.glob("*x.cast*"))


def test_a_file_system_without_links_will_do(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    proxy.answers["/v1/recordings/read"] = reading(a_tape("x"))
    path = tmp_path / "x.cast"
    said = tsh("recordings", "export", SID, f"--out={path}")
    assert (said.code, path.read_bytes()) == (0, a_tape("x"))
    said = tsh("recordings", "export", SID, f"--out={path}")
    assert (said.code, "exists already" in said.err) == (1, True)


def test_half_a_recording_is_no_file(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, tmp_path: Path
) -> None:
    whole = reading(a_tape(*["x" * 100] * 20), piece=500)
    proxy.answers["/v1/recordings/read"] = lambda asked: (
        refusal(503, "unavailable", "the disk is gone") if asked["at"] else whole(asked)
    )
    said = tsh("recordings", "export", SID, f"--out={tmp_path / 'x.cast'}")
    assert said.code == 5
    assert not list(tmp_path.glob("*x.cast*"))


def test_to_standard_output_comes_nothing_but_ascii(
    tsh: Tsh, alice: Profile, proxy: FakeProxy
) -> None:
    proxy.answers["/v1/recordings/read"] = reading()
    assert tsh("recordings", "export", SID, "-o", "-").out == a_tape().decode()
    proxy.answers["/v1/recordings/read"] = reading(b"\x1b]0;x\x07\xc2\x9b\n")
    out = tsh("recordings", "export", SID, "-o", "-").out
    assert out.rstrip("\n").replace("\ufffd", "").isprintable()


def test_that_one_is_incomplete_is_said(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, tmp_path: Path
) -> None:
    proxy.answers["/v1/recordings/read"] = reading(complete=False)
    said = tsh("recordings", "export", SID, f"--out={tmp_path / 'x'}")
    assert said.code == 0
    assert "this recording is incomplete" in said.err


@pytest.mark.parametrize("words", [("recordings", "export"), ("join",)])
def test_an_id_is_an_id(tsh: Tsh, alice: Profile, proxy: FakeProxy, words: tuple[str, ...]) -> None:
    for bad in ("x", "../../etc/passwd", SID[:-1], f"{SID}\n"):
        said = tsh(*words, bad)
        assert said.code == 1
        assert "session id" in said.err
    assert proxy.asked == []


def test_a_server_that_repeats_itself_is_not_followed(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, tmp_path: Path
) -> None:
    proxy.answers["/v1/recordings/read"] = a_recording() | {"data": "eA==", "next": 0}
    said = tsh("recordings", "export", SID, f"--out={tmp_path / 'x'}")
    assert "repeats parts of the recording" in said.err
    proxy.answers["/v1/recordings/read"] = a_recording() | {"data": "?", "next": None}
    said = tsh("recordings", "export", SID, f"--out={tmp_path / 'x'}")
    assert "sends no recording" in said.err
