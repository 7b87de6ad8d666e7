"""What all figures share: the data, the sizes that suit them, and how a model is trained on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from scratchvae.lab.likelihood import evaluate
from scratchvae.lab.posterior import count_active_units
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import as_generator, spawn
from scratchvae.training.data import Dataset, pixels
from scratchvae.training.history import History
from scratchvae.training.loop import fit

__all__ = ["Setting", "make_setting"]

# Images of at most this many pixels get the small model and more epochs: there are few of them.
_SMALL_IMAGE = 64


class Setting(NamedTuple):
    """Data and sizes of one figure.

    Parameters
    ----------
    dataset : Dataset
        With labels.
    hidden : tuple of int
    latent_dim : int
        Where a figure does not need two dimensions.
    epochs, batch_size, seed : int
    """

    dataset: Dataset
    hidden: tuple[int, ...]
    latent_dim: int
    epochs: int
    batch_size: int
    seed: int

    @property
    def train(self) -> np.ndarray:
        """Training images (N, D), float32 in [0, 1]."""
        return pixels(self.dataset.train)

    @property
    def test(self) -> np.ndarray:
        """Test images (M, D), float32 in [0, 1]."""
        return pixels(self.dataset.test)

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Classes (N,) and (M,) of the training and test images."""
        assert self.dataset.train_labels is not None
        assert self.dataset.test_labels is not None
        return self.dataset.train_labels, self.dataset.test_labels

    def generators(self, count: int) -> list[np.random.Generator]:
        """Independent generators for what a figure draws beside training; the same for the same seed."""
        return spawn(np.random.SeedSequence([self.seed, 1]), count)

    def trained(
        self,
        kind: type[VAE | Autoencoder] = VAE,
        x: np.ndarray | None = None,
        model: dict[str, Any] | None = None,
        watch: Callable[[Any, int], None] | None = None,
        **fitting: Any,
    ) -> tuple[Any, History]:
        """A model of the figure's sizes, trained; all models of a figure begin and train with the same seeds.

        Parameters
        ----------
        kind : type
            VAE or Autoencoder.
        x : ndarray (N, D), optional
            Instead of all training images.
        model : dict, optional
            Arguments of the model beside the figure's sizes, or instead of them.
        watch : callable, optional
            Called with the model and the number of completed epochs, 0 included.
        **fitting
            Arguments of `fit` beside the figure's, or instead of them.

        Returns
        -------
        model : VAE or Autoencoder
        history : History
        """
        initial_rng, training_rng = spawn(as_generator(self.seed), 2)
        images = self.train if x is None else x
        sizes: dict[str, Any] = {"hidden": self.hidden, "latent_dim": self.latent_dim}
        made = kind(images.shape[1], **{**sizes, **(model or {}), "rng": initial_rng})
        plan: dict[str, Any] = {"epochs": self.epochs, "batch_size": self.batch_size, "rng": training_rng}
        if watch is not None:
            plan["on_epoch"] = partial(watch, made)
        return made, fit(made, images, **(plan | fitting))

    def measured(self, vae: VAE, num_samples: int) -> dict[str, float]:
        """The bound on the test images and its two parts in nats, the mean σ, and how many dimensions are used."""
        terms = evaluate(vae, self.test, num_samples=num_samples, rng=self.seed)
        mean, log_var = vae.encode(self.test)
        return {
            "negative_elbo": terms["negative_elbo"],
            "distortion": -terms["reconstruction"],
            "kl": terms["kl"],
            "mean_sigma": float(np.exp(log_var / 2).mean()),
            "active_units": count_active_units(mean),
        }

    def describe(self) -> str:
        """The settings in the words of a caption."""
        sizes = "-".join(map(str, (self.dataset.train.shape[1], *self.hidden)))
        return (
            f"{self.dataset.name}, {sizes}-L, {self.epochs} epochs, batch {self.batch_size}, seed {self.seed}"
        )

    def record(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        fields = {name: value for name, value in self._asdict().items() if name != "dataset"}
        return {"data": self.dataset.name, **fields, "hidden": list(self.hidden)}


def make_setting(dataset: Dataset, seed: int = 0, epochs: int | None = None) -> Setting:
    """Sizes that suit the data; a ValueError if they have no labels, which some figures need to know a digit.

    Parameters
    ----------
    dataset : Dataset
    seed : int
    epochs : int, optional
        Of every training, instead of 200 for images of up to 64 pixels and 10 for larger ones.
    """
    if dataset.train_labels is None or dataset.test_labels is None:
        raise ValueError(
            f"data is {dataset.name!r}, which has no labels; expected digits, mnist or fashion-mnist, for a figure "
            "must know what it shows"
        )
    if dataset.train.shape[1] <= _SMALL_IMAGE:
        return Setting(dataset, (128,), 8, 200 if epochs is None else epochs, 64, seed)
    return Setting(dataset, (400,), 20, 10 if epochs is None else epochs, 128, seed)
