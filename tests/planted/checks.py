"""The checks that find planted bugs, each under the name by which the table knows it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import scratchvae as sv
from scratchvae import kernels
from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.kernels import reference
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from tests.models.cases import draw_x, shake
from tests.oracles.complex_step import DIFFERENCE_TOLERANCE, assert_close_to_largest, five_point_vjp
from tests.oracles.quadrature import gauss_hermite_product
from tests.planted.source import Substitution

SEED = 0
SCALES = (1e-3, 1.0, 1e3)
# Everything that could be square is: a transposed gradient or a wrong tensor has the right shape.
SIZE = 2
BATCH = 3

# The loss and its gradient, times `scale`, at seams that no bug needs: where the objective's terms get their
# cotangents, and after the fused kernel, which takes none; and in the shipped oracle alike.
_SEAMS = (
    (
        "scratchvae.objectives.elbo:elbo_forward",
        "return -float(value.mean()),",
        "return -{scale} * float(value.mean()),",
    ),
    (
        "scratchvae.models.vae:VAE.loss",
        "return -float(self.elbo(",
        "return -{scale} * float(self.elbo(",
    ),
    (
        "scratchvae.objectives.elbo:elbo_backward",
        "return dreconstruction, dkl",
        "return {scale} * dreconstruction, {scale} * dkl",
    ),
    (
        "scratchvae.models.vae:VAE._loss_and_gradients_at_once",
        "loss, elbo, _ = elbo_forward(",
        "self.gradient *= {scale}; loss, elbo, _ = elbo_forward(",
    ),
    (
        "scratchvae.models.autoencoder:Autoencoder._loss_and_gradients",
        "self.likelihood.backward(dreconstruction,",
        "self.likelihood.backward({scale} * dreconstruction,",
    ),
    (
        "scratchvae.models.autoencoder:Autoencoder._forward",
        "-float(reconstruction.mean()),",
        "-{scale} * float(reconstruction.mean()),",
    ),
    ("scratchvae.lab.forward_oracle:vae_loss", "return complex(-", "return {scale} * complex(-"),
    ("scratchvae.lab.forward_oracle:autoencoder_loss", "return complex(-", "return {scale} * complex(-"),
)  # fmt: skip


class Check(NamedTuple):
    """Something that passes on the right code, and raises AssertionError or ArithmeticError on the wrong one."""

    name: str
    run: Callable[[float, np.random.Generator, pytest.MonkeyPatch], None]  # the scale of the loss comes first
    scales: bool = False  # whether that scale means anything to it


def by(test: Callable[..., None], **arguments: Any) -> Check:
    """A test of the suite as a check, with these of its parameters."""

    def run(_scale: float, rng: np.random.Generator, patch: pytest.MonkeyPatch) -> None:
        given = {"rng": rng, "monkeypatch": patch} | arguments
        test(*(given[name] for name in inspect.signature(test).parameters))

    return Check(test.__name__, run)


def scaled(scale: float) -> tuple[Substitution, ...]:
    """What makes every loss, and what is derived from it, `scale` times as large."""
    if scale == 1:
        return ()
    return tuple(Substitution(function, old, new.format(scale=scale)) for function, old, new in _SEAMS)


@functools.cache
def _model_and_data(settings: tuple[tuple[str, Any], ...]) -> tuple[VAE | Autoencoder, np.ndarray]:
    options = dict(settings)
    rng = np.random.default_rng(SEED)
    make = {"VAE": VAE, "Autoencoder": Autoencoder}[options.pop("model", "VAE")]
    defaults = {"hidden": (SIZE,), "latent_dim": SIZE, "activation": "tanh", "likelihood_variance": 0.7}
    if make is VAE:
        defaults["beta"] = 0.61
    model = make(SIZE, dtype=np.float64, rng=rng, **(defaults | options))
    shake(model, rng)
    return model, draw_x(rng, model.likelihood.name, BATCH, SIZE)


def make_model(setting: dict[str, Any]) -> tuple[VAE | Autoencoder, np.ndarray]:
    """A small model and its minibatch, the same each time for the same setting."""
    own = {name: value for name, value in setting.items() if name not in ("kernel", "num_samples")}
    return _model_and_data(tuple(sorted(own.items())))


@contextlib.contextmanager
def fused_kernel(which: str | None) -> Iterator[None]:
    """Let the plain functions behind one of the two fused kernels compute; None leaves the shipped kernel in place."""
    with pytest.MonkeyPatch.context() as patch:
        if which == "reference":
            patch.setattr(kernels, "vae_gradients", reference.vae_gradients)
        elif which == "compiled":
            patch.setattr(kernels, "vae_gradients", _plain_of_compiled(patch))
        yield


def _plain_of_compiled(patch: pytest.MonkeyPatch) -> Any:
    """The compiled kernel before compilation: its loops as Python runs them.

    What has no Python, the elementary functions and the tile of a matrix product, is replaced by NumPy's.
    """
    elementwise, fused_dense, vae_gradients = (
        importlib.import_module(f"scratchvae.kernels.compiled.{name}")
        for name in ("elementwise", "fused_dense", "vae_gradients")
    )

    def multiply_part(left, right, out, part, depth, accumulate, _space=None):
        first_row, last_row, first, last = part
        left, right = (factor.data if factor.column == 1 else factor.data.T for factor in (left, right))
        product = (left[:, :depth] @ right[:depth])[first_row:last_row, first:last]
        block = out[first_row:last_row, first:last]
        block[...] = block + product if accumulate else product

    for module in (elementwise, fused_dense, vae_gradients):
        for name in ("exp", "expm1", "log1p", "tanh"):
            if hasattr(module, name):
                patch.setattr(module, name, getattr(np, name))
        for name in ("multiply_part", "multiply_part_within"):
            if hasattr(module, name):
                patch.setattr(module, name, multiply_part)
    for name, plain in (
        ("rows_kernel", vae_gradients._rows_pass),
        ("parameters_kernel", vae_gradients._parameters_pass),
    ):
        patch.setattr(
            vae_gradients, name, lambda _worthwhile, *arguments, plain=plain: plain(0, 1, *arguments)
        )
    return vae_gradients.vae_gradients


def check_gradients(setting: dict[str, Any], seed: int = SEED) -> None:
    """`sv.check_gradients`, every entry of every tensor."""
    model, x = make_model(setting)
    samples = {"num_samples": setting.get("num_samples", 1)} if isinstance(model, VAE) else {}
    with fused_kernel(setting.get("kernel")), np.errstate(all="ignore"):
        report = sv.check_gradients(model, x, rng=seed, **samples)
    assert report.passed, f"{report}"


def own_differences(setting: dict[str, Any]) -> None:
    """5-point differences of the code's own loss: all that a checker has which knows nothing of the mathematics."""
    model, x = make_model(setting)
    noise = np.random.default_rng(SEED).standard_normal((setting.get("num_samples", 1), len(x), SIZE))
    arguments = (x, noise) if isinstance(model, VAE) else (x,)
    kept = model.theta.copy()

    def loss(theta: np.ndarray) -> float:
        model.theta[...] = theta
        return model.loss(*arguments)

    try:
        (exact,) = five_point_vjp(loss, [kept], np.ones(()))
    finally:
        model.theta[...] = kept
    with fused_kernel(setting.get("kernel")):
        ways = [model.loss_and_gradients(*arguments)[1]]
    if isinstance(model, VAE):
        ways.append(model.gradients_by_layers(*arguments))
    for gradients in ways:
        parts = np.split(exact, np.cumsum([gradient.size for gradient in gradients.values()])[:-1])
        for (name, gradient), part in zip(gradients.items(), parts, strict=True):
            assert_close_to_largest(gradient, part.reshape(gradient.shape), DIFFERENCE_TOLERANCE, name)


