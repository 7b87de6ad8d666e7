"""Small changes to a function, each of which some test ought to notice.

A mutant is the syntax tree of one function with one node changed. What a person could mistype, forget or confuse in a
backward pass is here: signs, factors, terms, reductions, axes, transposes, slices, statements and their order.
Docstrings, annotations and what happens after `raise` are left alone: no gradient depends on them.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
NAMES = {
    "sum": "mean", "mean": "sum", "max": "min", "min": "max", "maximum": "minimum", "argmax": "argmin",
    "exp": "expm1", "expm1": "exp", "log": "log1p", "log1p": "log", "zeros": "ones", "zeros_like": "ones_like",
    "ones_like": "zeros_like", "ones": "zeros", "cumsum": "cumprod", "matmul_transposed_right": "matmul",
    "matmul_transposed_left": "matmul",
}  # fmt: skip
# Of these the arguments may change places, and nothing would show.
COMMUTATIVE = {"array_equal", "hypot", "logaddexp", "maximum", "minimum", "multiply"}
# Functions of one argument that a hurried hand leaves out.
LEFT_OUT = {"abs", "exp", "expm1", "log", "log1p", "sqrt", "tanh", "reversed", "float", "copy"}
FACTORS = (1.001, 1.00001)


class Mutant(NamedTuple):
    """One change of one function."""

    line: int  # within the function's own source
    what: str
    tree: ast.Module

    @property
    def identity(self) -> str:
        """The same for the same change of the same source."""
        return hashlib.sha256(ast.dump(self.tree).encode()).hexdigest()[:16]


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a function's source, each once."""
    tree = ast.parse(source)
    function = _definition(tree)
    seen = {ast.dump(tree)}
    for path, node in _places(function):
        for new in _alternatives(node):
            mutated = _replaced(tree, path, new)
            text = ast.dump(mutated)
            if text not in seen:
                seen.add(text)
                before, after = (_statement(_definition(each), path) for each in (tree, mutated))
                what = f"{_text(before)} → {_text(after)}"
                yield Mutant(getattr(before, "lineno", function.lineno), what, mutated)


def _definition(tree: ast.Module) -> ast.FunctionDef:
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    return function


Path = tuple[tuple[str, int | None], ...]


def _places(function: ast.FunctionDef) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of the body with the way to it; the docstring, annotations, messages and defaults are left out."""
    start = 1 if ast.get_docstring(function) is not None else 0
    for i, statement in enumerate(function.body[start:], start):
        yield from _below((("body", i),), statement)


_REST = ast.dump(ast.UnaryOp(ast.USub(), ast.Constant(1)))


def _below(path: Path, node: ast.AST) -> Iterator[tuple[Path, ast.AST]]:
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
        return
    if isinstance(node, ast.keyword) and node.arg == "copy":
        return  # whether memory is spared is no question of right and wrong
    yield path, node
    if path[-1][0] == "args" and ast.dump(node) == _REST:
        return  # any negative number is the rest of a shape to NumPy, so −2 would be no other
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "ctx"):
            continue
        if isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield from _below((*path, (field, i)), item)
        elif isinstance(value, ast.AST):
            yield from _below((*path, (field, None)), value)


def _replaced(tree: ast.Module, path: Path, new: ast.AST) -> ast.Module:
    mutated = copy.deepcopy(tree)
    parent: Any = mutated.body[0]
    for field, i in path[:-1]:
        parent = getattr(parent, field) if i is None else getattr(parent, field)[i]
    field, i = path[-1]
    if i is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[i] = new
    return ast.fix_missing_locations(mutated)


def _statement(function: ast.FunctionDef, path: Path) -> ast.AST:
    """The innermost statement on the way to a place."""
    node: Any = function
    found: ast.AST = function
    for field, i in path:
        node = getattr(node, field) if i is None else getattr(node, field)[i]
        if isinstance(node, ast.stmt):
            found = node
        elif not isinstance(node, ast.expr | ast.comprehension | ast.keyword | ast.match_case):
            break
    return found


def _text(statement: ast.AST) -> str:
    """A statement in one line; of those that hold others, only the head."""
    return ast.unparse(statement).partition("\n")[0]


def _with(node: ast.AST, **fields: Any) -> Any:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _alternatives(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in OPERATORS:
                yield _with(node, op=OPERATORS[type(op)]())
            if isinstance(op, ast.Add | ast.Mult):
                yield left
                yield right
            elif isinstance(op, ast.Sub | ast.Div | ast.Pow):
                yield left
                yield _with(node, left=right, right=left)
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield operand
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            for other in COMPARISONS[type(op)]:
                yield _with(node, ops=[other()])
        case ast.BoolOp(op=op, values=values):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
            for i in range(len(values)):
                rest = values[:i] + values[i + 1 :]
                yield rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            for other in dict.fromkeys((value + 1, value - 1, 0, 2 * value)):
                if other != value:
                    yield ast.Constant(other)
        case ast.Attribute(value=value, attr="T"):
            yield value
        case ast.Call():
            yield from _calls(node)
        case ast.Attribute(value=value, attr=name) if name in NAMES:
            yield _with(node, attr=NAMES[name])
        case ast.Subscript(value=value, slice=place):
            if isinstance(place, ast.Slice) and isinstance(node.ctx, ast.Load):
                yield value
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.If(test=test, body=_, orelse=orelse):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
            yield _with(node, test=ast.Constant(True))
            yield _with(node, test=ast.Constant(False))
        case ast.AugAssign(target=target, op=op, value=value):
            yield ast.Pass()
            if type(op) in OPERATORS:
                yield _with(node, op=OPERATORS[type(op)]())
            place = _with(target, ctx=ast.Store())
            if isinstance(place, ast.Name):
                place = ast.Subscript(ast.Name(place.id, ast.Load()), ast.Constant(...), ast.Store())
            yield ast.Assign([place], value)
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]) | ast.Expr():
            yield ast.Pass()
        case ast.Return(value=ast.Tuple(elts=elements)):
            for i, element in enumerate(elements):
                for other in _scaled(element):
                    yield _with(node, value=ast.Tuple([*elements[:i], other, *elements[i + 1 :]], ast.Load()))
                for j in range(i):
                    swapped = list(elements)
                    swapped[i], swapped[j] = swapped[j], swapped[i]
                    yield _with(node, value=ast.Tuple(swapped, ast.Load()))
        case ast.Return(value=ast.expr() as value):
            yield from (_with(node, value=other) for other in _scaled(value))


def _scaled(value: ast.expr) -> Iterator[ast.expr]:
    """The value negated, and off by a little."""
    if isinstance(value, ast.Constant) or "zeros_like" in ast.dump(value):
        return  # nothing is nothing, however large
    yield ast.UnaryOp(ast.USub(), value)
    for factor in FACTORS:
        yield ast.BinOp(value, ast.Mult(), ast.Constant(factor))


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    arguments, keywords = node.args, node.keywords
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in LEFT_OUT and len(arguments) == 1:
        yield arguments[0]
    if isinstance(node.func, ast.Attribute) and name in ("astype", "reshape"):
        yield node.func.value
    for i in range(len(arguments) - 1):
        if name not in COMMUTATIVE and not any(isinstance(part, ast.Starred) for part in arguments):
            swapped = list(arguments)
            swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
            yield _with(node, args=swapped)
    for i in range(len(keywords)):
        if keywords[i].arg != "copy":
            yield _with(node, keywords=keywords[:i] + keywords[i + 1 :])
