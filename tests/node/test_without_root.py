"""A daemon of an ordinary user: nobody to become, so only that user may log in."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.house import REPO, House

SYSTEM = Path("/usr/bin/python3")
# Large, and no part of a node.
UNUSED = (
    "__pycache__",
    "mypy*",
    "ruff*",
    "hypothesis*",
    "uv*",
    "pip",
    "pip-*",
    "librt*",
    "aiohttp*",
)


def usable() -> str:
    """Why not, or "". The interpreter of the tests may be where only its owner can read it."""
    if os.getuid() != 0:
        return "needs root, to be somebody else"
    if not SYSTEM.exists():
        return "needs the system's Python"
    said = subprocess.run([SYSTEM, "--version"], capture_output=True, text=True).stdout
    if not said.startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}."):
        return f"needs the Python of the tests, {said} is not"
    return ""


def readable(place: Path, account: pwd.struct_passwd, repo: Path, packages: Path) -> list[Path]:
    """The code where `account` can read it: a checkout may be in root's own home."""
    look = (
        "import os, sys; sys.exit(not all(os.access(p, os.R_OK | os.X_OK) for p in sys.argv[1:]))"
    )
    words = [SYSTEM, "-c", look, repo / "tests", packages]
    if subprocess.run(words, user=account.pw_uid, group=account.pw_gid, cwd="/").returncode == 0:
        return [repo, packages]
    unused = shutil.ignore_patterns(*UNUSED)
    shutil.copytree(packages, place / "packages", ignore=unused)
    for part in ("teleport_lite", "tests"):
        shutil.copytree(repo / part, place / "code" / part, ignore=unused)
    return [place / "code", place / "packages"]


@pytest.fixture
def modest(tmp_path: Path, other: str) -> Iterator[House]:
    """Everything belongs to `other`, the directories above included."""
    if why := usable():
        pytest.skip(why)
    account = pwd.getpwnam(other)
    place = Path("/tmp") / f"{other}-{tmp_path.name[:20]}"
    place.mkdir(mode=0o755)
    house = House(place)
    packages = next(Path(each) for each in sys.path if each.endswith("site-packages"))
    code, packages = readable(place, account, REPO, packages)
    house.python = [str(SYSTEM)]
    house.popen = {
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": [],
        "cwd": code,
        "env": {"PYTHONPATH": f"{code}:{packages}", "PATH": os.environ["PATH"]},
    }
    subprocess.run(["chown", "-R", f"{account.pw_uid}:{account.pw_gid}", place], check=True)
    house.start()
    try:
        yield house
    finally:
        house.stop()
        shutil.rmtree(place)


def test_who_is_not_root_serves_their_own_user_alone(modest: House, other: str) -> None:
    done = modest.ssh("id -un; grep NoNewPrivs /proc/self/status", login=other)
    assert done.stdout.split() == [other.encode(), b"NoNewPrivs:", b"0"], done.stderr
    as_root = modest.visitor(modest.cluster.user(logins=("root",))).ssh("id", login="root")
    assert as_root.returncode == 255
    reason = "this node does not run as root and can not become root"
    assert modest.event("T3007W", reason=reason)["facts"]["login"] == "root"


def test_a_worker_still_gives_up_what_it_can(modest: House, other: str) -> None:
    client = modest.visitor(modest.cluster.user(logins=(other,))).start("echo up; cat", login=other)
    assert client.stdout
    assert client.stdout.readline() == b"up\n"
    worker = modest.one("tl-ssh-worker")
    status = Path(f"/proc/{worker}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    limits = Path(f"/proc/{worker}/limits").read_text()
    assert limits.count(" 0                    0 ") >= 2
    # Not dumpable: even the user's own processes may not look inside.
    assert Path(f"/proc/{worker}/fd").stat().st_uid == 0
