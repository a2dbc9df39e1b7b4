"""Code comes from places that only root and we can change, and everything else is refused."""

import os
from pathlib import Path

import pytest

from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.plugin import ground
from teleport_lite.plugin.ground import check_apart, check_ground
from tests.plugin.makers import on_disk


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return on_disk(tmp_path)


def denied(path: Path, tmp_path: Path) -> Denied:
    with pytest.raises(Denied) as why:
        check_ground(path, below=tmp_path)
    return why.value


def test_a_directory_of_ours_is_good_ground(home, tmp_path):
    check_ground(home, below=tmp_path)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_a_directory_others_can_write_is_refused(home, tmp_path, mode):
    home.chmod(mode)
    why = denied(home, tmp_path)
    assert why.message == f"plugin path {home} can be changed by others, mode {mode:04o}"
    assert why.hint == f"chmod go-w {home}"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_others_can_write_is_refused(home, tmp_path, mode):
    (home / "__init__.py").chmod(mode)
    assert str(home / "__init__.py") in denied(home, tmp_path).message


def test_a_file_deep_down_is_looked_at(home, tmp_path):
    deep = home / "a" / "b"
    deep.mkdir(parents=True, mode=0o755)
    (deep / "data").write_text("")
    (deep / "data").chmod(0o666)
    assert str(deep / "data") in denied(home, tmp_path).message


def test_a_directory_above_that_others_can_write_is_refused(tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    home = on_disk(loose)
    loose.chmod(0o777)
    assert str(loose) in denied(home, tmp_path).message


def test_the_sticky_bit_of_tmp_does_not_help(home):
    with pytest.raises(Denied, match=r"plugin path /tmp can be changed by others, mode 1777"):
        check_ground(Path("/tmp/plugins/lab"))


def test_a_symbolic_link_is_refused_wherever_it_stands(home, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(home)
    assert denied(link, tmp_path).message == f"plugin path {link} is a symbolic link"
    inside = home / "more.py"
    inside.symlink_to("/etc/hostname")
    assert denied(home, tmp_path).message == f"plugin path {inside} is a symbolic link"
    way = tmp_path / "way"
    way.symlink_to(tmp_path)
    inside.unlink()
    assert denied(way / "lab", tmp_path).message == f"plugin path {way} is a symbolic link"


def test_a_pipe_is_refused(home, tmp_path):
    os.mkfifo(home / "pipe", 0o600)
    assert denied(home, tmp_path).message.endswith("pipe is not a file or directory")


def test_a_file_of_another_user_is_refused(home, tmp_path, monkeypatch):
    monkeypatch.setattr(ground.os, "geteuid", lambda: 4711)
    if home.stat().st_uid == 0:
        os.chown(home, 4712, -1)
    why = denied(home, tmp_path)
    assert "belongs to user" in why.message
    assert why.hint.startswith("chown root:")


@pytest.mark.parametrize("path", ["plugins/lab", "./lab", "/srv/../tmp/lab", ""])
def test_a_path_that_is_not_absolute_and_plain_is_malformed(path):
    with pytest.raises(Malformed, match="must be an absolute path"):
        check_ground(Path(path))


def test_a_place_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="can not be read: No such file"):
        check_ground(tmp_path / "gone", below=tmp_path)


def test_a_directory_of_a_whole_file_system_is_refused(home, tmp_path, monkeypatch):
    monkeypatch.setattr(ground, "MAX_ENTRIES", 1)
    (home / "more.py").write_text("")
    assert "holds more than 1 entries" in denied(home, tmp_path).message


def test_what_we_write_and_what_we_run_are_apart(home, tmp_path):
    data = tmp_path / "data"
    check_apart([home], [data, tmp_path / "labs.log"])
    for place in (home, home / "backend", tmp_path):
        with pytest.raises(Denied, match=r"which we write, must be apart"):
            check_apart([home], [data, place])


def test_a_link_does_not_hide_that_they_are_not_apart(home, tmp_path):
    (tmp_path / "data").symlink_to(home)
    with pytest.raises(Denied, match="must be apart"):
        check_apart([home], [tmp_path / "data"])
