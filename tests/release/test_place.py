"""Placing: idempotent, whole at every step, and careful with what is somebody else's."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Denied, Malformed, NotFound, Unavailable
from teleport_lite.release.layout import (
    Layout,
    alone,
    is_alone,
    make_lib,
    told_as_errors,
    trees_in_use,
)
from teleport_lite.release.place import LINK, place, source_in
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.work import Work
from tests.packaging.published import new_key, sign
from tests.release.stand_ins import MARK, UNIT, Rig, build_of


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir() if not each.name.startswith("."))


def tree(version: str) -> str:
    return f"{build_of(version)}-cp311-x86_64"


def in_place(*versions: str) -> list[str]:
    """What lib holds then."""
    links = ["current", "previous"][: len(versions)]
    parts = [(each, tree(each), f"launch-{build_of(each)}") for each in versions]
    return sorted([*links, *(name for part in parts for name in part)])


# What is done


def test_an_install_says_what_it_did_and_a_second_one_that_there_was_nothing(rig: Rig) -> None:
    lib, etc = rig.layout.lib, rig.root / "etc"
    assert rig.place("1.0.0") == [
        f"installed {lib}/1.0.0/teleport-lite.pyz",
        f"unpacked {lib}/{build_of('1.0.0')}-*",
        f"wrote {etc}/sysusers.d/teleport-lite.conf",
        f"wrote {etc}/{UNIT}",
        f"wrote {etc}/tmpfiles.d/teleport-lite.conf",
        "reloaded systemd's units",
        f"switched {lib}/current to 1.0.0",
        *(f"linked {rig.layout.bin}/{name}" for name in ("teleport-lite", "tctl", "tsh", "tbot")),
    ]
    assert rig.says() == "v1.0.0"
    assert names(lib) == in_place("1.0.0")
    before = rig.everything()
    rig.calls()
    assert rig.place("1.0.0") == []
    assert rig.everything() == before
    assert rig.calls() == []


def test_a_dry_run_says_the_same_and_does_nothing(rig: Rig) -> None:
    rig.loose("1.0.0")
    before = rig.everything()
    said = rig.place("1.0.0", dry_run=True)
    assert rig.everything() == before
    assert not rig.layout.prefix.exists()
    done = [line for line in rig.place("1.0.0") if not line.startswith("reloaded")]
    assert len(said) == len(done) == 10
    assert [line.split()[2:] for line in said] == [line.split()[1:] for line in done]
    assert all(line.startswith("would ") for line in said)


def test_units_are_written_users_made_and_systemd_reloaded_only_if_something_changed(
    rig: Rig,
) -> None:
    rig.place("1.0.0")
    conf = rig.root / "etc/sysusers.d/teleport-lite.conf"
    files = rig.root / "etc/tmpfiles.d/teleport-lite.conf"
    assert rig.calls() == [str(conf), f"--create {files}", "daemon-reload"]
    assert rig.unit.read_text() == f"{MARK}# 1.0.0\n"
    rig.place("1.0.1")
    assert "daemon-reload" in rig.calls()
    assert rig.unit.read_text() == f"{MARK}# 1.0.1\n"


def test_the_image_of_a_machine_gets_its_user_when_it_is_made(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd-sysusers.service has ConditionNeedsUpdate=/etc: it does not run at every boot."""
    monkeypatch.setattr(Systemd, "runs", lambda _: False)
    rig.place("1.0.0")
    assert rig.calls() == [str(rig.root / "etc/sysusers.d/teleport-lite.conf")]


def test_a_container_without_systemd_needs_no_users(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Systemd, "runs", lambda _: False)
    (rig.root / "systemctl").unlink()
    rig.place("1.0.0")
    assert rig.says() == "v1.0.0"


def test_nothing_is_enabled_or_started_and_what_runs_is_restarted_when_the_version_moves(
    rig: Rig,
) -> None:
    rig.place("1.0.0")
    assert rig.calls("start", "enable", "restart", "try-restart") == []
    rig.runs()
    rig.runs("teleport-lite-sessions@1.service")
    assert f"restarted {UNIT}" in rig.place("1.0.1")
    assert rig.calls("start", "enable", "restart", "try-restart") == [f"try-restart {UNIT}"]
    rig.place("1.0.1")
    rig.place("1.0.2", restart=False)
    assert rig.calls("start", "enable", "restart", "try-restart") == []


