"""Plant every mistake, ask every check, and write which of them found it.

    python -m tests.planted

Writes benchmarks/results/planted_bugs.json, from which `python benchmarks/tables.py` makes benchmarks/planted_bugs.md.
About a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scratchvae.training.progress import Progress
from scratchvae.training.run_directory import versions
from tests.planted import checks
from tests.planted.bugs import BUGS
from tests.planted.mistakes import MISTAKES
from tests.planted.source import planted
from tests.planted.test_planted import FAILURES, RESULTS, run
from tests.planted.unseen import SECOND_CHECKS, UNSEEN


def fails(check: Callable[[], None]) -> bool:
    try:
        check()
    except FAILURES:
        return True
    return False


def gradient_row(bug: Any) -> dict[str, Any]:
    """Which scales `check_gradients` finds it at, whether differences of the code's own loss do, and what else does."""
    found = []
    for scale in checks.SCALES:
        with planted((*bug.places, *checks.scaled(scale))):
            if fails(lambda: checks.check_gradients(bug.setting)):
                found.append(scale)
    with planted(bug.places):
        own = fails(lambda: checks.own_differences(bug.setting))
        second = SECOND_CHECKS.get(bug.name)
        also = second.name if second and fails(lambda: run(second, 1.0)) else ""
    return {
        "name": bug.name,
        "subject": bug.subject,
        "own_differences": own,
        "check_gradients": found,
        "also": also,
        "seen": bug.seen,
    }


def row_elsewhere(name: str, subject: str, seen: str, check: checks.Check, broken: Any) -> dict[str, Any]:
    """At which scales the named check finds it; at 1 alone if it knows no scale."""
    found = []
    for scale in checks.SCALES if check.scales else (1.0,):
        with broken():
            if fails(lambda scale=scale: run(check, scale)):
                found.append(scale)
    return {"name": name, "subject": subject, "check": check.name, "found": found, "seen": seen}


@contextlib.contextmanager
def mistaken(mistake: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        yield


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m tests.planted",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    gradients, elsewhere = [], []
    np.seterr(over="raise", divide="raise", invalid="raise")  # as in the suite
    with Progress("planting", len(BUGS) + len(UNSEEN) + len(MISTAKES), True) as bar:
        for bug in BUGS:
            gradients.append(gradient_row(bug))
            bar.advance(bug.name)
        for bug, check in UNSEEN:
            elsewhere.append(
                row_elsewhere(bug.name, bug.subject, bug.seen, check, lambda bug=bug: planted(bug.places))
            )
            bar.advance(bug.name)
        for mistake, check in MISTAKES.items():
            name = mistake.__doc__.split("\n")[0]
            elsewhere.append(row_elsewhere(name, "", "", check, lambda mistake=mistake: mistaken(mistake)))
            bar.advance(name)
    record = {
        "seed": checks.SEED,
        "scales": checks.SCALES,
        "versions": versions(),
        "gradients": gradients,
        "elsewhere": elsewhere,
    }
    RESULTS.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    survivors = [row["name"] for row in gradients if row["check_gradients"] != list(checks.SCALES)]
    survivors += [row["name"] for row in elsewhere if not row["found"]]
    for name in survivors:
        sys.stderr.write(f"not found: {name}\n")
    total = len(gradients) + len(elsewhere)
    sys.stdout.write(f"{total - len(survivors)} of {total} found\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
