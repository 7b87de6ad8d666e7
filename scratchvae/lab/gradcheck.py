"""Check a model's hand-written gradients, tensor by tensor, against two oracles that share no code with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchvae.lab.forward_oracle import autoencoder_loss, vae_loss
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import as_generator, spawn
from scratchvae.training.progress import Progress
from scratchvae.training.run_directory import make_model
from scratchvae.validation import check_integer

__all__ = ["GradientReport", "TensorCheck", "check_gradients"]

# Largest error of a gradient entry, relative to the largest entry of its tensor; there is no absolute tolerance.
COMPLEX_STEP_TOLERANCE = 1e-11
FINITE_DIFFERENCE_TOLERANCE = 1e-8

# The imaginary step: its square vanishes beside any parameter, and no difference is taken.
_COMPLEX_STEP = 1e-30
# Steps of the 5-point formula, relative to the tensor's largest parameter. Its error grows as the fourth power
# of the step, rounding as its inverse: the first is near the best; the others are for a kink within reach of it.
_STEPS = (1e-3, 2e-4, 4e-5)


@dataclass(frozen=True)
class TensorCheck:
    """What was found for one parameter tensor.

    Attributes
    ----------
    name : str
    size, checked : int
        Entries in all, and entries compared.
    complex_step_error, finite_difference_error : float
        The largest error over the largest entry that the oracle gave; zero where both are exactly zero.
    inconclusive : int
        Entries for which finite differences with different steps disagree, as they do across a kink of relu;
        for these the complex step decides.
    worst_index : tuple of int
        Where the complex step disagrees most.
    analytic, complex_step : float
        The two values there.
    """

    name: str
    size: int
    checked: int
    complex_step_error: float
    finite_difference_error: float
    inconclusive: int
    worst_index: tuple[int, ...]
    analytic: float
    complex_step: float

    @property
    def passed(self) -> bool:
        """Both errors are within their tolerance, and finite differences could judge some entry."""
        return (
            self.complex_step_error <= COMPLEX_STEP_TOLERANCE
            and self.finite_difference_error <= FINITE_DIFFERENCE_TOLERANCE
            and self.inconclusive < self.checked
        )


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`: one `TensorCheck` per parameter, and what else must hold."""

    tensors: tuple[TensorCheck, ...]
    loss_error: float  # of the model's loss against the oracle's, relative
    same_bits_twice: bool

    @property
    def passed(self) -> bool:
        """Every tensor passed, the losses agree, and a second run gave the same bits."""
        agrees = self.loss_error <= COMPLEX_STEP_TOLERANCE
        return agrees and self.same_bits_twice and all(tensor.passed for tensor in self.tensors)


def check_gradients(
    model: VAE | Autoencoder,
    x: np.ndarray | None = None,
    *,
    batch_size: int = 4,
    num_samples: int = 1,
    max_entries: int | None = None,
    rng: np.random.Generator | int | None = 0,
    progress: bool = False,
) -> GradientReport:
    """Compare the gradients of a model's loss with complex-step and 5-point finite differences.

    The first differentiates an independent forward pass (`scratchvae.lab.forward_oracle`), the second the
    model's own. A float32 model is checked through a float64 twin: one code path serves both.

    Parameters
    ----------
    model : VAE or Autoencoder
        Is not changed.
    x : ndarray (B, D), optional
        By default random data that the model's likelihood can explain.
    batch_size : int
        B of the random data.
    num_samples : int
        S, samples of z per example, for a VAE.
    max_entries : int, optional
        Check so many randomly chosen entries of each tensor; by default every entry.
    rng : Generator, int or None
        Source of data, noise and chosen entries.
    progress : bool
        Report on stderr, once two seconds have passed.

    Returns
    -------
    GradientReport
    """
    twin = make_model({**model.config(), "dtype": "float64"})
    twin.load_parameters({name: value.astype(np.float64) for name, value in model.parameters.items()})
    data_rng, noise_rng, entry_rng = spawn(as_generator(rng), 3)
    if x is None:
        grey = data_rng.random((check_integer("batch_size", batch_size), twin.input_dim))
        x = (grey > 0.5).astype(np.float64) if twin.likelihood.name == "bernoulli" else grey
    x = twin.check_x(x)
    noise = noise_rng.standard_normal((check_integer("num_samples", num_samples), len(x), twin.latent_dim))
    limit = None if max_entries is None else check_integer("max_entries", max_entries)

    loss, gradients, shipped, oracle = _functions(twin, x, noise)
    again = _functions(twin, x, noise)
    same = loss == again[0] and all(np.array_equal(gradients[name], again[1][name]) for name in gradients)
    tensors = []
    chosen = {name: _entries(value.size, limit, entry_rng) for name, value in twin.parameters.items()}
    with Progress("checking gradients", sum(map(len, chosen.values())), progress) as bar:
        for name, entries in chosen.items():
            tensors.append(_check_tensor(name, entries, twin, gradients[name], shipped, oracle, bar))
    loss_error = abs(oracle(twin.parameters).real - loss) / abs(loss)
    return GradientReport(tuple(tensors), loss_error, same)


