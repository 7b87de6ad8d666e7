"""The committed mutation run killed enough, and explains the rest."""

from __future__ import annotations

import json
from pathlib import Path

from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.targets import targets

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "mutants.json"
ENOUGH = 0.98  # of all mutants, those that are none included


def test_the_committed_run_killed_enough_and_explains_the_rest():
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    total = sum(row["mutants"] for row in record["modules"].values())
    killed = sum(row["killed"] for row in record["modules"].values())
    assert killed >= ENOUGH * total
    assert total - killed == len(record["survivors"])
    for survivor in record["survivors"]:
        assert survivor["reason"], survivor
    mutated = {name.partition(":")[0] for name in targets()}
    assert set(record["modules"]) == mutated


def test_no_reason_is_kept_for_what_is_gone():
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    used = {
        (survivor["function"].removeprefix("scratchvae."), survivor["reason"])
        for survivor in record["survivors"]
    }
    assert {(known.function, known.reason) for known in EQUIVALENT} <= used
