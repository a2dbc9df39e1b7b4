"""Upgrades from a real HTTPS server by real signatures, of versions that are stand-ins."""

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.release import attempts, place
from teleport_lite.release.attempts import Attempt
from teleport_lite.release.fetch import Origin
from teleport_lite.release.here import Installation
from teleport_lite.release.layout import alone
from teleport_lite.release.upgrade import Failure, Standing, Upgrader, standing
from teleport_lite.release.version import Version
from teleport_lite.testing.fakes import FakeClock
from tests.packaging.published import Published, new_key, public, published, sign
from tests.release.stand_ins import MARK, UNIT, Rig, build_of, stand_in

NEW = Version.parse("1.1.0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with published(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture
def origin(site: Published) -> Origin:
    """Of a site that has 1.0.9 and 1.1.0, as they should be."""
    for version in ("1.0.9", "1.1.0"):
        site.release(version, program=stand_in(version))
    return Origin(f"localhost:{site.port}", "/releases")


@pytest.fixture
def running(rig: Rig) -> Rig:
    """1.0.0 is installed and its daemon runs."""
    rig.place("1.0.0")
    rig.runs()
    rig.calls()
    return rig


class Host:
    """What the command sets up, and what it would print."""

    def __init__(self, rig: Rig, site: Published) -> None:
        self.rig, self.site = rig, site
        self.said: list[str] = []

    def upgrader(self, **more: object) -> Upgrader:
        layout = self.rig.layout
        version = layout.current()
        here = Installation(
            prefix=layout.prefix, lib=layout.lib, version=version, file=layout.file(version)
        )
        given: dict[str, object] = {
            "here": here,
            "keys": (public(self.site.key),),
            "say": self.said.append,
            "systemd": self.rig.systemd,
            "stays": 0.1,
            **more,
        }
        return Upgrader(**given)  # type: ignore[arg-type]

    def refused(self, origin: Origin, kind: type[Error], words: str, **more: object) -> Error:
        """The upgrade is refused for that reason, and nothing is as if it had been tried."""
        before = self.rig.everything()
        with pytest.raises(kind, match=words) as why:
            self.upgrader(**more).upgrade(origin, NEW)
        after = self.rig.everything()
        after.pop("usr/lib/teleport-lite/.install-lock", None)
        before.pop("usr/lib/teleport-lite/.install-lock", None)
        assert after == before
        assert self.rig.calls("restart", "try-restart", "daemon-reload") == []
        return why.value


@pytest.fixture
def host(running: Rig, site: Published) -> Host:
    return Host(running, site)


# When all is well


def test_an_upgrade_verifies_switches_and_restarts_what_runs(
    host: Host, origin: Origin, site: Published
) -> None:
    site.release("1.1.0", program=stand_in("1.1.0", "real"))
    rig = host.rig
    assert host.upgrader().upgrade(origin, NEW) is None
    assert rig.says() == "v1.1.0"
    assert rig.layout.previous() == "1.0.0"
    assert sorted(each.name for each in (rig.layout.lib / "1.1.0").iterdir()) == [
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "teleport-lite.pyz",
    ]
    assert rig.unit.read_text() == f"{MARK}# 1.1.0\n"
    calls = rig.calls("daemon-reload", "restart", "try-restart")
    assert calls == ["daemon-reload", f"restart {UNIT}"]
    assert host.said[-1] == f"{UNIT} runs 1.1.0 and is ready"
    assert host.said[0].startswith("fetched teleport-lite-1.1.0.pyz from localhost:")
    hidden = {each.name for each in rig.layout.lib.iterdir() if each.name[0] == "."}
    assert hidden <= {".install-lock", ".lock"}


def test_without_services_only_the_file_moves(host: Host, origin: Origin) -> None:
    (host.rig.state / UNIT).unlink()
    assert host.upgrader().upgrade(origin, NEW) is None
    assert host.rig.says() == "v1.1.0"
    assert host.rig.calls("restart", "try-restart") == []
    assert host.said[-1] == "1.1.0 is in place; nothing is restarted"


@pytest.mark.parametrize("how", [{"restart": False}, {"systemd": None}])
def test_who_wants_no_restart_gets_none(host: Host, origin: Origin, how: dict[str, object]) -> None:
    assert host.upgrader(**how).upgrade(origin, NEW) is None
    assert host.rig.says() == "v1.1.0"
    assert host.rig.calls("restart", "try-restart") == []


def test_the_new_version_is_asked_whether_it_accepts_the_configuration(
    host: Host, origin: Origin, tmp_path: Path
) -> None:
    assert host.upgrader(config=tmp_path / "x.yaml").upgrade(origin, NEW) is None


# Who is not believed


def test_a_flipped_bit_anywhere_is_refused(host: Host, origin: Origin, site: Published) -> None:
    files = [site.file(f"1.1.0/{name}") for name in ("SHA256SUMS", "SHA256SUMS.sig")]
    for file in [*files, site.file("1.1.0/teleport-lite-1.1.0.pyz")]:
        good = file.read_bytes()
        for at in (0, len(good) // 2):
            bad = bytearray(good)
            bad[at] ^= 1
            file.write_bytes(bad)
            host.refused(origin, Error, "refused|is not the file|does not say")
        file.write_bytes(good)
    assert host.upgrader().upgrade(origin, NEW) is None


def test_another_key_and_another_purpose_are_refused(
    host: Host, origin: Origin, site: Published, tmp_path: Path
) -> None:
    sums = site.file("1.1.0/SHA256SUMS")
    sign(sums, new_key(tmp_path / "stranger"))
    host.refused(origin, Denied, r"1\.1\.0 of localhost:\d+ is refused: .*key that is not trusted")
    sign(sums, site.key, purpose="file")
    host.refused(origin, Denied, "signature is for 'file', not teleport-lite-release")


def test_a_missing_signature_is_refused(host: Host, origin: Origin, site: Published) -> None:
    site.file("1.1.0/SHA256SUMS.sig").unlink()
    host.refused(origin, NotFound, "has no /releases/1.1.0/SHA256SUMS.sig")


def test_an_old_release_can_not_pose_as_a_new_one(
    host: Host, origin: Origin, site: Published
) -> None:
    """All of it is signed by us, and was good once."""
    for name in ("SHA256SUMS", "SHA256SUMS.sig"):
        site.file(f"1.1.0/{name}").write_bytes(site.file(f"1.0.9/{name}").read_bytes())
    host.refused(origin, Denied, "as version 1.1.0 is the signed list of another one")


def test_a_file_that_states_another_version_is_refused_even_if_signed(
    host: Host, origin: Origin, site: Published
) -> None:
    site.release("1.1.0", program=stand_in("1.0.9"))
    host.refused(origin, Malformed, "does not say that it is 1.1.0")


def test_an_older_version_is_only_taken_when_a_person_says_so(host: Host, origin: Origin) -> None:
    assert host.upgrader().upgrade(origin, NEW) is None
    old = Version.parse("1.0.9")
    with pytest.raises(Denied, match=r"1\.0\.9 is older than 1\.1\.0, which is in use") as why:
        host.upgrader().upgrade(origin, old)
    assert "--allow-downgrade" in why.value.hint
    assert host.upgrader().upgrade(origin, old, down=True) is None
    assert host.rig.says() == "v1.0.9"


def test_a_build_without_keys_takes_nothing(host: Host, origin: Origin, site: Published) -> None:
    asked = len(site.asked)
    why = host.refused(origin, Denied, "carries no release keys", keys=())
    assert why.hint.startswith("bash install.sh")
    assert len(site.asked) == asked


def test_a_server_that_is_away_changes_nothing(host: Host, origin: Origin) -> None:
    origin.address = "127.0.0.1:9"
    host.refused(origin, Unavailable, "127.0.0.1:9")


# What will not do here


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("does not start", "it does not start (no such luck)"),
        ("lies", "it says that it is"),
        ("refuses the config", "it refuses the configuration (key is unknown)"),
    ],
)
def test_a_version_that_does_not_work_here_is_never_switched_to(
    host: Host, origin: Origin, site: Published, tmp_path: Path, wrong: str, words: str
) -> None:
    site.release("1.1.0", program=stand_in("1.1.0", wrong))
    failure = host.upgrader(config=tmp_path / "x.yaml").upgrade(origin, NEW)
    assert failure is not None
    assert words in failure.why
    assert host.rig.says() == "v1.0.0"
    assert list(host.rig.layout.trees()) == [f"{build_of('1.0.0')}-cp311-x86_64"]
    assert host.rig.calls("restart", "try-restart", "daemon-reload") == []
    assert words in attempts.failed(host.rig.layout.lib)["1.1.0"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fails", f"{UNIT} did not start (it said no)"),
        ("hangs", f"{UNIT} was not ready within 4 s"),
        ("dies", f"{UNIT} was ready, and then failed"),
    ],
)
def test_a_version_whose_daemon_is_not_ready_or_does_not_stay_is_taken_back(
    host: Host, origin: Origin, how: str, words: str
) -> None:
    rig = host.rig
    rig.how("1.1.0", how)
    # Long enough for the one that is well, on a crowded machine.
    failure = host.upgrader(ready=4.0).upgrade(origin, NEW)
    assert failure == Failure(
        version="1.1.0",
        why=words,
        unit=UNIT,
        lines=["first line of the log", "it can not go on"],
    )
    assert rig.says() == "v1.0.0"
    assert rig.unit.read_text() == f"{MARK}# 1.0.0\n"
    assert rig.calls("restart", "daemon-reload") == [
        "daemon-reload",
        f"restart {UNIT}",
        "daemon-reload",
        f"restart {UNIT}",
    ]
    assert f"{UNIT} runs 1.0.0 again" in host.said
    assert words in attempts.failed(rig.layout.lib)["1.1.0"]
    assert attempts.under_way(rig.layout.lib) is None


