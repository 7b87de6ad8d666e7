"""Tables say what the files say, and never half of a number."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import scratchvae as sv
from scratchvae.cli import tables
from scratchvae.lab.gradcheck import GradientReport, TensorCheck
from scratchvae.training.download import DatasetStatus
from scratchvae.training.history import Epoch, History

ESTIMATORS = ("pathwise", "score-function", "score-function-leave-one-out")
PARTS = ("encoder", "encoder.0", "encoder.1", "encoder.mean", "encoder.log_var")


def variance_record() -> dict[str, Any]:
    """Numbers of many sizes, each different from all others."""
    moments = []
    for epoch in (0, 1, 100):
        estimators = {
            name: {
                part: {
                    "variance": 1.234e-3 * 37.0**i + 0.01 * j + epoch,
                    "standard_error": 1.5e-5 * 37.0**i + 1e-4 * j,
                }
                for j, part in enumerate(PARTS)
            }
            for i, name in enumerate(ESTIMATORS)
        }
        moments.append({"epoch": epoch, "test_negative_elbo": 123.456 - epoch, "estimators": estimators})
    settings = {"data": "digits", "batch_size": 64, "num_samples": 2000, "seed": 11}
    return {"settings": settings, "moments": moments}


class Terminal(io.StringIO):
    """A stdout that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def run(width: int, function: Callable[..., None], *arguments: Any) -> str:
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            patch.setenv("COLUMNS", str(width))
            patch.setenv("LINES", "24")
            function(*arguments)
        return terminal.getvalue()

    return run


def cells_of(record: dict[str, Any]) -> list[str]:
    parts = [
        part
        for moment in record["moments"]
        for estimator in moment["estimators"].values()
        for part in estimator.values()
    ]
    return [f"{part['variance']:.3g} ± {part['standard_error']:.1g}" for part in parts]


def test_variance_ratios_are_those_of_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    record = variance_record()
    tables.print_variance(record)
    out = capsys.readouterr().out
    ratios = [float(text.replace(",", "")) for text in re.findall(r" ([\d,.]+)×", out)]
    expected = []
    for moment in record["moments"]:
        totals = [parts["encoder"]["variance"] for parts in moment["estimators"].values()]
        expected += [total / min(totals) for total in totals]
    assert ratios == pytest.approx(expected, abs=0.051)
    assert ratios.count(1.0) >= 3


def test_variance_names_its_units_of_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    record = variance_record()
    tables.print_variance(record)
    out = capsys.readouterr().out
    title = out.splitlines()[0]
    for text in ("digits", "one minibatch of 64", "2000 draws", "seed 11", "standard error"):
        assert text in title
    for text in (*ESTIMATORS, *PARTS, "ratio", "test −ELBO", "123.5", "122.5", "23.5", *cells_of(record)):
        assert text in out


def test_variance_of_a_silent_gradient_has_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    record = variance_record()
    for moment in record["moments"]:
        moment["estimators"]["pathwise"]["encoder"]["variance"] = 0.0
    tables.print_variance(record)
    assert "×" not in capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 60, 80, 100, 140, 300])
def test_nothing_is_cut_off_on_a_narrow_terminal(width: int, on_terminal: Callable[..., str]) -> None:
    record = variance_record()
    out = on_terminal(width, tables.print_variance, record)
    words = re.split(r"\s{2,}", re.sub(r"\n", "  ", out))
    for cell in cells_of(record):
        assert cell in words
    for name in ESTIMATORS:
        assert name in words
    if width >= 60:
        assert max(map(len, out.splitlines()[1:])) <= width


