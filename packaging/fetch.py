"""Wheels for a target, from the index that uv or pip is set up for, checked against lock.txt.

uv where there is one: it is fast, and knows other Pythons and machines than those it runs on.
Else pip, of this Python or of Debian's; where there is none, apt brings it if we may ask it to.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

HERE = Path(__file__).resolve().parent
LOCK, BUILD_LOCK = HERE / "lock.txt", HERE / "lock-build.txt"
# Never run code of a package to install it, save for the one that comes as sources only; what
# builds that one is in lock-build.txt.
WHEELS_ONLY = ["--only-binary", ":all:", "--no-binary", "sdnotify"]
GLIBC = 28  # of Debian 10: wheels for older ones do too, for newer ones do not


class Failed(Exception):
    """No wheels. The hint is what a person can do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Target:
    """A Python on a kind of machine, like cp311-x86_64."""

    python: str
    arch: str

    def __str__(self) -> str:
        return f"cp{self.python.replace('.', '')}-{self.arch}"

    @classmethod
    def here(cls) -> Self:
        return cls(f"{sys.version_info[0]}.{sys.version_info[1]}", os.uname().machine)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, which argparse turns into its own message."""
        if not re.fullmatch(r"cp3\d+-(x86_64|aarch64)", text):
            raise ValueError(text)
        python, arch = text.split("-")
        return cls(f"3.{python[3:]}", arch)


def site(target: Target, build: Path) -> Path:
    """A directory with the locked wheels installed for `target`; made once per lock."""
    lock = hashlib.sha256(LOCK.read_bytes() + BUILD_LOCK.read_bytes()).hexdigest()[:16]
    place = build / f"site-{lock}-{target}"
    if place.is_dir():
        return place
    unready = build / f".making-{place.name}-{os.getpid()}"
    try:
        install(target, unready)
        if not place.is_dir():
            unready.rename(place)
    finally:
        shutil.rmtree(unready, ignore_errors=True)
    return place


def install(target: Target, place: Path) -> None:
    """Raises Failed."""
    foreign = target != Target.here()
    uv = find_uv()
    if uv:
        say(f"fetching wheels for {target} with uv")
        done = subprocess.run(uv_install(uv, target, place), env=uv_environment())
        if done.returncode == 0:
            return
        shutil.rmtree(place, ignore_errors=True)
    if foreign:
        raise Failed(f"wheels for {target} need uv on this {Target.here()}", "pip install uv")
    say(f"fetching wheels for {target} with pip")
    with tempfile.TemporaryDirectory() as tools:
        for command in pip_installs(find_pip(), target, Path(tools), place):
            # setup.py shall find the locked setuptools, and no build environment be made for it
            if subprocess.run(command, env=os.environ | {"PYTHONPATH": tools}).returncode:
                raise Failed("pip could not fetch what lock.txt names", "pip config debug")


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def works(*command: str) -> bool:
    """Whether it is there and runs; a pyenv shim can be there and not run."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


# uv


def find_uv() -> str:
    for uv in (shutil.which("uv"), str(HERE.parent / ".venv" / "bin" / "uv")):
        if uv and works(uv, "--version"):
            return uv
    return ""


def uv_install(uv: str, target: Target, place: Path) -> list[str]:
    platform = ["--python-platform", f"{target.arch}-manylinux_2_{GLIBC}"]
    return [
        *(uv, "pip", "install", "--quiet", "--no-config", "--require-hashes", *WHEELS_ONLY),
        *("--build-constraints", str(BUILD_LOCK), *platform, "--python-version", target.python),
        *("--target", str(place), "-r", str(LOCK)),
    ]


def uv_environment() -> dict[str, str]:
    """Ours, with pip's index settings told to uv where it has none of its own."""
    known = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_FIND_LINKS": "UV_FIND_LINKS"}
    known |= {"PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_CERT": "SSL_CERT_FILE"}
    told = {known[key]: value for key, value in os.environ.items() if key in known}
    return told | dict(os.environ)


# pip


def pip_installs(pip: list[str], target: Target, tools: Path, place: Path) -> list[list[str]]:
    """Two commands: what builds the one source package, then everything."""
    older = [f"manylinux_2_{minor}" for minor in (*range(GLIBC, 16, -1), 12, 5)]
    platforms = [*older, "manylinux2014", "manylinux2010", "manylinux1"]
    install = [*quiet_pip(pip, sys.executable), "--require-hashes", "--no-deps", "--no-compile"]
    return [
        [*install, "--only-binary", ":all:", "--target", str(tools), "-r", str(BUILD_LOCK)],
        [
            *(*install, "--use-pep517", "--no-build-isolation", *WHEELS_ONLY),
            *(f"--platform={name}_{target.arch}" for name in platforms),
            *("--target", str(place), "-r", str(LOCK)),
        ],
    ]


def quiet_pip(pip: list[str], python: str) -> list[str]:
    quiet = ["-qq", "--disable-pip-version-check", "--no-input", "--root-user-action", "ignore"]
    return [*pip, "--python", python, "install", *quiet]


def find_pip() -> list[str]:
    """The words that start a pip, of this Python or of Debian's. Raises Failed."""
    if pip := installed_pip():
        return pip
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("installing python3-pip with apt-get")
        get = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([*get, "update"], env=quiet, stdout=subprocess.DEVNULL)
        wanted = [*get, "install", "-y", "--no-install-recommends", "python3-pip"]
        subprocess.run(wanted, env=quiet, stdout=subprocess.DEVNULL)
        if pip := installed_pip():
            return pip
    raise Failed("there is neither pip nor uv to fetch packages with", apt_hint())


def installed_pip() -> list[str]:
    for python in (sys.executable, "/usr/bin/python3"):
        if works(python, "-m", "pip", "--python", sys.executable, "--version"):
            return [python, "-m", "pip"]
    return []


def apt_hint() -> str:
    return "sudo apt-get install python3-pip" if shutil.which("apt-get") else "python3 -m ensurepip"
