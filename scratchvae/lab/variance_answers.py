"""How each question about gradient variance is answered: measurements at several points, as rows of plain numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from scratchvae.estimators import make_estimator
from scratchvae.lab.total_variance import total_variance
from scratchvae.lab.variance import GradientVariance, gradient_variance
from scratchvae.lab.work import work_per_estimate
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream, spawn
from scratchvae.training.loop import fit
from scratchvae.training.minibatch import check_data, minibatch

__all__ = [
    "BATCH_SIZES",
    "ESTIMATES",
    "LATENT_DIMS",
    "NUMBERS_OF_SAMPLES",
    "SIGMAS",
    "Rows",
    "Subject",
    "by_batch_size",
    "by_latent_dim",
    "by_layer",
    "by_minibatch",
    "by_samples",
    "by_sigma",
    "by_term",
    "by_work",
]

Rows: TypeAlias = "list[dict[str, Any]]"

LATENT_DIMS = (2, 4, 8, 16, 32, 64, 128)
NUMBERS_OF_SAMPLES = (1, 2, 4, 8, 16, 32)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Of each posterior's own σ: from nearly a point to wider than the prior.
SIGMAS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4)
# Estimates of so many samples each, at least: they know the variance of a minibatch's gradient to a few per cent.
ESTIMATES = 100


@dataclass(frozen=True)
class Subject:
    """What is asked about: a trained VAE, its data, and how finely to measure.

    Attributes
    ----------
    vae : VAE
    train : ndarray (N, D)
    num_samples : int
        Draws of the noise for each measurement.
    batch_size : int
    epochs : int
        Of training, where another model has to be trained for each point.
    seed : int
    """

    vae: VAE
    train: np.ndarray
    num_samples: int
    batch_size: int
    epochs: int
    seed: int

    def batch(self, size: int | None = None) -> np.ndarray:
        """The first images of the training set, (B, D), binarized once."""
        images = check_data("train", self.train, self.vae)[: size or self.batch_size]
        return minibatch(images, self.vae, NoiseStream(spawn(self.seed, 2)[0]))

    def measure(
        self, estimators: Iterable[str], vae: VAE | None = None, size: int | None = None, **options: Any
    ) -> GradientVariance:
        """`gradient_variance` on that minibatch, always with the same noise."""
        vae = vae or self.vae
        samples = options.pop("num_samples", self.num_samples)
        noise_seed = spawn(self.seed, 2)[1]
        return gradient_variance(vae, self.batch(size), tuple(estimators), samples, noise_seed, **options)


def _row(
    point: float | str, result: GradientVariance, estimator: str, part: str = "encoder", samples: int = 1
) -> dict[str, Any]:
    """Variance and signal-to-noise ratio of an estimate with `samples` samples per example. (11.6) (11.10)"""
    return {
        "point": point,
        "estimator": estimator,
        "variance": result.total(estimator, part) / samples,
        "variance_standard_error": result.total_standard_error(estimator, part) / samples,
        "signal_to_noise": result.signal_to_noise(estimator, part) * math.sqrt(samples),
    }


def by_layer(subject: Subject, estimators: tuple[str, ...], advance: Callable[[], None]) -> Rows:
    """One measurement, layer by layer, decoder included; calls `advance` after each step, as all of these do."""
    result = subject.measure(estimators)
    advance()
    layers = dict.fromkeys(name.rsplit(".", 1)[0] for name in subject.vae.parameters)
    return [_row(layer, result, name, f"{layer}.") for layer in layers for name in estimators]


def by_latent_dim(subject: Subject, estimators: tuple[str, ...], advance: Callable[[], None]) -> Rows:
    """A model trained for each latent dimension, otherwise like the subject's."""
    rows = []
    for latent_dim in LATENT_DIMS:
        initial_rng, training_rng = spawn(subject.seed, 2)
        vae = _another(subject.vae, initial_rng, latent_dim=latent_dim)
        fit(
            vae,
            subject.train,
            epochs=subject.epochs,
            batch_size=subject.batch_size,
            rng=training_rng,
            progress=False,
        )
        result = subject.measure(estimators, vae)
        rows += [_row(latent_dim, result, name) for name in estimators]
        advance()
    return rows


def by_samples(subject: Subject, estimators: tuple[str, ...], advance: Callable[[], None]) -> Rows:
    """Estimates of 1 to 32 samples per example; an estimator that needs more has no row."""
    fewest = {name: make_estimator(name).minimum_samples for name in estimators}
    rows = []
    for samples in NUMBERS_OF_SAMPLES:
        able = [name for name in estimators if samples >= fewest[name]]  # the others have no row
        if able:
            draws = max(subject.num_samples, ESTIMATES * samples)
            result = subject.measure(able, num_samples=draws, samples_per_estimate=samples)
            rows += [_row(samples, result, name, samples=samples) for name in able]
        advance()
    return rows


