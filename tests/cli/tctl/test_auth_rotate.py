"""tctl auth rotate, answered by the auth service's own desks."""

import json
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml

from teleport_lite import __version__
from teleport_lite.auth.desks import Desks
from teleport_lite.cli.tctl import auth_rotate, rotation_watch
from teleport_lite.model.authority import CaType
from teleport_lite.model.host import Host, Report
from teleport_lite.model.rotation import Phase
from tests.cli import real_auth
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth, Refusal


@pytest.fixture
def desks(auth: FakeAuth, monkeypatch: pytest.MonkeyPatch) -> Desks:
    made = real_auth.desks()
    real_auth.put_behind(auth, made)
    monkeypatch.setattr(rotation_watch, "EVERY", 0.01)
    return made


def host(desks: Desks, name: str, *, online: bool = True, version: str = "") -> None:
    now = desks.clock.now()
    joined = Host(
        id=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        name=name,
        roles=("Node",),
        joined_at=now,
        token_id="t",
        ssh_key=f"key of {name}",
        tls_key="PEM",
    )
    desks.store.write(lambda tx: tx.put_host(joined))
    report = Report(last_seen=now, gone=not online, version=version)
    desks.store.write(lambda tx: tx.put_report(joined.id, report))


def catch_up(desks: Desks) -> None:
    marks = desks.cas.view.marks()
    for each, report in desks.store.hosts():
        told = replace(report, rotated=marks)
        desks.store.write(lambda tx, id=each.id, told=told: tx.put_report(id, told))


def phase(desks: Desks, type: CaType = CaType.HOST) -> Phase:
    return desks.store.rotation(type).phase


# By flags


def test_without_a_terminal_it_names_the_types_and_does_nothing(desks: Desks, tctl: Tool) -> None:
    done = tctl("auth", "rotate")
    assert done.code == 2
    assert "--type is needed, one of host, user, db, openssh, jwt, all" in done.err
    assert phase(desks) is Phase.STANDBY


@pytest.mark.parametrize("flags", [["--phase=init"], ["--manual"], ["--phase=init", "--watch"]])
@pytest.mark.usefixtures("desks")
def test_a_phase_without_a_type_is_nobodys(tctl: Tool, flags: list[str]) -> None:
    assert "--type is needed" in tctl("auth", "rotate", *flags).err


def test_an_automatic_rotation_says_when_it_is_over(desks: Desks, tctl: Tool) -> None:
    host(desks, "web-1")
    done = tctl("auth", "rotate", "--type=host,user")
    assert done.out.startswith(
        "Initiated certificate authority rotation. To check status use 'tctl status'\n"
    )
    assert "host CA: init, over on " in done.out
    assert "(0 of 1 host updated, waiting for web-1)" in done.out
    assert "--phase" not in done.out, "there is nothing to do"
    assert phase(desks, CaType.USER) is Phase.INIT
    again = tctl("auth", "rotate", "--type=host")
    assert again.code == 1
    assert "can not initiate rotation of the host CA while another is in progress" in again.err


def test_by_hand_each_step_names_the_next(desks: Desks, tctl: Tool) -> None:
    host(desks, "web-1")
    for now, ahead in (
        ("init", "update_clients"),
        ("update_clients", "update_servers"),
        ("update_servers", "standby"),
    ):
        done = tctl("auth", "rotate", "--type=host", f"--phase={now}", "--manual")
        assert done.code == 0, done.err
        assert f"> tctl auth rotate --type=host --phase={ahead} --manual" in done.out
    refused = tctl("auth", "rotate", "--type=host", "--phase=standby", "--manual")
    assert refused.code == 1
    assert "have not caught up with phase update_servers of the host CA: web-1" in refused.err
    catch_up(desks)
    done = tctl("auth", "rotate", "--type=host", "--phase=standby", "--manual")
    assert 'Updated rotation phase to "standby".' in done.out
    [pin] = desks.cas.pins()
    assert f"CA pin from now on: {pin}" in done.out


def test_who_is_away_at_the_end_is_named(desks: Desks, tctl: Tool) -> None:
    host(desks, "web-1", online=False)
    for each in ("init", "update_clients", "update_servers"):
        tctl("auth", "rotate", "--type=host", f"--phase={each}", "--manual")
    done = tctl("auth", "rotate", "--type=host", "--phase=standby")
    assert "Away, and to join again with a new token: web-1" in done.out


