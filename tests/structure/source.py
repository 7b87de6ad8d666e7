"""What the rules read: modules, with their imports, comments, docstrings and public names; and notes.

Nothing here imports the package: everything is read from the text of the files below one root.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef

IDENTIFIER = re.compile(r"\d+\.\d+")
# (4.3), (4.3, 4.4) and (4.3)–(4.5) alike: parentheses that hold nothing but identifiers.
CITATION = re.compile(r"\((\d+\.\d+(?:(?:, | and |–)\d+\.\d+)*)\)")


class Module:
    """One file of Python, read and parsed."""

    def __init__(self, path: Path, root: Path, text: str) -> None:
        self.path = path
        self.relative = path.relative_to(root)
        self.text = text
        self.tree = ast.parse(self.text)
        parts = self.relative.with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)

    def at(self, line: int, sentence: str) -> str:
        """A violation, in the form that editors jump to."""
        return f"{self.relative}:{line}: {sentence}"

    def imports(self) -> Iterator[tuple[int, str]]:
        """(line, dotted name) of everything imported anywhere in the file, inside functions too."""
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    for alias in names:
                        used = self._attributes_of(alias.asname or alias.name) or [""]
                        for attribute in used if "." not in alias.name else [""]:
                            yield node.lineno, f"{alias.name}.{attribute}".removesuffix(".")
                case ast.ImportFrom(module=source, names=names, level=level):
                    base = package[: len(package) - level + 1] if level else []
                    for alias in names:
                        yield node.lineno, ".".join([*base, *([source] if source else []), alias.name])
                case ast.Call(
                    func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    yield node.lineno, name

    def _attributes_of(self, name: str) -> list[str]:
        """What is used of a module that was imported whole: `__version__` of `scratchvae.__version__`."""
        return sorted(
            node.attr
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
        )

    @functools.cached_property
    def comments(self) -> list[tuple[int, str]]:
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]

    @functools.cached_property
    def docstrings(self) -> list[tuple[int, str]]:
        """(line, text), one entry per line of each docstring."""
        lines = []
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Module | ast.ClassDef | Function) or ast.get_docstring(node) is None:
                continue
            string = node.body[0]
            text = "\n".join(self.text.splitlines()[string.lineno - 1 : string.end_lineno])
            lines += [(string.lineno + i, line) for i, line in enumerate(text.splitlines())]
        return lines

    def citations(self) -> list[tuple[int, str]]:
        """(line, identifier) of each equation cited in a comment or a docstring."""
        return [
            (line, identifier)
            for line, text in [*self.comments, *self.docstrings]
            for group in CITATION.findall(text)
            for identifier in IDENTIFIER.findall(group)
        ]

    @functools.cached_property
    def exported(self) -> list[str]:
        """The names in `__all__`; starred parts cannot be read from the text and are left out."""
        for node in self.tree.body:
            match node:
                case ast.Assign(
                    targets=[ast.Name(id="__all__")], value=ast.List(elts=elements) | ast.Tuple(elts=elements)
                ):
                    return [e.value for e in elements if isinstance(e, ast.Constant)]
        return []

    @functools.cached_property
    def definitions(self) -> dict[str, Function | ast.ClassDef]:
        """Top-level functions and classes; after `k = njit(...)(_k)` the name k stands for _k."""
        found: dict[str, Function | ast.ClassDef] = {
            node.name: node for node in self.tree.body if isinstance(node, Function | ast.ClassDef)
        }
        for node in self.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(args=[ast.Name(id=plain), *_])):
                    if plain in found:
                        found[name] = found[plain]
        return found

    def public(self) -> dict[str, Function | ast.ClassDef]:
        """What `__all__` lists, and every function or class without a leading underscore."""
        return {
            name: node
            for name, node in self.definitions.items()
            if name in self.exported or (name == node.name and not name.startswith("_"))
        }


@functools.cache  # every rule reads all files, which are parsed once
def _module(path: Path, root: Path, text: str) -> Module:
    return Module(path, root, text)


def modules(root: Path, *folders: str) -> list[Module]:
    """The Python files below the given folders of a root, in a fixed order."""
    return [
        _module(path, root, path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((root / folder).rglob("*.py"))
    ]


class Note(NamedTuple):
    """One note of `derivations/`."""

    path: Path
    number: int
    stem: str
    text: str

    @property
    def title(self) -> str:
        return f"derivations/{self.path.name}"

    def at(self, offset: int, sentence: str) -> str:
        line = self.text.count("\n", 0, offset) + 1
        return f"{self.title}:{line}: {sentence}"

    def tags(self) -> list[tuple[int, str]]:
        """(offset, identifier) of each tagged equation."""
        return [(match.start(), match[1]) for match in re.finditer(r"\\tag\{([^}]*)\}", self.text)]

    def definitions(self) -> list[tuple[int, str]]:
        """(offset, identifier) of each equation that the note declares to be a definition."""
        line = re.search(r"^\*\*Definitions\*\*:(.*)$", self.text, re.MULTILINE)
        if line is None:
            return []
        return [(line.start(), identifier) for identifier in IDENTIFIER.findall(line[1])]

    def citations(self) -> list[tuple[int, str]]:
        """(offset, identifier) of each equation cited outside formulas."""
        prose = re.sub(
            r"\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]*`", lambda m: " " * len(m[0]), self.text, flags=re.DOTALL
        )
        return [
            (match.start(), identifier)
            for match in CITATION.finditer(prose)
            for identifier in IDENTIFIER.findall(match[1])
        ]

    def in_code(self) -> list[tuple[int, str]] | None:
        """(offset, text) of each piece of code in the note's "In code" part; None without that part."""
        part = re.search(
            r"^## In code$(?P<section>.*?)(?=^## |\Z)|^\*In code\.?\*(?P<paragraph>.*?)(?=\n\s*\n|\Z)",
            self.text,
            re.MULTILINE | re.DOTALL,
        )
        if part is None:
            return None
        group = "section" if part["section"] is not None else "paragraph"
        return [(part.start(group) + m.start(), m[1]) for m in re.finditer(r"`([^`\n]+)`", part[group])]


def notes(root: Path) -> list[Note]:
    """The notes `NN-<stem>.md`, in the order of their numbers."""
    return [
        Note(path, int(name[1]), name[2], path.read_text(encoding="utf-8"))
        for path in sorted((root / "derivations").glob("*.md"))
        if (name := re.fullmatch(r"(\d\d)-(\w+)", path.stem))
    ]
