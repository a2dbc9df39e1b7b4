"""Files that must be whole, private and ours."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.pki import keyfile
from teleport_lite.pki.keyfile import (
    alone,
    make_private_dir,
    read_secret,
    write_public,
    write_secret,
)

ROOT = os.geteuid() == 0


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """`tmp_path` is asked for so that it is made before, and stays usable."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def strangers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`path` belongs to somebody who is neither root nor us."""
    if ROOT:
        os.chown(path, 65534, 65534)
    else:
        monkeypatch.setattr(keyfile.os, "geteuid", lambda: os.getuid() + 1)


# --- writing --------------------------------------------------------------------------------


@pytest.mark.usefixtures("umask")
def test_modes_are_exact_whatever_the_umask(tmp_path: Path) -> None:
    write_secret(tmp_path / "secret", b"s")
    write_public(tmp_path / "public", b"p")
    write_public(tmp_path / "group", b"p", mode=0o640)
    make_private_dir(tmp_path / "above" / "between" / "dir")
    assert mode(tmp_path / "secret") == 0o600
    assert mode(tmp_path / "public") == 0o644
    assert mode(tmp_path / "group") == 0o640
    assert mode(tmp_path / "above" / "between" / "dir") == 0o700
    assert mode(tmp_path / "above") == mode(tmp_path / "above" / "between") == 0o755


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    for data in (b"", b"x" * 300_000, b"\0\xff"):
        write_secret(tmp_path / "f", data)
        assert read_secret(tmp_path / "f") == data
    assert os.listdir(tmp_path) == ["f"]


def test_an_existing_file_loses_its_loose_mode(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    file.chmod(0o644)
    write_secret(file, b"new")
    assert mode(file) == 0o600


def test_a_hard_link_keeps_the_old_content(tmp_path: Path) -> None:
    """Whoever linked the file beforehand does not get to read what comes next."""
    file, link = tmp_path / "f", tmp_path / "link"
    write_secret(file, b"old")
    link.hardlink_to(file)
    write_secret(file, b"new")
    assert (link.read_bytes(), file.read_bytes()) == (b"old", b"new")


def test_somebody_who_has_the_old_file_open_does_not_see_the_new(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    with file.open("rb") as spy:
        write_secret(file, b"new")
        assert spy.read() == b"old"


Writer = Callable[[Path, bytes], None]
WRITERS = [write_secret, write_public, lambda path, data: write_public(path, data, replace=False)]


def in_the_way(kind: str, path: Path) -> None:
    match kind:
        case "a symbolic link":
            (path.parent / "target").write_text("untouched")
            path.symlink_to("target")
        case "a directory":
            path.mkdir()
        case "a named pipe":
            os.mkfifo(path)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))


KINDS = ["a symbolic link", "a directory", "a named pipe", "a socket"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", WRITERS, ids=["secret", "public", "exclusive"])
def test_only_a_regular_file_is_replaced(
    kind: str, write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets have a short limit
    path = Path("f")
    in_the_way(kind, path)
    before = path.lstat()
    with pytest.raises(Denied, match=f"f is {kind}, expected a regular file"):
        write(path, b"new")
    assert path.lstat().st_ino == before.st_ino
    if kind == "a symbolic link":
        assert Path("target").read_text() == "untouched"
    assert {*os.listdir(".")} <= {"f", "target"}


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "f").symlink_to(tmp_path / "planted")
    with pytest.raises(Denied, match="symbolic link"):
        write_secret(tmp_path / "f", b"new")
    assert not (tmp_path / "planted").exists()


def test_a_link_in_the_middle_of_a_race_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted after the look at the target: the rename puts the file in the link's place."""
    monkeypatch.setattr(keyfile, "_check_target", lambda path, directory: None)
    (tmp_path / "f").symlink_to("target")
    (tmp_path / "target").write_text("untouched")
    write_secret(tmp_path / "f", b"new")
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "target").read_text() == "untouched"


def test_a_device_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="/dev/null is a device"):
        write_secret(Path("/dev/null"), b"x")
    with pytest.raises(Denied, match="/dev/null is a device"):
        read_secret(Path("/dev/null"))