# --- estimators: the expectation of their gradients ---------------------------------------------------------

MEAN, LOG_VAR = 0.6, -0.5


def _exact_gradient(scale: float) -> tuple[float, float]:
    """Of E f(z) = scale (μ³ + 3 μ σ² + μ² + σ²) with respect to mean and log_var, f(z) = scale (z³ + z²)."""
    variance = np.exp(LOG_VAR)
    d_mean = 3 * (MEAN**2 + variance) + 2 * MEAN
    d_variance = 3 * MEAN + 1
    return scale * d_mean, scale * d_variance * variance


def _points(name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Noise (S, B, 1), and what else the estimator takes, as B points of a rule; and the rule's weights (B,)."""
    if name.startswith("measure-valued"):
        # Gauss and Legendre's rule on the half axes, for a radius is no polynomial in normals.
        nodes, weights = np.polynomial.legendre.leggauss(40)
        radius, weight = 4.5 * (nodes + 1), 4.5 * weights
        of_radius = weight * radius * np.exp(-(radius**2) / 2)
        noise = np.concatenate([-radius[::-1], radius])
        of_noise = np.concatenate([weight[::-1], weight]) * np.exp(-(noise**2) / 2) / np.sqrt(2 * np.pi)
        noise, radius = (part.reshape(1, -1, 1) for part in np.meshgrid(noise, radius, indexing="ij"))
        return {"noise": noise, "extra": np.stack([radius, 0 * radius])}, np.outer(
            of_noise, of_radius
        ).ravel()
    num_samples = make_estimator(name).minimum_samples
    nodes, weights = gauss_hermite_product(9 if num_samples < 3 else 5, max(num_samples, 2))
    return {"noise": nodes.T[..., None]}, weights


def expectation_of(name: str) -> Check:
    """The mean of each sample's gradient, by quadrature, against the exact gradient of an expectation."""

    def run(scale: float, _rng: np.random.Generator, _patch: pytest.MonkeyPatch) -> None:
        points, weights = _points(name)
        integrand = FunctionIntegrand(
            lambda z: scale * (z**3 + z**2)[..., 0],
            lambda z: scale * (3 * z**2 + 2 * z),
            lambda z: scale * (6 * z + 2),
        )
        mean, log_var = np.array([MEAN]), np.array([LOG_VAR])
        # A running mean learns from its batch, so each point of the rule is a life of its own.
        parts = range(len(weights)) if name.endswith("running-mean") else [slice(None)]
        found = np.empty((2, *points["noise"].shape))
        for part in parts:
            one = slice(part, part + 1) if isinstance(part, int) else part
            own = {key: value[..., one, :] for key, value in points.items()}
            found[:, :, one] = make_estimator(name).sample_gradients(integrand, mean, log_var, **own)
        for expected, exact in zip(found[..., 0] @ weights, _exact_gradient(scale), strict=True):
            np.testing.assert_allclose(expected, exact, rtol=1e-9, atol=0)

    return Check(f"expectation of `{name}` by quadrature", run, scales=True)
