"""What the commands do where an option is not given; small images, such as the digits, want other things."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scratchvae.training.data import Dataset

__all__ = ["batch_size_of", "default_sizes", "epochs_of", "stem"]

# Images of at most this many pixels get the small model, long training and small minibatches: the digits.
_SMALL_IMAGE = 64


def default_sizes(input_dim: int) -> dict[str, Any]:
    """Of a model: its hidden layers and its latent dimensions."""
    small = input_dim <= _SMALL_IMAGE
    return {"hidden": (64,) if small else (400,), "latent_dim": 8 if small else 20}


def epochs_of(options: argparse.Namespace, dataset: Dataset) -> int:
    """As the option says, else 100 or 10."""
    default = 100 if dataset.train.shape[1] <= _SMALL_IMAGE else 10
    return default if options.epochs is None else int(options.epochs)


def batch_size_of(options: argparse.Namespace, input_dim: int) -> int:
    """As the option says, else 64 or 128."""
    return options.batch_size or (64 if input_dim <= _SMALL_IMAGE else 128)


def stem(dataset: Dataset) -> str:
    """What a folder of results on the data is called after."""
    return Path(dataset.name).stem