class Leaping(FakeClock):
    """Of a machine that stands still between any two looks at it."""

    def monotonic(self) -> float:
        self.tick(seconds=10)
        return super().monotonic()


def test_a_daemon_that_ended_is_noticed_however_late_somebody_looks(
    host: Host, origin: Origin
) -> None:
    host.rig.how("1.1.0", "dies")
    systemd = replace(host.rig.systemd, clock=Leaping())
    failure = host.upgrader(systemd=systemd).upgrade(origin, NEW)
    assert failure is not None
    assert failure.why == f"{UNIT} was ready, and then failed"


def test_a_disk_that_is_full_by_then_does_not_keep_it_from_going_back(
    host: Host, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, rig = attempts.write_public, host.rig

    def full(path: Path, data: bytes) -> None:
        if path.name == attempts.FAILED:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, data)

    monkeypatch.setattr(attempts, "write_public", full)
    rig.how("1.1.0", "fails")
    assert host.upgrader().upgrade(origin, NEW) is not None
    assert rig.says() == "v1.0.0"
    assert rig.calls("restart") == [f"restart {UNIT}"] * 2
    assert attempts.under_way(rig.layout.lib) is None
    assert any("1.1.0 failed can not be noted" in line for line in host.said)


def test_a_version_that_hangs_is_not_switched_to(
    host: Host, origin: Origin, site: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "PATIENCE", 1.0)
    site.release("1.1.0", program=stand_in("1.1.0", "hangs"))
    failure = host.upgrader().upgrade(origin, NEW)
    assert failure is not None
    assert "--version did not end within 1 s" in failure.why
    assert host.rig.says() == "v1.0.0"


