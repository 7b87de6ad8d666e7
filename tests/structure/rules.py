"""The rules of the house: each takes the root of a repository and returns its violations."""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.structure.source import Function, Module, modules, notes

# From what a person touches down to what all stands on. An import points downwards or stays in its row.
ORDER = (
    "cli",
    "figures",
    "plots",
    "testing",
    "lab",
    "training",
    "models",
    "estimators",
    "objectives",
    "densities",
    "layers",
    "randomness",
    "kernels",
    "validation",
)
AUTOMATIC_DIFFERENTIATION = {"autograd", "jax", "tensorflow", "torch"}
LONGEST_MODULE = 400
SLOW_TO_IMPORT = ("numpy", "numba")
ARRAY_TYPES = {"ndarray", "NDArray", "ArrayLike"}
# A shape: (B, D), (fan_in, fan_out), (...), (), (total size,): a tuple that begins with a dimension, or is of
# one. In words: "any shape", "the shape of `x`", "shapes as in the forward pass".
SHAPE = re.compile(
    r"\((?:|\.\.\.|(?:\.\.\.|[A-Zn]|\d+|fan_in|fan_out),[^()]*|[^(),]+,)\)"
    r"|\b[Aa]ny shape\b|\b[Ss]hapes? (?:and dtype )?(?:of|as)\b"
)


def imports_point_downwards(root: Path) -> list[str]:
    """`ORDER` holds between the rows, and within a row no two modules need each other."""
    found = []
    package = {module.name: module for module in modules(root, "scratchvae")}
    graph: dict[str, set[str]] = {}
    for module in package.values():
        row = _row(module.name)
        if module.name == "scratchvae":
            continue  # the front door knows every room: it loads names lazily and defines nothing
        if row not in ORDER:
            found.append(module.at(1, f"{module.name} has no place in the order of imports"))
            continue
        for line, name in module.imports():
            if name.split(".")[0] != "scratchvae" or name == "scratchvae.__version__":
                continue
            if _row(name) not in ORDER:
                found.append(
                    module.at(line, f"{name} comes through the front door: import the module that defines it")
                )
            elif ORDER.index(_row(name)) < ORDER.index(row):
                found.append(module.at(line, f"{row} imports {name}, which lies above it"))
            elif _row(name) == row:
                target = name if name in package else name.rpartition(".")[0]
                graph.setdefault(module.name, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("these modules import each other: " + " → ".join(error.args[1]))
    return found


def _row(name: str) -> str:
    return (*name.split("."), "")[1]


def no_automatic_differentiation(root: Path) -> list[str]:
    """No framework that differentiates is imported anywhere in the package."""
    return [
        module.at(line, f"imports {name}: gradients are written by hand here")
        for module in modules(root, "scratchvae")
        for line, name in module.imports()
        if name.split(".")[0] in AUTOMATIC_DIFFERENTIATION
    ]


def oracles_are_independent(root: Path) -> list[str]:
    """An oracle shares no code with what it checks."""
    return [
        module.at(line, f"imports {name}: an oracle shares no code with the package")
        for module in modules(root, "tests/oracles")
        for line, name in module.imports()
        if name.split(".")[0] == "scratchvae"
    ]


def notes_modules_and_tests_share_stems(root: Path) -> list[str]:
    """Each note has one module of its stem (or a kernel's two twins), and a test at the mirrored place."""
    named = {note.path for note in notes(root)}
    found = [
        f"derivations/{path.name} is not called NN-<stem>.md"
        for path in sorted((root / "derivations").glob("*.md"))
        if path not in named
    ]
    numbers = [note.number for note in notes(root)]
    found += [f"two notes have the number {n:02d}" for n in sorted(set(numbers)) if numbers.count(n) > 1]
    for note in notes(root):
        if note.number == 0:
            continue  # notation belongs to every module
        places = {
            path.parent.relative_to(root / "scratchvae")
            for path in root.glob(f"scratchvae/**/{note.stem}.py")
        }
        if places == {Path("kernels/reference"), Path("kernels/compiled")}:
            place = Path("kernels")
        elif len(places) == 1 and not places & {Path("kernels/reference"), Path("kernels/compiled")}:
            (place,) = places
        else:
            listed = ", ".join(sorted(map(str, places))) or "none"
            found.append(
                f"{note.title}: expected one module {note.stem}.py, or two kernel twins; found: {listed}"
            )
            continue
        test = Path("tests") / place / f"test_{note.stem}.py"
        if not (root / test).is_file():
            found.append(f"{note.title}: there is no {test}")
    return found


def equations_are_checked(root: Path) -> list[str]:
    """Each tag is its note's own, unique, and a definition or marked as checked; no mark goes astray."""
    found = []
    marked = dict(_equation_marks(root))
    tagged: dict[str, str] = {}
    for note in notes(root):
        for offset, identifier in note.tags():
            if not re.fullmatch(rf"{note.number}\.[1-9]\d*", identifier):
                found.append(
                    note.at(offset, f"the tag {identifier} is not {note.number}. and a running number")
                )
            if identifier in tagged:
                found.append(note.at(offset, f"the tag {identifier} is taken by {tagged[identifier]}"))
            tagged[identifier] = note.title
        own = {identifier for _, identifier in note.tags()}
        definitions = {identifier for _, identifier in note.definitions()}
        for offset, identifier in note.definitions():
            if identifier not in own:
                found.append(
                    note.at(offset, f"({identifier}) is called a definition but is no tag of this note")
                )
        for offset, identifier in note.tags():
            if identifier not in definitions and identifier not in marked:
                found.append(note.at(offset, f'({identifier}) has no test marked equation("{identifier}")'))
    for identifier, place in marked.items():
        if identifier not in tagged:
            found.append(f"{place}: marks equation {identifier}, which no note has")
    return found


def _equation_marks(root: Path) -> Iterator[tuple[str, str]]:
    """(identifier, place) of each equation mark in the decorators of a test."""
    for module in modules(root, "tests"):
        for node in ast.walk(module.tree):
            if not isinstance(node, Function | ast.ClassDef) or not node.name.lower().startswith("test"):
                continue
            for call in (part for decorator in node.decorator_list for part in ast.walk(decorator)):
                match call:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Attribute(attr="mark"), attr="equation"), args=args
                    ):
                        for argument in args:
                            yield ast.literal_eval(argument), f"{module.relative}:{call.lineno}"


