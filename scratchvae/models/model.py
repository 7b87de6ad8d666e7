"""What the models share: parameters in one vector, their gradients in another, layers that view them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchvae.densities.likelihood import make_likelihood
from scratchvae.layers.activations import make_activation
from scratchvae.layers.initialization import initial_weight
from scratchvae.layers.parameters import flat_views
from scratchvae.layers.stack import Layer, stack_forward
from scratchvae.randomness import as_generator
from scratchvae.validation import check_array, check_choice, check_integer

__all__ = ["BINARIZATIONS", "Model"]

# How grey pixels become the data of a Bernoulli likelihood. None takes them as they are.
BINARIZATIONS = ("dynamic", "threshold", None)


class Model:
    """An encoder and a decoder over one flat parameter vector; the base of `VAE` and `Autoencoder`.

    Attributes
    ----------
    theta : ndarray (P,)
        All parameters. Changing it in place changes the model.
    parameters : dict of str to ndarray
        Views of theta by name, in a fixed order; weights are (fan_in, fan_out), biases (fan_out,).
    gradient : ndarray (P,)
        The twin of theta that the last gradient computation filled.
    gradients : dict of str to ndarray
        Views of gradient, named as parameters.
    """

    # Names of the linear layers between the encoder's hidden layers and the latent variables.
    heads: tuple[str, ...] = ()

    def __init__(
        self,
        input_dim: int,
        hidden: Sequence[int],
        latent_dim: int,
        activation: str,
        likelihood: str,
        likelihood_variance: float,
        binarize: str | None,
        initialization: str,
        dtype: DTypeLike,
        rng: np.random.Generator | int | None,
    ) -> None:
        self.input_dim = check_integer("input_dim", input_dim)
        self.hidden = _check_hidden(hidden)
        self.latent_dim = check_integer("latent_dim", latent_dim)
        self.activation = make_activation(activation)
        self.likelihood = make_likelihood(likelihood, likelihood_variance)
        self.likelihood_variance = float(likelihood_variance)
        self.binarize = _check_binarize(binarize, likelihood)
        self.initialization = check_choice("initialization", initialization, ("glorot", "he"))
        self.dtype = _check_dtype(dtype)
        self._make_vectors()
        self._initialize(rng)

    def _make_vectors(self) -> None:
        self._theta, self.parameters = flat_views(self._shapes(), self.dtype)
        self._gradient, self.gradients = flat_views(self._shapes(), self.dtype)

    @property
    def theta(self) -> np.ndarray:
        """All parameters (P,). Assigning copies into the vector, so that the layers still view it."""
        return self._theta

    @theta.setter
    def theta(self, value: np.ndarray) -> None:
        """Copy `value` (P,) into the vector."""
        self._theta[...] = check_array("theta", value, shape=self._theta.shape, dtype=self.dtype)

    @property
    def gradient(self) -> np.ndarray:
        """The twin (P,) of theta that the last gradient computation filled."""
        return self._gradient

    @gradient.setter
    def gradient(self, value: np.ndarray) -> None:
        """Copy `value` (P,) into the vector."""
        self._gradient[...] = check_array("gradient", value, shape=self._gradient.shape, dtype=self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """The configuration and the two vectors: what a copy needs to have views of its own."""
        return {"config": self.config(), "theta": self._theta.copy(), "gradient": self._gradient.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arguments = {key: value for key, value in state["config"].items() if key != "model"}
        self.__init__(**arguments, rng=0)  # type: ignore[misc]
        self._theta[...], self._gradient[...] = state["theta"], state["gradient"]

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's shape, by name, in the order of the data's way through the model."""
        encoder_sizes = (self.input_dim, *self.hidden)
        decoder_sizes = (self.latent_dim, *self.hidden[::-1], self.input_dim)
        layers = [(f"encoder.{i}", *sizes) for i, sizes in enumerate(pairwise(encoder_sizes))]
        layers += [(f"encoder.{head}", encoder_sizes[-1], self.latent_dim) for head in self.heads]
        layers += [(f"decoder.{i}", *sizes) for i, sizes in enumerate(pairwise(decoder_sizes))]
        shapes: dict[str, tuple[int, ...]] = {}
        for name, fan_in, fan_out in layers:
            shapes[f"{name}.weight"] = (fan_in, fan_out)
            shapes[f"{name}.bias"] = (fan_out,)
        return shapes

    def _initialize(self, rng: np.random.Generator | int | None) -> None:
        generator = as_generator(rng)
        for name, parameter in self.parameters.items():
            if name.endswith(".weight"):
                follows = self._activation_after(name.removesuffix(".weight")).name
                # Glorot's are the smaller ones, and these nets are too shallow for the signal to fade without He's.
                follows = follows if self.initialization == "he" else "identity"
                parameter[...] = initial_weight(
                    parameter.shape[0], parameter.shape[1], follows, generator, np.float64
                )

    def _activation_after(self, layer: str) -> Any:
        """Heads and the decoder's last layer are linear, the others are followed by the model's activation."""
        linear = {f"encoder.{head}" for head in self.heads} | {f"decoder.{len(self.hidden)}"}
        return make_activation("identity") if layer in linear else self.activation

    def layer(self, name: str) -> Layer:
        """The layer of that name, such as `encoder.0`: views of its weight and bias, and its activation."""
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        return Layer(weight, bias, self._activation_after(name))

    @property
    def encoder_layers(self) -> list[Layer]:
        """The encoder's hidden layers."""
        return [self.layer(f"encoder.{i}") for i in range(len(self.hidden))]

    @property
    def decoder_layers(self) -> list[Layer]:
        """The decoder's hidden layers and its output layer."""
        return [self.layer(f"decoder.{i}") for i in range(len(self.hidden) + 1)]

    # ---------------------------------------------------------------- what both models can do with a code

    def code(self, x: np.ndarray) -> np.ndarray:
        """The point (B, L) of the latent space that stands for x (B, D)."""
        raise NotImplementedError

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Natural parameters (B, D) of p(x|z) for z (B, L): logits (Bernoulli) or means (Gaussian)."""
        z = check_array("z", z, shape=("B", self.latent_dim), dtype=self.dtype)
        return stack_forward(z, self.decoder_layers)[0]

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """The mean (B, D) of p(x|z) at the code of x (B, D)."""
        return self.likelihood.mean(self.decode(self.code(x)))

    def interpolate(self, start: np.ndarray, end: np.ndarray, num_steps: int = 9) -> np.ndarray:
        """Decoded points on the straight line between the codes of two inputs.

        Parameters
        ----------
        start, end : ndarray (D,)
        num_steps : int, at least 2
            Points on the line, both ends included.

        Returns
        -------
        ndarray (num_steps, D)
        """
        ends = [
            self._check_pixels(name, x, (self.input_dim,)) for name, x in (("start", start), ("end", end))
        ]
        first, last = self.code(np.stack(ends))
        steps: np.ndarray = np.linspace(0, 1, check_integer("num_steps", num_steps, low=2), dtype=self.dtype)[
            :, None
        ]
        return self.likelihood.mean(self.decode((1 - steps) * first + steps * last))

    # ---------------------------------------------------------------- for the models themselves

    def _store(
        self, prefix: str, gradients: Iterable[tuple[np.ndarray, np.ndarray]], scale: float = 1
    ) -> None:
        """Write (dweight, dbias) of the layers prefix.0, prefix.1, … into the gradient vector."""
        for i, (dweight, dbias) in enumerate(gradients):
            self._store_layer(f"{prefix}.{i}", dweight, dbias, scale)

    def _store_layer(self, layer: str, dweight: np.ndarray, dbias: np.ndarray, scale: float = 1) -> None:
        np.multiply(dweight, scale, out=self.gradients[f"{layer}.weight"])
        np.multiply(dbias, scale, out=self.gradients[f"{layer}.bias"])

    def check_x(self, x: Any, name: str = "x") -> np.ndarray:
        """x as a finite array (B, D) of the model's dtype, within what its likelihood can explain."""
        return self._check_pixels(name, x, ("B", self.input_dim))

    def _check_pixels(self, name: str, value: Any, shape: tuple[int | str, ...]) -> np.ndarray:
        likelihood = self.likelihood
        why = (
            "a Bernoulli likelihood explains values between 0 and 1; divide grey levels by the largest"
            if likelihood.high == 1
            else ""
        )
        return check_array(
            name, value, shape=shape, dtype=self.dtype, low=likelihood.low, high=likelihood.high, why=why
        )

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Copy parameters into the model; names and shapes must be the model's own.

        Parameters
        ----------
        parameters : mapping of str to ndarray
            Shapes as in `self.parameters`.
        """
        if list(parameters) != list(self.parameters):
            odd = sorted(set(parameters) ^ set(self.parameters)) or ["the order of names"]
            raise ValueError(
                f"parameters do not fit this model: {', '.join(odd)} differ; expected {list(self.parameters)}"
            )
        checked = {
            name: check_array(name, parameters[name], shape=mine.shape, dtype=self.dtype)
            for name, mine in self.parameters.items()
        }
        for name, value in checked.items():
            self.parameters[name][...] = value

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as a run directory keeps them."""
        return {
            "model": type(self).__name__,
            "input_dim": self.input_dim,
            "hidden": list(self.hidden),
            "latent_dim": self.latent_dim,
            "activation": self.activation.name,
            "likelihood": self.likelihood.name,
            "likelihood_variance": self.likelihood_variance,
            "binarize": self.binarize,
            "initialization": self.initialization,
            "dtype": np.dtype(self.dtype).name,
        }

    def __repr__(self) -> str:
        arguments = [f"{key}={value!r}" for key, value in self.config().items() if key != "model"]
        return f"{type(self).__name__}({', '.join(arguments)})"


def _check_hidden(hidden: Sequence[int]) -> tuple[int, ...]:
    if isinstance(hidden, (str, bytes)) or not isinstance(hidden, Iterable):
        raise TypeError(
            f"hidden is {hidden!r}, expected a sequence of layer sizes such as (400,), or () for none"
        )
    return tuple(check_integer("a size in hidden", size) for size in hidden)


def _check_binarize(binarize: str | None, likelihood: str) -> str | None:
    if binarize == "auto":
        return "dynamic" if likelihood == "bernoulli" else None
    return check_choice("binarize", binarize, (*BINARIZATIONS, "auto"))


def _check_dtype(dtype: DTypeLike) -> type:
    expected = "expected float32 (for training) or float64 (for checking)"
    if dtype is None:  # which NumPy takes for float64
        raise TypeError(f"dtype is None, {expected}")
    try:
        kind = np.dtype(dtype).type
    except TypeError:
        raise TypeError(f"dtype is {dtype!r}, {expected}") from None
    if kind not in (np.float32, np.float64):
        raise ValueError(f"dtype is {np.dtype(dtype)}, {expected}")
    return kind
