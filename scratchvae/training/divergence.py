"""When training goes wrong: the first bad tensor is named and the last good parameters are put back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.training.history import History

__all__ = ["LastGood", "TrainingDiverged"]

# Steps between copies of the last good parameters: rare enough to cost nothing beside a hundred updates.
_STEPS_BETWEEN_COPIES = 100


class TrainingDiverged(ArithmeticError):  # noqa: N818 - reads as what happened
    """The loss or a gradient became non-finite; the model holds the last good parameters.

    Attributes
    ----------
    step : int
        The step that failed, counted from 1; the last one before a validation that failed.
    tensor : str
        The first tensor on the data's way that was not finite.
    history : History
        The epochs completed before.
    model : VAE or Autoencoder
        With the last good parameters.
    """

    def __init__(
        self, message: str, step: int, tensor: str, history: History, model: VAE | Autoencoder
    ) -> None:
        super().__init__(message)
        self.model = model
        self.step = step
        self.tensor = tensor
        self.history = history


class LastGood:
    """A copy of the parameters from which a finite loss and gradient are known to follow.

    Attributes
    ----------
    theta : ndarray (P,)
    step : int
        After which these were the parameters.
    """

    def __init__(self, model: VAE | Autoencoder) -> None:
        self.model = model
        self.theta = model.theta.copy()
        self.step = 0

    def remember(self, step: int) -> None:
        """Step `step` went well from the current parameters: keep them now and then."""
        if (step - 1) % _STEPS_BETWEEN_COPIES == 0:
            self.theta[...] = self.model.theta
            self.step = step - 1

    def give_up(
        self, loss: float, step: int, epoch: int, tensors: Iterator[tuple[str, np.ndarray]], history: History
    ) -> None:
        """Name the first bad tensor, of whatever shape (...), put the last good parameters back, and raise."""
        with np.errstate(all="ignore"):
            gradients = ((f"the gradient of {name}", value) for name, value in self.model.gradients.items())
            bad = (
                name
                for source in (tensors, gradients)
                for name, value in source
                if not np.isfinite(value).all()
            )
            tensor = next(bad, "the loss")
        self.model.theta[...] = self.theta
        raise TrainingDiverged(
            f"training diverged at step {step} (epoch {epoch}): the loss is {loss:g} and {tensor} is the first "
            f"tensor that is not finite; the model is back at its parameters after step {self.step}; try a smaller "
            "learning rate",
            step,
            tensor,
            history,
            self.model,
        )
