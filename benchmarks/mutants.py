"""Would the tests notice? Small faults, one at a time, in the modules that security hangs on.

    python -m benchmarks.mutants                    # the whole kernel: an hour of one core
    python -m benchmarks.mutants writer config      # areas
    python -m benchmarks.mutants pki/verify.py      # a module
    python -m benchmarks.mutants --again OUTPUT ... # what an earlier run has missed

docs/kernel.md has the figures. pytest collects the tests of an area once and runs them, watched,
so that it is known which lines each of them runs. For each fault (benchmarks/mutations.py) a fork
of that process puts it in and runs the tests of its line, the quick ones first, until one fails.
Functions and the constants and tables of a module are tried; what stands in a class beside its
methods (fields, members of an enum) and defaults of parameters are not.
"""

import argparse
import ast
import importlib
import os
import re
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from benchmarks.kernel import AREAS, ONLY, Area
from benchmarks.mutations import Mutant, mutants_of
from benchmarks.patient import ROOT, Patient

PACKAGE = ROOT / "teleport_lite"
# Seconds of a mutant: of the processor, and beyond what its tests took otherwise, 20 times over.
MOST = 15
ENOUGH = 5.0  # seconds of tests for one mutant, the quick ones first
NOTICED, MISSED = 0, 7
OPTIONS = ["-q", "-s", "-p", "no:xdist", "-o", "timeout=0"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported already


class Watch:
    """Which lines of some files each test runs, and how long it takes."""

    def __init__(self, files: set[str], patience: int) -> None:
        self._files, self._patience = files, patience
        self._now: set[tuple[str, int]] = set()
        self.lines: dict[tuple[str, int], list[Any]] = defaultdict(list)
        self.took: dict[Any, float] = {}

    def run(self, item: Any) -> bool:
        self._now = set()
        began = time.process_time()
        threading.settrace(self._frame)
        sys.settrace(self._frame)
        try:
            reports = runtestprotocol(item, log=False, nextitem=item.session)
        finally:
            sys.settrace(None)
            threading.settrace(None)
        self.took[item] = time.process_time() - began
        for each in self._now:
            self.lines[each].append(item)
        return not any(each.failed for each in reports)

    def of(self, file: str, mutant: Mutant, near: str, quick_first: list[Any]) -> list[Any]:
        """Tests that run its lines. Of what only an import runs all of them, and those first
        whose name has a word that is written `near` it, like the path of a route."""
        lines = range(mutant.line, mutant.last + 1) if not near else ()
        seen = {id(item) for line in lines for item in self.lines.get((file, line), ())}
        words = re.findall(r'"([^"\s]{5,})"', near)
        told = [item for item in quick_first if any(word in item.name for word in words)]
        order = quick_first if seen else [*told, *quick_first]
        enough = ENOUGH * self._patience * (1 if seen else 6)
        chosen, took = [], 0.0
        for item in order:
            if (not seen or id(item) in seen) and took < enough:
                chosen.append(item)
                took += self.took[item]
        return chosen

    def _frame(self, frame: Any, _event: str, _: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: Any, _event: str, _: Any) -> Any:
        self._now.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


class Hunt:
    """A plugin of pytest: tests are collected as ever, and then run in its own way."""

    def __init__(self, modules: list[str], again: set[str], every: int) -> None:
        """`again`: what an earlier run has shown; only those, if there are any. `every`: one of
        so many, when there is little time."""
        self._again, self._every = again, every
        self._files = [str(PACKAGE / each) for each in modules]
        self.missed: list[tuple[str, Mutant]] = []
        self.counts: dict[str, list[int]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("tests that can not be collected")
        watch, good = Watch(set(self._files), 4 if self._again else 1), []
        for item in session.items:
            if watch.run(item):
                good.append(item)
            else:
                print(f"not used, it fails by itself: {item.nodeid}", flush=True)
        if _forked(lambda: None, good, 600):
            raise session.Interrupted("tests fail in a fork where nothing is changed")
        for file in self._files:
            self._hunt(file, watch, sorted(good, key=watch.took.__getitem__))
        return True

    def _hunt(self, file: str, watch: Watch, quick_first: list[Any]) -> None:
        source = Path(file).read_text()
        patient = Patient(file, source)
        name = str(Path(file).relative_to(PACKAGE))
        count = self.counts[name] = [0, 0]
        written = source.splitlines()
        wanted = _lines_of(source, ONLY.get(name, ()))
        for number, mutant in enumerate(mutants_of(source)):
            if number % self._every or (wanted and mutant.line not in wanted):
                continue
            if self._again and _faults(_shown(name, mutant)) - self._again:
                continue
            found = patient.swap(mutant)
            if found is None:
                continue
            swap, inside = found
            near = "\n".join(written[max(0, mutant.line - 4) : mutant.last + 1])
            tests = watch.of(file, mutant, "" if inside else near, quick_first)
            most = MOST + int(20 * sum(watch.took[each] for each in tests))
            noticed = _forked(swap, tests, most)
            count[0] += 1
            count[1] += noticed
            if not noticed:
                self.missed.append((name, mutant))
                print(_shown(name, mutant), flush=True)


def _shown(name: str, mutant: Mutant) -> str:
    was, now = (" ".join(each.split()) for each in (mutant.was, mutant.now))
    pairs = enumerate(zip(was, now, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(was), len(now)))
    was, now = (each[max(0, same - 60) :][:160] for each in (was, now))
    return f"{name}:{mutant.line}\n  - {was}\n  + {now}"


def _lines_of(source: str, functions: tuple[str, ...]) -> set[int]:
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name in functions
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _faults(shown: str) -> set[str]:
    """Each without its line, which moves."""
    lines = [each for each in shown.splitlines() if each.strip()]
    return {
        "\n".join((where.partition(":")[0], was, now))
        for where, was, now in zip(lines, lines[1:], lines[2:], strict=False)
        if was.startswith("  - ") and now.startswith("  + ")
    }


# --- trying one ----------------------------------------------------------------------------


def _forked(swap: Callable[[], None], tests: list[Any], most: int) -> bool:
    def child() -> int:
        try:
            swap()
        except Exception:  # a module that can not be imported is noticed
            return NOTICED
        for item in tests:
            item._initrequest()
            if any(each.failed for each in runtestprotocol(item, log=False, nextitem=item.session)):
                return NOTICED
        return MISSED

    return _outcome(child, most)


def _outcome(work: Callable[[], int], most: int) -> bool:
    """Whether a fork with the fault in it fails, in whatever way: also by taking for ever."""
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
        signal.alarm(most)  # one that waits for what never comes
        try:
            os._exit(work())
        except BaseException:
            os._exit(NOTICED)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what a test that failed has left behind
    return status != MISSED << 8


def main() -> None:
    ask = argparse.ArgumentParser(description="faults that the tests of the kernel do not notice")
    ask.add_argument("what", nargs="*", help="areas or modules; all of them if none is named")
    ask.add_argument("--again", type=Path, help="only what this output of an earlier run shows")
    ask.add_argument("--every", type=int, default=1, help="only one of so many")
    ask.add_argument("--basetemp", default=f"/tmp/mutants-{os.getpid()}")
    asked = ask.parse_args()
    os.nice(5)
    os.chdir(ROOT)
    hypothesis.settings.register_profile(
        "mutants", deadline=None, derandomize=True, database=None, max_examples=30
    )
    hypothesis.settings.load_profile("mutants")
    chosen: list[tuple[list[str], Area]] = []
    for name, area in AREAS.items():
        modules = [m for m in area.modules if not asked.what or {name, m} & set(asked.what)]
        if modules:
            chosen.append((modules, area))
    for modules, area in chosen:
        _one(modules, area, asked)


def _one(modules: list[str], area: Area, asked: argparse.Namespace) -> None:
    again = _faults(asked.again.read_text()) if asked.again else set()
    hunt = Hunt(modules, again, asked.every)
    for each in modules:
        importlib.import_module(".".join(("teleport_lite", *Path(each).with_suffix("").parts)))
    options = [
        *OPTIONS,
        f"--basetemp={asked.basetemp}",
        "-k",
        " and ".join(f"not {s}" for s in area.slow),
    ]
    pytest.main([*options, *area.tests], plugins=[hunt])
    for name, (tried, noticed) in hunt.counts.items():
        share = 100 * noticed / max(tried, 1)
        print(f"{name}: {noticed} of {tried} noticed, {share:.1f} %", flush=True)


if __name__ == "__main__":
    main()
