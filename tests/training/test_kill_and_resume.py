"""SIGKILL at random moments, in epochs and in saves, and on again: the same bits as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="its processes are forked")
def test_a_few_kills(tmp_path: Path) -> None:
    """The benchmark that kills fifty times, with six, in a process of its own, for it forks."""
    program = [sys.executable, ROOT / "benchmarks" / "kill_and_resume.py"]
    done = subprocess.run(
        [*program, "--kills", "6", "--epochs", "8", "--result", tmp_path / "result.json"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (result["kills"], len(result["moments"]), result["different"]) == (6, 6, [])
    assert {"theta", "optimizer.first_moment", "estimator.moment", "values", "history"} <= set(
        result["compared"]
    )
    assert any(moment["from_step"] > 0 for moment in result["moments"]), "it went on"


def test_the_committed_result_is_that_of_fifty() -> None:
    path = ROOT / "benchmarks" / "results" / "kill_and_resume.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["kills"] >= 50
    assert result["kills_in_a_save"] > 0
    assert result["different"] == []
