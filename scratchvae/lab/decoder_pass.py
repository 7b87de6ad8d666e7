"""A VAE's decoder there and back for many samples of one example, in the fused kernels, and its moments.

Values and gradients are those of `DecoderIntegrand.value_and_gradient`, which is the plain way, without the KL. Every
layer's input and delta stay at hand, of which a sample's gradient is the outer product. Derived in
`derivations/11-variance.md`.
"""

from __future__ import annotations

import numpy as np

from scratchvae import kernels
from scratchvae.layers.stack import Layer
from scratchvae.models.vae import VAE

__all__ = ["DecoderPass", "LayerSums"]


class DecoderPass:
    """log p(x|z) of samples of one example, its gradient, and what the decoder's own gradients are made of.

    Parameters
    ----------
    vae : VAE
    rows : int
        The most samples of one call, for which memory is taken once.

    Attributes
    ----------
    inputs : list of ndarray (R, fan_in)
        What went into each layer in the last call.
    deltas : list of ndarray (R, fan_out)
        The gradient of log p(x|z) with respect to what each layer gave before its activation. (11.1)
    """

    def __init__(self, vae: VAE, rows: int) -> None:
        self.layers, self.likelihood = vae.decoder_layers, vae.likelihood
        widths = [layer.weight.shape[1] for layer in self.layers]
        self._outputs, self._deltas = (
            [np.empty((rows, width), vae.dtype) for width in widths] for _ in range(2)
        )
        self.inputs: list[np.ndarray] = []
        self.deltas: list[np.ndarray] = []

    def __call__(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p(x|z) (R,) and its gradient with respect to z (R, L), for x (1, D) and z (R, L). (5.1)"""
        outputs, self.deltas = ([array[: len(z)] for array in kept] for kept in (self._outputs, self._deltas))
        self.inputs = [z, *outputs[:-1]]
        for layer, inputs, output in zip(self.layers, self.inputs, outputs, strict=True):
            # y = activation(x weight + bias)                                                (1.1)
            kernels.dense_activation(inputs, layer.weight, layer.bias, layer.activation.name, output)
        value = self._likelihood(x, outputs[-1], self.deltas[-1])
        for i in range(len(self.layers) - 1, 0, -1):
            # dx = (dy weightᵀ) φ'(x), x being what the activation before put out            (1.2) (2.1)
            before, weight = self.layers[i - 1].activation.name, self.layers[i].weight
            kernels.dense_input_gradient(self.deltas[i], weight, self.inputs[i], before, self.deltas[i - 1])
        return value, kernels.matmul_transposed_right(self.deltas[0], self.layers[0].weight)

    def _likelihood(self, x: np.ndarray, output: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """log p(x|z) (R,); `delta` (R, D) is filled with its gradient with respect to the decoder's output."""
        ones = np.ones(len(output), output.dtype)
        if self.likelihood.name == "bernoulli":
            return kernels.bernoulli_value_and_gradient(x, output, ones, delta)  # (3.2) (3.3)
        value, cache = self.likelihood.forward(x, output[:, None])
        delta[...] = self.likelihood.backward(ones[:, None], cache)[:, 0]
        return value[:, 0]


class LayerSums:
    """Sums over samples of one dense layer's gradients and of their squares, from which come moments. (11.3)

    Parameters
    ----------
    layer : Layer
    """

    def __init__(self, layer: Layer) -> None:
        self._weight, self._bias = (np.empty((2, *p.shape), p.dtype) for p in (layer.weight, layer.bias))
        self._shift = np.empty_like(layer.bias)
        self.samples = 0

    def clear(self) -> None:
        """Nothing has been added."""
        self._weight[...], self._bias[...] = 0, 0
        self.samples = 0

    def add(self, inputs: np.ndarray, delta: np.ndarray) -> None:
        """Add the gradients of samples with these inputs (R, fan_in) and deltas (R, fan_out)."""
        if not self.samples:
            # What a bias's gradients have in common need not cancel later.
            self._shift[...] = delta[0]
        self.samples += len(delta)
        kernels.add_outer_products(inputs, delta, *self._weight)
        kernels.add_shifted_rows(delta, self._shift, *self._bias)

    def add_weight(self, mean: np.ndarray, squares: np.ndarray) -> None:
        """Add the mean of the gradient of the weight, and the squared deviations from it, (fan_in, fan_out). (11.3)"""
        first, second = self._weight
        kernels.add_mean_and_squares(first, second, self.samples, mean, squares)

    def add_bias(self, mean: np.ndarray, squares: np.ndarray) -> None:
        """The same of the bias, (fan_out,)."""
        first, second = self._bias
        kernels.add_mean_and_squares(first, second, self.samples, mean, squares)
        mean += self._shift