def citations_exist(root: Path) -> list[str]:
    """Each equation cited in the package's comments and docstrings, or in a note's prose, is in the notes."""
    tagged = {identifier for note in notes(root) for _, identifier in note.tags()}
    return [
        module.at(line, f"cites ({identifier}), which no note has")
        for module in modules(root, "scratchvae")
        for line, identifier in module.citations()
        if identifier not in tagged
    ] + [
        note.at(offset, f"cites ({identifier}), which no note has")
        for note in notes(root)
        for offset, identifier in note.citations()
        if identifier not in tagged
    ]


def backward_functions_cite(root: Path) -> list[str]:
    """Each public backward function cites at least one equation."""
    return [
        module.at(node.lineno, f"{name} cites no equation")
        for module in modules(root, "scratchvae")
        for name, node in module.public().items()
        if name.endswith("_backward")
        and not any(node.lineno <= line <= (node.end_lineno or 0) for line, _ in module.citations())
    ]


def backward_follows_forward(root: Path) -> list[str]:
    """`X_backward` is the next function after `X_forward`; only the class of its cache may stand between."""
    found = []
    for module in modules(root, "scratchvae"):
        functions = [node for node in module.tree.body if isinstance(node, Function)]
        names = [node.name for node in functions]
        for node, following in zip(functions, names[1:] + [""] * bool(names), strict=True):
            stem = node.name.removesuffix("_forward")
            if f"{stem}_backward" in names and stem != node.name and following != f"{stem}_backward":
                found.append(
                    module.at(node.lineno, f"{node.name} is not followed at once by {stem}_backward")
                )
            stem = node.name.removesuffix("_backward")
            if stem != node.name and f"{stem}_forward" not in names:
                found.append(module.at(node.lineno, f"{node.name} has no {stem}_forward beside it"))
    return found


