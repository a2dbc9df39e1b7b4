"""Times commands against each other: a job as JSON on stdin, milliseconds as JSON on stdout.

A process of its own, so that a caller can start it somewhere else: in a mount namespace, say.
"""

import json
import subprocess
import sys
import time


def main() -> int:
    job = json.load(sys.stdin)
    commands: dict[str, list[str]] = job["commands"]
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(job["rounds"] + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            done = subprocess.run(command, env=job["env"], capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{' '.join(command)} failed: {done.stderr}")
            if number:  # first use of caches is nobody's merit
                took[name].append((time.perf_counter() - began) * 1000)
    json.dump(took, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
