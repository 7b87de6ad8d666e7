"""What the options of a command mean: a model, a data set, how long to train; and errors where they cannot be meant."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from scratchvae.cli.defaults import default_sizes
from scratchvae.estimators import make_estimator
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.training.data import Dataset, load_dataset
from scratchvae.training.run_directory import Run

__all__ = [
    "MODEL_OPTIONS",
    "check_samples",
    "data_of",
    "dataset_of",
    "image_shape",
    "make",
    "model_arguments",
    "refuse",
    "vae_of",
]

# Options that describe a model, and those among all options that only a VAE understands.
MODEL_OPTIONS = (
    "hidden",
    "latent_dim",
    "activation",
    "likelihood",
    "likelihood_variance",
    "beta",
    "kl",
    "binarize",
)
_VAE_OPTIONS = ("beta", "kl", "estimator", "samples", "kl_warmup")


def refuse(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """An option that would be ignored in silence is refused."""
    for name in names:
        if getattr(options, name, None) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {why}")


def model_arguments(options: argparse.Namespace, input_dim: int) -> dict[str, Any]:
    """Arguments of a model's constructor: sizes, and whatever else was given."""
    if options.likelihood != "gaussian":
        refuse(
            options, ["likelihood_variance"], "belongs to --likelihood gaussian: leave it out, or add that"
        )
    given = {name: value for name in MODEL_OPTIONS if (value := getattr(options, name)) is not None}
    if options.binarize == "none":
        given["binarize"] = None
    return {"input_dim": input_dim, **default_sizes(input_dim), **given}


def make(options: argparse.Namespace, input_dim: int, rng: np.random.Generator | int) -> VAE | Autoencoder:
    """The model that the options describe, for images of so many pixels."""
    if options.model == "vae":
        return VAE(**model_arguments(options, input_dim), rng=rng)
    refuse(options, _VAE_OPTIONS, "is for a VAE: leave it out with --model autoencoder")
    return Autoencoder(**model_arguments(options, input_dim), rng=rng)


def check_samples(estimator: str, samples: int | None) -> None:
    """Refuse fewer samples than the estimator needs."""
    fewest = make_estimator(estimator).minimum_samples
    if samples is not None and samples < fewest:
        raise ValueError(
            f"--samples is {samples}, expected at least {fewest}: {estimator} compares the samples of one "
            "image with each other"
        )


def vae_of(run: Run, folder: Path) -> VAE:
    """A run's model, if it is a VAE."""
    if not isinstance(run.model, VAE):
        message = (
            f"{folder} holds a plain autoencoder, which has no prior and no log p(x); expected a VAE's run"
        )
        raise ValueError(message)  # noqa: TRY004 - a wrong folder, not a wrong type
    return run.model


def data_of(run: Run, options: argparse.Namespace) -> Dataset:
    """The data that a run was trained on, or other data of as many pixels."""
    dataset = dataset_of(run.settings, options)
    if dataset.train.shape[1] != run.model.input_dim:
        raise ValueError(
            f"{dataset.name} has {dataset.train.shape[1]} pixels per image, but the run's model expects "
            f"{run.model.input_dim}; choose other --data, or train on these"
        )
    return dataset


def dataset_of(settings: dict[str, Any], options: argparse.Namespace) -> Dataset:
    """The data of --data, or those that a run's settings name."""
    name = settings.get("data") if options.data is None else options.data
    if not isinstance(name, str):
        message = f"{options.run} does not say what data it was trained on; name it with --data"
        raise ValueError(message)  # noqa: TRY004 - an incomplete file, not a wrong type
    try:
        return load_dataset(name)
    except ValueError as error:
        if options.data is not None:
            raise
        raise ValueError(f"{error}; the run was trained on it, --data names another place") from None


def image_shape(run: Run, folder: Path) -> tuple[int, ...]:
    """The shape of one image of a run; one row of pixels where the run does not say."""
    pixels = run.model.input_dim
    shape = run.settings.get("image_shape", [1, pixels])
    if not (
        isinstance(shape, list)
        and all(isinstance(size, int) and size > 0 for size in shape)
        and math.prod(shape) == pixels
    ):
        raise ValueError(
            f"{folder / 'config.json'} is damaged: its image_shape is {shape!r}, expected sizes with the "
            f"product {pixels}"
        )
    return tuple(shape)