def public_names_are_documented(root: Path) -> list[str]:
    """Modules, public functions, classes and methods have a docstring, and it gives the shapes of arrays.

    Whether arrays are involved is read from the annotations, which mypy's strict mode demands. A class's
    docstring answers for `__init__`; the fields of a NamedTuple have their shapes in comments; a compiled
    kernel has those of its plain twin.
    """
    found = []
    plain = {module.path.name: module.exported for module in modules(root, "scratchvae/kernels/reference")}
    for module in modules(root, "scratchvae"):
        if ast.get_docstring(module.tree) is None:
            found.append(module.at(1, f"{module.name} has no docstring"))
        is_compiled = module.name.startswith("scratchvae.kernels.compiled.")
        shapes_elsewhere = plain.get(module.path.name, []) if is_compiled else []
        for name, node in _public_functions(module):
            docstring = ast.get_docstring(node)
            if docstring is None:
                found.append(module.at(node.lineno, f"{name} has no docstring"))
            elif _has_arrays(node) and name not in shapes_elsewhere and not SHAPE.search(docstring):
                found.append(module.at(node.lineno, f"{name} has arrays and its docstring gives no shape"))
        found += [
            module.at(1, f"{name} is in __all__ and nowhere else")
            for name in module.exported
            if name not in _bound_names(module.tree)
        ]
    return found


def _public_functions(module: Module) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Public functions and classes, and the classes' public methods under dotted names."""
    for name, node in module.public().items():
        yield name, node
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, Function) and not method.name.startswith("_"):
                    yield f"{name}.{method.name}", method


def _has_arrays(node: Function | ast.ClassDef) -> bool:
    """Whether arrays go into a function or come out; for a class, whether they go into its `__init__`."""
    if isinstance(node, ast.ClassDef):
        return any(_has_arrays(p) for p in node.body if isinstance(p, Function) and p.name == "__init__")
    every = [part.annotation for part in ast.walk(node.args) if isinstance(part, ast.arg)]
    return any(
        getattr(part, "id", getattr(part, "attr", None)) in ARRAY_TYPES
        for annotation in [*every, node.returns]
        if annotation is not None
        for part in ast.walk(annotation)
    )


