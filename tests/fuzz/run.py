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
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.target import CORPUS, file_name

# What coverage is measured of. Message types are read by C code; ours is what is around it.
INSTRUMENTED = ["teleport_lite", "paramiko"]
# A single input that takes longer, while other programs use the processor too.
_HANG = 60
_DONE = re.compile(r"Done (\d+) in|stat::number_of_executed_units:\s+(\d+)|^#(\d+)\s", re.MULTILINE)


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
        inside(asked.inside, asked.target)
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
    """In a process of its own, whose processor time is limited."""
    cases.mkdir(parents=True, exist_ok=True)
    crashes = CORPUS / name
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            *(sys.executable, "-m", "tests.fuzz.run", "--inside", name, "--"),
            *(f"-artifact_prefix={scratch}/", f"-timeout={_HANG}", "-rss_limit_mb=3072"),
            *("-print_final_stats=1", str(cases)),
        ]
        log = Path(scratch) / "log"
        with log.open("wb") as output:
            child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            used = _until(child, seconds)
        text = log.read_text(errors="replace")
        found = []
        for path in sorted(Path(scratch).glob("*-*")):
            data = path.read_bytes()
            crashes.mkdir(parents=True, exist_ok=True)
            found.append(crashes / file_name(data))
            found[-1].write_bytes(data)
    counts = [int(next(filter(None, each))) for each in _DONE.findall(text)]
    words = "" if not found and child.returncode in (0, -2, 72) else _words(text)
    return Result(max(counts, default=0), used, len(list(cases.iterdir())), found, words)


def _until(child: "subprocess.Popen[bytes]", seconds: float) -> float:
    """Wait until it has ended or used up its time; what it has used."""
    used, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    while child.poll() is None:
        try:
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            break
        used = (int(fields[11]) + int(fields[12])) / ticks
        if used >= seconds:
            child.send_signal(2)  # libFuzzer ends with its figures
            break
        time.sleep(0.2)
    child.wait()
    return used


def _words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Finding|Warning)\b", line)]
    other = [line for line in lines if line.startswith(("ALARM", "==", "ERROR"))]
    return "FOUND " + (told or other or lines or ["nothing was said"])[-1][:200]


def inside(name: str, arguments: list[str]) -> None:
    """The process that fuzzes. Returns never."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not here for this Python: pip install atheris")
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from tests.fuzz.targets import ALL
    target = next((each for each in ALL if each.name == name), None)
    if target is None:
        sys.exit(f"there is no target {name}")
    cases = Path(arguments[-1])
    for seed in (*target.seeds(), *(path.read_bytes() for path in target.regressions())):
        (cases / file_name(seed)).write_bytes(seed)
    atheris.Setup([sys.argv[0], f"-max_len={target.most}", *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
