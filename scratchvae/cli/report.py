"""The whole report of `scratchvae variance --full`: part by part, each kept as soon as it is finished."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from scratchvae.cli import tables
from scratchvae.cli.files import prepare_out, say_written, writing
from scratchvae.lab.variance_questions import QUESTIONS
from scratchvae.training.progress import Progress
from scratchvae.training.run_directory import versions, write_atomically

__all__ = ["write_report"]

# Published settings and the map of reversals are drawn by a script beside the package, where there is one.
_PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "published_variances.py"


class _Part(NamedTuple):
    """One section of the report."""

    title: str
    folder: str
    numbers: str  # the file that is written last: where it is whole, the part is finished
    pictures: tuple[str, ...]
    make: Callable[[Path], bool]


def write_report(options: argparse.Namespace, variance: Callable[[argparse.Namespace], bool]) -> bool:
    """Ask every question that is not answered yet, with the same options, and put the answers together.

    A part whose file of numbers is whole and came from the same options is not measured again.

    Parameters
    ----------
    options : Namespace
        Of `scratchvae variance`.
    variance : callable
        The verb, for one question.
    """
    if options.by is not None:
        raise ValueError(
            f"--by {options.by} came with --full, which asks all questions: leave one of them out"
        )
    out = prepare_out(options.out, "variance-report")
    key = _key(options)
    parts = list(_parts(options, variance))
    with Progress("the report", len(parts)) as bar:
        for part in parts:
            folder = out / part.folder
            stamp = folder / "finished.json"
            if _is_finished(stamp, key, [folder / part.numbers, *(folder / name for name in part.pictures)]):
                print(f"{part.folder}: kept as it is", file=sys.stderr)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    part.make(folder)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(
                        f"interrupted in {part.folder!r}; what is finished is kept, and the same command goes on"
                    ) from None
                _write_text(stamp, json.dumps(key, indent=2) + "\n")
            bar.advance(part.folder)
    _write_text(out / "README.md", _readme(options, out, parts))
    say_written(out / "README.md")
    return True


def _key(options: argparse.Namespace) -> dict[str, Any]:
    """All that the numbers depend on."""
    ignored = ("verb", "out", "json", "full", "by")
    chosen = {
        name: value for name, value in vars(options).items() if name not in ignored and value is not None
    }
    key: dict[str, Any] = json.loads(json.dumps({"options": chosen, "versions": versions()}, default=str))
    return key


def _is_finished(stamp: Path, key: dict[str, Any], files: list[Path]) -> bool:
    if not all(file.is_file() for file in [stamp, *files]):
        return False
    try:
        return bool(json.loads(stamp.read_text(encoding="utf-8")) == key)
    except ValueError:  # not whole: measured again
        return False


def _parts(options: argparse.Namespace, variance: Callable[[argparse.Namespace], bool]) -> Iterator[_Part]:
    def asked(question: str | None) -> Callable[[Path], bool]:
        def make(folder: Path) -> bool:
            changes = {"by": question, "out": folder, "full": False, "json": None}
            return variance(argparse.Namespace(**{**vars(options), **changes}))

        return make

    title = "Gradient variance along training" if options.run is None else "Gradient variance of the run"
    yield _Part(title, "training", "variance.json", ("variance.png",), asked(None))
    for name, question in QUESTIONS.items():
        yield _Part(question.title, name, f"{name}.json", (f"{name}.png",), asked(name))
    if _PUBLISHED.is_file():
        pictures = ("variances.png", "reversals.png")
        yield _Part(
            "Published settings, and the map of reversals",
            "published",
            "variances.json",
            pictures,
            _published(options),
        )


def _published(options: argparse.Namespace) -> Callable[[Path], bool]:
    def make(folder: Path) -> bool:
        command = [sys.executable, str(_PUBLISHED), "--out", str(folder), "--seed", str(options.seed)]
        subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603 - a script of this repository
        return True

    return make


def _readme(options: argparse.Namespace, out: Path, parts: list[_Part]) -> str:
    """The report: command, seed, and every part's picture and table."""
    given = {
        name: value for name, value in _key(options)["options"].items() if name not in ("samples", "seed")
    }
    more = "".join(
        f" --{name.replace('_', '-')} {','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in given.items()
    )
    environment = ", ".join(f"{name} {value}" for name, value in versions().items())
    lines = [
        "# How loud gradient estimators are",
        "",
        "```console",
        f"scratchvae variance --full --samples {options.samples} --seed {options.seed}{more} --out {out}",
        "```",
        "",
        f"Seed {options.seed}; {environment}. Beside each picture are its numbers, as JSON.",
    ]
    for part in parts:
        lines += ["", f"## {part.title}"]
        for picture in part.pictures:
            lines += ["", f"![{part.title}]({part.folder}/{picture})"]
        record = json.loads((out / part.folder / part.numbers).read_text(encoding="utf-8"))
        lines += ["", f"Numbers: [{part.numbers}]({part.folder}/{part.numbers})"]
        if "answer" in record:
            lines += ["", *_markdown(*tables.question_cells(record["answer"]))]
    return "\n".join(lines) + "\n"


def _markdown(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def _write_text(path: Path, text: str) -> None:
    with writing(path):
        write_atomically(path, lambda file: file.write(text.encode()))