def _functions(
    twin: VAE | Autoencoder, x: np.ndarray, noise: np.ndarray
) -> tuple[float, dict[str, np.ndarray], Callable[[], float], Callable[[dict[str, np.ndarray]], complex]]:
    """The model's loss and gradients; its loss as a function of nothing; the oracle's of the parameters."""
    settings: dict[str, Any] = {
        "depth": len(twin.hidden),
        "activation": twin.activation.name,
        "likelihood": twin.likelihood.name,
        "likelihood_variance": twin.likelihood_variance,
    }
    if isinstance(twin, VAE):
        loss, gradients = twin.loss_and_gradients(x, noise)
        full = {**settings, "beta": twin.beta, "kl": twin.kl}
        return loss, gradients, lambda: twin.loss(x, noise), lambda p: vae_loss(p, x, noise, **full)
    loss, gradients = twin.loss_and_gradients(x)
    return loss, gradients, lambda: twin.loss(x), lambda p: autoencoder_loss(p, x, **settings)


def _entries(size: int, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    if limit is None or limit >= size:
        return np.arange(size)
    return np.sort(rng.choice(size, limit, replace=False))


def _check_tensor(
    name: str,
    entries: np.ndarray,
    twin: VAE | Autoencoder,
    gradient: np.ndarray,
    shipped: Callable[[], float],
    oracle: Callable[[dict[str, np.ndarray]], complex],
    bar: Progress,
) -> TensorCheck:
    parameter = twin.parameters[name]
    moved = parameter.astype(np.complex128)
    parameters = {**twin.parameters, name: moved}
    step = float(np.abs(parameter).max()) or 1.0
    complex_step, differences = np.empty(len(entries)), np.empty(len(entries))
    scale = float(np.abs(gradient).max())
    for k, entry in enumerate(entries):
        index = np.unravel_index(entry, parameter.shape)
        moved[index] += 1j * _COMPLEX_STEP
        complex_step[k] = oracle(parameters).imag / _COMPLEX_STEP
        moved[index] = parameter[index]
        differences[k] = _five_point(parameter, index, step, shipped, FINITE_DIFFERENCE_TOLERANCE * scale)
        bar.advance(name)
    analytic = gradient.reshape(-1)[entries]
    error = np.abs(analytic - complex_step)
    worst = int(error.argmax())
    judged = np.isfinite(differences)
    return TensorCheck(
        name,
        parameter.size,
        len(entries),
        _relative(error, complex_step),
        _relative(np.abs(analytic - differences)[judged], differences[judged]),
        int((~judged).sum()),
        tuple(int(i) for i in np.unravel_index(entries[worst], parameter.shape)),
        float(analytic[worst]),
        float(complex_step[worst]),
    )


def _relative(error: np.ndarray, oracle: np.ndarray) -> float:
    """The largest error over the oracle's largest entry; an expected zero must be exactly zero."""
    largest, scale = float(error.max(initial=0)), float(np.abs(oracle).max(initial=0))
    if largest == 0:
        return 0.0
    return largest / scale if scale > 0 else np.inf


def _five_point(
    parameter: np.ndarray,
    index: tuple[np.intp, ...],
    scale: float,
    loss: Callable[[], float],
    resolution: float,
) -> float:
    """(8 (f(h) − f(−h)) − (f(2h) − f(−2h))) / 12h, with a step that half of it confirms; NaN if none does."""
    value = parameter[index]

    def central(step: float) -> float:
        parameter[index] = value + step
        above = loss()
        parameter[index] = value - step
        below = loss()
        parameter[index] = value
        return (above - below) / (2 * step)

    for relative in _STEPS:
        half, one, two = (central(factor * relative * scale) for factor in (0.5, 1, 2))
        coarse, fine = (4 * one - two) / 3, (4 * half - one) / 3
        if abs(coarse - fine) <= resolution / 2:
            return fine
    return float("nan")
