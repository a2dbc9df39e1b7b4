"""Would the tests notice? Small faults, one at a time, in the modules that security hangs on.

    python -m benchmarks.mutants                    # the whole kernel: an hour of one core
    python -m benchmarks.mutants writer config      # areas
    python -m benchmarks.mutants pki/verify.py      # a module

docs/kernel.md has the figures. pytest collects the tests of an area once and runs them, watched,
so that it is known which lines each of them runs. For each fault (benchmarks/mutations.py) a fork
of that process puts it in and runs the tests of its line, the quick ones first, until one fails.
A fault in what only an import runs (classes, defaults) takes a process that imports all anew.
"""

import argparse
import ast
import gc
import importlib
import os
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from benchmarks.kernel import AREAS, SLOW, Area
from benchmarks.mutations import Mutant, mutants_of

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "teleport_lite"
# Seconds of a mutant: of the processor, and beyond what its tests took otherwise, 20 times over.
MOST = 15
ENOUGH = 5.0  # seconds of tests for one mutant, the quick ones first
NOTICED, MISSED = 0, 7
OPTIONS = ["-q", "-s", "-p", "no:xdist", "-o", "timeout=0"]


class Watch:
    """Which lines of some files each test runs, and how long it takes."""

    def __init__(self, files: set[str]) -> None:
        self._files, self._now = files, set()
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

    def of(self, file: str, mutant: Mutant, quick_first: list[Any]) -> list[Any]:
        """Tests that run its lines; of a line that only an import runs, those of the module."""
        lines = range(mutant.line, mutant.last + 1)
        seen = {id(item) for line in lines for item in self.lines.get((file, line), ())}
        if not seen:
            whole = [items for (where, _), items in self.lines.items() if where == file]
            seen = {id(item) for items in whole for item in items}
        chosen, took = [], 0.0
        for item in quick_first:
            if id(item) in seen and took < ENOUGH:
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

    def __init__(self, modules: list[str]) -> None:
        self._files = [str(PACKAGE / each) for each in modules]
        self.missed: list[tuple[str, Mutant]] = []
        self.counts: dict[str, list[int]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("tests that can not be collected")
        watch, good = Watch(set(self._files)), []
        for item in session.items:
            if watch.run(item):
                good.append(item)
            else:
                print(f"not used, it fails by itself: {item.nodeid}", flush=True)
        for file in self._files:
            self._hunt(file, watch, sorted(good, key=watch.took.__getitem__))
        return True

    def _hunt(self, file: str, watch: Watch, quick_first: list[Any]) -> None:
        source = Path(file).read_text()
        patient = Patient(file, source)
        name = str(Path(file).relative_to(PACKAGE))
        count = self.counts[name] = [0, 0]
        for mutant in mutants_of(source):
            swap = patient.swap(mutant)
            tests = watch.of(file, mutant, quick_first)
            most = MOST + int(20 * sum(watch.took[each] for each in tests))
            noticed = _anew(file, mutant, tests) if swap is None else _forked(swap, tests, most)
            count[0] += 1
            count[1] += noticed
            if not noticed:
                self.missed.append((name, mutant))
                print(_shown(name, mutant), flush=True)


def _shown(name: str, mutant: Mutant) -> str:
    was, now = (" ".join(each.split())[:160] for each in (mutant.was, mutant.now))
    return f"{name}:{mutant.line}\n  - {was}\n  + {now}"


# --- putting one in ------------------------------------------------------------------------


class Patient:
    """A module that has been imported, and its functions wherever they are by now."""

    def __init__(self, file: str, source: str) -> None:
        name = ".".join(Path(file).relative_to(ROOT).with_suffix("").parts)
        self._file, self._source = file, source
        self._module = sys.modules[name]
        self._code = compile(source, file, "exec")
        self._functions = [
            each
            for each in gc.get_objects()
            if type(each) is FunctionType and each.__code__.co_filename == file
        ]
        gc.freeze()  # forks share what is never looked at

    def swap(self, mutant: Mutant) -> Callable[[], None] | None:
        """What puts it in; None if the module would have to be imported anew."""
        tree = mutant.put_into(ast.parse(self._source))
        bodies = _bodies(self._code, compile(tree, self._file, "exec"))
        if bodies is None:
            if isinstance(tree.body[mutant.statement], ast.Assign | ast.AnnAssign):
                return lambda: _say_again(self._module, tree.body, mutant.statement, self._file)
            return None
        found = [
            (each, new) for old, new in bodies for each in self._functions if each.__code__ == old
        ]

        def swap() -> None:
            for function, new in found:
                function.__code__ = new

        return swap if found else None


def _bodies(before: CodeType, after: CodeType) -> list[tuple[CodeType, CodeType]] | None:
    """Of functions that differ. None if more does: a default, a field, a constant."""
    one, other = (
        [c for c in code.co_consts if isinstance(c, CodeType)] for code in (before, after)
    )
    rest = [[c for c in code.co_consts if not isinstance(c, CodeType)] for code in (before, after)]
    same_rest = [(type(c), c) for c in rest[0]] == [(type(c), c) for c in rest[1]]
    if before.co_code != after.co_code or not same_rest or before.co_names != after.co_names:
        return None
    pairs: list[tuple[CodeType, CodeType]] = []
    for old, new in zip(one, other, strict=True):
        if old == new:
            continue
        if old.co_flags & 0x2 and old.co_freevars == new.co_freevars:  # CO_NEWLOCALS: a function
            pairs.append((old, new))
        elif old.co_flags & 0x2:
            return None
        else:
            deeper = _bodies(old, new)
            if deeper is None:
                return None
            pairs += deeper
    return pairs


def _say_again(module: ModuleType, body: list[ast.stmt], first: int, file: str) -> None:
    """Run one assignment of a module anew, those that build on it, and tell who has imported it."""
    changed: set[str] = set()
    for at, statement in enumerate(body[first:]):
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        names = {each.id for each in ast.walk(statement) if isinstance(each, ast.Name)}
        if at and not names & changed:
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        mine = {n.id for each in targets for n in ast.walk(each) if isinstance(n, ast.Name)}
        old = {name: module.__dict__.get(name) for name in mine}
        exec(compile(ast.Module([statement], []), file, "exec"), module.__dict__)
        changed |= mine
        for other in list(sys.modules.values()):
            for name in mine & set(getattr(other, "__dict__", {})):
                if other.__dict__[name] is old[name]:
                    other.__dict__[name] = module.__dict__[name]


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


def _anew(file: str, mutant: Mutant, tests: list[Any]) -> bool:
    """The same in a process that has imported nothing of ours yet."""
    files = sorted({str(item.path) for item in tests})
    wanted = [item.nodeid for item in tests]
    code = compile(mutant.put_into(ast.parse(Path(file).read_text())), file, "exec")
    real = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> Any:
        return code if self.path == file else real(self, fullname)

    def child() -> int:
        for name in list(sys.modules):
            if name.partition(".")[0] in ("teleport_lite", "tests") or name.startswith("conftest"):
                del sys.modules[name]
        SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
        only = Only(wanted)
        return MISSED if pytest.main([*OPTIONS, "-x", *files], plugins=[only]) == 0 else NOTICED

    return _outcome(child, 8 * MOST)


class Only:
    def __init__(self, wanted: list[str]) -> None:
        self._wanted = {each: at for at, each in enumerate(wanted)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [each for each in items if each.nodeid in self._wanted]
        items.sort(key=lambda each: self._wanted[each.nodeid])


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
        _one(modules, area, asked.basetemp)


def _one(modules: list[str], area: Area, basetemp: str) -> None:
    hunt = Hunt(modules)
    for each in modules:
        importlib.import_module(".".join(("teleport_lite", *Path(each).with_suffix("").parts)))
    options = [*OPTIONS, f"--basetemp={basetemp}", "-k", " and ".join(f"not {s}" for s in SLOW)]
    pytest.main([*options, *area.tests], plugins=[hunt])
    for name, (tried, noticed) in hunt.counts.items():
        share = 100 * noticed / max(tried, 1)
        print(f"{name}: {noticed} of {tried} noticed, {share:.1f} %", flush=True)


if __name__ == "__main__":
    main()
