"""Rewriting the modules of a working copy so that every iteration over a set reaches the tape.

Each expression whose iteration order can matter (the iterable of a loop, the argument of ``list``, ``*names``,
``names.pop()``) is put into a call that hands its value through: ``for a in names`` becomes
``for a in __rectest_why_order__(names, 'names')``. Lines stay where they are, and only files of a copy are written,
so tracebacks, ``-m``, spawned children and launchers work as ever. Where order cannot matter (``sorted``, ``len``,
``min``, a set made of a set) nothing is touched.

A module is rewritten only if parsing the result gives the old syntax tree plus those calls.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CHECKER", "rewrite_orders", "rewrite_source"]

CHECKER = "__rectest_why_order__"

_CAN_BE_SET = ast.Name | ast.Attribute | ast.Call | ast.BinOp | ast.Subscript | ast.IfExp | ast.Set | ast.SetComp
_BUILTIN = ("list", "tuple", "enumerate", "zip", "map", "filter", "iter", "fromkeys", "join", "extend")
_COLLECTIONS = (
    "deque",
    "Counter",
    "OrderedDict",
    "chain",
    "islice",
    "product",
    "permutations",
    "combinations",
    "cycle",
)
_NUMERICAL = ("from_iterable", "array", "asarray", "fromiter", "tensor", "as_tensor", "Series", "Index", "DataFrame")
_CONSUMERS = frozenset((*_BUILTIN, *_COLLECTIONS, *_NUMERICAL))
"""Calls that keep the order of what they are given."""

_NEVER_SETS = frozenset(
    (*_BUILTIN, *_COLLECTIONS, *_NUMERICAL, "sorted", "range", "len", "dict", "open", "items", "str")
)
"""Calls whose result is surely no set."""

_HARMLESS = frozenset(("sorted", "len", "min", "max", "sum", "any", "all", "set", "frozenset"))
"""Calls whose result does not depend on the order, unless a ``key`` lets different elements tie."""

_COMPILED = ("jit.script", "triton.jit", "numba", "njit")
"""Modules that are read by another compiler: it does not know the checker."""


def rewrite_orders(root: Path) -> int:
    """Rewrite every module below a directory; returns how many were changed, and leaves alone what it cannot read."""
    changed = 0
    for path in _modules(root):
        try:
            old = path.read_bytes()
            new = rewrite_source(old)
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        if new != old:
            path.write_bytes(new)
            changed += 1
    return changed


def rewrite_source(source: bytes) -> bytes:
    """The same module with its iterations checked; as it was if that cannot be done faithfully.

    >>> rewrite_source(b"ids = {a: i for i, a in enumerate(set(names))}")
    b"ids = {a: i for i, a in enumerate(__rectest_why_order__(set(names), 'set(names)'))}"
    >>> rewrite_source(b"for a in sorted(names): pass")
    b'for a in sorted(names): pass'
    """
    text = source.decode("utf-8")
    odd = source.startswith(b"\xef\xbb\xbf") or "\f" in text or "\r" in text.replace("\r\n", "")
    if odd or CHECKER in text or any(word in text for word in _COMPILED):
        return source
    tree = ast.parse(source)
    found = {(node.lineno, node.col_offset, node.end_lineno, node.end_col_offset): node for node in _iterated(tree)}
    if not found:
        return source
    new = _insert(source, list(found.values()))
    return new if _same_but_for_checks(tree, new) else source


def _modules(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


def _iterated(node: ast.AST, *, harmless: bool = False) -> Iterator[ast.expr]:
    """Expressions below `node` whose iteration order can be seen."""
    if isinstance(node, ast.JoinedStr):
        return  # places within f-strings are not told faithfully
    for expression in _consumed(node, harmless=harmless):
        if _can_be_set(expression):
            yield expression
    for child in ast.iter_child_nodes(node):
        yield from _iterated(child, harmless=_drops_order(node) and isinstance(child, ast.GeneratorExp | ast.ListComp))


def _can_be_set(node: ast.expr) -> bool:
    return isinstance(node, _CAN_BE_SET) and not (isinstance(node, ast.Call) and _callee(node) in _NEVER_SETS)


def _consumed(node: ast.AST, *, harmless: bool) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=iterable) | ast.AsyncFor(iter=iterable) | ast.YieldFrom(value=iterable):
            yield iterable
        case ast.ListComp() | ast.GeneratorExp() | ast.DictComp():
            yield from (generator.iter for generator in node.generators if not harmless)
        case ast.Starred(value=value, ctx=ast.Load()):
            yield value
        case ast.Assign(targets=[ast.Tuple() | ast.List()], value=value):
            yield value
        case ast.Call(func=ast.Attribute(attr="pop", value=value), args=[], keywords=[]):
            yield value
        case ast.Call() if _callee(node) in _CONSUMERS or (_callee(node) in _HARMLESS and _has_key(node)):
            yield from node.args


def _drops_order(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _callee(node) in _HARMLESS and not _has_key(node)


def _callee(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _has_key(node: ast.Call) -> bool:
    return any(keyword.arg == "key" for keyword in node.keywords)


def _insert(source: bytes, nodes: list[ast.expr]) -> bytes:
    starts = [0]
    for line in source.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    pieces: list[tuple[int, int, bytes]] = []
    for node in nodes:
        first = starts[node.lineno - 1] + node.col_offset
        last = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        name = " ".join(ast.unparse(node).split())[:60]
        # at one place: closing calls come first, the inner before the outer; then opening ones, the outer first
        pieces.append((first, 1_000_000_000 - (last - first), f"{CHECKER}(".encode()))
        pieces.append((last, last - first - 1_000_000_000, f", {name!r})".encode()))
    new, done = bytearray(), 0
    for place, _, text in sorted(pieces, key=lambda piece: piece[:2]):
        new += source[done:place] + text
        done = place
    return bytes(new + source[done:])


class _WithoutChecks(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return node.args[0] if isinstance(node.func, ast.Name) and node.func.id == CHECKER else node


def _same_but_for_checks(tree: ast.Module, new: bytes) -> bool:
    try:
        return ast.dump(tree) == ast.dump(_WithoutChecks().visit(ast.parse(new)))
    except SyntaxError:
        return False