def _bound_names(tree: ast.Module) -> set[str]:
    """Every name that the module's text gives a meaning to, at any depth."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                names.add(name)
            case ast.arg(arg=name):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add(other or name)
    return names


def kernel_twins_agree(root: Path) -> list[str]:
    """Plain and compiled kernels export the same names, from modules of the same name, called alike."""
    exports = []
    for side in ("reference", "compiled"):
        found_in: dict[str, tuple[str, str | None]] = {}
        package = modules(root / "scratchvae/kernels", side)
        offered = {name for module in package if module.is_package for name in module.exported}
        for module in package:
            for name in offered.intersection(module.exported) if not module.is_package else ():
                found_in[name] = (module.path.name, _signature(module.definitions.get(name)))
        exports.append(dict.fromkeys(offered, ("no module", None)) | found_in)
    plain, compiled = exports
    found = [f"kernels: {name} has no twin" for name in sorted(plain.keys() ^ compiled.keys())]
    for name in sorted(plain.keys() & compiled.keys()):
        for what, *pair in zip(("stands in", "is called with"), plain[name], compiled[name], strict=True):
            if pair[0] != pair[1]:
                found.append(f"kernels: {name} {what} {pair[0]} plain and {pair[1]} compiled")
    return found


def _signature(node: Function | ast.ClassDef | None) -> str | None:
    """Names, kinds and defaults of the parameters; annotations may differ."""
    if not isinstance(node, Function):
        return None
    bare = copy.deepcopy(node.args)
    for part in ast.walk(bare):
        if isinstance(part, ast.arg):
            part.annotation = None
    return f"({ast.unparse(bare)})"


def no_flag_lies(root: Path) -> list[str]:
    """No kernel asks for `fastmath=True`, nor for flags under which isnan cannot be believed."""
    found = []
    for module in modules(root, "scratchvae"):
        for node in ast.walk(module.tree):
            match node:
                case ast.keyword(arg="fastmath", value=ast.Constant(value=True)):
                    found.append(
                        module.at(node.value.lineno, "fastmath=True makes isnan lie: name harmless flags")
                    )
                case ast.Constant(value="fast" | "nnan" | "ninf"):
                    found.append(module.at(node.lineno, f"the flag {node.value} makes isnan lie"))
    return found


def modules_are_short(root: Path) -> list[str]:
    """No module is longer than four hundred lines."""
    return [
        f"{module.relative} has {lines} lines, more than {LONGEST_MODULE}"
        for module in modules(root, "scratchvae")
        if (lines := len(module.text.splitlines())) > LONGEST_MODULE
    ]


def notes_name_existing_code(root: Path) -> list[str]:
    """Each note says where it is *in code*, and what it names there exists: names, attributes and files."""
    known: set[str] = set()
    for module in modules(root, "scratchvae", "tests/oracles"):
        known |= _bound_names(module.tree) | set(module.name.split("."))
    found = []
    for note in notes(root):
        pieces = note.in_code()
        if not pieces and note.number:
            found.append(f'{note.title}: has no part "In code" that names its functions')
        for offset, piece in pieces or ():
            if "/" in piece:
                exists = any(root.glob(piece))
            elif name := re.fullmatch(r"([A-Za-z_][\w.]*)(\(.*\))?", piece):
                exists = all(part in known for part in name[1].split("."))
                # `_backward` stands for every name that ends so
                exists |= piece.startswith("_") and any(other.endswith(piece) for other in known)
            else:
                continue  # an expression
            if not exists:
                found.append(note.at(offset, f"names {piece}, which is not in the code"))
    return found


def import_is_light(root: Path) -> list[str]:
    """`import scratchvae` loads neither NumPy nor numba."""
    return _loads(root, "import scratchvae", "import scratchvae")


def help_is_light(root: Path) -> list[str]:
    """`scratchvae --help`, and the help of each verb, load neither NumPy nor numba."""
    found = []
    for verb in (
        [],
        ["train"],
        ["resume"],
        ["evaluate"],
        ["sample"],
        ["data"],
        ["check"],
        ["variance"],
        ["figures"],
    ):
        arguments = ["scratchvae", *verb, "--help"]
        program = f"""
            sys.argv = {arguments!r}
            from scratchvae.cli import main
            try:
                status = main()
            except SystemExit as stop:
                status = stop.code
            assert not status, f"exit status {{status}}"
        """
        found += _loads(root, " ".join(arguments), textwrap.dedent(program))
    return found


def _loads(root: Path, what: str, program: str) -> list[str]:
    """Run a program in a fresh interpreter that finds the package below root; say what it should not load."""
    before = f"import sys\nsys.path.insert(0, {str(root)!r})\n"
    after = f"\nprint(*(set(sys.modules) & set({SLOW_TO_IMPORT!r})), file=sys.stderr)\n"
    done = subprocess.run(
        [sys.executable, "-c", before + program + after],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    last = (done.stderr.splitlines() or [""])[-1]
    if done.returncode:
        return [f"`{what}` failed: {last}"]
    return [f"`{what}` loads {name}" for name in sorted(last.split())]
