"""The command line's grammar: quick, complete, and strict about what it does not know."""

from __future__ import annotations

import argparse
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratchvae import __version__
from scratchvae.cli import commands
from scratchvae.cli.parser import make_parser
from scratchvae.densities.likelihood import LIKELIHOODS
from scratchvae.estimators import ESTIMATORS, FURTHER_ESTIMATORS
from scratchvae.lab.variance import gradient_variance
from scratchvae.lab.variance_questions import QUESTIONS
from scratchvae.layers.activations import ACTIVATIONS
from scratchvae.models.vae import VAE
from scratchvae.training.download import CATALOGUE
from scratchvae.training.loop import OPTIMIZERS, fit

VERBS = ("variance", "check", "train", "evaluate", "sample", "figures", "sweep", "data")


def options_of(verb: str) -> dict[str, argparse.Action]:
    """The options and arguments of a verb, by the name under which parsing leaves them."""
    (verbs,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {action.dest: action for action in verbs.choices[verb]._actions}


def test_help_loads_nothing_heavy() -> None:
    program = f"""
import sys
from scratchvae.cli import main
for verb in {VERBS!r}:
    for arguments in (["--help"], [verb, "--help"], [verb, "--no-such-option"]):
        try:
            main(arguments)
        except SystemExit:
            pass
heavy = {{"numpy", "numba", "matplotlib", "rich", "pooch"}}
print("loaded:", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith("loaded: []\n")


def test_every_verb_has_its_command_and_its_place_in_the_help(command: Callable[..., Any]) -> None:
    done = command("--help")
    assert done.status == 0
    for verb in VERBS:
        assert callable(getattr(commands, verb))
        assert re.search(rf"^    {verb} ", done.out, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_explains_every_option(verb: str, command: Callable[..., Any]) -> None:
    done = command(verb, "--help")
    assert done.status == 0
    assert done.err == ""
    for action in options_of(verb).values():
        assert action.help
        assert (action.option_strings[-1] if action.option_strings else str(action.metavar)) in done.out


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_names_in_the_help_are_whole(
    columns: int, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are there to be copied."""
    monkeypatch.setenv("COLUMNS", str(columns))
    words = command("variance", "--help").out.replace(",", " ").split()
    assert set(ESTIMATORS) <= set(words)


def test_version(command: Callable[..., Any]) -> None:
    assert command("--version") == (0, f"scratchvae {__version__}\n", "")


@pytest.mark.parametrize("verb", ["variance", "check", "train"])
def test_defaults_in_the_help_are_those_of_the_model(verb: str) -> None:
    """What is not given is left to the constructor, so the help must not tell other defaults than its own."""
    options = options_of(verb)
    parameters = inspect.signature(VAE).parameters
    for name in ("activation", "likelihood", "likelihood_variance", "beta", "kl"):
        default = parameters[name].default
        told = f"{default:g}" if isinstance(default, float) else default
        assert options[name].default is None
        assert f"(default: {told})" in str(options[name].help)
    assert parameters["binarize"].default == "auto"


def test_defaults_of_training_are_those_of_fit() -> None:
    options, parameters = options_of("train"), inspect.signature(fit).parameters
    for name in ("learning_rate", "optimizer"):
        assert options[name].default == parameters[name].default
    assert f"(default: {parameters['estimator'].default})" in str(options["estimator"].help)


@pytest.mark.parametrize(
    ("verb", "option", "choices"),
    [
        ("train", "activation", ACTIVATIONS),
        ("train", "likelihood", LIKELIHOODS),
        ("train", "optimizer", OPTIMIZERS),
        ("train", "data", CATALOGUE),
        ("train", "estimator", ESTIMATORS),
        ("variance", "estimators", ESTIMATORS),
        ("sweep", "estimators", ESTIMATORS),
        ("evaluate", "data", CATALOGUE),
    ],
)
def test_help_names_every_choice(verb: str, option: str, choices: Iterable[str]) -> None:
    words = re.findall(r"[\w-]+", str(options_of(verb)[option].help))
    assert set(choices) <= set(words)


def test_questions_of_the_help_are_those_of_the_lab() -> None:
    by = options_of("variance")["by"]
    assert tuple(by.choices or ()) == tuple(QUESTIONS)
    assert set(QUESTIONS) <= set(re.findall(r"[\w-]+", str(by.help)))


def estimators_in(verb: str, option: str) -> set[str]:
    """The estimators that an option's help names."""
    words = set(re.findall(r"[\w-]+", str(options_of(verb)[option].help)))
    return words & (ESTIMATORS | FURTHER_ESTIMATORS).keys()


def test_help_of_training_names_every_estimator_that_can_train() -> None:
    x = np.eye(4, dtype=np.float32)
    can = set()
    for name in ESTIMATORS | FURTHER_ESTIMATORS:
        vae = VAE(4, (), 1, rng=0)
        try:
            fit(vae, x, epochs=1, batch_size=4, rng=0, estimator=name, progress=False)
        except (TypeError, ValueError):  # wants an option, or a Hessian
            continue
        can.add(name)
    assert {"score-function-learned-baseline", "importance-weighted-vimco"} < can
    assert estimators_in("train", "estimator") == can


def test_help_of_measuring_names_every_estimator_that_can_be_measured() -> None:
    x = np.eye(4, dtype=np.float32)
    can = set()
    for name in ESTIMATORS | FURTHER_ESTIMATORS:
        try:
            gradient_variance(VAE(4, (), 1, rng=0), x, [name], 160, samples_per_estimate=4)
        except TypeError:  # wants an option
            continue
        can.add(name)
    assert estimators_in("variance", "estimators") == can


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["train"], "seed", 0),
        (["train"], "json", None),
        (["train"], "overwrite", False),
        (["train", "--hidden", "200,100"], "hidden", (200, 100)),
        (["train", "--hidden", "none"], "hidden", ()),
        (["train", "--hidden", "7"], "hidden", (7,)),
        (["train", "--epochs", "0"], "epochs", 0),
        (["train", "--beta", "0"], "beta", 0.0),
        (["train", "--learning-rate", "1e-4"], "learning_rate", 1e-4),
        (["train", "--out", "a/b"], "out", Path("a/b")),
        (["check", "--samples", "3"], "samples", 3),
        (["variance"], "estimators", None),
        (
            ["variance", "--estimators", "pathwise, score-function"],
            "estimators",
            ("pathwise", "score-function"),
        ),
        (["variance", "--run", "r"], "run", Path("r")),
        (["evaluate", "r"], "run", Path("r")),
        (["evaluate", "r", "--likelihood-samples", "0"], "likelihood_samples", 0),
        (["sample", "r", "--count", "1"], "count", 1),
        (["sweep", "--widths", "8:64"], "widths", {"low": 8, "high": 64}),
        (["sweep", "--scheduler", "tcp://h:1"], "scheduler", "tcp://h:1"),
        (["data", "--fetch", "mnist"], "fetch", "mnist"),
    ],
)
def test_what_parsing_leaves(arguments: list[str], name: str, value: Any) -> None:
    assert getattr(make_parser().parse_args(arguments), name) == value


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "scratchvae: the following arguments are required: VERB; see `scratchvae --help`"),
        (["frobnicate"], "argument VERB: invalid choice: 'frobnicate' (choose from"),
        (
            ["train", "--frobnicate"],
            "scratchvae train: unrecognized arguments: --frobnicate; see `scratchvae train",
        ),
        (["train", "extra"], "scratchvae train: unrecognized arguments: extra"),
        (
            ["train", "--epoch", "3"],
            "scratchvae train: unrecognized arguments: --epoch 3",
        ),  # no abbreviations
        (["train", "--epochs"], "argument --epochs: expected one argument"),
        (["sample"], "scratchvae sample: the following arguments are required: RUN"),
        (["evaluate", "r", "--part", "validation"], "argument --part: invalid choice: 'validation'"),
        (["train", "--model", "gan"], "argument --model: invalid choice: 'gan'"),
        (["train", "--binarize", "auto"], "argument --binarize: invalid choice: 'auto'"),
    ],
)
def test_misspellings_are_one_line(arguments: list[str], says: str, command: Callable[..., Any]) -> None:
    done = command(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert says in done.err
    assert done.err.count("\n") == 1
