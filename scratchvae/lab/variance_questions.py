"""The questions that a comparison of gradient estimators asks, each answered by one table.

An answer is rows of plain numbers: one for each point (a layer, a latent dimension, a number of samples, ...) and
estimator. Training, `training_variance.py`, is the question that `scratchvae variance` asks by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scratchvae.lab.total_variance import GRADIENTS, MINIBATCHES
from scratchvae.lab.variance_answers import (
    BATCH_SIZES,
    ESTIMATES,
    LATENT_DIMS,
    NUMBERS_OF_SAMPLES,
    SIGMAS,
    Rows,
    Subject,
    by_batch_size,
    by_latent_dim,
    by_layer,
    by_minibatch,
    by_samples,
    by_sigma,
    by_term,
    by_work,
)
from scratchvae.lab.work import ROUNDS
from scratchvae.training.progress import Progress
from scratchvae.validation import check_choice

__all__ = ["QUESTIONS", "Question", "ask"]

_FOUR = ("pathwise", "score-function", "score-function-running-mean", "score-function-leave-one-out")


@dataclass(frozen=True)
class Question:
    """A question, and who answers it.

    Attributes
    ----------
    title : str
    points : str
        What the points are.
    quantities : dict of str
        What is told of each point and estimator, with its unit; the first ones are drawn.
    estimators : tuple of str
        Those asked about by default.
    answer : callable
        Subject, estimators and a function to call after each step, to rows.
    steps : callable
        Estimators to the number of those steps.
    drawn : int
        How many of the quantities a picture shows.
    numeric : bool
        Whether the points are numbers with a place on an axis.
    draws : str
        How many draws of the noise there are, where it is not the subject's number.
    note : str
        For the caption.
    """

    title: str
    points: str
    quantities: dict[str, str]
    estimators: tuple[str, ...]
    answer: Callable[[Subject, tuple[str, ...], Callable[[], None]], Rows]
    steps: Callable[[tuple[str, ...]], int]
    drawn: int = 1
    numeric: bool = True
    draws: str = ""
    note: str = ""


def ask(
    name: str, subject: Subject, estimators: tuple[str, ...] | None = None, *, progress: bool = True
) -> dict[str, Any]:
    """Answer one question.

    Parameters
    ----------
    name : str
        A key of `QUESTIONS`.
    subject : Subject
    estimators : tuple of str, optional
        By default those of the question.
    progress : bool

    Returns
    -------
    dict
        The question's own attributes, and rows: each a point, an estimator and numbers.
    """
    question = QUESTIONS[check_choice("question", name, QUESTIONS)]
    estimators = estimators or question.estimators
    with Progress(f"by {name}", question.steps(estimators), progress) as bar:
        rows = question.answer(subject, estimators, bar.advance)
    return {
        "question": name,
        **{
            key: getattr(question, key)
            for key in ("title", "points", "quantities", "drawn", "numeric", "note")
        },
        "draws": question.draws or f"{subject.num_samples:,} draws of the noise",
        "rows": rows,
    }


_VARIANCE = {"variance": "variance of the encoder's gradient (nats²)"}
_SIGNAL = {"signal_to_noise": "signal-to-noise ratio, ‖mean‖ / √variance"}
_PER_SAMPLE = "Per sample; leave-one-out compares 10 of one example. "
_TERM_NOTE = (
    "The sampled KL. Crossed: what the whole has beyond its two parts, twice their covariance. The analytic KL has no "
    "noise: there the reconstruction is all. "
)

QUESTIONS: dict[str, Question] = {
    "layer": Question(
        "Gradient variance by layer",
        "layer, weights and biases together",
        {"variance": "variance (nats²)", **_SIGNAL},
        (*_FOUR, "measure-valued", "antithetic-pathwise", "taylor-pathwise"),
        by_layer,
        lambda estimators: 1,
        drawn=2,
        numeric=False,
        note=_PER_SAMPLE,
    ),
    "latent-dim": Question(
        "Gradient variance by latent dimension",
        "latent dimensions",
        _VARIANCE | _SIGNAL,
        _FOUR,
        by_latent_dim,
        lambda estimators: len(LATENT_DIMS),
        drawn=2,
        note="One model trained for each. " + _PER_SAMPLE,
    ),
    "samples": Question(
        "Gradient variance by number of samples",
        "samples of each example, all in one estimate",
        _VARIANCE | _SIGNAL,
        (
            "pathwise",
            "antithetic-pathwise",
            "score-function",
            "score-function-leave-one-out",
            "importance-weighted-pathwise",
            "importance-weighted-doubly-reparameterized",
            "importance-weighted-vimco",
        ),
        by_samples,
        lambda estimators: len(NUMBERS_OF_SAMPLES),
        drawn=2,
        draws=f"{ESTIMATES} estimates at least",
        note="The importance-weighted three are of another bound, which changes with the number of samples. ",
    ),
    "batch-size": Question(
        "Gradient variance by batch size",
        "images in the minibatch",
        _VARIANCE | _SIGNAL,
        _FOUR,
        by_batch_size,
        lambda estimators: len(BATCH_SIZES),
        drawn=2,
        note="The first images of the training set. " + _PER_SAMPLE,
    ),
    "sigma": Question(
        "Gradient variance by σ",
        "σ of every posterior, in units of its trained value",
        {
            "variance": "variance, head of the mean (nats²)",
            "log_var_variance": "variance, head of log σ² (nats²)",
        },
        (*_FOUR, "measure-valued", "antithetic-pathwise", "taylor-pathwise"),
        by_sigma,
        lambda estimators: len(SIGMAS),
        drawn=2,
        note=_PER_SAMPLE,
    ),
    "term": Question(
        "Gradient variance of reconstruction and KL",
        "term of the loss",
        _VARIANCE | {"crossed": "crossed (nats²)"} | _SIGNAL,
        ("pathwise", "sticking-the-landing", *_FOUR[1:]),
        by_term,
        lambda estimators: 3,
        numeric=False,
        note=_TERM_NOTE + _PER_SAMPLE,
    ),
    "minibatch": Question(
        "Sampling noise and minibatch noise",
        "where the variance comes from",
        {"variance": "variance of one estimate (nats²)"},
        ("pathwise", "antithetic-pathwise", "score-function", "score-function-leave-one-out"),
        by_minibatch,
        lambda estimators: MINIBATCHES + len(estimators),
        numeric=False,
        draws=f"{MINIBATCHES} minibatches, 400 draws of the noise in each",
        note=(
            f"Minibatches are drawn with replacement; the whole: {GRADIENTS:,} other gradients, each with a "
            "minibatch of its own. One estimate: of 2 samples with antithetic pairs, of 10 with leave-one-out. A bar "
            "without a mark is a part that its error hides. "
        ),
    ),
    "work": Question(
        "Gradient variance for its price",
        "estimator",
        {
            "times_evaluations": "variance × evaluations of the decoder per example (nats²)",
            "times_milliseconds": "variance × processor time of a step (nats² ms)",
            **_VARIANCE,
            "samples": "samples",
            "evaluations": "evaluations",
            "differentiations": "differentiations",
            "milliseconds": "processor time (ms)",
        },
        (
            *_FOUR,
            "score-function-optimal-leave-one-out",
            "score-function-learned-baseline",
            "measure-valued",
            "antithetic-pathwise",
            "antithetic-score-function-leave-one-out",
            "taylor-pathwise",
            "taylor-score-function-leave-one-out",
        ),
        by_work,
        lambda estimators: 1 + ROUNDS,
        drawn=2,
        numeric=False,
        note=(
            "One estimate each, of 2 samples with antithetic pairs and of 10 with leave-one-out. Evaluations: forward "
            f"passes; the way back that pathwise takes is in the time alone, the median of {ROUNDS} rounds in turn. "
        ),
    ),
}
