"""The account of chance adds up, nothing is beside it, and a seed is the same seed however it is asked for."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests import ledger

ROOT = Path(__file__).resolve().parents[1]


def test_the_shares_of_all_statistical_tests_are_within_the_budget(
    statistical_cases: list[str], request: pytest.FixtureRequest
) -> None:
    cases = len(statistical_cases) / len(request.config.getoption("--seeds") or [0])
    assert cases * ledger.SHARE * ledger.SEEDS <= ledger.BUDGET
    assert ledger.Chance.false_failure + ledger.Chance.miss <= ledger.SHARE
    assert ledger.BUDGET <= 1e-4


def test_every_quantile_comes_from_the_ledger() -> None:
    assert ledger.quantiles_come_from_the_ledger(ROOT) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("limit = norm.isf(1e-9)", "test_x.py:1: .isf"),
        ("from scipy import stats\nlow = stats.chi2(5).ppf(0.1)", "test_x.py:2: .ppf"),
        ("assert kstest(x, y).pvalue > 1e-9", ".pvalue"),
        ("assert chance.allows(kstest(x, y).pvalue) and chisquare(z).pvalue > 0.01", ".pvalue"),
        ("low, high = binom.interval(0.99, 5, 0.5)", ".interval"),
        ("low, high = Chance().between(norm())", "Chance() is not in the ledger"),
    ],
)
def test_a_quantile_beside_the_ledger_is_noticed(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text("assert chance.allows(kstest(x, y).pvalue)\n")
    assert ledger.quantiles_come_from_the_ledger(tmp_path) == []
    (tmp_path / "tests" / "test_x.py").write_text(text)
    (violation,) = ledger.quantiles_come_from_the_ledger(tmp_path)
    assert says in violation


def run_pytest(folder: Path, *arguments: str) -> str:
    """The output of pytest over a small suite with the project's conftest."""
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_small.py").write_text(
        textwrap.dedent("""
        import hypothesis, pytest
        from hypothesis import strategies

        @pytest.mark.parametrize("name", ["a", "b"])
        def test_named(rng, name):
            print("drawn", name, rng.integers(10**9))

        def test_plain(rng):
            print("drawn plain", rng.integers(10**9))

        @hypothesis.given(strategies.integers(0, 10**9))
        @hypothesis.settings(max_examples=20)
        def test_property(number):
            print("drawn property", number)

        def test_without_a_seed():
            print("drawn nothing")
        """)
    )
    command = [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", *arguments, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCRATCHVAE_KERNELS": "reference"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout


def drawn(output: str) -> list[str]:
    return [line[line.index("drawn") :] for line in output.splitlines() if "drawn" in line]


def test_seeds_run_what_depends_on_them_and_each_is_that_of_seed(tmp_path: Path) -> None:
    together = drawn(run_pytest(tmp_path, "--seeds", "3-4"))
    assert not any("nothing" in line for line in together)
    alone = drawn(run_pytest(tmp_path, "--seed", "4"))
    own = [line for line in alone if "property" not in line and "nothing" not in line]
    assert len(own) == 3
    assert [line for line in together if "property" not in line][3:] == own
    # Hypothesis draws other examples for another seed.
    properties = [line for line in together if "property" in line]
    assert len(properties) == 40
    assert properties[:20] != properties[20:]


def test_what_is_no_range_of_seeds_is_refused(request: pytest.FixtureRequest) -> None:
    conftest = request.config.pluginmanager.getplugin(str(ROOT / "tests" / "conftest.py"))
    assert conftest._seeds("3-5") == range(3, 6)
    assert conftest._seeds("17") == range(17, 18)
    for wrong in ("nine", "9-4", "-3", "3-"):
        with pytest.raises(
            argparse.ArgumentTypeError, match="is not a seed such as 17, or a range such as 0-99"
        ):
            conftest._seeds(wrong)
