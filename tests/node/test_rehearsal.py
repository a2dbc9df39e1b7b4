"""What the zygote does before there is anybody, and what it must not have in its memory for it."""

import json
import subprocess
import sys
from typing import Any

from teleport_lite.node import zygote
from tests.node.house import REPO

# The zygote's code up to where its life begins, in a process of its own: it has no threads.
BEGIN = zygote._CODE.rpartition("main(")[0]
# Each brings others like it, and none has any business in a process that only serves SSH.
HEAVY = {
    "aiohttp",
    "argparse",
    "asyncio",
    "concurrent",
    "csv",
    "email.message",
    "http",
    "invoke.context",
    "sqlite3",
    "ssl",
    "typer",
    "unittest",
    "xml",
    "yaml",
    "zipfile",
}
REHEARSE = """
import gc, json, os, signal
from teleport_lite.node.rehearsal import rehearse
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
before = set(os.listdir("/proc/self/fd"))
said = rehearse()
gc.collect()
import paramiko
left = [type(each).__name__ for each in gc.get_objects() if isinstance(each, paramiko.Transport)]
opened = sorted(set(os.listdir("/proc/self/fd")) - before)
print(json.dumps({"said": said, "left": left, "opened": opened}), flush=True)
"""
# As a worker makes its half of a key exchange, and what goes before it.
KEYS = """
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
read, write = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        key = X25519PrivateKey.generate().public_key().public_bytes_raw()
        os.write(write, key.hex().encode() + b"\\n" + os.urandom(16).hex().encode() + b"\\n")
        os._exit(0)
os.close(write)
with open(read) as lines:
    print(json.dumps({"drawn": lines.read().split()}))
"""


def in_a_process(code: str) -> list[dict[str, Any]]:
    words = [sys.executable, "-I", "-S", "-c", BEGIN + code, "0", "", "", *sys.path]
    done = subprocess.run(words, cwd=REPO, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_zygote_has_imported_nothing_that_it_does_not_need() -> None:
    code = "import json, sys\nprint(json.dumps({name: 1 for name, m in sys.modules.items() if m}))"
    [names] = in_a_process(code)
    tops = {name.partition(".")[0] for name in names}
    assert not HEAVY & (names.keys() | tops)


def test_a_rehearsal_goes_well_and_leaves_nothing_behind() -> None:
    [told] = in_a_process(REHEARSE)
    assert told == {"said": "", "left": [], "opened": []}


def test_who_is_born_after_a_rehearsal_draws_random_numbers_of_its_own() -> None:
    _, told = in_a_process(REHEARSE + KEYS)
    assert len(set(told["drawn"])) == len(told["drawn"]) == 6
