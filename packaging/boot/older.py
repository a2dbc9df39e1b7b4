# Reached when `python3` is too old: start a newer one that PATH has, or say what is missing.
# Readable to any Python 3.
import os
import subprocess
import sys


def start_a_newer_python() -> None:
    for minor in (14, 13, 12, 11):
        for place in os.environ.get("PATH", os.defpath).split(os.pathsep):
            python = os.path.join(place, "python3.%d" % minor)
            if os.access(python, os.X_OK) and answers(python):
                os.execv(python, [python, "-I", "-S"] + sys.argv)
    sys.stderr.write(
        "ERROR: teleport-lite needs Python 3.11 or newer, and python3 here is %d.%d (%s)\n"
        "  try: apt-get install python3.11, or TELEPORT_LITE_PYTHON=/path/to/python3.11\n"
        % (sys.version_info[:2] + (sys.executable,))
    )
    sys.exit(1)


def answers(python: str) -> bool:
    """A pyenv shim, say, is there and executable, and yet runs nothing."""
    with open(os.devnull, "wb") as nothing:
        command = [python, "-I", "-S", "-c", "pass"]
        return subprocess.call(command, stdout=nothing, stderr=nothing) == 0
