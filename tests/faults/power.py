"""A power cut: the disk as it is at one moment, copied, and started from.

kill -9 does not show what was never written through: the kernel still has it. Here the files of
auth are on a file system in an image, which is copied while nobody may write, with all that is
only in memory left out. What was acknowledged before has to be in the copy.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import rotations
from tests.faults.crowd import Crowd
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.warm import Warm, warm_for
from tests.support import eventually

SIZE = 48 << 20


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    """By a loop device of its own, which is gone afterwards."""
    where.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield where
    finally:
        eventually(lambda: not subprocess.run(["umount", str(where)]).returncode, what="umount")


def power_cuts(run: Run) -> None:
    """At any moment under a load of joins, tokens and rotations."""
    cuts, chance = run.size(2, 200), run.chance
    image, lost, wrong, back = run.root / "image", list[str](), list[str](), list[float]()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    joins = 0
    with mounted(image, run.root / "disk") as disk, warm_for(run) as warm:
        auth = Auth(warm, disk)
        auth.start()
        with Crowd([auth.address], auth.token("app"), run.root / "joins", workers=2) as crowd:
            for number in range(cuts):
                goal = crowd.count() + chance.randint(1, 12)
                eventually(lambda goal=goal: crowd.count() >= goal, what="joins")  # type: ignore[misc]
                phase = rotations.ROLLBACKS[1][number % 4]
                rotations.step(auth, phase)
                token = auth.token("app")
                time.sleep(chance.uniform(0, 0.05))
                copy = run.root / f"copy-{number}"  # a name is used once: loop devices keep files
                acknowledged = _cut(auth, crowd, image, copy)
                run.report.fault("power cut")
                joins += len(acknowledged)
                with mounted(copy, run.root / f"found-{number}") as found:
                    _look(warm, found, set(acknowledged), token, phase, lost, wrong, back)
                copy.unlink()
    run.report.none("acknowledged joins, tokens, steps that are lost", lost, count=joins + 2 * cuts)
    run.report.none("what is wrong in the store", wrong, count=cuts)
    run.report.slowest("start after a power cut, the longest", back, 5)


def _cut(auth: Auth, crowd: Crowd, image: Path, copy: Path) -> list[str]:
    """Copies; returns who had been answered before. It stands still, so that the copy is of one
    moment."""
    assert auth.daemon is not None
    auth.daemon.signal(signal.SIGSTOP)
    try:
        acknowledged = crowd.answered()
        subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
    finally:
        auth.daemon.signal(signal.SIGCONT)
    return acknowledged


def _look(
    warm: Warm,
    found: Path,
    joined: set[str],
    token: str,
    phase: str,
    lost: list[str],
    wrong: list[str],
    back: list[float],
) -> None:
    auth = Auth(warm, found)
    began = time.monotonic()
    auth.start()
    back.append(time.monotonic() - began)
    lost += [f"host {each}" for each in joined - set(auth.hosts())]
    if token not in {each["token"] for each in auth.ask("/v1/tokens/list")["tokens"]}:
        lost.append("a token")
    if rotations.phases(auth) != {phase}:
        lost.append(f"phase {phase}: {rotations.phases(auth)}")
    running = rotations.generations(auth)
    wrong += [each for each in auth.troubles() if " CAs of type " not in each]
    if running != ([1, 1] if phase == "standby" else [2, 2]):
        wrong.append(f"{auth.cas()} in phase {phase}")
    auth.kill()
