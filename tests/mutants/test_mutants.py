"""The mutators make the mistakes that they say they make, in the functions that they are to be made in."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

from scratchvae.models.free_bits_vae import FreeBitsVAE
from tests.mutants.equivalent import reason_for
from tests.mutants.mutators import mutants
from tests.mutants.targets import TESTS, functions, mirrored, targets
from tests.planted.source import compiled_again, find_function, source_of

ROOT = Path(__file__).parents[2]

SMALL = '''
def backward(dy, cache, need_dx=True):
    """dx = 1 + 1: what is written here is left alone."""
    if cache.x is None:
        raise ValueError(f"1 + {dy}")
    total = np.zeros(3)
    total += dy.sum(axis=0) / 2
    return total, dy @ cache.weight.T if need_dx else 1.0
'''


def changes():
    return {mutant.what for mutant in mutants(SMALL)}


@pytest.mark.parametrize(
    "change",
    [
        "if cache.x is None: → if cache.x is not None:",
        "if cache.x is None: → if False:",
        "total = np.zeros(3) → total = np.ones(3)",
        "total += dy.sum(axis=0) / 2 → pass",
        "total += dy.sum(axis=0) / 2 → total -= dy.sum(axis=0) / 2",
        "total += dy.sum(axis=0) / 2 → total[...] = dy.sum(axis=0) / 2",
        "total += dy.sum(axis=0) / 2 → total += dy.sum(axis=0) * 2",
        "total += dy.sum(axis=0) / 2 → total += dy.sum(axis=0)",
        "total += dy.sum(axis=0) / 2 → total += 2 / dy.sum(axis=0)",
        "total += dy.sum(axis=0) / 2 → total += dy.mean(axis=0) / 2",
        "total += dy.sum(axis=0) / 2 → total += dy.sum(axis=1) / 2",
        "total += dy.sum(axis=0) / 2 → total += dy.sum() / 2",
    ],
)
def test_a_mistake_that_a_hand_can_make_is_made(change):
    assert change in changes()


@pytest.mark.parametrize(
    "returned",
    [
        "(-total, dy @ cache.weight.T if need_dx else 1.0)",
        "(total * 1.00001, dy @ cache.weight.T if need_dx else 1.0)",
        "(dy @ cache.weight.T if need_dx else 1.0, total)",
        "(total, dy @ cache.weight if need_dx else 1.0)",
        "(total, 1.0)",
    ],
)
def test_a_mistake_in_what_is_returned_is_made(returned):
    assert f"return (total, dy @ cache.weight.T if need_dx else 1.0) → return {returned}" in changes()


def test_what_no_gradient_depends_on_is_left_alone():
    for what in changes():
        before, after = what.split(" → ")
        assert before != after
        assert "raise" not in what
        assert '"""' not in what


def test_every_mutant_is_another_function_that_compiles():
    found = list(mutants(SMALL))
    assert len({mutant.identity for mutant in found}) == len(found)
    assert ast.dump(ast.parse(SMALL)) not in {ast.dump(mutant.tree) for mutant in found}
    target = "scratchvae.densities.gaussian:gaussian_kl_backward"
    function = find_function(target)
    codes = {compiled_again(function, mutant.tree) for mutant in mutants(source_of(function))}
    assert len(codes) > 15
    assert function.__code__ not in codes


def test_a_mutant_of_what_calls_super_fits_in_its_place(monkeypatch):
    function = find_function("scratchvae.models.free_bits_vae:FreeBitsVAE.config")
    source = source_of(function)
    model = FreeBitsVAE(2, 0.3, latent_dim=1, rng=0)
    monkeypatch.setattr(function, "__code__", compiled_again(function, ast.parse(source)))
    assert model.config()["latent_dim"] == 1
    without = source.replace("**super().config(), ", "")
    assert without != source
    monkeypatch.setattr(function, "__code__", compiled_again(function, ast.parse(without)))
    assert model.config() == {"free_bits": 0.3}


def test_targets_are_the_gradient_s_functions_and_their_tests_are_there():
    names = list(targets())
    assert "scratchvae.layers.dense:dense_backward" in names
    assert "scratchvae.estimators.taylor:_Remainder.value_and_gradient" in names
    assert "scratchvae.models.vae:VAE.encoder_backward" in names
    assert "scratchvae.models.vae:VAE.config" not in names
    assert "scratchvae.densities.likelihood:make_likelihood" not in names
    assert "scratchvae.estimators.log_weight:LogWeightIntegrand.value" not in names, (
        "it only says what is asked for"
    )
    assert mirrored("scratchvae.kernels.reference.matmul:matmul") == "tests/kernels/test_matmul.py"
    for test in TESTS:
        assert (ROOT / test.partition("::")[0]).exists(), test


@pytest.mark.parametrize("package", ["layers", "densities", "objectives", "estimators", "models"])
def test_every_backward_function_and_all_of_every_estimator_is_a_target(package):
    names = set(targets())
    folder = importlib.import_module(f"scratchvae.{package}")
    for module in pkgutil.iter_modules(folder.__path__, f"scratchvae.{package}."):
        for function in functions(importlib.import_module(module.name)):
            if package == "estimators" or function.endswith("backward"):
                assert f"{module.name}:{function}" in names


def test_a_reason_belongs_to_one_change_of_one_function():
    here, there = "layers.activations:sigmoid_forward", "layers.activations:softplus_forward"
    change = "y = np.where(x >= 0, 1, decay) → y = np.where(x > 0, 1, decay)"
    assert reason_for(here, change) == "at 0 the decay is 1 as well"
    assert reason_for(there, change) is None
    assert reason_for(here, change.replace("x > 0", "x < 0")) is None
