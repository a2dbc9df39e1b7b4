#!/usr/bin/env python3
"""Make .venv hold what lock-dev.txt names, and this checkout itself. Quick when it already does.

Works without ensurepip, which Debian's python3 lacks: the environment is made without pip, and a
pip (or uv) from outside installs into it.
"""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

import fetch

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".venv"
PYTHON = PLACE / "bin" / "python"
STAMP = PLACE / "made-from"
RECIPE = [Path(__file__), fetch.LOCK.with_name("lock-dev.txt"), fetch.BUILD_LOCK]


def main() -> int:
    recipe = b"".join(path.read_bytes() for path in (*RECIPE, ROOT / "pyproject.toml"))
    made_from = f"{hashlib.sha256(recipe).hexdigest()} in {ROOT}\n"
    new_enough = "import sys; assert sys.version_info >= (3, 11)"
    usable = fetch.works(str(PYTHON), "-c", new_enough)
    if usable and STAMP.is_file() and STAMP.read_text() == made_from:
        return 0
    if not usable:
        venv.create(PLACE, clear=True, symlinks=True, with_pip=False)
    try:
        install = installer()
    except fetch.Failed as why:
        print(f"ERROR: {why}\n  try: {why.hint}", file=sys.stderr)
        return 1
    STAMP.unlink(missing_ok=True)
    for words in (
        # What builds the packages that come as sources stands in the locks, so no isolation.
        ["--require-hashes", "-r", str(fetch.BUILD_LOCK)],
        ["--require-hashes", "--no-build-isolation", "-r", str(RECIPE[1])],
        ["--no-deps", "--no-build-isolation", "-e", str(ROOT)],
    ):
        if code := subprocess.run([*install, *words], env=fetch.uv_environment()).returncode:
            print("ERROR: installing into .venv failed\n  try: rm -r .venv", file=sys.stderr)
            return code
    STAMP.write_text(made_from)
    return 0


def installer() -> list[str]:
    """Command words that install into .venv. Raises fetch.Failed."""
    fetch.say("filling .venv from packaging/lock-dev.txt")
    if uv := fetch.find_uv():
        return [uv, "pip", "install", "--quiet", "--no-config", "--python", str(PYTHON)]
    return fetch.quiet_pip(fetch.find_pip(), str(PYTHON))


if __name__ == "__main__":
    sys.exit(main())
