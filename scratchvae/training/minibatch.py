"""Data at the door of training, and the minibatches that it is cut into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream
from scratchvae.training.data import Dataset, binarize, pixels

__all__ = ["check_data", "minibatch", "minibatches"]


def check_data(name: str, x: Any, model: VAE | Autoencoder) -> np.ndarray:
    """x (N, D) as rows of bytes or floats that the model's likelihood can explain, or an error that names it."""
    if isinstance(x, Dataset):
        raise TypeError(
            f"{name} is the data set {x.name!r} as a whole, expected one of its arrays, such as its .train"
        )
    try:
        x = np.asarray(x)
    except ValueError as error:
        raise TypeError(f"{name} is not a rectangular array of numbers: {error}") from None
    if x.ndim < 2 or len(x) == 0:
        hint = "; are these labels instead of images?" if x.ndim == 1 and len(x) else ""
        raise ValueError(
            f"{name} has shape {x.shape}, expected (N, {model.input_dim}) with N at least 1{hint}"
        )
    rows = x.reshape(len(x), -1)
    if x.dtype != np.uint8:
        return model.check_x(rows, name)
    if rows.shape[1] != model.input_dim:
        raise ValueError(f"{name} has shape {x.shape}, expected (N, {model.input_dim})")
    if rows.max() <= 1:
        raise ValueError(
            f"{name} holds bytes no larger than 1, and 255 is white: pass zeros and ones as floats or multiply them "
            "by 255"
        )
    return rows


def minibatch(rows: np.ndarray, model: VAE | Autoencoder, pixel_noise: NoiseStream) -> np.ndarray:
    """A minibatch (B, D) in the model's precision, binarized as the model says."""
    if rows.dtype == np.uint8 and model.binarize == "dynamic":
        return pixel_noise.binarize(rows, model.dtype)
    grey = pixels(rows, model.dtype)
    return grey if model.binarize is None else binarize(grey, model.binarize, pixel_noise)


def minibatches(rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Cut row numbers (N,) into pieces (B,), the last of which may be shorter."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