def test_a_version_that_can_not_be_installed_is_taken_back(
    host: Host, origin: Origin, site: Published
) -> None:
    site.release("1.1.0", program=stand_in("1.1.0", "does not install"))
    failure = host.upgrader().upgrade(origin, NEW)
    assert failure is not None
    assert failure.why == "it can not be installed (no place)"
    assert host.rig.says() == "v1.0.0"


def test_a_version_is_not_blamed_for_what_the_old_one_suffers_too(
    host: Host, origin: Origin
) -> None:
    host.rig.how("1.1.0", "fails")
    host.rig.how("1.0.0", "fails")
    assert host.upgrader().upgrade(origin, NEW) is not None
    assert host.rig.says() == "v1.0.0"
    assert attempts.failed(host.rig.layout.lib) == {}


def test_what_failed_once_may_be_tried_by_a_person_and_is_forgotten_when_it_works(
    host: Host, origin: Origin
) -> None:
    host.rig.how("1.1.0", "fails")
    host.upgrader().upgrade(origin, NEW)
    lib = host.rig.layout.lib
    current = Version.parse("1.0.0")
    assert standing(current, NEW, attempts.failed(lib)) is Standing.FAILED
    host.rig.how("1.1.0", "")
    assert host.upgrader().upgrade(origin, NEW) is None
    assert attempts.failed(lib) == {}


def test_how_a_host_stands() -> None:
    old, new = Version.parse("1.0.0"), Version.parse("1.1.0")
    assert standing(old, None, ()) is Standing.FREE
    assert standing(old, old, ()) is Standing.UP_TO_DATE
    assert standing(old, new, ("1.0.0",)) is Standing.BEHIND
    assert standing(new, old, ()) is Standing.AHEAD


# Two at once, and one cut short


def test_of_two_upgrades_at_once_the_second_is_told(host: Host, origin: Origin) -> None:
    with alone(host.rig.layout.lib), pytest.raises(Conflict, match="another install or upgrade"):
        host.upgrader().upgrade(origin, NEW)
    assert host.rig.says() == "v1.0.0"


