"""Removing: all that is ours, with a line each, and nothing else."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Denied
from teleport_lite.release.layout import alone
from teleport_lite.release.uninstall import Places, mounts, uninstall
from teleport_lite.release.work import Work
from tests.release.stand_ins import MARK, UNIT, Rig, build_of


def removed(
    rig: Rig,
    *,
    purge: tuple[Path, ...] = (),
    named: tuple[Path, ...] = (),
    dry_run: bool = False,
) -> list[str]:
    said: list[str] = []
    confs = [path for path in rig.units("1.0.0") if path.parent != rig.unit.parent]
    uninstall(
        rig.layout,
        Places(
            units=rig.unit.parent,
            confs=confs,
            runtime=(rig.root / "run",),
            purge=purge,
            named=named,
        ),
        work=Work(say=said.append, dry_run=dry_run),
        systemd=rig.systemd,
    )
    return said


@pytest.fixture
def placed(rig: Rig) -> Rig:
    rig.place("1.0.0")
    rig.place("1.0.1")
    rig.calls()
    return rig


def test_all_of_ours_goes_and_each_is_said(placed: Rig) -> None:
    (placed.root / "run").mkdir()
    (placed.layout.lib / "failed").write_text("1.0.2 why\n")
    was = {str(placed.root / name) for name in placed.everything()}
    said = removed(placed)
    left = placed.everything()
    assert set(left) == {"systemctl", "journalctl", "teleport-lite-1.0.0.pyz",
                         "teleport-lite-1.0.1.pyz"}  # fmt: skip
    assert not (placed.root / "run").exists()
    assert not placed.layout.lib.exists()
    told = [line.removeprefix("removed ") for line in said]
    for path in was - {str(placed.root / name) for name in left}:
        hidden = Path(path).name.startswith(".")
        assert hidden or any(path == each or path.startswith(each + "/") for each in told), path


def test_a_dry_run_says_the_same_and_removes_nothing(placed: Rig) -> None:
    before = placed.everything()
    would = removed(placed, dry_run=True)
    assert placed.everything() == before
    assert placed.calls() == []
    done = removed(placed)
    assert [line.split()[2:] for line in would] == [line.split()[1:] for line in done]


def test_units_are_stopped_before_they_go_those_that_start_others_first(placed: Rig) -> None:
    etc = placed.unit.parent
    for name in ("upgrade.timer", "sessions@.service", "auth.service"):
        (etc / f"teleport-lite-{name}").write_text(MARK)
    placed.runs()
    placed.runs("teleport-lite-sessions@.service")
    placed.state.joinpath("teleport-lite-upgrade.timer").write_text("UnitFileState=enabled\n")
    removed(placed)
    assert placed.calls() == [
        "disable --now teleport-lite-upgrade.timer",
        f"disable --now {UNIT}",
        "daemon-reload",
    ]


def test_what_is_not_ours_stays_and_is_said(placed: Rig) -> None:
    etc, lib, bin_ = placed.unit.parent, placed.layout.lib, placed.layout.bin
    theirs = [etc / "teleport-lite-more.service", etc / f"{UNIT}.d/own.conf", bin_ / "tsh"]
    theirs += [lib / "plugins/mine.py", lib / "notes"]
    (bin_ / "tsh").unlink()
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("of the operator")
    said = removed(placed)
    assert all(path.read_text() == "of the operator" for path in theirs)
    for path in (etc / "teleport-lite-more.service", etc / f"{UNIT}.d", lib / "plugins"):
        assert any(line.startswith(f"left {path} alone") for line in said)
    assert sorted(each.name for each in lib.iterdir()) == ["notes", "plugins"]


def test_a_second_removal_finds_nothing(placed: Rig) -> None:
    removed(placed)
    assert removed(placed) == []


def test_what_runs_is_counted_and_goes_on(placed: Rig) -> None:
    launch = placed.layout.lib / f"{build_of('1.0.1')}-cp311-x86_64/_launch.py"
    launch.write_text("import sys; print(flush=True); print(sys.stdin.read())")
    running = subprocess.Popen(
        [sys.executable, launch], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert running.stdout is not None
    running.stdout.readline()
    said = removed(placed)
    assert any(line.startswith("1 process of ") and "still runs" in line for line in said)
    assert not placed.layout.lib.exists()
    assert running.communicate(b"alive", timeout=30)[0] == b"alive\n"


def test_an_install_at_work_is_not_disturbed(placed: Rig) -> None:
    before = placed.everything()
    with alone(placed.layout.lib), pytest.raises(Conflict):
        removed(placed)
    assert placed.everything() == before


def test_nobody_can_install_into_what_is_going(placed: Rig) -> None:
    refused = []

    def look(line: str) -> None:
        if placed.layout.lib.is_dir():
            with pytest.raises(Conflict), alone(placed.layout.lib):
                pass
            refused.append(line)

    work = Work(say=look)
    uninstall(placed.layout, Places(), work=work, systemd=None)
    assert f"removed {placed.layout.lib / '1.0.1'}" in refused
    assert not placed.layout.lib.exists()


def test_a_removal_that_is_cut_short_leaves_no_half_a_tree_to_start_from(
    placed: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = placed.layout.trees()
    assert trees

    def cut(path: Path, **_: object) -> None:
        if path.is_dir():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", cut)
        with pytest.raises(KeyboardInterrupt):
            removed(placed)
    assert len(placed.layout.trees()) == len(trees) - 1
    (half,) = placed.layout.lib.glob(".making-gone-*")
    removed(placed)
    assert not half.exists()
    assert not placed.layout.lib.exists()


# Purging


def test_a_purge_takes_settings_and_data_and_says_each(placed: Rig) -> None:
    data, settings = placed.root / "var/data", placed.root / "conf.yaml"
    (data / "backend").mkdir(parents=True)
    settings.write_text("token")
    missing = placed.root / "never-there"
    said = removed(placed, purge=(settings, data, missing))
    assert f"removed {data}" in said
    assert f"removed {settings}" in said
    assert not any("never-there" in line for line in said)
    assert not data.exists()


def test_without_purge_settings_and_data_stay(placed: Rig) -> None:
    data = placed.root / "var/data"
    data.mkdir(parents=True)
    removed(placed)
    assert data.is_dir()


def test_an_odd_data_directory_is_refused_before_anything_is_removed(placed: Rig) -> None:
    before = placed.everything()
    data = placed.root / "data"
    (placed.root / "elsewhere").mkdir()
    data.symlink_to(placed.root / "elsewhere")
    odd = [data, data / "below", Path("/"), Path("/etc"), Path("/proc/self"), Path("/proc")]
    (placed.root / "elsewhere/below").mkdir()
    for path in odd:
        with pytest.raises(Denied, match="is not purged"):
            removed(placed, purge=(path,))
    data.unlink()
    assert placed.everything() == before


def test_what_a_configuration_named_is_only_purged_if_it_is_private_and_nobodys_home(
    placed: Rig,
) -> None:
    before = placed.everything()
    data, open_ = placed.root / "srv/data", placed.root / "srv/open"
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    for path, words in ((open_, "others than its owner"), (home, "not purged")):
        if path is open_:
            path.mkdir(parents=True, mode=0o755)
        with pytest.raises(Denied, match=words):
            removed(placed, named=(path,), dry_run=path is home)
    open_.rmdir()
    open_.parent.rmdir()
    assert placed.everything() == before
    data.mkdir(parents=True, mode=0o700)
    assert f"removed {data}" in removed(placed, named=(data, placed.root / "never-there"))
    assert not data.exists()


def test_a_file_system_of_its_own_is_refused() -> None:
    mount = next(each for each in mounts() if len(each.parts) > 2 and each.resolve() == each)
    with pytest.raises(Denied, match=f"is not purged: {mount} is a file system of its own"):
        uninstall(
            Rig(Path("/nowhere")).layout,
            Places(purge=(mount,)),
            work=Work(say=print, dry_run=True),
            systemd=None,
        )


def test_mounts_with_blanks_in_their_names_are_known(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(r"21 1 0:19 / /mnt/a\040b\134c rw - tmpfs none rw" + "\n\nodd\n")
    assert mounts(table) == [Path(r"/mnt/a b\c")]


def test_a_user_that_was_there_before_is_not_removed(placed: Rig) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    note = placed.layout.lib / ".made-user"
    assert not note.exists()  # the systemd of this test makes none
    note.write_text(f"{name}\n")
    data = placed.root / "data"
    data.mkdir()
    said = removed(placed, purge=(data,))
    assert any(line.startswith(f"left user {name} alone") for line in said)
    assert pwd.getpwnam(name)
