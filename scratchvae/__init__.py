"""Variational autoencoders from NumPy alone, every gradient derived on paper and written by hand.

Names are loaded when first used, so that importing the package, and `scratchvae --help`, cost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME_OF = {
    "Adam": "training.adam",
    "Autoencoder": "models.autoencoder",
    "Checkpoints": "training.saving",
    "Dataset": "training.data",
    "FreeBitsVAE": "models.free_bits_vae",
    "History": "training.history",
    "Range": "training.search",
    "SGD": "training.sgd",
    "TrainingDiverged": "training.divergence",
    "TrainingInterrupted": "training.saving",
    "VAE": "models.vae",
    "binarize": "training.data",
    "check_gradients": "lab.gradcheck",
    "check_unbiased": "lab.sampling_test",
    "draws_needed": "lab.sampling_test",
    "estimate_log_likelihood": "lab.likelihood",
    "evaluate": "lab.likelihood",
    "fit": "training.loop",
    "gradient_samples": "lab.gradient_samples",
    "gradient_variance": "lab.variance",
    "load_dataset": "training.data",
    "load_run": "training.run_directory",
    "log_marginal_likelihood": "lab.likelihood",
    "pixels": "training.data",
    "resume": "training.loop",
    "save_run": "training.run_directory",
    "sweep": "training.sweep",
}

__all__ = [*_HOME_OF, "__version__"]  # noqa: PLE0604 - the keys are strings

if TYPE_CHECKING:
    from scratchvae.lab.gradcheck import check_gradients as check_gradients
    from scratchvae.lab.gradient_samples import gradient_samples as gradient_samples
    from scratchvae.lab.likelihood import estimate_log_likelihood as estimate_log_likelihood
    from scratchvae.lab.likelihood import evaluate as evaluate
    from scratchvae.lab.likelihood import log_marginal_likelihood as log_marginal_likelihood
    from scratchvae.lab.sampling_test import check_unbiased as check_unbiased
    from scratchvae.lab.sampling_test import draws_needed as draws_needed
    from scratchvae.lab.variance import gradient_variance as gradient_variance
    from scratchvae.models.autoencoder import Autoencoder as Autoencoder
    from scratchvae.models.free_bits_vae import FreeBitsVAE as FreeBitsVAE
    from scratchvae.models.vae import VAE as VAE
    from scratchvae.training.adam import Adam as Adam
    from scratchvae.training.data import Dataset as Dataset
    from scratchvae.training.data import binarize as binarize
    from scratchvae.training.data import load_dataset as load_dataset
    from scratchvae.training.data import pixels as pixels
    from scratchvae.training.divergence import TrainingDiverged as TrainingDiverged
    from scratchvae.training.history import History as History
    from scratchvae.training.loop import fit as fit
    from scratchvae.training.loop import resume as resume
    from scratchvae.training.run_directory import load_run as load_run
    from scratchvae.training.run_directory import save_run as save_run
    from scratchvae.training.saving import Checkpoints as Checkpoints
    from scratchvae.training.saving import TrainingInterrupted as TrainingInterrupted
    from scratchvae.training.search import Range as Range
    from scratchvae.training.sgd import SGD as SGD
    from scratchvae.training.sweep import sweep as sweep


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'scratchvae' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"scratchvae.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