def test_sums_and_signature_are_kept_beside_the_file(rig: Rig, tmp_path: Path) -> None:
    file = rig.loose("1.0.0")
    sums(file)
    sign(file.with_name("SHA256SUMS"), new_key(tmp_path / "key"))
    rig.place("1.0.0")
    assert names(rig.layout.lib / "1.0.0") == ["SHA256SUMS", "SHA256SUMS.sig", "teleport-lite.pyz"]
    file.with_name("SHA256SUMS.sig").unlink()
    assert rig.place("1.0.0") == [f"removed {rig.layout.lib}/1.0.0/SHA256SUMS.sig"]


def test_another_build_of_the_same_version_takes_its_place(rig: Rig) -> None:
    rig.place("1.0.0")
    rig.runs()
    file = rig.loose("1.0.0")
    file.write_bytes(file.read_bytes() + b"# again\n")
    source = source_in(file.parent, "1.0.0")
    said: list[str] = []
    work = Work(say=said.append)
    place(source, rig.layout, work=work, units=rig.units("1.0.0"), systemd=rig.systemd)
    assert said == [f"installed {rig.layout.lib}/1.0.0/teleport-lite.pyz", f"restarted {UNIT}"]
    assert rig.layout.file("1.0.0").read_bytes().endswith(b"# again\n")


def test_a_tree_whose_python_is_gone_is_unpacked_again(rig: Rig) -> None:
    rig.place("1.0.0")
    launch = rig.layout.lib / f"launch-{build_of('1.0.0')}"
    launch.write_text(launch.read_text().replace(sys.executable, "/usr/bin/python3.1"))
    assert rig.place("1.0.0") == [f"unpacked {rig.layout.lib}/{build_of('1.0.0')}-*"]
    assert sys.executable in launch.read_text()


def test_a_python_in_a_place_with_an_odd_name_is_not_taken_for_gone(rig: Rig) -> None:
    rig.place("1.0.0")
    python = rig.root / "it's a python"
    python.symlink_to(sys.executable)
    launch = rig.layout.lib / f"launch-{build_of('1.0.0')}"
    quoted = "'" + str(python).replace("'", "'\\''") + "'"  # as packaging/boot does
    launch.write_text(launch.read_text().replace(f"'{sys.executable}'", quoted))
    assert rig.place("1.0.0") == []


# What is not ours


def test_a_name_that_is_somebody_elses_is_left_alone_and_said(rig: Rig) -> None:
    rig.layout.bin.mkdir(parents=True)
    (rig.layout.bin / "tsh").write_text("of another product")
    (rig.layout.bin / "tctl").symlink_to("/opt/teleport/tctl")
    said = rig.place("1.0.0")
    use = f"{rig.layout.lib}/current/teleport-lite.pyz"
    for name in ("tsh", "tctl"):
        assert f"left {rig.layout.bin}/{name} alone: it is not ours (use: {use} {name})" in said
    assert (rig.layout.bin / "tsh").read_text() == "of another product"
    assert os.readlink(rig.layout.bin / "tctl") == "/opt/teleport/tctl"


def test_a_name_that_leads_into_our_directory_is_ours_whatever_it_led_to(rig: Rig) -> None:
    """Somebody has put the file there by hand, once."""
    rig.layout.bin.mkdir(parents=True)
    (rig.layout.bin / "tctl").symlink_to("../lib/teleport-lite/teleport-lite.pyz")
    (rig.layout.bin / "tsh").symlink_to(rig.layout.lib / "teleport-lite.pyz")
    (rig.layout.bin / "tbot").symlink_to("../lib/teleport-lite/../tbot")
    said = rig.place("1.0.0")
    for name in ("tctl", "tsh"):
        assert f"linked {rig.layout.bin}/{name}" in said
        assert os.readlink(rig.layout.bin / name) == LINK
    assert any("/tbot alone: it is not ours" in line for line in said)


@pytest.mark.parametrize("kind", ["file", "mask"])
def test_a_unit_that_is_not_ours_is_left_and_drop_ins_are_never_touched(
    rig: Rig, kind: str
) -> None:
    drop_in = rig.root / f"etc/{UNIT}.d/more.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(MARK)
    if kind == "file":
        rig.unit.write_text("[Unit]\n" + MARK)
    else:
        rig.unit.symlink_to("/dev/null")
    assert f"left {rig.unit} alone: it is not ours" in rig.place("1.0.0")
    assert rig.unit.is_symlink() or rig.unit.read_text().startswith("[Unit]")
    assert drop_in.read_text() == MARK


