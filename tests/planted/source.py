"""Break a function where it stands: its source is changed, compiled again, and put in the place of its code.

The function remains the object that it is, so that whoever has imported it, by whatever name, gets the broken one.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import copy
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple


class Substitution(NamedTuple):
    """In the source of `function`, named as in "scratchvae.layers.dense:dense_backward", `old` becomes `new`."""

    function: str
    old: str
    new: str


def find_function(name: str) -> FunctionType:
    """The plain function behind a name: behind a property its getter, behind a cache what is cached."""
    found: Any = pkgutil.resolve_name(name)
    found = inspect.unwrap(found.fget if isinstance(found, property) else found)
    assert isinstance(found, FunctionType), f"{name} is {found!r}, expected a function written in Python"
    return found


def source_of(function: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(function))


def compiled_again(function: FunctionType, tree: ast.Module) -> CodeType:
    """The code that `function` would have if `tree`, a module that holds its definition alone, were its source."""
    outside = function.__code__.co_freevars
    assert outside in ((), ("__class__",)), f"{function.__qualname__} stands inside another function"
    # Only a definition is looked for in what comes out, so nothing around it is ever run.
    flags = __future__.annotations.compiler_flag
    around = compile(
        _in_a_class(tree) if outside else tree,
        function.__code__.co_filename,
        "exec",
        flags,
        dont_inherit=True,
    )
    if outside:
        (around,) = (part for part in around.co_consts if isinstance(part, CodeType))
    (code,) = (
        part for part in around.co_consts if isinstance(part, CodeType) and part.co_name == function.__name__
    )
    return code


def _in_a_class(tree: ast.Module) -> ast.Module:
    """The definition where `super()` means something, and its class named within, also if no `super()` is left."""
    (definition,) = copy.deepcopy(tree).body
    assert isinstance(definition, ast.FunctionDef)
    definition.body.append(ast.Expr(ast.Name("__class__", ast.Load())))
    around = ast.ClassDef(name="Around", bases=[], keywords=[], body=[definition], decorator_list=[])
    return ast.fix_missing_locations(ast.Module([around], type_ignores=[]))


@contextlib.contextmanager
def planted(substitutions: Iterable[Substitution]) -> Iterator[None]:
    """Inside the `with`, the package has these mistakes.

    Several may go into one function, one after the other. Text that is not there, or more than once, raises: a
    mistake whose line has changed is planted anew by hand, and never silently nowhere.
    """
    sources: dict[FunctionType, str] = {}
    codes: dict[FunctionType, CodeType] = {}
    try:
        for name, old, new in substitutions:
            function = find_function(name)
            source = sources.get(function) or source_of(function)
            if source.count(old) != 1:
                raise LookupError(
                    f"{name} holds the text {old!r} {source.count(old)} times, expected it once: "
                    "plant this mistake anew"
                )
            sources[function] = source.replace(old, new)
            codes.setdefault(function, function.__code__)
            function.__code__ = compiled_again(function, ast.parse(sources[function]))
        yield
    finally:
        for function, code in codes.items():
            function.__code__ = code
