"""Putting a fault into a module that has been imported, wherever its functions are by now."""

import ast
import gc
import sys
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from benchmarks.mutations import Mutant

ROOT = Path(__file__).resolve().parent.parent


class Patient:
    """A module that has been imported, and its functions wherever they are by now."""

    def __init__(self, file: str, source: str) -> None:
        name = ".".join(Path(file).relative_to(ROOT).with_suffix("").parts)
        self._file, self._source = file, source
        self._module = sys.modules[name]
        self._code = compile(source, file, "exec")
        gc.unfreeze()
        self._functions = [
            each
            for each in gc.get_objects()
            if type(each) is FunctionType and each.__code__.co_filename == file
        ]
        gc.freeze()  # forks share what is never looked at

    def swap(self, mutant: Mutant) -> tuple[Callable[[], None], bool] | None:
        """What puts it in, and whether that is in a function. None if the module would have to
        be imported anew."""
        tree = mutant.put_into(ast.parse(self._source))
        bodies = _bodies(self._code, compile(tree, self._file, "exec"))
        if bodies is None:
            if isinstance(tree.body[mutant.statement], ast.Assign | ast.AnnAssign):
                at = mutant.statement
                return lambda: _say_again(self._module, tree.body, self._file, at), False
            return None
        found = [
            (each, new) for old, new in bodies for each in self._functions if each.__code__ == old
        ]

        def swap() -> None:
            for function, new in found:
                function.__code__ = new
            names = {function.__name__ for function, _ in found}
            _say_again(self._module, tree.body, self._file, None, names)

        return (swap, True) if found else None


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


def _say_again(
    module: ModuleType,
    body: list[ast.stmt],
    file: str,
    first: int | None,
    changed: AbstractSet[str] = frozenset(),
) -> None:
    """Run assignments of a module anew: one, those that build on it or on what has changed. Who
    has imported the values is told."""
    for at, statement in enumerate(body):
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        names = {each.id for each in ast.walk(statement) if isinstance(each, ast.Name)}
        if at != first and not names & changed:
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        mine = {n.id for each in targets for n in ast.walk(each) if isinstance(n, ast.Name)}
        old = {name: module.__dict__.get(name) for name in mine}
        exec(compile(ast.Module([statement], []), file, "exec"), module.__dict__)
        changed = changed | mine
        for other in list(sys.modules.values()):
            for name in mine & set(getattr(other, "__dict__", {})):
                if other.__dict__[name] is old[name]:
                    other.__dict__[name] = module.__dict__[name]