def test_wide_output_has_one_line_per_estimator(
    on_terminal: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    record = variance_record()
    tables.print_variance(record)
    out = capsys.readouterr().out
    assert out == on_terminal(300, tables.print_variance, record)
    assert sum("score-function-leave-one-out" in line for line in out.splitlines()) == 3
    assert (
        sum(
            "score-function-leave-one-out" in line
            for line in on_terminal(80, tables.print_variance, record).splitlines()
        )
        > 3
    )


def test_the_readme_table_fits_a_plain_terminal(on_terminal: Callable[..., str]) -> None:
    """Epoch, estimator, total, ratio and bound stand side by side in 80 columns."""
    out = on_terminal(80, tables.print_variance, variance_record())
    assert re.search(r"^epoch +estimator +encoder +ratio +test −ELBO$", out, re.MULTILINE)


def test_brackets_and_colons_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_evaluation(
        "title", {"data": "[red]images[/red] :smile: [a].npy", "num_samples": 3, "loss": 1.0}
    )
    out = capsys.readouterr().out
    assert "[red]images[/red] :smile: [a].npy" in out
    assert re.search(r"^num samples +3$", out, re.MULTILINE)
    assert re.search(r"^loss +1.000$", out, re.MULTILINE)


def test_bounds_are_a_table_of_their_own_and_the_warning_comes_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bounds = [
        {"samples": samples, "bound": bound, "standard_error": error}
        for samples, bound, error in ((1, -30.25, 0.5), (5, -29.125, 0.25), (50, -28.5, None))
    ]
    result = {"loss": 31.0, "log_likelihood_examples": 7, "bounds": bounds, "warning": None}
    tables.print_evaluation("title", result)
    calm = capsys.readouterr().out
    assert re.search(r"^ELBO +1 +-30.250 +0.500$", calm, re.MULTILINE)
    assert re.search(r"^IWAE-5 +5 +-29.125 +0.250$", calm, re.MULTILINE)
    assert re.search(r"^log p\(x\) +50 +-28.500 +–$", calm, re.MULTILINE)
    assert "on the same 7 images" in calm
    assert "arning" not in calm
    tables.print_evaluation("title", result | {"warning": "in 3 of 7 examples …"})
    assert capsys.readouterr().out == calm + "Warning: in 3 of 7 examples …\n"


def history(epochs: int, kl: float) -> History:
    return History(
        [
            Epoch(i, 10 * i, 1.0, 100.0 + i, -90.0 - i, kl, 200.0 + i, -190.0 - i, kl, 0.5 * i)
            for i in range(1, epochs + 1)
        ]
    )


def test_history_shows_the_first_and_the_last_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_history(history(98, 10.0))
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line[:1].isdigit()]
    assert len(rows) <= 13
    assert rows[0] == ["1", "101.000", "-91.000", "10.000", "201.000", "-191.000", "10.000", "0.5", "s"]
    assert rows[-1] == ["98", "198.000", "-188.000", "10.000", "298.000", "-288.000", "10.000", "49.0", "s"]


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_history_of_few_epochs(epochs: int, capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_history(history(epochs, 0.0))
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if line[:1].isdigit()]) == epochs
    assert "KL" not in out  # a plain autoencoder has none


def tensor(**changes: Any) -> TensorCheck:
    good = TensorCheck("decoder.0.weight", 12, 12, 1e-15, 1e-11, 0, (2, 3), 1.25, 1.25)
    return replace(good, **changes)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "ok"),
        ({"complex_step_error": 0.1, "analytic": 1.5}, "WRONG at (2, 3): 1.5, oracle 1.25"),
        ({"complex_step_error": float("inf")}, "WRONG at (2, 3)"),
        ({"finite_difference_error": 0.1}, "WRONG: the oracle agrees, differences"),
        ({"inconclusive": 12}, "unconfirmed: the complex step agrees"),
    ],
)
def test_check_tells_wrong_from_undecided(
    changes: dict[str, Any], verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = GradientReport((tensor(**changes),), 0.0, same_bits_twice=True)
    tables.print_check(sv.VAE(4, (), 3), report)
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if line.startswith("decoder.0.weight"))
    assert "12 of 12" in row
    assert verdict in row
    assert (" ok" in row) is report.passed
    assert out.splitlines()[-1].startswith("passed: 12 " if report.passed else "FAILED: 12 ")


def test_check_tells_other_bits(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_check(sv.VAE(4, (), 3), GradientReport((tensor(),), 0.0, same_bits_twice=False))
    assert "a second run gave OTHER bits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verified", "present", "problem", "state"),
    [
        (True, True, "", "here, verified"),
        (False, False, "missing: a.gz, b.gz", "not here"),
        (False, True, "a.gz is not the published file", "damaged"),
        (False, False, "a.gz is not the published file", "damaged"),
    ],
)
def test_data_states(
    verified: bool, present: bool, problem: str, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = DatasetStatus(
        "mnist",
        "/no/such/folder",
        present,
        verified,
        problem,
        123,
        {"train": 60000, "test": 10000},
        (28, 28),
        "CC",
        "LeCun",
    )
    tables.print_data([status])
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if line.startswith("mnist "))
    for text in ("60,000 + 10,000", "28×28", state, "CC", "/no/such/folder"):
        assert text in row
    assert ("--fetch mnist" in out) is (state == "not here")
    assert (problem in out) is (state != "not here")
    assert tables.is_damaged(status) is (state == "damaged")


def test_no_standard_output_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a service, or after `>&-`."""
    monkeypatch.setattr(sys, "stdout", None)
    tables.print_evaluation("title", {"loss": 1.0})


def test_a_closed_pipe_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        tables.say("into the void")
        tables.say("and again")
