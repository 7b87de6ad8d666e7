"""The gradients of a VAE or an autoencoder, against an independent forward pass and differences of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from scratchvae.lab.comparison import COTANGENT_SCALES, Problem, check_directions, check_entries
from scratchvae.lab.complex_step import IMAGINARY_STEP
from scratchvae.lab.diagnosis import describe_batches
from scratchvae.lab.forward_oracle import autoencoder_loss, vae_loss
from scratchvae.lab.gradient_report import (
    COMPLEX_STEP_TOLERANCE,
    GradientReport,
    TensorCheck,
    zeros_tell_little,
)
from scratchvae.lab.plan import Plan
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import spawn
from scratchvae.training.progress import Progress
from scratchvae.training.run_directory import make_model
from scratchvae.validation import check_integer

__all__ = ["BATCH_SIZES", "check_model"]

# One example, whose mean is itself; two; and enough that a factor B cannot hide.
BATCH_SIZES = (1, 2, 64)


class _Loss(NamedTuple):
    """A model's loss on one batch: by the model and by the oracle, with gradients for each way to them."""

    value: float
    ways: dict[str, dict[str, np.ndarray]]
    shipped: Callable[[], float]
    oracle: Callable[[Mapping[str, np.ndarray]], complex]


def check_model(
    model: VAE | Autoencoder,
    x: np.ndarray | None,
    batch_size: int,
    num_samples: int,
    plan: Plan,
    *,
    progress: bool,
) -> GradientReport:
    """Check every tensor of a model, see `check_gradients`; x is (B, D) or None for random data."""
    twin = make_model({**model.config(), "dtype": "float64"})
    twin.load_parameters({name: value.astype(np.float64) for name, value in model.parameters.items()})
    data_rng, noise_rng, entry_rng, batch_rng = spawn(plan.seed, 4)
    given = x is not None
    x = twin.check_x(_data(twin, check_integer("batch_size", batch_size), data_rng) if x is None else x)
    samples = check_integer("num_samples", num_samples)
    noise = noise_rng.standard_normal((samples, len(x), twin.latent_dim))

    before = [array.copy() for array in (x, noise, twin.theta)]
    loss = _losses(twin, x, noise)
    _whole(twin, loss)
    again = _losses(twin, x, noise)
    same = loss.value == again.value and all(
        np.array_equal(way[name], again.ways[label][name]) for label, way in loss.ways.items() for name in way
    )
    after = {"x": x, "noise": noise, "a parameter": twin.theta}
    changed = [
        name for (name, array), kept in zip(after.items(), before, strict=True) if (array != kept).any()
    ]
    problems = _problems(loss, changed)
    problem = _problem(twin, loss, (len(x), samples))
    tensors, errors = [], {}
    names = plan.names(problem.point)
    work = plan.work(problem, names, entry_rng)
    with Progress("checking gradients", work.steps, progress) as bar:
        for name in names:
            if work.directions:
                check, errors[name] = check_directions(name, problem, work.directions, entry_rng, bar)
            else:
                check, errors[name] = check_entries(name, problem, work.entries[name], bar, plan.index)
            tensors.append(check)
    if plan.index is None:
        tensors, loss_error = _check_batches(twin, tensors, x, samples, batch_rng)
    else:
        loss_error = 0.0
    loss_error = max(loss_error, _loss_error(loss, twin.parameters))
    return GradientReport(
        tuple(tensors),
        loss_error,
        same,
        problems,
        (*work.notes, *zeros_tell_little(tensors, next(iter(loss.ways.values())))),
        target=f"{'a' if isinstance(model, VAE) else 'an'} {type(model).__name__} with {model.theta.size:,} parameters",
        seed=plan.seed,
        call=f"check_gradients(model{', x' if given else ''}{_settings(batch_size, num_samples)}",
        errors=errors,
    )


def _whole(twin: VAE | Autoencoder, loss: _Loss) -> None:
    """A ValueError unless there is a finite gradient of every parameter, in its shape."""
    what = type(twin).__name__
    for label, way in loss.ways.items():
        where = f" ({label})" if label else ""
        if missing := [name for name in twin.parameters if name not in way]:
            raise ValueError(
                f"{what} gives no gradient of {missing[0]}{where}, expected one for every parameter"
            )
        for name, parameter in twin.parameters.items():
            if way[name].shape != parameter.shape:
                raise ValueError(
                    f"{what} gives a gradient of {name}{where} of shape {way[name].shape}, expected {parameter.shape}"
                )
            if not np.isfinite(way[name]).all():
                index = tuple(int(i) for i in np.argwhere(~np.isfinite(way[name]))[0])
                raise ValueError(
                    f"{what} gives {way[name][index]} in the gradient of {name}{where} at index {index}, expected "
                    "finite numbers"
                )


def _settings(batch_size: int, num_samples: int) -> str:
    text = "" if batch_size == 4 else f", batch_size={batch_size}"
    return text + ("" if num_samples == 1 else f", num_samples={num_samples}")


