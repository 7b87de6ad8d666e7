"""Which functions are mutated, and which of their tests are candidates to notice."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

# Every forward and backward pair, every density, objective and estimator, the models' ways there and back, the plain
# kernels of a training step, and the optimizers.
MODULES = (
    "scratchvae.layers.activations",
    "scratchvae.layers.curvature",
    "scratchvae.layers.dense",
    "scratchvae.layers.stack",
    "scratchvae.densities.bernoulli",
    "scratchvae.densities.gaussian",
    "scratchvae.densities.likelihood",
    "scratchvae.objectives.elbo",
    "scratchvae.objectives.free_bits",
    "scratchvae.objectives.importance_weighted",
    "scratchvae.estimators.antithetic",
    "scratchvae.estimators.baselines",
    "scratchvae.estimators.doubly_reparameterized",
    "scratchvae.estimators.integrand",
    "scratchvae.estimators.learned_baseline",
    "scratchvae.estimators.log_weight",
    "scratchvae.estimators.measure_valued",
    "scratchvae.estimators.pathwise",
    "scratchvae.estimators.score_function",
    "scratchvae.estimators.taylor",
    "scratchvae.estimators.vimco",
    "scratchvae.models.autoencoder",
    "scratchvae.models.decoder_integrand",
    "scratchvae.models.free_bits_vae",
    "scratchvae.models.model",
    "scratchvae.models.vae",
    "scratchvae.kernels.layer_table",
    "scratchvae.kernels.reference.elementwise",
    "scratchvae.kernels.reference.fused_dense",
    "scratchvae.kernels.reference.matmul",
    "scratchvae.kernels.reference.optimizers",
    "scratchvae.kernels.reference.outer_products",
    "scratchvae.kernels.reference.vae_gradients",
    "scratchvae.training.adam",
    "scratchvae.training.sgd",
)

# Of these, only what the gradient passes through; the rest is set-up, description and checks at the door.
OF_MODELS = {
    "_add_shortfall", "_elbo", "_forward", "_loss_and_gradients", "_loss_and_gradients_at_once",
    "_loss_and_gradients_by_layers", "_store", "_store_layer", "encoder_backward", "encoder_forward", "integrand",
    "layer", "loss",
}  # fmt: skip
PARTS = {
    "scratchvae.densities.likelihood": {"_bernoulli_curvature", "_gaussian_curvature"},
    "scratchvae.models.autoencoder": OF_MODELS,
    "scratchvae.models.free_bits_vae": OF_MODELS,
    "scratchvae.models.model": OF_MODELS,
    "scratchvae.models.vae": OF_MODELS,
}

TESTS = (
    "tests/layers",
    "tests/densities",
    "tests/objectives",
    "tests/estimators",
    "tests/models",
    "tests/kernels/test_elementwise.py",
    "tests/kernels/test_fused_dense.py",
    "tests/kernels/test_matmul.py",
    "tests/kernels/test_optimizers.py",
    "tests/kernels/test_outer_products.py",
    "tests/training/test_adam.py",
    "tests/training/test_sgd.py",
    "tests/planted/test_planted.py::test_right_gradients_pass",
)


def targets() -> Iterator[str]:
    """The functions by name, such as "scratchvae.models.vae:VAE.encoder_backward"."""
    for name in MODULES:
        for qualified_name in functions(importlib.import_module(name)):
            last = qualified_name.rpartition(".")[2]
            if name not in PARTS or last in PARTS[name]:
                yield f"{name}:{qualified_name}"


def mirrored(target: str) -> str:
    """The file of tests at the place that mirrors a target's module."""
    _, *folders, stem = target.partition(":")[0].split(".")
    return "/".join(["tests", *(folder for folder in folders if folder != "reference"), f"test_{stem}.py"])


def functions(module: Any) -> Iterator[str]:
    """Functions and methods that the module defines, in the order of its text; constructors check and keep."""
    found: dict[str, int] = {}
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__ or getattr(value, "_is_protocol", False):
            continue
        members = vars(value).items() if inspect.isclass(value) else [("", value)]
        for member, attribute in members:
            function = inspect.unwrap(attribute.fget if isinstance(attribute, property) else attribute)
            ours = isinstance(function, FunctionType) and function.__module__ == module.__name__
            if ours and member not in ("__init__", "__getattr__") and not member.startswith("__new"):
                found[f"{name}.{member}".removesuffix(".")] = function.__code__.co_firstlineno
    return iter(sorted(found, key=found.__getitem__))