def by_batch_size(subject: Subject, estimators: tuple[str, ...], advance: Callable[[], None]) -> Rows:
    """The first 1 to 256 images as the minibatch."""
    rows = []
    for size in BATCH_SIZES:
        if size <= len(subject.train):
            result = subject.measure(estimators, size=size)
            rows += [_row(size, result, name) for name in estimators]
        advance()
    return rows


def by_sigma(subject: Subject, estimators: tuple[str, ...], advance: Callable[[], None]) -> Rows:
    """The trained posteriors, made narrower and wider by one factor; both heads apart. (4.10)"""
    rows = []
    for factor in SIGMAS:
        vae = copy.deepcopy(subject.vae)
        vae.parameters["encoder.log_var.bias"][...] += 2 * math.log(factor)
        result = subject.measure(estimators, vae)
        for name in estimators:
            row = _row(factor, result, name, "encoder.mean")
            other = _row(factor, result, name, "encoder.log_var")
            row |= {
                key.replace("variance", "log_var_variance"): other[key]
                for key in row
                if key.startswith("var")
            }
            rows.append({key: value for key, value in row.items() if key != "signal_to_noise"})
        advance()
    return rows


def by_term(subject: Subject, estimators: tuple[str, ...], advance: Callable[[], None]) -> Rows:
    """Reconstruction and sampled KL each by itself, both together, and what they have in common."""
    vae = _another(subject.vae, 0, kl="sampled")
    vae.load_parameters(subject.vae.parameters)
    points = {"reconstruction": "reconstruction", "kl": "sampled KL", "loss": "both"}
    results = {}
    for term in points:
        results[term] = subject.measure(estimators, vae, term=term)
        advance()
    rows = [_row(points[term], results[term], name) for term in points for name in estimators]
    for row in rows:
        if row["point"] == "both":
            parts = [
                results[term].block_totals(row["estimator"], "encoder")
                for term in ("loss", "reconstruction", "kl")
            ]
            crossed = parts[0] - parts[1] - parts[2]  # of the same noise, block by block
            row["crossed"] = float(crossed.mean())
            row["crossed_standard_error"] = float(crossed.std(ddof=1) / math.sqrt(len(crossed)))
    return rows


def by_minibatch(subject: Subject, estimators: tuple[str, ...], advance: Callable[[], None]) -> Rows:
    """The law of total variance: both parts, their sum, and the whole. (11.11)"""
    parts = total_variance(
        subject.vae,
        subject.train,
        estimators,
        batch_size=subject.batch_size,
        rng=subject.seed,
        advance=advance,
    )
    return [
        {
            "point": point,
            "estimator": name,
            "variance": getattr(found, field).value,
            "variance_standard_error": getattr(found, field).standard_error,
        }
        for name, found in parts.items()
        for point, field in (
            ("sampling", "sampling"),
            ("minibatch", "minibatch"),
            ("their sum", "sum"),
            ("whole", "whole"),
        )
    ]


def by_work(subject: Subject, estimators: tuple[str, ...], advance: Callable[[], None]) -> Rows:
    """One estimate's variance times what it costs."""
    result = subject.measure(estimators)
    advance()
    works = work_per_estimate(subject.vae, subject.batch(), result.samples, rng=subject.seed, advance=advance)
    rows = []
    for name in estimators:
        work = works[name]
        row = _row(name, result, name, samples=result.samples[name])
        variance, error = row["variance"], row["variance_standard_error"]
        rows.append(
            {
                "point": name,
                "estimator": name,
                "times_evaluations": variance * work.evaluations,
                "times_evaluations_standard_error": error * work.evaluations,
                "times_milliseconds": variance * work.milliseconds,
                "times_milliseconds_standard_error": error * work.milliseconds,
                "variance": variance,
                "variance_standard_error": error,
                "samples": result.samples[name],
                "evaluations": work.evaluations,
                "differentiations": work.differentiations,
                "milliseconds": work.milliseconds,
            }
        )
    return rows


def _another(vae: VAE, rng: np.random.Generator | int, **changes: Any) -> VAE:
    """A VAE made as this one was but for the changes."""
    arguments = {key: value for key, value in vae.config().items() if key != "model"}
    return VAE(**arguments | changes, rng=rng)
