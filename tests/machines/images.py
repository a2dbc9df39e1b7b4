"""Bare systems with a systemd, made by debootstrap: once for each developer, kept in a cache.

They have what a cloud image of the same distribution has of what we need, and nothing of ours.
Machines boot them under an overlay, so nobody ever writes to one.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Which distributions: names of IMAGES with commas between them, or all.
CHOICE = "TELEPORT_LITE_MACHINES"
# A directory with ready images (bookworm, noble, trixie), instead of the cache.
READY = "TELEPORT_LITE_MACHINE_IMAGES"
# Where packages come from, if not from the distribution itself.
DEBIAN_MIRROR, UBUNTU_MIRROR = "TELEPORT_LITE_DEBIAN_MIRROR", "TELEPORT_LITE_UBUNTU_MIRROR"

_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "ca-certificates",
    "curl",
    "python3",
    "procps",
    "iproute2",
    "libpam-systemd",
    "openssh-client",
    "sudo",
    "jq",
    "openssl",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    name: str
    title: str
    python: str  # the one that comes with it, like cp311
    mirror: tuple[str, str]  # environment variable, default
    options: tuple[str, ...] = ()
    script: str = ""

    def command(self, place: Path) -> list[str]:
        # Killed with whoever started it, and so are its mounts.
        bound = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork")
        words = ("--kill-child", "--mount-proc", "debootstrap", "--variant=minbase")
        include = f"--include={','.join(_PACKAGES)}"
        script = [self.script] if self.script else []
        return [*bound, *words, include, *self.options, self.name, str(place), self.url, *script]

    @property
    def url(self) -> str:
        variable, usual = self.mirror
        return os.environ.get(variable) or usual


_DEBIAN = (DEBIAN_MIRROR, "http://deb.debian.org/debian")
IMAGES = {
    each.name: each
    for each in (
        Image(name="bookworm", title="Debian 12", python="cp311", mirror=_DEBIAN),
        # Debian's debootstrap has neither Ubuntu's keyring nor its later names; all of Ubuntu is
        # made alike. Unchecked packages will do for a root that is thrown away after the tests.
        Image(
            name="noble",
            title="Ubuntu 24.04",
            python="cp312",
            mirror=(UBUNTU_MIRROR, "http://archive.ubuntu.com/ubuntu"),
            options=("--no-check-gpg", "--components=main,universe"),
            script="/usr/share/debootstrap/scripts/gutsy",
        ),
        Image(name="trixie", title="Debian 13", python="cp313", mirror=_DEBIAN),
    )
}


def chosen() -> tuple[str, ...]:
    """The names of the distributions to run on; Debian 12 if nobody says more."""
    said = os.environ.get(CHOICE, "")
    names = tuple(each.strip() for each in said.split(",") if each.strip()) or ("bookworm",)
    if names == ("all",):
        return tuple(IMAGES)
    for name in names:
        assert name in IMAGES, f"{CHOICE}={said}: choose from {', '.join(IMAGES)}, all"
    return names


def image(name: str) -> Path:
    """The root directory of `name`, made if it is not there yet. One process makes it, others wait.

    Skips the test where the mirror can not be reached.
    """
    if ready := os.environ.get(READY):
        return Path(ready) / name
    made = IMAGES[name]
    recipe = hashlib.sha256(repr(made.command(Path("/"))).encode()).hexdigest()[:8]
    place = _cache() / f"{name}-{recipe}"
    with _alone(place):
        if not place.exists():
            _make(made, place)
    return place


def _make(made: Image, place: Path) -> None:
    try:
        with urllib.request.urlopen(f"{made.url}/dists/{made.name}/Release", timeout=20):
            pass
    except (urllib.error.URLError, OSError) as why:
        pytest.skip(f"no mirror of {made.title} at {made.url}: {why}")
    unready, log = place.with_suffix(".new"), place.with_suffix(".log")
    if unready.exists():
        shutil.rmtree(unready)
    with log.open("wb") as out:
        done = subprocess.run(
            made.command(unready), stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=900
        )
    assert done.returncode == 0, f"debootstrap failed, see {log}:\n{log.read_text()[-2000:]}"
    for package in (unready / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    (unready / "etc/machine-id").write_text("")  # each machine gets its own when it boots
    unready.rename(place)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "teleport-lite-machines"


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