def test_a_public_file_is_replaced_unless_told_not_to(tmp_path: Path) -> None:
    write_public(tmp_path / "f", b"old")
    write_public(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    """Success or refusal: a daemon does this for months."""
    (tmp_path / "link").symlink_to("f")

    def everything(name: str) -> None:
        make_private_dir(tmp_path / "d")
        make_private_dir(tmp_path / name / name)
        write_secret(tmp_path / "f", b"x")
        read_secret(tmp_path / "f")
        for act in (make_private_dir, read_secret, lambda path: write_secret(path, b"")):
            for path in (tmp_path / "link", tmp_path / "f" / "below", tmp_path / "d"):
                with suppress(Error):
                    act(path)

    everything("first")
    before = len(os.listdir("/proc/self/fd"))
    everything("second")
    assert len(os.listdir("/proc/self/fd")) <= before


def test_without_replace_the_first_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "f"
    write_public(file, b"first", replace=False)
    with pytest.raises(Conflict, match="f exists already"):
        write_public(file, b"second", replace=False)
    assert file.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["f"]


def test_of_many_at_once_exactly_one_creates_the_file(tmp_path: Path) -> None:
    many, file = 16, tmp_path / "f"
    gate = threading.Barrier(many)

    def race(nth: int) -> bool:
        gate.wait()
        try:
            write_public(file, b"%d" % nth, replace=False)
        except Conflict:
            return False
        return file.read_bytes() == b"%d" % nth

    with ThreadPoolExecutor(many) as racers:
        assert sum(racers.map(race, range(many))) == 1
    assert os.listdir(tmp_path) == ["f"]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="none is no directory"):
        write_secret(tmp_path / "none" / "f", b"x")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFound, match="file is no directory"):
        write_secret(tmp_path / "file" / "f", b"x")


@pytest.mark.parametrize("failing", ["fsync", "rename", "fchmod"])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f"
    write_secret(file, b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keyfile.os, failing, full)
    with pytest.raises(Unavailable, match=r"can not write .*f: No space left on device"):
        write_secret(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_what_the_system_forbids_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(keyfile.os, "rename", forbid)
    with pytest.raises(Denied, match=r"can not write .*f: Permission denied"):
        write_secret(tmp_path / "f", b"new")


def test_the_bytes_are_on_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must find the old file or the whole new one, and find the new one once the
    call has returned: fsync of the file, then the rename, then fsync of the directory."""
    steps: list[str] = []
    fsync, rename, link = os.fsync, os.rename, os.link

    def noted_fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        steps.append("dir" if stat.S_ISDIR(found.st_mode) else f"file of {found.st_size}")
        fsync(descriptor)

    def noted(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def step(*args: object, **more: object) -> None:
            steps.append(name)
            call(*args, **more)

        return step

    monkeypatch.setattr(keyfile.os, "fsync", noted_fsync)
    monkeypatch.setattr(keyfile.os, "rename", noted("rename", rename))
    monkeypatch.setattr(keyfile.os, "link", noted("link", link))
    write_secret(tmp_path / "f", b"12345")
    write_public(tmp_path / "g", b"123", replace=False)
    assert steps == ["file of 5", "rename", "dir", "file of 3", "link", "dir"]


KILLED = """
import os, signal, sys
from pathlib import Path
from teleport_lite.pki import keyfile

left = int(sys.argv[2])

def dying(call):
    def step(*args, **more):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*args, **more)
    return step

for name in ("open", "fdopen", "stat", "fchmod", "fsync", "rename", "close"):
    setattr(keyfile.os, name, dying(getattr(os, name)))
keyfile.write_secret(Path(sys.argv[1]), b"new" * 50_000)
"""


def test_a_kill_at_any_step_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    file, old, new = tmp_path / "f", b"old" * 50_000, b"new" * 50_000
    found = []
    for step in range(100):
        write_secret(file, old)
        command = [sys.executable, "-c", KILLED, str(file), str(step)]
        code = subprocess.run(command, check=False).returncode
        found.append(read_secret(file))
        assert found[-1] in (old, new)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert found[0] == old  # it was killed before it began,
    assert new in found[:-1]  # and after the new file was in place,
    assert found[-1] == new  # and not at all
    for leftover in tmp_path.iterdir():
        assert mode(leftover) == 0o600


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regular_file_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO answers at once, too: nobody may hang us by planting one."""
    monkeypatch.chdir(tmp_path)
    in_the_way(kind, Path("f"))
    with pytest.raises(Denied, match=f"f is {kind}, expected a regular file"):
        read_secret(Path("f"))


