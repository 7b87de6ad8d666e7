"""A VAE whose loss charges the KL of a latent dimension only beyond an allowance, against posterior collapse.

Derived in `derivations/26-free_bits.md`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.estimators import Estimator
from scratchvae.models.vae import VAE
from scratchvae.objectives.elbo import ELBO
from scratchvae.objectives.free_bits import free_bits_backward, free_bits_forward
from scratchvae.validation import check_number

__all__ = ["FreeBitsVAE"]


class FreeBitsVAE(VAE):
    """A `VAE` with free bits: its loss has beta Σ max(free_bits, KL of the dimension) for beta KL. (26.1)

    `elbo`, and with it evaluation, is the bound itself, without free bits. `gradient_variance` measures the noise
    of the gradient, to which free bits add none, and leaves their share out of its mean.

    Parameters
    ----------
    input_dim : int
        D.
    free_bits : float
        In nats per latent dimension, on the average of a minibatch.
    **settings
        As for `VAE`; the KL must be the analytic one.
    """

    def __init__(self, input_dim: int, free_bits: float = 0.5, **settings: Any) -> None:
        super().__init__(input_dim, **settings)
        self.free_bits = check_number("free_bits", free_bits, low=0)
        if self.kl != "analytic":
            raise ValueError(
                f"kl is {self.kl!r}, expected 'analytic': free bits compare the KL of each dimension, not a draw of it"
            )

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as a run directory keeps them."""
        return {**super().config(), "free_bits": self.free_bits}

    def loss(self, x: np.ndarray, *arguments: Any, **named: Any) -> float:
        """As `VAE.loss` for x (B, D), plus beta times what the dimensions spend less than they may. (26.2)"""
        shortfall, _ = free_bits_forward(*self.encode(x), self.free_bits)
        return super().loss(x, *arguments, **named) + self.beta * shortfall

    def _loss_and_gradients_by_layers(
        self, x: np.ndarray, noise: np.ndarray, estimator: Estimator, beta: float, dloss: float = 1.0
    ) -> tuple[float, ELBO]:
        loss, elbo = super()._loss_and_gradients_by_layers(x, noise, estimator, beta, dloss)
        return loss + self._add_shortfall(x, beta, dloss), elbo

    def _loss_and_gradients_at_once(
        self, x: np.ndarray, noise: np.ndarray, beta: float
    ) -> tuple[float, ELBO]:
        loss, elbo = super()._loss_and_gradients_at_once(x, noise, beta)
        return loss + self._add_shortfall(x, beta), elbo

    def _add_shortfall(self, x: np.ndarray, beta: float, dloss: float = 1.0) -> float:
        """Beta times the shortfall; dloss times its gradient is added to that which is already in `gradient`."""
        mean, log_var, encoder_cache = self.encoder_forward(x)
        shortfall, cache = free_bits_forward(mean, log_var, self.free_bits)
        before = {name: g.copy() for name, g in self.gradients.items() if name.startswith("encoder")}
        # loss = … + beta shortfall                       the encoder's backward pass is linear         (26.3)
        self.encoder_backward(*free_bits_backward(dloss * beta, cache), encoder_cache)
        for name, gradient in before.items():
            self.gradients[name] += gradient
        return beta * shortfall
