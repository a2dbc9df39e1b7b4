"""OpenSSH's own test scripts, unmodified; `docs/ssh-clients.md` lists them.

Most of the time of the slow ones is `sleep`, so they run side by side, and first: whoever runs
tests beside us takes the quick ones meanwhile.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.regress import SCRIPTS, Lane, Running, network
from tests.netlab.lab import refusal
from tests.node.house import REPO

QUICK = (
    "agent",
    "broken-pipe",
    "brokenkeys",
    "connect",
    "connect-uri",
    "dynamic-forward",
    "exit-status-signal",
    "forwarding",
    "host-expand",
    "integrity",
    "kextype",
    "knownhosts",
    "knownhosts-command",
    "localcommand",
    "portnum",
    "proto-version",
    "scp",
    "scp-uri",
    "scp3",
    "sftp",
    "sftp-badcmds",
    "sftp-batch",
    "sftp-cmds",
    "sftp-glob",
    "sftp-perm",
    "sftp-uri",
    "transfer",
    "try-ciphers",
    "yes-head",
)
SLOW = (
    "stderr-after-eof",
    "stderr-data",
    "login-timeout",
    "exit-status",
    "multiplex",
    "rekey",
)
# Each with a line of its own: two sets of the ports that they all use do not go together.
# A server on which a silent visitor is in the way of the next one, until it is thrown out.
PATIENCE = {
    "login-timeout": {"settings": {"grace": 10}, "limits": {"begin": 1, "rate": 100, "full": 1}}
}
SECONDS = 240  # the longest of them sleeps for two minutes

pytestmark = [
    pytest.mark.timeout(SECONDS + 60),
    pytest.mark.skipif(os.getuid() != 0, reason="networks of their own need root"),
]


class Regress:
    """With the first slow one that is asked for it starts those that come after it, too."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory, self._stack = directory, stack
        self._slow: dict[str, Running] = {}
        self._lane = self._open("quick")

    def _open(self, name: str, **changes: object) -> Lane:
        inside = self._stack.enter_context(network(f"tlr{os.getpid()}-{name}"))
        (self._directory / name).mkdir()
        lane = Lane(self._directory / name, inside, **changes)
        self._stack.callback(lane.close)
        return lane

    def run(self, script: str) -> tuple[int, str]:
        """Exit status and output."""
        if script in SLOW:
            for each in SLOW[SLOW.index(script) :]:
                if each not in self._slow:
                    self._start_slow(each)
            running = self._slow[script]
        else:
            running = self._lane.start(script)
            self._stack.callback(running.close)
        said = running.output(SECONDS)
        return running.process.returncode, said

    def _start_slow(self, script: str) -> None:
        lane = self._open(script, **PATIENCE.get(script, {}))
        running = self._slow[script] = lane.start(script)
        self._stack.callback(running.close)


@pytest.fixture(scope="module")
def regress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Regress]:
    if why := refusal():
        pytest.skip(f"no network namespaces here: {why}")
    with ExitStack() as stack:
        yield Regress(tmp_path_factory.mktemp("regress"), stack)


def test_the_scripts_are_here() -> None:
    assert SCRIPTS.is_dir(), "apt-get install openssh-tests"


@pytest.mark.parametrize("script", [each for each in SLOW if each != "rekey"])
def test_a_script_that_sleeps_passes(regress: Regress, script: str) -> None:
    status, said = regress.run(script)
    assert status == 0, said


def test_keys_are_exchanged_anew_whenever_the_client_wants_to(regress: Regress) -> None:
    """The rest of that script writes `RekeyLimit` into a sshd_config, which we do not read."""
    _, said = regress.run("rekey")
    steps = re.findall(r"^(client rekey.*|server rekeylimit .*|rekeylimit parsing)$", said, re.M)
    assert len([step for step in steps if step.startswith("client")]) > 15
    assert steps[-1] == "rekeylimit parsing"
    failed = re.findall(r"^(server rekeylimit .*)\nno rekeying occurred", said, re.M)
    assert failed == [step for step in steps if step.startswith("server")]
    assert len(failed) == 6
    assert len(re.findall("fail|FAIL|corrupted|no rekeying", said.partition("\n--- ")[0])) == 7


@pytest.mark.parametrize("script", QUICK)
def test_a_script_passes(regress: Regress, script: str) -> None:
    status, said = regress.run(script)
    assert status == 0, said


def test_the_page_names_every_script() -> None:
    page = (REPO / "docs" / "ssh-clients.md").read_text()
    passed, left_out = page.partition("## OpenSSH's own tests")[2].split("### Left out")
    ours = {*QUICK, *SLOW}
    theirs = {path.stem for path in SCRIPTS.glob("*.sh")}
    assert set(names(passed)) == ours
    assert set(names(left_out)) == theirs - ours
    assert len(names(left_out)) == len(set(names(left_out)))


def names(table: str) -> list[str]:
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]