def test_with_no_grace_period_it_says_that_every_host_has_to_join_again(
    desks: Desks, tctl: Tool
) -> None:
    done = tctl("auth", "rotate", "--type=host", "--grace-period=0s")
    assert 'Updated rotation phase to "standby".' in done.out
    assert "Every host has to join again with a new token: tctl tokens add" in done.out
    assert phase(desks) is Phase.STANDBY


@pytest.mark.usefixtures("desks")
def test_a_grace_period_that_is_none_is_refused_before_anything_is_asked(tctl: Tool) -> None:
    done = tctl("auth", "rotate", "--type=host", "--grace-period=soon")
    assert "--grace-period 'soon' is not a length of time" in done.err


@pytest.mark.usefixtures("desks")
def test_json_says_the_same_facts(tctl: Tool) -> None:
    done = tctl("auth", "rotate", "--type=jwt", "--manual", "--format=json")
    [found] = json.loads(done.out)
    assert (found["type"], found["phase"], found["mode"]) == ("jwt", "init", "manual")
    assert found["next"] == ["update_clients", "rollback"]


def test_status_shows_phase_progress_and_both_pins(desks: Desks, tctl: Tool) -> None:
    for number in range(6):
        host(desks, f"web-{number}")
    tctl("auth", "rotate", "--type=host", "--manual")
    lines = tctl("status").out.splitlines()
    assert lines[2].startswith("host CA     rotating: phase init, manual, since ")
    assert lines[2].endswith("0 of 6 hosts updated, waiting for web-0, web-1, web-2 and 3 more")
    assert [line.split()[-1] for line in lines if line.startswith("CA pin")] == desks.cas.pins()
    assert len(desks.cas.pins()) == 2
    both = tctl("auth", "ls").out
    assert both.count(" host ") == 2
    assert len(tctl("auth", "export", "--type=host").out.splitlines()) == 2


# Looking on


