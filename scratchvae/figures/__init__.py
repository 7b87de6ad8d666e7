"""What articles say about VAEs, each claim measured and drawn: one module per claim.

Imports nothing heavy, so that the command line can list the figures at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["FIGURES", "figure_function"]

# The module of each figure is its name with underscores; in it the function of the same name makes the figure.
FIGURES = {
    "interpolation": "between two digits a VAE decodes to digits, a plain autoencoder does not",
    "code-space": "a VAE's prior meets its codes, a plain autoencoder's codes leave it holes",
    "tug-of-war": "reconstruction and KL pull at the noise, which shrinks as the decoder becomes good",
    "rate-distortion": "beta trades reconstruction for KL, from an autoencoder (0) to a constant (10)",
    "posterior-collapse": "collapse can be provoked, seen and cured, and reparameterization has no part in it",
    "squared-error": "L2 is a Gaussian likelihood whose variance someone chose, and the choice is a beta",
    "broken-training": "small mistakes break training without a word",
    "manifold": "two latent dimensions spread the digits over a plane on which they pass into each other",
    "repair": "a VAE removes noise and fills in what is missing",
    "augmentation": "digits drawn by VAEs help a classifier that has few labelled ones",
    "anomaly": "a low likelihood tells what does not belong, except where the outsider is the likelier one",
}


def figure_function(name: str) -> Callable[..., Any]:
    """The function that makes a figure, given a `Setting`; a ValueError if there is none of that name."""
    if name not in FIGURES:
        raise ValueError(f"figure is {name!r}, expected one of {', '.join(FIGURES)}")
    stem = name.replace("-", "_")
    return getattr(importlib.import_module(f"scratchvae.figures.{stem}"), stem)
