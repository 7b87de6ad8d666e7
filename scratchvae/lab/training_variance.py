"""How loud each estimator's gradient is at several moments of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchvae.lab.variance import GradientVariance, gradient_variance
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream, as_generator, spawn
from scratchvae.training.loop import average_terms, fit
from scratchvae.training.minibatch import check_data, minibatch
from scratchvae.validation import check_integer

__all__ = ["variance_during_training", "variance_record"]


def variance_record(result: GradientVariance) -> dict[str, dict[str, dict[str, float]]]:
    """The encoder's variances as plain numbers: [estimator][part] of variance and standard_error.

    Parts are the whole encoder and each of its layers, weights and biases together.
    """
    parameters = result.variance[result.estimators[0]]
    layers = dict.fromkeys(name.rsplit(".", 1)[0] for name in parameters if name.startswith("encoder"))
    return {
        estimator: {
            part: {
                "variance": result.total(estimator, f"{part}."),
                "standard_error": result.total_standard_error(estimator, f"{part}."),
            }
            for part in ("encoder", *layers)
        }
        for estimator in result.estimators
    }


def variance_during_training(
    vae: VAE,
    train: np.ndarray,
    test: np.ndarray,
    *,
    moments: Sequence[int],
    estimators: Sequence[str],
    num_samples: int,
    batch_size: int,
    learning_rate: float = 1e-3,
    rng: np.random.Generator | int | None = 0,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train with pathwise gradients and stop at `moments` to measure the variance of every estimator.

    Always on the same minibatch, the first of the training set, binarized once, and with the same noise: what
    changes from moment to moment is the model alone.

    Parameters
    ----------
    vae : VAE
        Is trained.
    train, test : ndarray (N, D), (M, D)
    moments : sequence of int
        Numbers of completed epochs; training ends with the largest.
    estimators : sequence of str
    num_samples : int
        Draws of the noise per measurement.
    batch_size : int
        Of the training and of the measured minibatch.
    learning_rate : float
        Adam's.
    rng : Generator, int or None
    progress : bool

    Returns
    -------
    list of dict
        One per moment: epoch, num_samples (in whole blocks),
        test_negative_elbo in nats, and estimators as in `variance_record`.
    """
    train, test = check_data("train", train, vae), check_data("test", test, vae)
    training_rng, pixel_rng, noise_rng, test_rng = spawn(as_generator(rng), 4)
    batch = minibatch(train[: check_integer("batch_size", batch_size)], vae, NoiseStream(pixel_rng))
    noise_seed, test_seed = (int(generator.integers(2**63)) for generator in (noise_rng, test_rng))
    wanted = {check_integer("a moment", moment, low=0) for moment in moments}
    if not wanted:
        raise ValueError(f"moments is {moments!r}, expected at least one number of epochs")
    records: list[dict[str, Any]] = []

    def measure(epoch: int) -> None:
        if epoch in wanted:
            result = gradient_variance(vae, batch, estimators, num_samples, noise_seed)
            _, reconstruction, kl = average_terms(vae, test, test_seed)
            records.append(
                {
                    "epoch": epoch,
                    "num_samples": result.num_samples,
                    "test_negative_elbo": kl - reconstruction,
                    "estimators": variance_record(result),
                }
            )

    fit(
        vae,
        train,
        epochs=max(wanted),
        batch_size=batch_size,
        learning_rate=learning_rate,
        rng=training_rng,
        on_epoch=measure,
        progress=progress,
    )
    return records