def test_watching_shows_each_change_and_ends_when_a_person_is_needed(
    desks: Desks, tctl: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host(desks, "web-1")
    tctl("auth", "rotate", "--type=host", "--manual")
    waits = iter([lambda: None, lambda: catch_up(desks)])
    monkeypatch.setattr(rotation_watch.select, "select", lambda *_: next(waits)())
    done = tctl("auth", "rotate", "--watch")
    assert done.out == (
        "host CA: init, 0 of 1 host updated, waiting for web-1\n"
        "host CA: init, 1 of 1 host updated\n"
        "All hosts have caught up. To go on, run:\n\n"
        "> tctl auth rotate --type=host --phase=update_clients --manual\n"
    )


def test_watching_follows_an_automatic_rotation_to_its_end(
    desks: Desks, tctl: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        rotation_watch.select, "select", lambda *_: (catch_up(desks), desks.rotation.tick())
    )
    done = tctl("auth", "rotate", "--type=host", "--grace-period=3ms", "--watch")
    assert "host CA: standby, rotated " in done.out
    assert phase(desks) is Phase.STANDBY


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_program_that_watches_gets_one_answer_at_the_end(
    desks: Desks, tctl: Tool, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    host(desks, "web-1")
    monkeypatch.setattr(
        rotation_watch.select, "select", lambda *_: (catch_up(desks), desks.rotation.tick())
    )
    words = ("--type=host,jwt", "--grace-period=3ms", "--watch", f"--format={form}")
    done = tctl("auth", "rotate", *words)
    assert [(each["type"], each["phase"]) for each in yaml.safe_load(done.out)] == [
        ("host", "standby"),
        ("jwt", "standby"),
    ]
    assert yaml.safe_load(tctl("auth", "rotate", "--watch", f"--format={form}").out) == []


def test_a_host_of_another_version_that_is_waited_for_is_told_with_it(
    desks: Desks, tctl: Tool
) -> None:
    host(desks, "old", version="0.0.9")
    host(desks, "same", version=__version__)
    said = tctl("auth", "rotate", "--type=host", "--manual").out
    assert "waiting for old (version 0.0.9) and same)" in said


@pytest.mark.usefixtures("desks")
def test_with_nothing_to_watch_it_says_so(tctl: Tool) -> None:
    assert tctl("auth", "rotate", "--watch").out == "No CA is being rotated.\n"


def test_a_restart_of_auth_does_not_end_the_watching(
    auth: FakeAuth, desks: Desks, tctl: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tctl("auth", "rotate", "--type=host", "--manual")
    real = auth.answers["/v1/auth/rotation"]
    auth.answers["/v1/auth/rotation"] = Refusal(503, "unavailable", "auth is starting")

    def back(*_: object) -> None:
        auth.answers["/v1/auth/rotation"] = real

    monkeypatch.setattr(rotation_watch.select, "select", back)
    done = tctl("auth", "rotate", "--watch")
    assert done.err.count("auth is starting, trying again") == 1
    assert done.code == 0
    assert phase(desks) is Phase.INIT


# With a person


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the person types, in turn; then the input ends."""
    words: list[str] = []

    def read() -> str:
        if not words:
            raise EOFError
        return words.pop(0)

    monkeypatch.setattr("teleport_lite.cli.tctl.auth_rotate._at_a_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", read)
    yield words
    assert words == [], "somebody was not asked"


def test_at_a_terminal_it_asks_which_and_shows_what_will_happen(
    desks: Desks, tctl: Tool, typed: list[str]
) -> None:
    host(desks, "web-1", online=False)
    typed += ["nosuch", "host", "no"]
    done = tctl("auth", "rotate")
    assert done.out.count("Which CA is to get new keys") == 2
    assert "hosts that are away have (1 are, now) to join again with a new token" in done.out
    assert "the CA pin of today is refused" in done.out
    assert done.out.endswith("Nothing was changed.\n")
    assert phase(desks) is Phase.STANDBY
    typed += ["all", "yes"]
    done = tctl("auth", "rotate")
    assert "in 48h altogether" in done.out
    assert done.out.endswith("To look on: tctl auth rotate --watch\n")
    assert phase(desks, CaType.JWT) is Phase.INIT


def test_step_by_step_it_goes_on_or_back_when_it_is_told(
    desks: Desks, tctl: Tool, typed: list[str]
) -> None:
    typed += ["y", "y", "rollback", "y"]
    done = tctl("auth", "rotate", "--type=host", "--manual", "--interactive")
    assert done.code == 0, done.err
    assert "All hosts have caught up. On to update_clients? [yes/no/rollback]" in done.out
    assert "All hosts are back. On to standby? [yes/no]" in done.out
    assert phase(desks) is Phase.STANDBY
    assert desks.store.rotation(CaType.HOST).last_rotated is None
    typed += ["y", "y", "y", "y"]
    tctl("auth", "rotate", "--type=host", "--manual", "--interactive")
    assert desks.store.rotation(CaType.HOST).last_rotated is not None


def test_it_can_be_left_and_taken_up_again(desks: Desks, tctl: Tool, typed: list[str]) -> None:
    typed += ["y", ""]
    done = tctl("auth", "rotate", "--type=host", "--manual", "--interactive")
    assert done.out.endswith("To go on: tctl auth rotate --interactive\n")
    assert phase(desks) is Phase.INIT
    typed += ["yes", "no"]
    done = tctl("auth", "rotate", "--type=host", "--interactive")
    assert "Begin?" not in done.out
    assert phase(desks) is Phase.UPDATE_CLIENTS


def test_one_that_goes_by_itself_can_be_called_back(
    desks: Desks, tctl: Tool, typed: list[str]
) -> None:
    tctl("auth", "rotate", "--type=host")
    typed += ["no"]
    tctl("auth", "rotate", "--type=host", "--interactive")
    assert phase(desks) is Phase.INIT
    typed += ["yes"]
    tctl("auth", "rotate", "--type=host", "--interactive")
    assert phase(desks) is Phase.ROLLBACK


@pytest.mark.usefixtures("desks", "typed")
def test_who_cannot_answer_changes_nothing(tctl: Tool, desks: Desks) -> None:
    assert tctl("auth", "rotate", "--type=host", "--interactive").code == 1
    assert phase(desks) is Phase.STANDBY


@pytest.mark.usefixtures("typed")
def test_the_cas_of_one_talk_are_in_one_phase(desks: Desks, tctl: Tool) -> None:
    tctl("auth", "rotate", "--type=user,host", "--manual")
    tctl("auth", "rotate", "--type=user", "--phase=update_clients")
    done = tctl("auth", "rotate", "--type=all", "--interactive")
    assert done.out.endswith("The CAs are in different phases: name one with --type\n")


def test_a_terminal_is_asked_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not auth_rotate._at_a_terminal()
    monkeypatch.setattr(sys, "stdin", None)
    assert not auth_rotate._at_a_terminal()