@pytest.mark.parametrize("loose", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_file_open_to_others_is_refused_with_its_cure(tmp_path: Path, loose: int) -> None:
    file = tmp_path / "my key"
    write_secret(file, b"x")
    file.chmod(loose)
    with pytest.raises(Denied, match=f"has mode {loose:04o}, others may not") as refusal:
        read_secret(file)
    subprocess.run(refusal.value.hint, shell=True, check=True)
    assert read_secret(file) == b"x"


@pytest.mark.parametrize("tight", [0o600, 0o400, 0o700])
def test_a_file_of_our_own_is_read(tmp_path: Path, tight: int) -> None:
    write_secret(tmp_path / "f", b"x")
    (tmp_path / "f").chmod(tight)
    assert read_secret(tmp_path / "f") == b"x"


def test_a_file_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_secret(tmp_path / "f", b"x")
    strangers(tmp_path / "f", monkeypatch)
    with pytest.raises(Denied, match="f belongs to user"):
        read_secret(tmp_path / "f")


@pytest.mark.skipif(not ROOT, reason="needs a file of root that we can open")
def test_a_file_of_root_is_as_good_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd hands over credentials that way."""
    write_secret(tmp_path / "f", b"x")
    monkeypatch.setattr(keyfile.os, "geteuid", lambda: 1000)
    assert read_secret(tmp_path / "f") == b"x"


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="none does not exist"):
        read_secret(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFound, match="does not exist"):
        read_secret(tmp_path / "file" / "f")


def test_a_file_past_the_limit_is_malformed(tmp_path: Path) -> None:
    write_secret(tmp_path / "f", b"12345")
    assert read_secret(tmp_path / "f", limit=5) == b"12345"
    write_secret(tmp_path / "big", b"x" * (1 << 20))
    assert len(read_secret(tmp_path / "big")) == 1 << 20
    write_secret(tmp_path / "big", b"x" * ((1 << 20) + 1))
    with pytest.raises(Malformed, match="longer than 1048576 bytes"):
        read_secret(tmp_path / "big")
    with pytest.raises(Malformed, match="longer than 4 bytes"):
        read_secret(tmp_path / "f", limit=4)


def test_what_the_system_will_not_open_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(keyfile.os, "open", forbid)
    with pytest.raises(Denied, match=r"can not read .*f: Permission denied"):
        read_secret(tmp_path / "f")


@pytest.mark.parametrize(
    "act",
    [read_secret, make_private_dir, lambda path: write_secret(path, b"")],
    ids=["read", "make", "write"],
)
def test_a_name_with_nul_is_malformed(act: Callable[[Path], object]) -> None:
    with pytest.raises(Malformed, match="holds a NUL"):
        act(Path("/tmp/a\0b"))


# --- directories ----------------------------------------------------------------------------


def test_a_private_directory_is_made_once_and_then_checked(tmp_path: Path) -> None:
    make_private_dir(tmp_path / "d")
    (tmp_path / "d" / "kept").write_text("")
    make_private_dir(tmp_path / "d")
    assert os.listdir(tmp_path / "d") == ["kept"]


@pytest.mark.parametrize("loose", [0o755, 0o710, 0o701, 0o770, 0o1777])
def test_a_directory_open_to_others_is_refused_with_its_cure(tmp_path: Path, loose: int) -> None:
    directory = tmp_path / "my dir"
    directory.mkdir()
    directory.chmod(loose)
    with pytest.raises(Denied, match=f"has mode {loose:04o}, others may not") as refusal:
        make_private_dir(directory)
    assert mode(directory) == loose  # told, not quietly changed
    subprocess.run(refusal.value.hint, shell=True, check=True)
    make_private_dir(directory)


def test_a_link_is_no_private_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    for target in ("real", "nowhere"):
        link = tmp_path / f"to-{target}"
        link.symlink_to(target)
        with pytest.raises(Denied, match="is a symbolic link, expected a directory"):
            make_private_dir(link)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_no_private_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(Denied, match="is a regular file, expected a directory"):
        make_private_dir(tmp_path / "f")
    with pytest.raises(Error, match="f is no directory"):
        make_private_dir(tmp_path / "f" / "below")


def test_a_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_private_dir(tmp_path / "d")
    strangers(tmp_path / "d", monkeypatch)
    with pytest.raises(Denied, match="d belongs to user"):
        make_private_dir(tmp_path / "d")


def test_a_private_directory_is_never_open_to_others_not_even_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    chmod = Path.chmod

    def noted(path: Path, bits: int) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        chmod(path, bits)

    monkeypatch.setattr(Path, "chmod", noted)
    before = os.umask(0)
    try:
        make_private_dir(tmp_path / "d")
    finally:
        os.umask(before)
    assert seen == [0o700]


def test_a_link_that_takes_the_place_of_a_new_directory_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)

    def raced(path: Path, mode: int) -> None:
        path.symlink_to("theirs")

    monkeypatch.setattr(Path, "mkdir", raced)
    with pytest.raises(Error, match="can not make"):
        make_private_dir(tmp_path / "d")
    assert mode(tmp_path / "theirs") == 0o755


def test_of_many_at_once_all_get_the_same_private_directory(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as racers:
        list(racers.map(make_private_dir, [tmp_path / "a" / "b"] * 16))
    assert mode(tmp_path / "a" / "b") == 0o700


def test_two_who_change_a_file_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "count"
    write_secret(path, b"0")

    def count(_: int) -> None:
        for _ in range(20):
            with alone(path):
                write_secret(path, str(int(read_secret(path)) + 1).encode())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert read_secret(path) == b"80"


def test_taking_turns_needs_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for above in ("nosuch", "file"):
        with (
            pytest.raises(NotFound, match=f"{above} is no directory"),
            alone(tmp_path / above / "x"),
        ):
            pass