def test_a_current_that_is_no_link_is_in_the_way(rig: Rig) -> None:
    (rig.layout.lib / "current").mkdir(parents=True)
    with pytest.raises(Denied, match="current is in the way"):
        rig.place("1.0.0")


def test_a_directory_that_others_could_change_is_refused(rig: Rig) -> None:
    rig.layout.lib.mkdir(parents=True)
    rig.layout.lib.chmod(0o777)
    with pytest.raises(Denied, match=r"others than you could change .* mode 0777"):
        rig.place("1.0.0")
    assert names(rig.layout.lib) == []


@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o755, 12345)])
def test_a_directory_that_others_could_replace_is_refused(rig: Rig, mode: int, owner: int) -> None:
    """As in the home of somebody else, who could put another in its place."""
    home = rig.layout.prefix.parent / "home"
    (home / "of").mkdir(parents=True)
    if owner:
        if os.geteuid() != 0:
            pytest.skip("only root can give a directory away")
        os.chown(home, owner, owner)
    home.chmod(mode)
    with pytest.raises(
        Denied, match=rf"others than you could change .*/home has .* mode 0{mode:o}"
    ):
        make_lib(Layout(home / "of").lib)
    assert list((home / "of").iterdir()) == []
    home.chmod(mode | 0o1000)
    os.chown(home, os.geteuid(), os.getegid())
    make_lib(Layout(home / "of").lib)


def test_files_get_the_same_modes_under_any_umask(rig: Rig) -> None:
    for mask, version in ((0o077, "1.0.0"), (0, "1.0.1")):
        old = os.umask(mask)
        try:
            rig.place(version)
        finally:
            os.umask(old)
        final = rig.layout.file(version)
        assert [path.stat().st_mode & 0o777 for path in (final, final.parent)] == [0o755, 0o755]
    assert rig.unit.stat().st_mode & 0o777 == 0o644


# What is refused


def sums(file: Path, digest: str = "") -> None:
    import hashlib

    found = digest or hashlib.sha256(file.read_bytes()).hexdigest()
    file.with_name("SHA256SUMS").write_text(f"{found}  {file.name}\n")


def test_a_file_that_is_not_the_listed_one_is_refused(rig: Rig) -> None:
    rig.place("1.0.0")
    sums(rig.loose("1.0.1"), "0" * 64)
    with pytest.raises(Malformed, match="is not the file that SHA256SUMS beside it lists"):
        rig.place("1.0.1")
    assert rig.says() == "v1.0.0"
    (rig.root / "SHA256SUMS").unlink()
    rig.place("1.0.1")
    assert names(rig.layout.lib / "1.0.1") == ["teleport-lite.pyz"]


def test_a_file_that_states_another_version_or_none_is_refused(rig: Rig, tmp_path: Path) -> None:
    file = rig.loose("1.0.1")
    file.rename(file.with_name("teleport-lite-1.0.2.pyz"))
    with pytest.raises(Malformed, match=r"is version '1\.0\.1', not 1\.0\.2"):
        source_in(file.parent, "1.0.2")
    (tmp_path / "teleport-lite-1.0.3.pyz").write_text("<html>not found</html>")
    with pytest.raises(NotFound, match="is not there, or not a file of teleport-lite"):
        source_in(tmp_path, "1.0.3")


def test_of_two_installs_at_once_the_second_is_refused(rig: Rig) -> None:
    rig.place("1.0.0")
    with alone(rig.layout.lib), pytest.raises(Conflict, match="another install or upgrade is at"):
        rig.place("1.0.1")
    rig.place("1.0.1")


def test_what_the_system_refuses_is_told_with_a_way_out(tmp_path: Path) -> None:
    with (
        pytest.raises(Denied, match="can not: /usr/local/lib: permission denied") as denied,
        told_as_errors("can not", "tool do it"),
    ):
        raise PermissionError(13, "Permission denied", "/usr/local/lib")
    assert denied.value.hint == "sudo tool do it"
    with (
        pytest.raises(Unavailable, match="no space left") as full,
        told_as_errors("can not", "tool do it"),
    ):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    assert full.value.hint == "df -h"


