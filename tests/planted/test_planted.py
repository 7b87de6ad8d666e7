"""Every planted mistake is found, by the check that the table names and at every scale; the right code passes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from scratchvae import kernels
from tests.planted import checks
from tests.planted.bugs import BUGS, CONSISTENT, Bug
from tests.planted.mistakes import MISTAKES
from tests.planted.source import Substitution, planted, source_of
from tests.planted.unseen import SECOND_CHECKS, UNSEEN

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "planted_bugs.json"
COMPARISON = RESULTS.with_name("gradient_checkers.json")
FAILURES = (AssertionError, ArithmeticError, pytest.fail.Exception)
each_scale = pytest.mark.parametrize("scale", checks.SCALES)


def run(check: checks.Check, scale: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        check.run(scale, np.random.default_rng(checks.SEED), patch)


def needs_numba(setting: dict[str, object]) -> None:
    if setting.get("kernel") == "compiled" and kernels.BACKEND != "compiled":
        pytest.skip("the compiled kernels are not there")


def distinct(settings: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    return [dict(items) for items in dict.fromkeys(tuple(setting.items()) for setting in settings)]


# --- mistakes in the gradient -----------------------------------------------------------------------------


@each_scale
@pytest.mark.parametrize("setting", distinct(bug.setting for bug in BUGS), ids=str)
def test_right_gradients_pass(setting, scale):
    needs_numba(setting)
    with planted(checks.scaled(scale)):
        checks.check_gradients(setting)
    if scale == 1:
        checks.own_differences(setting)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_wrong_gradient_is_found_at_every_scale(bug):
    needs_numba(bug.setting)
    for scale in checks.SCALES:
        with planted((*bug.places, *checks.scaled(scale))), pytest.raises((AssertionError, ArithmeticError)):
            checks.check_gradients(bug.setting)


@pytest.mark.parametrize("bug", CONSISTENT, ids=lambda bug: bug.name)
def test_what_is_consistent_agrees_with_itself_and_is_found_by_another_check(bug):
    with planted(bug.places):
        checks.own_differences(bug.setting)
    for scale in checks.SCALES:
        with planted(checks.scaled(scale)):
            run(SECOND_CHECKS[bug.name], scale)
        with planted((*bug.places, *checks.scaled(scale))), pytest.raises(FAILURES):
            run(SECOND_CHECKS[bug.name], scale)


# --- mistakes elsewhere -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bug", "check"), UNSEEN, ids=lambda part: part.name if isinstance(part, Bug) else ""
)
def test_a_mistake_that_no_gradient_check_sees_is_found(bug, check):
    for scale in checks.SCALES if check.scales else (1.0,):
        run(check, scale)
        with planted(bug.places), pytest.raises(FAILURES):
            run(check, scale)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_around_the_gradient_is_found(mistake):
    check = MISTAKES[mistake]
    for scale in checks.SCALES if check.scales else (1.0,):
        run(check, scale)
        with pytest.MonkeyPatch.context() as patch:
            mistake(patch)
            with pytest.raises(FAILURES):
                run(check, scale)


# --- the list ---------------------------------------------------------------------------------------------


def test_every_kind_of_mistake_is_planted():
    kinds = {bug.kind for bug in [*BUGS, *(bug for bug, _ in UNSEEN)]}
    kinds |= {int(mistake.__doc__.split(".")[0]) for mistake in MISTAKES}
    assert kinds - {0} == set(range(1, 13))


def test_no_mistake_is_planted_twice():
    places = [bug.places for bug in [*BUGS, *(bug for bug, _ in UNSEEN)]]
    assert len(set(places)) == len(places)
    names = [bug.name for bug in [*BUGS, *(bug for bug, _ in UNSEEN)]]
    assert len(set(names)) == len(names)
    assert {bug.name for bug in CONSISTENT} == set(SECOND_CHECKS)


def test_the_committed_table_is_of_these_mistakes():
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    listed = [row["name"] for row in record["gradients"]]
    assert listed == [bug.name for bug in BUGS]
    elsewhere = [row["name"] for row in record["elsewhere"]]
    assert elsewhere == [*(bug.name for bug, _ in UNSEEN), *(m.__doc__.split("\n")[0] for m in MISTAKES)]
    for row in record["gradients"]:
        assert row["check_gradients"] == list(checks.SCALES), row["name"]
        assert row["also"] == (SECOND_CHECKS[row["name"]].name if row["name"] in SECOND_CHECKS else ""), row[
            "name"
        ]
    for row in record["elsewhere"]:
        assert row["found"] in ([1.0], list(checks.SCALES)), row["name"]


def test_the_committed_comparison_of_checkers_is_of_these_mistakes():
    record = json.loads(COMPARISON.read_text(encoding="utf-8"))["checkers"]
    visible = {bug.name for bug in BUGS if not bug.consistent}
    for checker in record.values():
        assert checker["planted"] == len(visible)
        for scale in checks.SCALES:
            assert set(checker["let_through"][f"{scale:g}"]) <= visible
    ours = record["`scratchvae.check_gradients`"]
    assert not any(ours["let_through"].values())
    assert not any(ours["false_alarms"].values())


# --- planting ---------------------------------------------------------------------------------------------

HERE = "tests.planted.source:source_of"


def test_what_is_planted_is_there_and_then_gone():
    right = source_of.__code__
    with planted([Substitution(HERE, "return ", "return 'x' + "), Substitution(HERE, "'x'", "'y'")]):
        assert source_of(planted).startswith("y")
    assert source_of.__code__ is right


@pytest.mark.parametrize(("text", "times"), [("nowhere to be found", 0), ("function", 2)])
def test_text_that_is_not_there_once_is_not_replaced_silently(text, times):
    right = source_of.__code__
    message = f"holds the text '{text}' {times} times, expected it once: plant this mistake anew"
    with pytest.raises(LookupError, match=message), planted([Substitution(HERE, text, "x")]):
        pass
    assert source_of.__code__ is right
