"""Versions that are a page of Python behind the header's line, and a systemd that is a script."""

import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cryptography

from teleport_lite.release.layout import Layout
from teleport_lite.release.place import place, source_in, source_of
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.work import Work

REPO = Path(__file__).resolve().parents[2]
SITE = Path(cryptography.__file__).resolve().parents[1]
UNIT = "teleport-lite.service"
MARK = "# teleport-lite: installed by install.sh\n"

# `wrong` is a word of what it does wrong. It places itself in short, which is quick, or by the
# real code if `wrong` says so.
_PROGRAM = """\
#!/usr/bin/env python3
# teleport-lite {version} (build {build}): a stand-in
import os, sys
version, build, wrong, words = {version!r}, {build!r}, {wrong!r}, sys.argv[1:]

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def point(name, to):
    os.symlink(to, name + ".new")
    os.rename(name + ".new", name)

def install(prefix, source):
    lib = prefix + "/lib/teleport-lite/"
    old = os.readlink(lib + "current")
    for name in ("teleport-lite-" + version + ".pyz", "SHA256SUMS", "SHA256SUMS.sig"):
        if source and os.path.exists(source + "/" + name):
            os.makedirs(lib + version, exist_ok=True)
            to = "teleport-lite.pyz" if name.endswith("z") else name
            write(lib + version + "/" + to, open(source + "/" + name).read())
    write(prefix + "/../etc/{unit}", {mark!r} + "# " + version + "\\n")
    os.system("exec " + prefix + "/../systemctl daemon-reload")
    if old != version:
        point(lib + "previous", old)
        point(lib + "current", version)
        print("switched to", version)

if wrong == "does not start":
    sys.exit("ERROR: no such luck")
if words[:2] == ["self", "unpack"]:
    tree = words[2] + "/" + build + "-cp311-x86_64"
    os.makedirs(tree, exist_ok=True)
    write(tree + "/_launch.py", "")
    launch = f"py='{{sys.executable}}'\\nmain='{{tree}}/_launch.py'\\n"
    write(words[2] + "/launch-" + build, launch)
elif words == ["--version"]:
    if wrong == "hangs":
        import time
        time.sleep(60)
    print("teleport-lite v" + ("1.1.1" if wrong == "lies" else version), "python3")
elif words[:1] == ["configure"]:
    if wrong == "refuses the config":
        sys.exit("FAIL\\nERROR: key is unknown\\n  try: another")
elif words[:2] == ["install", "self"]:
    if wrong == "does not install":
        sys.exit("ERROR: no place")
    if wrong == "real":
        sys.path[:0] = {path!r}
        from tests.release.stand_ins import install as real
        real(sys.argv[0], version, words)
    else:
        given = dict(word[2:].partition("=")[::2] for word in words[2:])
        assert "no-restart" in given
        install(given["prefix"], given.get("from"))
"""


def stand_in(version: str, wrong: str = "") -> bytes:
    path = [str(REPO), str(SITE)]
    facts = {"version": version, "build": build_of(version), "wrong": wrong, "path": path}
    return _PROGRAM.format(**facts, unit=UNIT, mark=MARK).encode()


def build_of(version: str) -> str:
    """16 hexadecimal digits, another for each version."""
    return version.encode().hex()[-16:].rjust(16, "0")


def install(file: str, version: str, words: list[str]) -> None:
    """`install self` with a unit that says its version, and the systemd beside the prefix."""
    options = dict(word[2:].partition("=")[::2] for word in words)
    layout = Layout(Path(options["prefix"]))
    rig = Rig(layout.prefix.parent)
    directory = options.get("from")
    source = source_in(Path(directory), version) if directory else source_of(Path(file), version)
    work = Work(say=print)
    place(
        source,
        layout,
        work=work,
        units=rig.units(version),
        systemd=None if "no-systemd" in options else rig.systemd,
        restart="no-restart" not in options,
    )
    if not work.done:
        print("nothing changed")