def test_the_new_version_installs_under_the_lock_of_the_upgrade(host: Host, origin: Origin) -> None:
    """Nobody slips in between the verification and the last look at the daemon."""
    lib = host.rig.layout.lib
    free: list[bool] = []

    def look(_: float) -> None:
        child = os.fork()
        if child == 0:
            try:
                with alone(lib):
                    os._exit(0)
            except Conflict:
                os._exit(7)
            finally:
                os._exit(9)
        free.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 7)

    systemd = replace(host.rig.systemd, pause=look)
    assert host.upgrader(systemd=systemd, stays=0.05).upgrade(origin, NEW) is None
    assert free
    assert not any(free)


def in_child(work: Callable[[], object], *, until: Callable[[str, bool], bool]) -> None:
    """`work` in a process that kills itself when `until` says so of a call to rename."""
    child = os.fork()
    if child == 0:
        rename, run = os.rename, subprocess.run

        def renamed(source: object, target: object, **more: object) -> None:
            rename(source, target, **more)  # type: ignore[call-overload]
            if until(os.path.basename(str(target)), False):
                os.kill(os.getpid(), signal.SIGKILL)

        def ran(words: list[str], **more: object) -> object:
            if until(" ".join(words), True):
                os.kill(os.getpid(), signal.SIGKILL)
            return run(words, **more)  # type: ignore[call-overload]

        os.rename, subprocess.run = renamed, ran  # type: ignore[assignment]
        try:
            work()
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == -signal.SIGKILL


MOMENTS = {
    "before anything is noted": lambda text, ran: ran and " --version" in text,
    "when it is noted": lambda text, ran: not ran and text == ".upgrading",
    "before the install": lambda text, ran: ran and "install self" in text,
    "before the restart": lambda text, ran: ran and " restart " in text,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_the_next_run_sees_it_through(
    host: Host, origin: Origin, moment: str
) -> None:
    rig = host.rig
    in_child(lambda: host.upgrader().upgrade(origin, NEW), until=MOMENTS[moment])
    assert rig.says() in ("v1.0.0", "v1.1.0")
    assert host.upgrader().finish() is None
    assert attempts.under_way(rig.layout.lib) is None
    if rig.says() == "v1.0.0":
        assert host.upgrader().upgrade(origin, NEW) is None
    assert rig.says() == "v1.1.0"
    assert rig.calls("restart")[-1] == f"restart {UNIT}"
    assert not (rig.layout.lib / ".fetched").exists()


def test_killed_while_going_back_the_next_run_goes_on_with_that(host: Host, origin: Origin) -> None:
    rig = host.rig
    rig.how("1.1.0", "fails")
    in_child(
        lambda: host.upgrader().upgrade(origin, NEW),
        until=lambda text, ran: ran and "1.0.0/teleport-lite.pyz install self" in text,
    )
    failure = host.upgrader().finish()
    assert failure is not None
    assert "did not start" in failure.why
    assert rig.says() == "v1.0.0"
    assert rig.unit.read_text() == f"{MARK}# 1.0.0\n"
    assert rig.calls("restart")[-1] == f"restart {UNIT}"
    assert set(attempts.failed(rig.layout.lib)) == {"1.1.0"}
    assert host.upgrader().finish() is None


def test_after_a_power_cut_a_new_version_that_is_not_ready_is_taken_back(host: Host) -> None:
    rig = host.rig
    rig.place("1.1.0", restart=False)
    rig.how("1.1.0", "fails")
    attempts.begin(rig.layout.lib, Attempt(old="1.0.0", new="1.1.0", units=(UNIT,)))
    failure = host.upgrader().finish()
    assert failure is not None
    assert rig.says() == "v1.0.0"


@pytest.mark.parametrize("text", ["", "1.0.0", "x\ny\n", "1.0.0\n../../x\n", "\0" * 100])
def test_notes_of_an_upgrade_that_make_no_sense_are_none(host: Host, text: str) -> None:
    (host.rig.layout.lib / ".upgrading").write_text(text)
    assert host.upgrader().finish() is None
    assert host.rig.says() == "v1.0.0"
    assert host.rig.calls() == []


def test_only_our_units_are_ever_restarted_by_a_note(host: Host) -> None:
    lib = host.rig.layout.lib
    (lib / ".upgrading").write_text(f"1.0.0\n1.1.0\nssh.service\n{UNIT}\n--force\n")
    found = attempts.under_way(lib)
    assert found is not None
    assert found.units == (UNIT,)
