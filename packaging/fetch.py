"""Wheels for a target, from the index that uv or pip is set up for, checked against lock.txt.

uv where there is one: it is fast, and knows other Pythons and machines than those it runs on.
Else pip, of this Python or of Debian's; where there is none, apt brings it if we may ask it to.
"""

import base64
import contextlib
import csv
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
# What they write that is in no wheel, and what they change; none of it goes into the file.
INSTALLERS = re.compile(
    r"^(\.\./)*bin/|^\.lock$|\.pyc$"
    r"|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_build\.json|uv_cache\.json)$"
)
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
    """A directory with the locked wheels installed for `target`; made once per lock.

    Raises Failed. Checked each time: a later install into another environment may have shared
    files with it, and who changes one there changes it here.
    """
    lock = hashlib.sha256(LOCK.read_bytes() + BUILD_LOCK.read_bytes()).hexdigest()[:16]
    place = build / f"site-{lock}-{target}"
    if place.is_dir():
        changed = altered(place)
        if not changed:
            return place
        say(f"{place} was changed ({changed[0]}); fetching it anew")
    unready = build / f".making-{place.name}-{os.getpid()}"
    shutil.rmtree(unready, ignore_errors=True)
    try:
        install(target, unready)
        replace(place, unready)
    finally:
        shutil.rmtree(unready, ignore_errors=True)
    return place


def replace(place: Path, unready: Path) -> None:
    """Another build may be at it too, and read what is there: it keeps what it has open."""
    aside = unready.with_name(unready.name + ".old")
    with contextlib.suppress(FileNotFoundError):
        place.rename(aside)
    with contextlib.suppress(OSError):  # somebody else put theirs there meanwhile
        unready.rename(place)
    shutil.rmtree(aside, ignore_errors=True)


def altered(place: Path) -> list[str]:
    """Files that are not what their wheels hold, by the RECORD of each (PEP 376), in none, or gone.

    An installer compares the digest of a wheel when it fetches it, and then unpacks it into a
    cache that is never looked at again.
    """
    stated: dict[str, str] = {}
    for record in place.glob("*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as file:
            stated |= {row[0]: row[1] for row in csv.reader(file)}
    stated = {name: digest for name, digest in stated.items() if not INSTALLERS.search(name)}
    found = [name for name in stated if not (place / name).is_file()]
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if not path.is_file() or INSTALLERS.search(name):
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
        if stated.get(name) != f"sha256={digest.decode().rstrip('=')}":
            found.append(name)
    return found


def install(target: Target, place: Path) -> None:
    """Raises Failed."""
    foreign = target != Target.here()
    uv = find_uv()
    if uv:
        say(f"fetching wheels for {target} with uv")
        if uv_did(uv, target, place):
            return
    if foreign:
        raise Failed(f"wheels for {target} need uv on this {Target.here()}", "pip install uv")
    say(f"fetching wheels for {target} with pip")
    with tempfile.TemporaryDirectory() as tools:
        for command in pip_installs(find_pip(), target, Path(tools), place):
            # setup.py shall find the locked setuptools, and no build environment be made for it
            if subprocess.run(command, env=os.environ | {"PYTHONPATH": tools}).returncode:
                raise Failed("pip could not fetch what lock.txt names", "pip config debug")
    if changed := altered(place):
        raise Failed(f"{changed[0]}, as pip installed it, is in no wheel", "pip cache purge")


def uv_did(uv: str, target: Target, place: Path) -> bool:
    """Whether all is there. Raises Failed if it is, but is not what the wheels hold."""
    command = uv_install(uv, target, place)
    for more in ([], ["--no-cache"]):
        if subprocess.run([*command, *more], env=uv_environment()).returncode:
            shutil.rmtree(place, ignore_errors=True)
            return False
        changed = altered(place)
        if not changed:
            return True
        shutil.rmtree(place, ignore_errors=True)
        say(f"the cache of uv is not what was fetched: {changed[0]} (uv cache clean)")
    raise Failed(f"{changed[0]}, as uv installed it, is in no wheel", "uv cache clean")


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
        # by copying, for a file that a cache shares could be changed from elsewhere
        *("--link-mode", "copy", "--target", str(place), "-r", str(LOCK)),
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