# What goes


def test_the_current_and_the_previous_version_stay_and_older_ones_go(rig: Rig) -> None:
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        said = rig.place(version)
    assert f"removed {rig.layout.lib}/1.0.0" in said
    assert f"removed {rig.layout.lib}/{tree('1.0.0')}" in said
    assert names(rig.layout.lib) == in_place("1.0.1", "1.0.2")
    rig.place("1.0.0")  # back to an older one: what was in use before it stays
    assert names(rig.layout.lib) == in_place("1.0.0", "1.0.2")


def test_what_processes_run_from_stays_until_they_end(rig: Rig) -> None:
    rig.place("1.0.0")
    launch = rig.layout.lib / tree("1.0.0") / "_launch.py"
    launch.write_text("import sys; print(flush=True); sys.stdin.read()")
    running = subprocess.Popen(
        [sys.executable, launch], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert running.stdout is not None
    running.stdout.readline()
    assert trees_in_use(rig.layout.lib) == {tree("1.0.0"): 1}
    for version in ("1.0.1", "1.0.2"):
        rig.place(version)
    assert {"1.0.0", tree("1.0.0"), "1.0.1", "1.0.2"} <= set(names(rig.layout.lib))
    running.communicate(timeout=30)
    assert f"removed {rig.layout.lib}/1.0.0" in rig.place("1.0.2")


def test_plugins_and_what_nobody_knows_stay(rig: Rig) -> None:
    rig.place("1.0.0")
    (rig.layout.lib / "plugins").mkdir()
    (rig.layout.lib / "notes.txt").write_text("of the operator")
    for version in ("1.0.1", "1.0.2", "1.0.3"):
        rig.place(version)
    assert {"plugins", "notes.txt"} <= set(names(rig.layout.lib))


# Cut short

STEPS = ("rename", "symlink", "unlink", "rmdir", "mkdir", "link")


def killed_before(nth: int, rig: Rig, version: str) -> bool:
    """Place in a child that is killed before its nth change of a name; False if it ends sooner."""
    child = os.fork()
    if child == 0:
        left = nth

        def counted(call: Callable[..., None]) -> Callable[..., None]:
            def step(*words: object, **more: object) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                call(*words, **more)

            return step

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            rig.place(version)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_killed_before_any_step_the_old_or_the_new_version_works_and_the_next_run_ends_it(
    rig: Rig,
) -> None:
    rig.place("1.0.0")
    rig.place("1.0.1")
    rig.runs()
    start = rig.root.with_name("start")
    shutil.copytree(rig.root, start, symlinks=True)
    seen = set()
    for nth in range(1, 200, 2):  # every other one: time is short
        if not killed_before(nth, rig, "1.0.2"):
            break
        seen.add(rig.layout.current())
        assert rig.layout.file(rig.layout.current()).is_file()
        assert (rig.layout.lib / tree(rig.layout.current())).is_dir()
        rig.place("1.0.2")
        assert rig.layout.current() == "1.0.2"
        assert names(rig.layout.lib) == in_place("1.0.1", "1.0.2"), nth
        assert rig.unit.read_text() == f"{MARK}# 1.0.2\n"
        calls = rig.calls()
        assert {"daemon-reload", f"try-restart {UNIT}"} <= set(calls), (nth, calls)
        hidden = {each.name for each in rig.layout.lib.iterdir() if each.name[0] == "."}
        assert hidden <= {".install-lock", ".lock"}, nth
        shutil.rmtree(rig.root)
        shutil.copytree(start, rig.root, symlinks=True)
    assert seen == {"1.0.1", "1.0.2"}
    assert nth > 15


def test_layout_of_an_empty_prefix_is_empty(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert (layout.current(), layout.previous(), layout.versions(), layout.trees()) == (
        "",
        "",
        [],
        {},
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("group", "alone"), [("www-data", True), ("mail", False)])
def test_only_the_private_group_of_a_user_is_that_user(tmp_path, group, alone):
    shutil.chown(tmp_path, "www-data", group)
    assert is_alone(tmp_path.stat()) == alone
    shutil.chown(tmp_path, "root", "root")
    assert not is_alone(tmp_path.stat())
