"""First starts of several users, and with full or closed disks; starts of what a user installed."""

import contextlib
import fcntl
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.conftest import NOBODY
from tests.packaging.test_start import VERSION, into, start, trees

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")
# Runs the file as its header does, then tells what it would import from.
TELL = """
import json, runpy, sys
del sys.argv[0]
sys.path.insert(0, sys.argv[0])
try: runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as how: assert not how.code
print(json.dumps(sys.path))
"""


def writable_by_others(path: Path) -> bool:
    """For a directory others may replace entries of: sticky ones let them replace only theirs."""
    facts = path.stat()
    return bool(facts.st_mode & 0o002) and not facts.st_mode & 0o1000


def as_user(uid: int) -> dict[str, Any]:
    return {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def quiet(directory: Path) -> Iterator[None]:
    """Whatever happened in there, nothing of it is left."""
    yield
    assert list(directory.iterdir()) == []


# Groups


@root_only
@pytest.mark.parametrize(("group", "taken"), [("www-data", True), ("mail", False)])
def test_the_group_that_a_user_is_alone_in_is_the_user(stranger, outside, group, taken):
    """As Ubuntu makes homes, with everything in them 0775."""
    uid = pwd.getpwnam("www-data").pw_uid
    home = outside / "home"
    trees_of = home / ".cache" / "teleport-lite"
    trees_of.mkdir(parents=True)
    for path in (home, home / ".cache", trees_of):
        os.chown(path, uid, grp.getgrnam(group).gr_gid)
        path.chmod(0o775)
    env = stranger["env"] | {"HOME": str(home)}
    said = start(stranger["file"], "--version", env=env, **as_user(uid))
    assert said.stdout.startswith(VERSION), said.stderr
    assert any(not path.name.startswith(".") for path in trees_of.iterdir()) == taken


# Two users at once


@root_only
def test_ten_first_starts_at_once_as_two_users(stranger, outside):
    """Of each user two have a home, and three none of use; all with the worst of umasks.

    Nobody loads from where others may write, nobody waits for ever, nothing half made stays.
    """
    tmp = outside / "tmp"
    tmp.mkdir()
    tmp.chmod(0o1777)
    (outside / "unwritable").mkdir(mode=0o555)
    (outside / "a file").touch()
    jobs: list[tuple[int, str]] = []
    for uid in (NOBODY, NOBODY - 1):
        home = outside / str(uid)
        home.mkdir(mode=0o755)
        os.chown(home, uid, uid)
        homes = [home, home, "/nonexistent", outside / "unwritable", outside / "a file"]
        jobs += [(uid, str(each)) for each in homes]

    def run(job: tuple[int, str]) -> list[str]:
        python = stranger["env"]["TELEPORT_LITE_PYTHON"]
        said = subprocess.run(
            [python, "-I", "-S", "-c", TELL, str(stranger["file"]), "--version"],
            env={"HOME": job[1], "TMPDIR": str(tmp)},
            umask=0,
            capture_output=True,
            text=True,
            timeout=100,
            **as_user(job[0]),
        )
        assert said.returncode == 0, said.stderr
        version, path = said.stdout.splitlines()
        assert version.startswith(VERSION)
        found: list[str] = json.loads(path)
        return found

    with quiet(tmp), ThreadPoolExecutor(10) as pool:
        paths = list(pool.map(run, jobs))
    for (uid, home), path in zip(jobs, paths, strict=True):
        cache = Path(home, ".cache", "teleport-lite")
        private = Path(home).name == str(uid)
        assert path[0].startswith(str(cache if private else tmp) + "/")
        for directory in map(Path, path[1:] + [str(cache)] * private):
            for each in [directory, *directory.parents]:
                assert not (each.exists() and writable_by_others(each)), each
    for uid in (NOBODY, NOBODY - 1):
        cache = outside / str(uid) / ".cache" / "teleport-lite"
        assert len(trees(cache)) == 1
        assert [name for name in os.listdir(cache) if name.startswith(".making")] == []
        for path in [cache, *cache.rglob("*")]:
            assert path.lstat().st_uid == uid
            assert not path.lstat().st_mode & 0o022, path


def test_a_careless_umask_opens_no_tree(built, tmp_path):
    """Root's trees can be read by all, so every directory counts, those that Python makes too."""
    root = tmp_path / "root"
    start(built, "tctl", "status", env=into(root) | {"HOME": str(tmp_path)}, umask=0)
    assert list(root.glob("*/teleport_lite/__pycache__/*.pyc"))
    assert not [path for path in root.rglob("*") if path.stat().st_mode & 0o022]


def test_what_killed_starts_left_in_a_temporary_directory_goes(stranger, outside):
    tmp = outside / "tmp"
    tmp.mkdir()
    tmp.chmod(0o1777)
    locks = []
    for name in ("teleport-lite-deadaaaa", "teleport-lite-livebbbb", "teleport-lite-newcccc1"):
        (tmp / name).mkdir()
        lock = os.open(tmp / name / ".lock", os.O_RDWR | os.O_CREAT)
        if "live" in name:
            fcntl.flock(lock, fcntl.LOCK_EX)
        locks.append(lock)
        old = 0 if "new" in name else 1000
        os.utime(tmp / name, (time.time() - old, time.time() - old))
        if os.geteuid() == 0:
            os.chown(tmp / name, NOBODY, NOBODY)
            os.chown(tmp / name / ".lock", NOBODY, NOBODY)
    (tmp / "teleport-lite-somebody").write_text("a file")
    stranger["env"]["TMPDIR"] = str(tmp)
    said = start(**stranger)
    assert said.returncode == 0, said.stderr
    left = {path.name.rpartition("-")[2] for path in tmp.iterdir()}
    assert left == {"livebbbb", "newcccc1", "somebody"}
    for lock in locks:
        os.close(lock)


# Disks

FULL = """
set -eu
small=$1 file=$2
say() { echo "== $1"; }
mount -t tmpfs -o size=6m,mode=1777 none "$small"
for place in /var/tmp /dev/shm; do mount --bind "$small" "$place"; done
export HOME="$small" TMPDIR="$small" XDG_CACHE_HOME="$small/cache"
as="setpriv --reuid=65534 --regid=65534 --clear-groups"
$as "$file" --version || echo "failed with $?"
say left
find "$small" -type f ! -name .lock
say space
mount -o remount,size=300m "$small"
$as "$file" --version
say read-only
mount -o remount,ro "$small"
$as "$file" --version
"""


@root_only
def test_a_full_disk_is_told_and_leaves_nothing_and_with_space_all_is_well(stranger, outside):
    """In a mount namespace, where every place to unpack to is one small disk. Then it is closed."""
    (outside / "small").mkdir()
    said = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            FULL,
            "sh",
            outside / "small",
            stranger["file"],
            "65534",
        ],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | stranger["env"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert said.returncode == 0, said.stderr
    assert "small/cache/teleport-lite: [Errno 28] No space left on device" in said.stderr
    assert "ERROR: no directory to unpack to" in said.stderr
    lines = said.stdout.splitlines()
    assert lines[:3] == ["failed with 1", "== left", "== space"]
    assert lines[3].startswith(VERSION)
    assert lines[4] == "== read-only"
    assert lines[5].startswith(VERSION)


def test_a_hardened_unit_unpacks_to_the_directories_that_systemd_gives_it(stranger, outside):
    """As with DynamicUser=yes: no home, a uid without a name, its cache behind a symlink."""
    cache = outside / "private"
    cache.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(cache, NOBODY, NOBODY)
    (outside / "cache").symlink_to("private")
    given = f"{outside / 'cache'}:/nonexistent/second"
    stranger["env"] |= {"HOME": "/", "TMPDIR": "/nonexistent", "CACHE_DIRECTORY": given}
    said = start(**stranger)
    assert said.returncode == 0, said.stderr
    assert len(trees(cache / "trees")) == 1


# What a user installed for himself


@pytest.fixture
def prefix(stranger: dict[str, Any], outside: Path) -> Path:
    """Like ~/.local of the stranger, laid out as `install self` does, but without a tree."""
    place = outside / "home" / ".local"
    version = place / "lib" / "teleport-lite" / "1.2.3"
    version.mkdir(parents=True)
    (place / "bin").mkdir()
    shutil.move(stranger["file"], version / "teleport-lite.pyz")
    (version.parent / "current").symlink_to("1.2.3")
    for name in ("teleport-lite", "tsh"):
        (place / "bin" / name).symlink_to("../lib/teleport-lite/current/teleport-lite.pyz")
    if os.geteuid() == 0:
        for path in [outside / "home", *(outside / "home").rglob("*")]:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    stranger["file"] = place / "bin" / "tsh"
    return place


def begin(stranger: dict[str, Any], *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Without TELEPORT_LITE_PYTHON, which keeps the header from its short cut."""
    options = {name: value for name, value in stranger.items() if name not in ("file", "env")}
    options |= more
    python = Path(stranger["env"]["TELEPORT_LITE_PYTHON"])
    env = {"PATH": f"{python.parent}:/usr/bin:/bin", **options.pop("env", {})}
    command = [str(stranger["file"]), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, **options)


def spoil(prefix: Path) -> None:
    """Only the short cut starts such a file now; the long way compares its size."""
    with (prefix / "lib" / "teleport-lite" / "1.2.3" / "teleport-lite.pyz").open("ab") as file:
        file.write(b"x")


@root_only
def test_ones_own_installation_is_found_through_its_links_and_starts_by_the_short_cut(
    stranger, prefix
):
    lib = prefix / "lib" / "teleport-lite"
    made = begin(stranger, "self", "unpack", str(lib))
    assert made.returncode == 0, made.stderr
    said = begin(stranger, "self", "where")
    assert Path(said.stdout.strip()).parent == lib, said.stderr
    assert f"{lib}: has the tree" in said.stderr
    for launch in ([], [made.stdout.strip() + "/_launch.py"]):
        assert told_file(stranger, *launch) == str(lib / "1.2.3" / "teleport-lite.pyz")
    spoil(prefix)
    said = begin(stranger, "--version")
    assert said.stdout.startswith(VERSION), said.stderr
    assert "Usage: tsh " in begin(stranger, "--help").stdout
    assert "is damaged" in begin(stranger, "self", "where").stderr  # `self` asks the file


def told_file(stranger: dict[str, Any], *launch: str) -> str:
    """What release/here.py asks for; argv[0] may be a name that leads elsewhere by then."""
    code = "import runpy, sys; sys.exit = lambda code: None; del sys.argv[0]; "
    code += "path = sys.argv[0]; sys.path.insert(0, path); "
    code += "print(runpy.run_path(path, run_name='__main__')['FILE'])"
    python = stranger["env"]["TELEPORT_LITE_PYTHON"]
    command = [python, "-I", "-S", "-c", code, *launch, str(stranger["file"]), "--version"]
    who = {name: value for name, value in stranger.items() if name not in ("file", "env")}
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, **who)
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()[-1]


@root_only
@pytest.mark.parametrize("whose", ["mine", "launch", "lib", "root starts it", "by HOME"])
def test_nobody_takes_a_short_cut_that_another_made(stranger, prefix, outside, whose):
    """The shell runs what stands in there, as whoever starts the program."""
    spoil(prefix)
    lib = prefix / "lib" / "teleport-lite"
    header = (lib / "1.2.3" / "teleport-lite.pyz").read_bytes()[:200]
    found = re.search(rb"\(build (\w+)\)", header)
    assert found
    launch = lib / f"launch-{found[1].decode()}"
    launch.write_text("echo taken; exit\n")
    os.chown(launch, NOBODY, NOBODY)
    more: dict[str, Any] = {}
    if whose == "launch":
        os.chown(launch, NOBODY - 1, NOBODY - 1)
    elif whose == "lib":
        os.chown(lib, NOBODY - 1, NOBODY - 1)
    elif whose == "root starts it":
        more = {"user": 0, "group": 0}
    elif whose == "by HOME":  # as after `su` without a dash
        stranger["file"] = outside / "tsh"
        shutil.copy(prefix / "bin" / "tsh", stranger["file"])
        more = {"env": {"HOME": str(outside / "home")}}
    said = begin(stranger, "--version", **more)
    assert ("taken" in said.stdout) == (whose == "mine")
    assert ("is damaged" in said.stderr) == (whose != "mine")
