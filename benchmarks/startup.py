"""How long a command takes before it does its work, and how big the file is.

The file is measured as `install.sh` leaves it: under /usr/local, its tree unpacked and compiled.
For root that is an overlay in a mount namespace, for others a prefix of their own.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.through import PASSWORD, Proxied
from benchmarks.world import PYZ, REPO, World

# Teleport 16 for linux-amd64, compressed, as its download page has it.
TELEPORT_DOWNLOAD_MB = 180.0
NAMES = ("teleport-lite", "tctl", "tsh", "tbot")
# What it costs over `python3 -c pass`, in milliseconds.
BUDGETS = {
    "tctl --version": 5,
    "tctl tokens --help": 55,  # nothing but this machine is asked
    "tsh status": 90,  # reads certificates
    "tctl status": 80,
    "tsh ls": 80,
}
INSTALL = """
set -eu
lib=$1/lib/teleport-lite/0 bin=$1/bin file=$2 python=$3
shift 3
if [ -O / ]; then
  mkdir -p "$OVER/upper" "$OVER/work"
  mount -t overlay -o "lowerdir=/usr/local,upperdir=$OVER/upper,workdir=$OVER/work" none /usr/local
fi
mkdir -p "$lib" "$bin"
cp "$file" "$lib/teleport-lite.pyz"
for name in teleport-lite tctl tsh tbot; do
  ln -sf ../lib/teleport-lite/0/teleport-lite.pyz "$bin/$name"
done
"$python" -I -S "$lib/teleport-lite.pyz" self unpack "${lib%/0}" >/dev/null
exec "$@"
"""


def rows(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    proxied = Proxied(world)
    login = {"input": f"{PASSWORD}\n", "text": True, "stdout": subprocess.DEVNULL}
    subprocess.run(proxied.login_command(), env=world.env, check=True, **login)
    python = same_python()
    prefix = Path("/usr/local") if os.geteuid() == 0 else world.root / "local"
    venv = virtual_environment(world.root / "venv", python)
    words = {
        "tctl --version": ["tctl", "--version"],
        "tctl tokens --help": ["tctl", "tokens", "--help"],
        "tsh status": ["tsh", "status"],
        "tctl status": ["tctl", "-c", str(world.root / "auth.yaml"), "status"],
        "tsh ls": ["tsh", "ls"],
    }
    commands = {"pass": [python, "-c", "pass"]}
    for name, command in words.items():
        commands[f"venv {name}"] = [str(venv / command[0]), *command[1:]]
        commands[name] = [str(prefix / "bin" / command[0]), *command[1:]]
    took = timed(world, commands, rounds, prefix, python)
    found = []
    for name, budget in BUDGETS.items():
        pairs = zip(took[name], took["pass"], strict=True)
        extra = sorted(a - b for a, b in pairs)[rounds // 2]
        note = f"+{budget} ms; here {extra:+.0f} ms"
        found.append(
            figure(name, "python3 -c pass", took[name], took["pass"], unit="ms", budget=note)
        )
        theirs = took[f"venv {name}"]
        found.append(
            figure(name, "a virtual environment", took[name], theirs, unit="ms", budget="")
        )
    return [*found, first_start(world, python, figure)]


def timed(
    world: World, commands: dict[str, list[str]], rounds: int, prefix: Path, python: str
) -> dict[str, list[float]]:
    """Milliseconds of every round, measured where the file is installed."""
    env = {name: value for name, value in world.env.items() if "TELEPORT_LITE_" not in name}
    env["TELEPORT_LITE_CONFIG"] = world.env["TELEPORT_LITE_CONFIG"]
    start = [sys.executable, "-m", "benchmarks.stopwatch"]
    install = ["sh", "-c", INSTALL, "sh", str(prefix), str(PYZ), python, *start]
    if os.geteuid() == 0:
        install[:0] = ["unshare", "--mount"]
    job = json.dumps({"commands": commands, "rounds": rounds, "env": env})
    over = env | {"OVER": str(world.root / "overlay")}
    done = subprocess.run(
        install, env=over, cwd=REPO, input=job, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def first_start(world: World, python: str, figure: Callable[..., Any]) -> Any:
    """Of a file that nobody installed: it is checked and unpacked."""
    ours, theirs = [], []
    for number in range(5):
        root = world.root / f"first-{number}"
        env = world.env | {"TELEPORT_LITE_ROOT": str(root), "TELEPORT_LITE_PYTHON": python}
        theirs.append(_timed(env, [python, "-c", "pass"]))
        ours.append(_timed(env, [str(PYZ), "--version"]))
        shutil.rmtree(root)
    return figure("first start", "python3 -c pass", ours, theirs, unit="ms", budget="")


def same_python() -> str:
    """The system's own if it is of our version, for that is what an installer takes."""
    ours = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if subprocess.run(["/usr/bin/python3", "-c", ours], check=False).returncode == 0:
        return os.path.realpath("/usr/bin/python3")
    return os.path.realpath(sys.executable)


def virtual_environment(place: Path, python: str) -> Path:
    """The same packages as an installer of packages puts them there. Returns its bin."""
    sys.path.insert(0, str(REPO / "packaging"))
    import contents
    import fetch

    subprocess.run([python, "-m", "venv", "--without-pip", str(place)], check=True)
    [packages] = place.glob("lib/python3*/site-packages")
    wheels = fetch.site(fetch.Target.here(), REPO / "build")
    shutil.copytree(wheels, packages, dirs_exist_ok=True)
    for name, data in contents.ours(REPO).items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_bytes(data)
    compiling = [str(place / "bin" / "python"), "-m", "compileall", "-q", str(packages)]
    subprocess.run(compiling, check=False, stdout=subprocess.DEVNULL)
    for name in NAMES:  # as pip and uv write them
        script = place / "bin" / name
        script.write_text(
            f"#!{place}/bin/python\nimport sys\nfrom teleport_lite.__main__ import main\n"
            "if __name__ == '__main__':\n    sys.exit(main())\n"
        )
        script.chmod(0o755)
    return place / "bin"


def size(_: World, figure: Callable[..., Any]) -> list[Any]:
    """dist/teleport-lite.pyz, and the release where there is one (build.py --release)."""
    files = {"the file (this Python, this architecture)": PYZ}
    for path in (REPO / "dist" / "release").glob("*/teleport-lite-*.pyz"):
        files["the release (four Pythons, two architectures)"] = path
    return [
        figure(
            what,
            "Teleport's download (its docs)",
            [path.stat().st_size / 1e6],
            [TELEPORT_DOWNLOAD_MB],
            unit="MB",
            budget="26 MB for four Pythons",
        )
        for what, path in files.items()
    ]


def _timed(env: dict[str, str], command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000