_SYSTEMCTL = """\
#!/bin/sh
# Units are files with what `show` answers; "how-<version>" says how that version starts.
cd {state} || exit 9
echo "$*" >>calls
for unit; do :; done
how=$(cat "how-$(readlink {lib}/current)" 2>/dev/null)
case $1 in
  show)
    if [ -e dying ] && [ "$unit" = "$(cat dying)" ]; then
      rm dying
    elif [ -e "$unit" ] && [ "$how" = dies ]; then
      printf 'ActiveState=failed\\nMainPID=0\\n' >"$unit"
    fi
    cat "$unit" 2>/dev/null || printf 'ActiveState=inactive\\nMainPID=0\\n' ;;
  restart | try-restart)
    printf 'ActiveState=active\\nMainPID=%s\\n' "$$" >"$unit"
    case $how in
      fails)
        printf 'ActiveState=failed\\nMainPID=0\\n' >"$unit"
        echo "Job for $unit failed because it said no." >&2
        echo "See \\"systemctl status\\" for details." >&2
        exit 1 ;;
      hangs) exec sleep 60 ;;
      dies) echo "$unit" >dying ;;
    esac ;;
  disable) rm -f "$unit" ;;
esac
"""
_JOURNALCTL = """\
#!/bin/sh
echo "first line of the log"
echo "it can not go on"
"""


@dataclass(frozen=True)
class Rig:
    """A prefix, and beside it a systemd, in a directory of the test."""

    root: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.root / "usr")

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def unit(self) -> Path:
        return self.root / "etc" / UNIT

    @property
    def systemd(self) -> Systemd:
        tool = str(self.root / "systemctl")
        return Systemd(
            systemctl=tool,
            journalctl=str(self.root / "journalctl"),
            sysusers=tool,
            tmpfiles=tool,
            booted=self.state,
            pause=shortly,
        )

    def make(self) -> "Rig":
        self.state.mkdir(parents=True)
        text = _SYSTEMCTL.format(state=self.state, lib=self.layout.lib)
        for name, script in (("systemctl", text), ("journalctl", _JOURNALCTL)):
            (self.root / name).write_text(script)
            (self.root / name).chmod(0o755)
        return self

    def units(self, version: str) -> dict[Path, str]:
        return {
            self.unit: f"{MARK}# {version}\n",
            self.root / "etc/sysusers.d/teleport-lite.conf": f"{MARK}u teleport-lite-x - - /\n",
            self.root / "etc/tmpfiles.d/teleport-lite.conf": MARK,
        }

    def runs(self, unit: str = UNIT) -> None:
        (self.state / unit).write_text("ActiveState=active\nMainPID=1\n")

    def how(self, version: str, word: str) -> None:
        """`fails`, `hangs` or `dies`."""
        (self.state / f"how-{version}").write_text(word)

    def calls(self, *words: str) -> list[str]:
        """What systemd was told to do since the last look; only those words of it, if any."""
        file = self.state / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        told = [line for line in lines if line.split()[0] not in ("show", "reset-failed")]
        return [line for line in told if not words or line.split()[0] in words]

    def loose(self, version: str, wrong: str = "") -> Path:
        file = self.root / f"teleport-lite-{version}.pyz"
        file.write_bytes(stand_in(version, wrong))
        return file

    def place(self, version: str, *, dry_run: bool = False, restart: bool = True) -> list[str]:
        """In this process. Returns the lines."""
        said: list[str] = []
        place(
            source_in(self.loose(version).parent, version),
            self.layout,
            work=Work(say=said.append, dry_run=dry_run),
            units=self.units(version),
            systemd=self.systemd,
            restart=restart,
        )
        return said

    def says(self) -> str:
        """The version that the installed name says it is."""
        program = str(self.layout.bin / "teleport-lite")
        ended = subprocess.run(
            [sys.executable, program, "--version"], capture_output=True, text=True, check=True
        )
        return ended.stdout.split()[1]

    def everything(self) -> dict[str, str]:
        """Each file and link under the root but the systemd's own state: what tests compare."""
        found = {}
        for path in self.root.rglob("*"):
            if path.is_symlink():
                found[str(path.relative_to(self.root))] = os.readlink(path)
            elif path.is_file() and self.state not in path.parents:
                found[str(path.relative_to(self.root))] = path.read_text()
        return found


def shortly(_: float) -> None:
    select.select([], [], [], 0.02)
