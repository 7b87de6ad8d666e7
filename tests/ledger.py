"""The ledger of chance: what the tests that could fail by bad luck may spend of it.

A test whose verdict rests on random numbers takes the fixture `chance`. That enters each of its cases in the ledger,
with the same share of the budget for all, and is the only way to a quantile: no other file of tests may ask SciPy for
one (`quantiles_come_from_the_ledger`). So no threshold is out of the account.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np

from scratchvae.lab.sampling_test import BiasReport, check_unbiased, draws_needed

# That anything fails in a healthy project when every seed of the nightly run has been through all the tests.
BUDGET = 1e-4
SEEDS = 100
CASES = 200  # at most; each has the same share
SHARE = BUDGET / SEEDS / CASES


class Chance:
    """What one case of one test may spend: half on false alarms, half on planted mistakes that escape."""

    false_failure = SHARE / 2
    miss = SHARE / 2

    def between(self, distribution: Any, comparisons: int = 1) -> tuple[Any, Any]:
        """The two ends between which a value of a SciPy distribution has to lie, if so many are looked at."""
        tail = self.false_failure / comparisons / 2
        return distribution.ppf(tail), distribution.isf(tail)

    def allows(self, pvalue: float, comparisons: int = 1) -> bool:
        """Is the p-value of one of so many comparisons one that chance explains?"""
        return bool(pvalue > self.false_failure / comparisons)

    def draws_needed(self, variance: Any, bias: Any) -> int:
        """How many draws it takes to see a bias in each coordinate, of either sign, when it is planted."""
        variance = np.asarray(variance, float)
        return draws_needed(
            variance, bias, false_failure=self.false_failure, miss=self._miss_of_one(variance)
        )

    def check_unbiased(self, draws: Any, expected: Any, variance: Any, comparisons: int = 1) -> BiasReport:
        """The library's test, at this case's rates; `comparisons` counts what else the case looks at, and this."""
        false_failure = self.false_failure / comparisons
        return check_unbiased(
            draws, expected, variance, false_failure=false_failure, miss=self._miss_of_one(expected)
        )

    def assert_unbiased(
        self, draws: Any, expected: Any, variance: Any, bias: Any = 0.0, comparisons: int = 1
    ) -> None:
        """Fail if a mean is not as expected, or if a bias would not be seen in each coordinate, up or down.

        It is the smallest that the number of draws makes detectable; `bias`, if given, is the size that the test
        claims to see, and must not be smaller.
        """
        report = self.check_unbiased(draws, expected, variance, comparisons)
        assert report.passed, str(report)
        if np.any(bias):
            assert (np.abs(bias) >= report.detectable_bias).all(), "too few draws for the bias"
        for sign in (-1, 1):
            moved = draws + sign * report.detectable_bias
            planted = self.check_unbiased(moved, expected, variance, comparisons)
            # Coordinates are judged one by one, so planting in all at once is planting in each alone.
            assert planted.biased.all(), f"a planted bias escapes: {planted}"

    def _miss_of_one(self, coordinates: Any) -> float:
        return self.miss / (2 * np.size(coordinates))


def summary(cases: int | None) -> list[str]:
    """The account for so many cases, in lines for the header of a run; for the most there may be if none counted."""
    number = f"at most {CASES}" if cases is None else str(cases)
    cases = CASES if cases is None else cases
    alarms, escapes = (cases * rate for rate in (Chance.false_failure, Chance.miss))
    of_each = (
        f"statistical tests: {number}, each with a false-failure rate of at most {Chance.false_failure:g}; the bias "
        f"that it states, planted, is seen with a power of at least 1 − {Chance.miss:g}"
    )
    of_all = (
        f"chance that a healthy suite fails: at most {alarms:.1g} by false alarms and {escapes:.1g} by planted biases "
        f"that escape; for {SEEDS} seeds {SEEDS * (alarms + escapes):.1g}, of a budget of {BUDGET:g}"
    )
    return [of_each, of_all]


def quantiles_come_from_the_ledger(root: Path) -> list[str]:
    """Tests that take quantiles or compare p-values with numbers of their own."""
    found = []
    for path in sorted((root / "tests").rglob("*.py")):
        if path.name == "ledger.py":
            continue
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        allowed = {
            id(part)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "allows"
            for part in ast.walk(call)
        }
        for node in ast.walk(tree):
            name = getattr(node, "attr", "")
            # A helper may make one, where the tests that call it are entered in the ledger by this mark.
            makes_one = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Chance"
            if makes_one and 'usefixtures("chance")' not in text:
                found.append(f"{path.relative_to(root)}:{node.lineno}: Chance() is not in the ledger")
            if name in {"ppf", "isf", "interval"} or (name == "pvalue" and id(node) not in allowed):
                found.append(
                    f"{path.relative_to(root)}:{node.lineno}: .{name} beside the ledger: take `chance`"
                )
    return found
