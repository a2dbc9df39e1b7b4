"""Fuzzing for as long as one likes, guided by coverage.

    python -m tests.fuzz.run [--seconds 600] [--keep DIRECTORY] [TARGET...]

Each target runs in a process of its own for so many seconds of processor time, with atheris
(libFuzzer). A line is printed for each: how many inputs were tried, and what was found. A finding
is written to tests/fuzz/corpus/TARGET, where `test_fuzz.py` tries it again for ever.
Exit code 1 if there were any.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.target import CORPUS, Target, file_name

# What coverage is measured of. Message types are read by C code; ours is what is around it.
INSTRUMENTED = ["teleport_lite", "paramiko", "wsproto", "h11", "scramp"]
# A single input that takes longer, while other programs use the processor too.
_HANG = 60


@dataclass(frozen=True, slots=True)
class Result:
    runs: int
    seconds: float  # of processor time
    cases: int  # inputs that reached something new
    found: list[Path]
    words: str  # about the finding, or why it could not run


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("--seconds", type=float, default=600, help="processor time for each target")
    parser.add_argument("--keep", type=Path, help="where inputs that reach new code are kept")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("target", nargs="*", help="default: all")
    asked = parser.parse_args(argv)
    if asked.inside:
        inside(asked.inside, asked.seconds, asked.target)
        return 0
    names = asked.target or every()
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            result = run(name, asked.seconds, (asked.keep or Path(scratch)) / name)
        print(shown(name, result), flush=True)
        failed |= bool(result.words)
    return int(failed)


def every() -> list[str]:
    from tests.fuzz.targets import ALL

    return [target.name for target in ALL]


def shown(name: str, result: Result) -> str:
    found = ", ".join(str(path) for path in result.found)
    end = f"{result.words} {found}".strip() or "no finding"
    return f"{name:26} {result.runs:>9} runs {result.seconds:6.0f} s {result.cases:>5} cases  {end}"


def run(name: str, seconds: float, cases: Path) -> Result:
    """In a process of its own, which ends when its time is up or at the first finding."""
    cases.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        log, counts = Path(scratch) / "log", Path(scratch) / "counts"
        command = [
            *(sys.executable, "-m", "tests.fuzz.run", "--seconds", str(seconds), "--inside", name),
            *("--", str(counts), f"-artifact_prefix={scratch}/found-", f"-timeout={_HANG}"),
            *("-rss_limit_mb=3072", str(cases)),
        ]
        with log.open("wb") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
        found = [kept(name, path.read_bytes()) for path in Path(scratch).glob("found-*")]
        words = "" if not code and not found else _words(log.read_text(errors="replace"))
        runs, used = counts.read_text().split() if counts.exists() else ("0", "0")
    return Result(int(runs), float(used), len(list(cases.iterdir())), found, words)


def kept(name: str, data: bytes) -> Path:
    path = CORPUS / name / file_name(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Finding|Warning)\b", line)]
    other = [line for line in lines if line.startswith(("ALARM", "==", "ERROR"))]
    return "FOUND " + (told or other or lines or ["nothing was said"])[-1][:200]


def inside(name: str, seconds: float, arguments: list[str]) -> None:
    """The process that fuzzes. Never returns."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not here for this Python: pip install atheris")
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from tests.fuzz.targets import ALL
    target = next((each for each in ALL if each.name == name), None)
    if target is None:
        sys.exit(f"there is no target {name}")
    counts, *options, cases = arguments
    for seed in (*target.seeds(), *(path.read_bytes() for path in target.regressions())):
        (Path(cases) / file_name(seed)).write_bytes(seed)
    atheris.Setup(
        [sys.argv[0], f"-max_len={target.most}", *options, cases],
        counted(target, seconds, Path(counts)),
    )
    atheris.Fuzz()


def counted(target: Target, seconds: float, counts: Path) -> Callable[[bytes], None]:
    """Checks inputs until the time is up, and writes down how many and how long."""
    runs, start = 0, time.process_time()

    def check(data: bytes) -> None:
        nonlocal runs
        runs += 1
        done = False
        try:
            target.check(data)
            done = time.process_time() - start >= seconds
        finally:
            if done or sys.exc_info()[0] is not None:
                counts.write_text(f"{runs} {time.process_time() - start:.1f}")
        if done:
            os._exit(0)  # the inputs that are worth keeping are on the disk already

    return check


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