def _data(twin: VAE | Autoencoder, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Random data (B, D) that the model's likelihood can explain."""
    grey = rng.random((batch_size, twin.input_dim))
    if twin.likelihood.name != "bernoulli":
        return grey
    x: np.ndarray = (grey > 0.5).astype(np.float64)
    # A black image puts every unit of a fresh model, whose biases are zero, in the very kink of leaky_relu; two layers
    # of it can then have a derivative that is not the product of their conventions.
    x[~x.any(axis=1), 0] = 1
    return x


def _losses(
    twin: VAE | Autoencoder,
    x: np.ndarray,
    noise: np.ndarray,
    scales: tuple[float, ...] = COTANGENT_SCALES,
) -> _Loss:
    settings: dict[str, Any] = {
        "depth": len(twin.hidden),
        "activation": twin.activation.name,
        "likelihood": twin.likelihood.name,
        "likelihood_variance": twin.likelihood_variance,
    }
    if isinstance(twin, VAE):
        loss, gradients = twin.loss_and_gradients(x, noise)
        full = {**settings, "beta": twin.beta, "kl": twin.kl, "free_bits": getattr(twin, "free_bits", 0.0)}
        ways = {
            "": gradients,
            **_at_scales("layer by layer", lambda s: twin.gradients_by_layers(x, noise, s), scales),
        }
        return _Loss(loss, ways, lambda: twin.loss(x, noise), lambda p: vae_loss(p, x, noise, **full))
    ways = _at_scales("", lambda s: twin.loss_and_gradients(x, s)[1], scales)
    return _Loss(twin.loss(x), ways, lambda: twin.loss(x), lambda p: autoencoder_loss(p, x, **settings))


def _at_scales(
    label: str, gradients: Callable[[float], dict[str, np.ndarray]], scales: tuple[float, ...]
) -> dict[str, dict[str, np.ndarray]]:
    """The gradients of the loss times each scale, divided by it."""
    ways = {}
    for scale in scales:
        times = "" if scale == 1 else f"for the loss times {scale:g}"
        ways[", ".join(filter(None, (label, times)))] = {
            name: gradient / scale for name, gradient in gradients(scale).items()
        }
    return ways


def _problem(twin: VAE | Autoencoder, loss: _Loss, sizes: tuple[int, ...]) -> Problem:
    def complex_outputs(name: str, moved: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.asarray(loss.oracle({**twin.parameters, name: moved})),)

    numbers = {*sizes, twin.input_dim, twin.latent_dim, *twin.hidden, sizes[0] * sizes[1]}
    return Problem(
        twin.parameters,
        loss.ways,
        (np.ones(()),),
        lambda: (np.asarray(loss.shipped()),),
        complex_outputs,
        independent=True,
        sizes=tuple(numbers),
    )


def _problems(loss: _Loss, changed: list[str]) -> tuple[str, ...]:
    """What is wrong beside the numbers."""
    found = [f"the model changes {name} in place" for name in changed]
    found += [
        f"the gradient of {name}{f' ({label})' if label else ''} is {gradient.dtype}, expected float64 throughout"
        for label, way in loss.ways.items()
        for name, gradient in way.items()
        if gradient.dtype != np.float64
    ]
    return tuple(found)


def _loss_error(loss: _Loss, parameters: Mapping[str, np.ndarray]) -> float:
    return abs(loss.oracle(parameters).real - loss.value) / abs(loss.value)


def _check_batches(
    twin: VAE | Autoencoder,
    tensors: list[TensorCheck],
    x: np.ndarray,
    samples: int,
    rng: np.random.Generator,
) -> tuple[list[TensorCheck], float]:
    """Each tensor's gradient along a random direction by the complex step, for batches of other sizes. (0.6)"""
    loss_error = 0.0
    found: dict[str, list[tuple[int, float, float]]] = {tensor.name: [] for tensor in tensors}
    for size in BATCH_SIZES:
        noise = rng.standard_normal((samples, size, twin.latent_dim))
        rows = np.resize(np.arange(len(x)), size)
        loss = _losses(twin, np.ascontiguousarray(x[rows]), noise, scales=(1.0,))
        loss_error = max(loss_error, _loss_error(loss, twin.parameters))
        for name, entries in found.items():
            tensor = twin.parameters[name]
            direction = rng.standard_normal(tensor.shape)
            moved = tensor + 1j * IMAGINARY_STEP * direction
            right = loss.oracle({**twin.parameters, name: moved}).imag / IMAGINARY_STEP
            along = [float((way[name] * direction).sum()) for way in loss.ways.values()]
            scale = max(abs(right), *(float(np.linalg.norm(w[name] * direction)) for w in loss.ways.values()))
            off = along[int(np.argmax(np.abs(np.array(along) - right)))]
            error = abs(off - right) / scale if scale else 0.0
            entries.append((size, error, off / right if right else np.nan))
    return [_with_batches(tensor, found[tensor.name]) for tensor in tensors], loss_error


def _with_batches(tensor: TensorCheck, found: list[tuple[int, float, float]]) -> TensorCheck:
    errors = tuple((size, error) for size, error, _ in found)
    dependence = describe_batches({s: r for s, _, r in found}, dict(errors), COMPLEX_STEP_TOLERANCE)
    diagnosis = "; ".join(filter(None, (tensor.diagnosis, dependence)))
    return replace(tensor, batch_errors=errors, diagnosis=diagnosis)
