"""The plain autoencoder: x → encoder → code → decoder → p(x|code). No noise, no KL, no prior."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchvae.layers.stack import Layer, stack_backward, stack_forward
from scratchvae.models.model import Model
from scratchvae.objectives.elbo import ELBO

__all__ = ["Autoencoder"]


class Autoencoder(Model):
    """A plain autoencoder, trained to maximise log p(x | code): cross-entropy, or L2.

    With hidden=() it is input → code → output, such as 784 → 32 → 784. The code layer is linear and named
    encoder.code; nothing says what a point between two codes decodes to.

    Parameters
    ----------
    input_dim : int
        D.
    hidden : sequence of int
        Sizes of the encoder's hidden layers; the decoder's are the same reversed.
    latent_dim : int
        L, the size of the code.
    activation : str
        identity, relu, leaky_relu, tanh, sigmoid or softplus.
    likelihood : {"bernoulli", "gaussian"}
        Cross-entropy from logits, or L2 with a variance.
    likelihood_variance : float
    binarize : {"auto", "dynamic", "threshold", None}
        As for `VAE`.
    initialization : {"glorot", "he"}
        Of the weights: Glorot's (1.7) everywhere, or He's (1.8) before relu and leaky_relu.
    dtype : float32 or float64
    rng : Generator, int or None
        Source of the initial weights.
    """

    heads = ("code",)

    def __init__(
        self,
        input_dim: int,
        hidden: Sequence[int] = (),
        latent_dim: int = 32,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        likelihood_variance: float = 1.0,
        binarize: str | None = "auto",
        initialization: str = "glorot",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        super().__init__(
            input_dim,
            hidden,
            latent_dim,
            activation,
            likelihood,
            likelihood_variance,
            binarize,
            initialization,
            dtype,
            rng,
        )

    @property
    def _all_encoder_layers(self) -> list[Layer]:
        return [*self.encoder_layers, self.layer("encoder.code")]

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Codes (B, L) of x (B, D)."""
        return stack_forward(self.check_x(x), self._all_encoder_layers)[0]

    def code(self, x: np.ndarray) -> np.ndarray:
        """Codes (B, L) of x (B, D); the name that both models share."""
        return self.encode(x)

    def loss(self, x: np.ndarray) -> float:
        """−mean over B of log p(x | code), in nats per example; x (B, D)."""
        return self._forward(self.check_x(x))[0]

    def loss_and_gradients(self, x: np.ndarray, dloss: float = 1.0) -> tuple[float, dict[str, np.ndarray]]:
        """The loss, in nats per example, and copies of its gradients, times dloss, by name; x (B, D)."""
        loss, _ = self._loss_and_gradients(self.check_x(x), dloss)
        return loss, {name: gradient.copy() for name, gradient in self.gradients.items()}

    def minibatch_gradients(self, x: np.ndarray, **_settings_of_a_vae: Any) -> tuple[float, ELBO]:
        """The training loop's step: as `loss_and_gradients`, but x (B, D) was checked when training began."""
        return self._loss_and_gradients(x)

    def minibatch_elbo(self, x: np.ndarray, **_settings_of_a_vae: Any) -> ELBO:
        """The evaluation's step: log p(x | code) of x (B, D) per example, and no KL."""
        reconstruction = self._forward(x)[1]
        return ELBO(reconstruction, reconstruction, np.zeros_like(reconstruction))

    def forward_tensors(self, x: np.ndarray, _noise: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor on the way of x (B, D) to the loss, in order, for finding a bad one."""
        yield from self.parameters.items()
        _, _, (encoder_caches, decoder_caches, _) = self._forward(x)
        yield from ((f"the output of encoder.{i}", layer.y) for i, layer in enumerate(encoder_caches))
        yield from ((f"the output of decoder.{i}", layer.y) for i, layer in enumerate(decoder_caches))

    def _forward(self, x: np.ndarray) -> tuple[float, np.ndarray, tuple[Any, Any, Any]]:
        code, encoder_caches = stack_forward(x, self._all_encoder_layers)
        output, decoder_caches = stack_forward(code, self.decoder_layers)
        reconstruction, likelihood_cache = self.likelihood.forward(x, output)
        return (
            -float(reconstruction.mean()),
            reconstruction,
            (encoder_caches, decoder_caches, likelihood_cache),
        )

    def _loss_and_gradients(self, x: np.ndarray, dloss: float = 1.0) -> tuple[float, ELBO]:
        loss, reconstruction, (encoder_caches, decoder_caches, likelihood_cache) = self._forward(x)
        # loss = −mean over B of reconstruction                                              (5.5)
        dreconstruction = np.full(reconstruction.shape, -dloss / len(x))
        # reconstruction = likelihood.forward(x, output)                                     (3.3) (4.13)
        doutput = self.likelihood.backward(dreconstruction, likelihood_cache)
        # output = stack_forward(code, decoder)                                              (1.9)
        dcode, gradients = stack_backward(doutput, decoder_caches)
        self._store("decoder", gradients)
        # code = stack_forward(x, encoder)                                                   (1.9)
        _, gradients = stack_backward(dcode, encoder_caches, need_dx=False)
        self._store("encoder", gradients[:-1])
        self._store_layer("encoder.code", *gradients[-1])
        return loss, ELBO(reconstruction, reconstruction, np.zeros_like(reconstruction))
