"""Small faults that can be put into a piece of Python, each one on its own.

Wording is left alone (docstrings, what is raised or logged, hints), and so are annotations and
decorators: what is asked is whether tests notice that something else is *done*.
"""

import ast
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
# In the text of a statement of SQL: what stands there, and what is put in its place.
_SQL = (
    (r"\bAND\b", "OR"),
    (r"\bOR\b", "AND"),
    (r"<=", "<"),
    (r"(?<![<>])<(?![=>])", "<="),
    (r">=", ">"),
    (r"(?<![<>])>(?!=)", ">="),
    (r"<>", "="),
    (r"(?<== )1\b", "0"),
    (r"(?<== )0\b", "1"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bNOT IN\b", "IN"),
    (r"(?<=:)(now|window|key)\b", "name"),
)


Path = tuple[tuple[str, int | None], ...]  # names of fields, and places in lists


@dataclass(frozen=True, slots=True)
class Mutant:
    line: int
    last: int
    was: str
    now: str
    statement: int  # which statement of the module it is in
    path: Path  # and where in there
    after: ast.AST

    def put_into(self, tree: ast.Module) -> ast.Module:
        """`tree` is what the source says, and is changed."""
        tree.body[self.statement] = _put(tree.body[self.statement], self.path, self.after)
        return ast.fix_missing_locations(tree)


def mutants_of(source: str) -> Iterator[Mutant]:
    """Every one there is, in the order of the lines."""
    tree = ast.parse(source)
    for number, statement in enumerate(tree.body):
        if _is_wording(tree, statement):
            continue
        for path in _nodes(statement, ()):
            before = _at(statement, path)
            for change in _changes(before):
                after = change(copy.deepcopy(before))
                yield Mutant(
                    line=before.lineno,
                    last=before.end_lineno or before.lineno,
                    was=ast.unparse(before),
                    now=ast.unparse(after),
                    statement=number,
                    path=path,
                    after=after,
                )


def _nodes(node: ast.AST, path: Path) -> Iterator[Path]:
    if isinstance(node, ast.stmt | ast.expr | ast.excepthandler):
        yield path
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        if isinstance(node, ast.Raise | ast.JoinedStr):
            continue
        if isinstance(value, ast.AST):
            if not _is_wording(node, value):
                yield from _nodes(value, (*path, (name, None)))
            continue
        for at, each in enumerate(value if isinstance(value, list) else ()):
            if isinstance(each, ast.AST) and not _is_wording(node, each):
                yield from _nodes(each, (*path, (name, at)))


def _is_wording(parent: ast.AST, node: ast.AST) -> bool:
    """Docstrings, log lines, hints, and the messages of errors that are not raised on the spot."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.keyword):
        return node.arg in ("hint", "log")
    if not isinstance(parent, ast.Call) or node is parent.func:
        return False
    called = ast.unparse(parent.func)
    return called.startswith("log.") or called in ("TypeVar", "Denied", "Malformed", "Refused")


def _at(node: ast.AST, path: Path) -> ast.AST:
    for name, at in path:
        value = getattr(node, name)
        node = value if at is None else value[at]
    return node


def _put(node: ast.AST, path: Path, new: ast.AST) -> ast.AST:
    if not path:
        return ast.copy_location(new, node)
    parent = _at(node, path[:-1])
    name, at = path[-1]
    if at is None:
        setattr(parent, name, ast.copy_location(new, getattr(parent, name)))
    else:
        values = getattr(parent, name)
        values[at] = ast.copy_location(new, values[at])
    return node


Change = Callable[[ast.AST], ast.AST]


def _changes(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare():
            yield from _compared(node)
        case ast.BoolOp():
            yield lambda n: ast.BoolOp(
                ast.Or() if isinstance(n.op, ast.And) else ast.And(), n.values
            )
            for at in range(len(node.values)):
                yield lambda n, at=at: _without(n, at)
        case ast.UnaryOp(op=ast.Not()):
            yield lambda n: n.operand
        case ast.BinOp() if type(node.op) in _COUNTED and not _is_text(node):
            yield lambda n: ast.BinOp(n.left, _COUNTED[type(n.op)](), n.right)
        case ast.Constant():
            yield from (lambda _, v=v: ast.Constant(v) for v in _constants(node.value))
        case ast.If() | ast.While() | ast.IfExp():
            yield lambda n: _with_test(n, ast.UnaryOp(ast.Not(), n.test))
        case ast.Raise() | ast.Delete():
            yield lambda _: ast.Pass()
        case ast.Expr() if not _is_log(node):
            yield lambda _: ast.Pass()
        case ast.AugAssign():
            yield lambda _: ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield lambda _: ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield lambda _: ast.Return(ast.Constant(None))
        case ast.Break():
            yield lambda _: ast.Continue()
        case ast.Continue():
            yield lambda _: ast.Break()
        case ast.ExceptHandler(type=ast.Tuple() as caught):
            for at in range(len(caught.elts)):
                yield lambda n, at=at: _catching_less(n, at)
        case ast.Call() if node.keywords:
            for at, each in enumerate(node.keywords):
                if each.arg not in (None, "hint", "log"):
                    yield lambda n, at=at: ast.Call(n.func, n.args, _but(n.keywords, at))
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            for at, each in enumerate(node.generators):
                for number in range(len(each.ifs)):
                    yield lambda n, at=at, number=number: _with_all(n, at, number)


def _compared(node: ast.Compare) -> Iterator[Change]:
    for at, op in enumerate(node.ops):
        for other in _COMPARED[type(op)]:
            yield lambda n, at=at, other=other: ast.Compare(
                n.left, [*n.ops[:at], other(), *n.ops[at + 1 :]], n.comparators
            )


def _constants(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, bytes):
        yield b"X" + value
    elif isinstance(value, str):
        if not re.search(r"\b(WHERE|UPDATE|INSERT|DELETE)\b", value):
            yield "X" + value
            return
        for pattern, other in _SQL:
            for found in re.finditer(pattern, value):
                yield value[: found.start()] + other + value[found.end() :]


def _is_text(node: ast.BinOp) -> bool:
    """Text that is put together has no difference; it would only be a TypeError."""
    texts = (ast.JoinedStr, ast.Constant)
    return any(
        isinstance(each, ast.JoinedStr)
        or (isinstance(each, texts) and isinstance(getattr(each, "value", None), str | bytes))
        for each in (node.left, node.right)
    )


def _is_log(node: ast.Expr) -> bool:
    return ast.unparse(node).startswith("log.")


def _but(values: list, at: int) -> list:
    return values[:at] + values[at + 1 :]


def _without(node: ast.BoolOp, at: int) -> ast.AST:
    left = _but(node.values, at)
    return left[0] if len(left) == 1 else ast.BoolOp(node.op, left)


def _with_test(node: ast.AST, test: ast.expr) -> ast.AST:
    node.test = test
    return node


def _catching_less(node: ast.ExceptHandler, at: int) -> ast.AST:
    node.type = ast.Tuple(_but(node.type.elts, at), ast.Load())
    return node


def _with_all(node: ast.AST, at: int, number: int) -> ast.AST:
    node.generators[at].ifs = _but(node.generators[at].ifs, number)
    return node
