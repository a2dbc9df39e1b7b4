"""A system of its own for a node: /etc, /home, /run and /var/log in a mount namespace.

The tools that make accounts run for real in there, on copies; the machine's own files are out
of their reach. From outside the files are where `System.path` says.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_PLACES = ("/etc", "/home", "/run", "/var/log", "/var/mail")
# unshare(1) makes its mounts private. $0 is where the copies are.
_MOUNT = 'mount --bind "$0$place" "$place"'
_SCRIPT = f'for place in {" ".join(_PLACES)}; do {_MOUNT}; done; exec "$@"'


class System:
    def __init__(self, directory: Path) -> None:
        self.root = directory
        for place in _PLACES[1:]:
            self.path(place).mkdir(parents=True)
        shutil.copytree("/etc", self.path("/etc"), symlinks=True, ignore=_unfit)
        for name in ("passwd", "group", "shadow", "gshadow"):
            if Path(f"/etc/{name}").exists():
                shutil.copy2(f"/etc/{name}", self.path(f"/etc/{name}"))

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")

    def command(self, *words: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-ec", _SCRIPT, str(self.root), *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=60)

    def add_user(self, login: str, *words: str) -> None:
        done = self.run("useradd", "--create-home", "--shell", "/bin/sh", *words, login)
        assert done.returncode == 0, done.stderr

    def users(self) -> set[str]:
        return {line.split(":")[0] for line in self.path("/etc/passwd").read_text().splitlines()}

    def groups_of(self, login: str) -> set[str]:
        rows = (line.split(":") for line in self.path("/etc/group").read_text().splitlines())
        return {row[0] for row in rows if login in row[3].split(",")}

    def pam(self, service: str, text: str) -> None:
        self.path(f"/etc/pam.d/{service}").write_text(text)


def _unfit(directory: str, names: list[str]) -> set[str]:
    """Sockets and the like; and what is large and of no use to a login."""
    unfit = {"ssl", "fonts", "apparmor.d", "java", "texmf"}
    return {
        name
        for name in names
        if name in unfit or not (Path(directory, name).is_dir() or Path(directory, name).is_file())
    }


def why_not() -> str:
    """Why there can be none, or ""."""
    if os.getuid() != 0:
        return "needs root, to make accounts"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True)
    return "" if done.returncode == 0 else "needs mount namespaces"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    if why := why_not():
        pytest.skip(why)
    return System(tmp_path_factory.mktemp("system"))
