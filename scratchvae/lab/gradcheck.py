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
# Steps of the 5-point formula, relative to the tensor's largest parameter, or to 1 if all are smaller. Its error
# grows as the fourth power of the step, rounding as its inverse: the first is near the best; the others are for a
# kink within reach of it.
_STEPS = (4e-3, 1e-3, 2e-4, 4e-5)
# What a loss is taken to be off by, relative to itself, when differences are judged: a few roundings.
_ROUNDING = 4 * float(np.finfo(np.float64).eps)


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
        Entries for which finite differences say nothing: different steps disagree, as they do across a kink of
        relu, or rounding hides a gradient that is small beside the loss. For these the complex step decides.
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
        """Both errors are within their tolerance."""
        return (
            self.complex_step_error <= COMPLEX_STEP_TOLERANCE
            and self.finite_difference_error <= FINITE_DIFFERENCE_TOLERANCE
        )


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`: one `TensorCheck` per parameter, and what else must hold."""

    tensors: tuple[TensorCheck, ...]
    loss_error: float  # of the model's loss against the oracle's, relative
    same_bits_twice: bool

    @property
    def passed(self) -> bool:
        """Every tensor passed, finite differences judged some, the losses agree, a second run gave the same bits.

        A fresh model of relu layers can have a tensor that lies on kinks with every entry: a layer that is dead for
        one example passes zero on, and zero biases keep it there. So not every tensor must be judged twice.
        """
        agrees = self.loss_error <= COMPLEX_STEP_TOLERANCE
        judged = any(tensor.inconclusive < tensor.checked for tensor in self.tensors)
        return agrees and judged and self.same_bits_twice and all(tensor.passed for tensor in self.tensors)


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
        Check so many entries of each tensor, the largest and others chosen at random; by default every entry.
    rng : Generator, int or None
        Source of data, noise and chosen entries.
    progress : bool
        Report on stderr, once two seconds have passed.

    Returns
    -------
    GradientReport
    """
    if not isinstance(model, VAE | Autoencoder):
        raise TypeError(f"model is of type {type(model).__name__}, expected a VAE or an Autoencoder")
    twin = make_model({**model.config(), "dtype": "float64"})
    twin.load_parameters({name: value.astype(np.float64) for name, value in model.parameters.items()})
    data_rng, noise_rng, entry_rng = spawn(as_generator(rng), 3)
    if x is None:
        grey = data_rng.random((check_integer("batch_size", batch_size), twin.input_dim))
        x = (grey > 0.5).astype(np.float64) if twin.likelihood.name == "bernoulli" else grey
    x = twin.check_x(x)
    noise = noise_rng.standard_normal((check_integer("num_samples", num_samples), len(x), twin.latent_dim))
    limit = None if max_entries is None else check_integer("max_entries", max_entries)

    loss, ways, shipped, oracle = _functions(twin, x, noise)
    again = _functions(twin, x, noise)
    same = loss == again[0] and all(
        np.array_equal(way[name], way_again[name])
        for way, way_again in zip(ways, again[1], strict=True)
        for name in way
    )
    tensors = []
    chosen = {name: _entries(gradient, limit, entry_rng) for name, gradient in ways[0].items()}
    rounding = _ROUNDING * abs(loss)
    with Progress("checking gradients", sum(map(len, chosen.values())), progress) as bar:
        for name, entries in chosen.items():
            tensors.append(
                _check_tensor(
                    name, entries, twin, [way[name] for way in ways], shipped, oracle, rounding, bar
                )
            )
    loss_error = abs(oracle(twin.parameters).real - loss) / abs(loss)
    return GradientReport(tuple(tensors), loss_error, same)


def _functions(
    twin: VAE | Autoencoder, x: np.ndarray, noise: np.ndarray
) -> tuple[
    float, list[dict[str, np.ndarray]], Callable[[], float], Callable[[dict[str, np.ndarray]], complex]
]:
    """The model's loss and, for each way to compute them, gradients; its loss as a function; the oracle's."""
    settings: dict[str, Any] = {
        "depth": len(twin.hidden),
        "activation": twin.activation.name,
        "likelihood": twin.likelihood.name,
        "likelihood_variance": twin.likelihood_variance,
    }
    if isinstance(twin, VAE):
        loss, gradients = twin.loss_and_gradients(x, noise)
        full = {**settings, "beta": twin.beta, "kl": twin.kl, "free_bits": getattr(twin, "free_bits", 0.0)}
        ways = [gradients, twin.gradients_by_layers(x, noise)]
        return loss, ways, lambda: twin.loss(x, noise), lambda p: vae_loss(p, x, noise, **full)
    loss, gradients = twin.loss_and_gradients(x)
    return loss, [gradients], lambda: twin.loss(x), lambda p: autoencoder_loss(p, x, **settings)


def _entries(gradient: np.ndarray, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    """Which entries to check: with the largest among them, for the others are measured against it."""
    if limit is None or limit >= gradient.size:
        return np.arange(gradient.size)
    largest = int(np.abs(gradient).argmax())
    others = np.delete(np.arange(gradient.size), largest)
    return np.sort(np.append(rng.choice(others, limit - 1, replace=False), largest))


def _check_tensor(
    name: str,
    entries: np.ndarray,
    twin: VAE | Autoencoder,
    ways: list[np.ndarray],
    shipped: Callable[[], float],
    oracle: Callable[[dict[str, np.ndarray]], complex],
    rounding: float,
    bar: Progress,
) -> TensorCheck:
    parameter = twin.parameters[name]
    moved = parameter.astype(np.complex128)
    parameters = {**twin.parameters, name: moved}
    step = max(float(np.abs(parameter).max()), 1.0)
    complex_step, differences = np.empty(len(entries)), np.empty(len(entries))
    scale = float(np.abs(ways[0]).max())
    for k, entry in enumerate(entries):
        index = np.unravel_index(entry, parameter.shape)
        moved[index] += 1j * _COMPLEX_STEP
        complex_step[k] = oracle(parameters).imag / _COMPLEX_STEP
        moved[index] = parameter[index]
        resolution = FINITE_DIFFERENCE_TOLERANCE * scale
        differences[k] = _five_point(parameter, index, step, shipped, resolution, rounding)
        bar.advance(name)
    # Where a model has two ways to its gradient, each entry answers for the worse of them.
    analytic = np.stack([gradient.reshape(-1)[entries] for gradient in ways])
    error = np.abs(analytic - complex_step)
    worst_way, worst = divmod(int(error.argmax()), len(entries))
    judged = np.isfinite(differences)
    return TensorCheck(
        name,
        parameter.size,
        len(entries),
        _relative(error.max(axis=0), complex_step),
        _relative(np.abs(analytic - differences).max(axis=0)[judged], differences[judged]),
        int((~judged).sum()),
        tuple(int(i) for i in np.unravel_index(entries[worst], parameter.shape)),
        float(analytic[worst_way, worst]),
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
    rounding: float,
) -> float:
    """(8 (f(h) − f(−h)) − (f(2h) − f(−2h))) / 12h, with a step that half of it confirms; NaN if none does.

    Two steps confirm each other if they agree to half the resolution and if rounding of the loss leaves that much.
    """
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
        agree = abs(coarse - fine) <= resolution / 2 and rounding / (relative * scale) <= resolution / 2
        if agree or coarse == fine == 0:  # a parameter that does not matter
            return fine
    return float("nan")
