"""The gradient checker: it believes right gradients, and names the tensor and the entry of wrong ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from scratchvae.densities import likelihood as likelihood_module
from scratchvae.densities.gaussian import GaussianSampleCache
from scratchvae.estimators import pathwise
from scratchvae.lab import forward_oracle, model_check, plan
from scratchvae.lab.gradcheck import (
    COMPLEX_STEP_TOLERANCE,
    FINITE_DIFFERENCE_TOLERANCE,
    GradientReport,
    TensorCheck,
    check_gradients,
)
from scratchvae.layers import dense, stack
from scratchvae.layers.activations import ACTIVATIONS
from scratchvae.models import vae as vae_module
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from tests.models.cases import ACTIVATIONS as ACTIVATION_NAMES
from tests.models.cases import (
    DEPTHS,
    INPUT_DIM,
    LIKELIHOODS,
    assert_gradients,
    assert_refused,
    make_autoencoder,
    make_case,
)
from tests.oracles import vae as oracle
from tests.oracles.complex_step import unchanged

# --- right gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_right_gradients_pass(rng, activation, likelihood):
    settings = {"activation": activation, "likelihood": likelihood}
    for depth, kl in ((0, "sampled"), (2, "analytic")):
        model = make_case(rng, depth=depth, kl=kl, **settings).vae
        report = check_gradients(model, batch_size=2, num_samples=3, max_entries=5, rng=rng)
        assert report.passed, report
        assert [tensor.name for tensor in report.tensors] == list(model.parameters)
    assert check_gradients(make_autoencoder(rng, **settings), max_entries=5, rng=rng).passed


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_right_gradients_of_fresh_models_pass(activation, seed):
    # Zero biases put what follows a dead layer of relu exactly on its kink; sigmoids make gradients that are small
    # beside the loss. Neither is a mistake.
    for hidden in ((5, 4), (5, 4, 4)):
        vae = VAE(8, hidden, 3, activation, rng=seed)
        assert check_gradients(vae, max_entries=4, batch_size=3, rng=seed).passed
    wide = VAE(200, (40,), 10, activation, likelihood="gaussian", likelihood_variance=0.1, rng=seed)
    assert check_gradients(wide, max_entries=2, rng=seed).passed


def test_right_gradients_that_are_all_but_zero_are_not_called_wrong(rng):
    # Units that hardly move any more: their gradients are right to the last digit and far below rounding of the loss.
    for activation in ("tanh", "sigmoid", "relu"):
        vae = make_case(rng, activation=activation, depth=2).vae
        vae.parameters["decoder.0.bias"] += 3
        assert check_gradients(vae, rng=rng).passed


def test_kinks_that_compose_to_a_smooth_function_are_not_met_by_accident():
    # φ(−φ(t)) of leaky_relu has a derivative at 0 that is not the product of the two; a black image leads there.
    vae = VAE(6, (4, 3), 2, activation="leaky_relu", beta=0.7, rng=98)
    assert check_gradients(vae, rng=98).passed
    for seed in range(6):
        assert check_gradients(
            VAE(2, (4, 3), 2, activation="leaky_relu", rng=seed), rng=seed, max_entries=2
        ).passed


def test_every_entry_is_checked_unless_a_limit_is_given(rng):
    model = make_case(rng).vae
    for tensor in check_gradients(model, batch_size=1, rng=rng).tensors:
        assert tensor.checked == tensor.size == model.parameters[tensor.name].size
    for tensor in check_gradients(model, batch_size=1, max_entries=3, rng=rng).tensors:
        assert tensor.checked == min(3, tensor.size)


def test_a_limit_always_keeps_the_largest_entry(rng):
    gradient = rng.standard_normal((7, 9))
    gradient[4, 5] = -50
    for limit in (1, 2, 62, 63, 64):
        entries = plan.some_entries(gradient, limit, rng)
        assert len(set(entries)) == len(entries) == min(limit, 63)
        assert 4 * 9 + 5 in entries
        np.testing.assert_array_equal(entries, np.sort(entries))
    drawn = {tuple(plan.some_entries(gradient, 3, rng)) for _ in range(20)}
    assert len(drawn) > 10


def test_a_float32_model_is_checked_through_its_float64_twin(rng):
    model = make_case(rng, dtype=np.float32).vae
    report = check_gradients(model, max_entries=3, rng=rng)
    assert report.passed
    assert max(tensor.complex_step_error for tensor in report.tensors) < 1e-13


def test_checking_changes_nothing(rng):
    case = make_case(rng)
    case.vae.loss_and_gradients(case.x, case.noise)
    with unchanged(case.vae.theta, case.vae.gradient, case.x):
        check_gradients(case.vae, case.x, max_entries=2)


def test_the_same_seed_checks_the_same_entries(rng):
    model = make_case(rng).vae
    first, again, other = (check_gradients(model, max_entries=2, rng=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_given_data_is_used(rng):
    case = make_case(rng, batch=1)
    report = check_gradients(case.vae, np.zeros((1, INPUT_DIM)))
    (first,) = (tensor for tensor in report.tensors if tensor.name == "encoder.0.weight")
    assert report.passed
    assert first.complex_step_error == 0 == first.analytic, "no input, no gradient: exactly zero"


def test_a_gradient_of_nothing_but_zeros_is_told():
    # Black images, and fresh biases: nothing enters the first layer or the heads.
    model = VAE(4, (3,), 2, activation="tanh", rng=0)
    report = check_gradients(model, np.zeros((3, 4)), rng=0)
    assert report.passed, report
    zero = "encoder.0.weight, encoder.mean.weight, encoder.log_var.weight is exactly zero everywhere here"
    assert f"the gradient of {zero}" in str(report)
    assert "exactly zero everywhere" not in str(check_gradients(model, rng=0))


def test_progress_is_reported(rng, capsys, monkeypatch):
    monkeypatch.setattr("scratchvae.training.progress._PATIENCE", -1.0)
    check_gradients(make_case(rng).vae, max_entries=1, progress=True)
    err = capsys.readouterr().err
    assert "checking gradients: 1/10 encoder.0.weight" in err
    assert "checking gradients: 10/10 decoder.1.bias" in err


# --- the shipped oracle against the tests' ----------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_shipped_oracle_is_the_tests_oracle(rng, activation):
    # Two forwards by different ways, and their complex steps: the checker's yardstick is itself checked.
    for depth, likelihood, kl in (
        (0, "gaussian", "sampled"),
        (2, "bernoulli", "analytic"),
        (1, "gaussian", "analytic"),
    ):
        case = make_case(rng, depth=depth, activation=activation, likelihood=likelihood, kl=kl, num_samples=2)
        vae = case.vae
        settings = {
            "depth": len(vae.hidden),
            "activation": activation,
            "likelihood": likelihood,
            "likelihood_variance": vae.likelihood_variance,
        }

        def shipped(parameters, case=case, settings=settings):
            more = {"beta": case.vae.beta, "kl": case.vae.kl}
            return forward_oracle.vae_loss(parameters, case.x, case.noise, **settings, **more)

        np.testing.assert_allclose(shipped(vae.parameters), case.oracle_loss(vae.parameters), rtol=1e-13)
        exact = oracle.complex_step_gradients(case.oracle_loss, vae.parameters)
        found = {name: np.empty(value.shape) for name, value in vae.parameters.items()}
        for name, value in vae.parameters.items():
            for index in np.ndindex(value.shape):
                moved = value.astype(complex)
                moved[index] += 1e-30j
                found[name][index] = shipped({**vae.parameters, name: moved}).imag / 1e-30
        assert_gradients(found, exact)
        model = make_autoencoder(rng, depth=depth, activation=activation, likelihood=likelihood)
        x = case.x
        expected = oracle.autoencoder_loss(
            model.parameters,
            x,
            activation=activation,
            likelihood=likelihood,
            variance=model.likelihood_variance,
        )
        np.testing.assert_allclose(
            forward_oracle.autoencoder_loss(model.parameters, x, **settings), expected, rtol=1e-13
        )


def test_shipped_oracle_refuses_what_it_does_not_know(rng):
    case = make_case(rng)
    with pytest.raises(ValueError, match="'gelu', which this oracle does not know"):
        forward_oracle.vae_loss(
            case.vae.parameters, case.x, case.noise, depth=1, activation="gelu", likelihood="bernoulli",
            likelihood_variance=1.0, beta=1.0, kl="analytic",
        )  # fmt: skip


# --- planted mistakes -------------------------------------------------------------------------------------

SETTINGS = {"activation": "tanh", "hidden": (4, 4), "latent_dim": 4}


def patch_activation(patch, change):
    """Change tanh's derivative."""
    right = ACTIVATIONS["tanh"]
    patch.setitem(ACTIVATIONS, "tanh", right._replace(backward=lambda dy, y: change(right.backward(dy, y))))


def patch_dense(patch, change):
    """Change (dx, dweight, dbias) of every dense layer."""
    right = stack.dense_backward

    def changed(*arguments, **options):
        return change(*right(*arguments, **options))

    patch.setattr(stack, "dense_backward", changed)
    patch.setattr(vae_module, "dense_backward", changed)


def patch_result(patch, module, name, change):
    """Change what a function of a module returns."""
    right = getattr(module, name)
    patch.setattr(module, name, lambda *arguments, **options: change(right(*arguments, **options)))


def stale_noise(patch):
    """The sampler's backward pass uses the noise of the call before."""
    last = SimpleNamespace(noise=None)
    right = pathwise.gaussian_sample_backward

    def stale(dz, cache):
        noise, last.noise = last.noise, cache.scaled_noise
        if noise is None or noise.shape != dz.shape:
            noise = np.roll(cache.scaled_noise, 1, axis=1)
        return right(dz, cache._replace(scaled_noise=noise))

    patch.setattr(pathwise, "gaussian_sample_backward", stale)


def single_entry(patch, name, index, factor):
    """One entry of one tensor is off."""
    right = VAE._store_layer

    def spoiled(self, layer, *gradients, **options):
        right(self, layer, *gradients, **options)
        if layer == name.rsplit(".", 1)[0]:
            self.gradients[name][index] *= factor

    patch.setattr(VAE, "_store_layer", spoiled)


def clipped_likelihood(patch):
    """Cross-entropy on clipped probabilities: forward and gradient agree, and neither is the likelihood's."""

    def forward(x, logits):
        p = np.clip(1 / (1 + np.exp(-logits)), 0.4, 0.6)
        return (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=-1), (x, p)

    def backward(dy, cache):
        x, p = cache
        return dy[..., None] * (x - p) * ((p > 0.4) & (p < 0.6))

    patch.setattr(likelihood_module, "bernoulli_likelihood_forward", forward)
    patch.setattr(likelihood_module, "bernoulli_likelihood_backward", backward)


# what is planted: (how, a tensor that must be named, another that must not or None)
PLANTED = {
    "activation off by 1.00001": (
        lambda patch: patch_activation(patch, lambda dx: 1.00001 * dx), "encoder.0.weight", "decoder.2.weight",
    ),
    "bias mean over n − 1": (
        lambda patch: patch_dense(patch, lambda dx, dw, db: (dx, dw, db * 4 / 3)), "decoder.1.bias", "decoder.1.weight",
    ),
    "loss over n − 1": (
        lambda patch: patch_result(patch, vae_module, "elbo_backward", lambda d: (d[0] * 4 / 3, d[1])),
        "decoder.2.bias", None,
    ),
    "sign of dz": (
        lambda patch: patch_result(patch, pathwise, "gaussian_sample_backward", lambda d: (-d[0], d[1])),
        "encoder.mean.weight", "decoder.0.weight",
    ),
    "weight transposed": (
        lambda patch: patch_dense(
            patch, lambda dx, dw, db: (dx, np.ascontiguousarray(dw.T) if dw.shape == (4, 4) else dw, db)
        ),
        "encoder.1.weight", "encoder.0.weight",
    ),
    "KL dropped": (
        lambda patch: patch_result(patch, vae_module, "gaussian_kl_backward", lambda d: (0 * d[0], 0 * d[1])),
        "encoder.log_var.bias", "decoder.0.weight",
    ),
    "KL halved for log_var": (
        lambda patch: patch_result(patch, vae_module, "gaussian_kl_backward", lambda d: (d[0], 0.5 * d[1])),
        "encoder.log_var.weight", "encoder.mean.weight",
    ),
    "β applied twice": (
        lambda patch: patch_result(patch, vae_module, "elbo_backward", lambda d: (d[0], 0.6 * d[1])),
        "encoder.mean.bias", "decoder.2.bias",
    ),
    "stale noise": (stale_noise, "encoder.log_var.weight", "encoder.mean.weight"),
    "float32 inside": (
        lambda patch: patch_dense(patch, lambda dx, dw, db: (dx, dw.astype(np.float32).astype(np.float64), db)),
        "decoder.2.weight", "decoder.2.bias",
    ),
    "one entry off by 1.00001": (
        lambda patch: single_entry(patch, "encoder.mean.weight", (2, 1), 1.00001), "encoder.mean.weight",
        "encoder.log_var.weight",
    ),
    "one entry off by a ten-millionth": (
        lambda patch: single_entry(patch, "decoder.1.bias", (3,), 1 + 1e-7), "decoder.1.bias", "decoder.1.weight",
    ),
    "clipped cross-entropy": (clipped_likelihood, "decoder.2.bias", None),
}  # fmt: skip


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_mistake_is_found_and_its_tensor_named(rng, what):
    plant, wrong, right = PLANTED[what]
    case = make_case(rng, batch=3, num_samples=1, **SETTINGS)
    assert check_gradients(case.vae, case.x, max_entries=6, rng=0).passed
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        # Made again, as the activation and the likelihood are looked up when a model is made.
        report = check_gradients(case.vae, case.x, rng=0)
    found = {tensor.name: tensor for tensor in report.tensors}
    assert not report.passed
    assert not found[wrong].passed
    assert found[wrong].complex_step_error > COMPLEX_STEP_TOLERANCE
    if right:
        assert found[right].passed, "a mistake must not be blamed on what is right"


@pytest.mark.parametrize(
    ("name", "index"),
    [("encoder.mean.weight", (2, 1)), ("decoder.1.bias", (3,)), ("encoder.0.weight", (4, 0))],
)
def test_the_worst_entry_is_named_with_both_values(rng, monkeypatch, name, index):
    case = make_case(rng, **SETTINGS)
    single_entry(monkeypatch, name, index, 1.5)
    report = check_gradients(case.vae, case.x, batch_size=3, rng=0)
    (tensor,) = (tensor for tensor in report.tensors if not tensor.passed)
    assert tensor.name == name
    assert tensor.worst_index == index
    assert tensor.analytic == pytest.approx(1.5 * tensor.complex_step, rel=1e-9)


def test_a_mistake_shared_with_the_oracle_is_left_to_differences(rng, monkeypatch):
    # If the complex step differentiated another function, differences of the shipped loss would still tell.
    case = make_case(rng)
    right = model_check._losses

    def shared(*arguments, **scales):
        loss = right(*arguments, **scales)
        ways = {
            label: {name: 1.01 * gradient for name, gradient in way.items()}
            for label, way in loss.ways.items()
        }
        return loss._replace(ways=ways, oracle=lambda parameters: 1.01 * loss.oracle(parameters))

    monkeypatch.setattr(model_check, "_losses", shared)
    report = check_gradients(case.vae, case.x)
    assert all(tensor.complex_step_error < COMPLEX_STEP_TOLERANCE for tensor in report.tensors)
    assert all(tensor.finite_difference_error > FINITE_DIFFERENCE_TOLERANCE for tensor in report.tensors)
    assert all("differences of the model's own loss do not" in tensor.verdict for tensor in report.tensors)
    assert not report.passed
    assert report.loss_error > 0.009


def test_a_loss_that_is_not_the_declared_one_is_found(rng, monkeypatch):
    # Noise scaled by the variance in forward and backward alike: its own differences agree with it, 5-point passes.
    case = make_case(rng)
    monkeypatch.setattr(pathwise, "gaussian_sample_forward", wrongly_scaled)
    monkeypatch.setattr(vae_module, "gaussian_sample_forward", wrongly_scaled)
    monkeypatch.setattr(pathwise, "gaussian_sample_backward", lambda dz, cache: (dz, dz * cache.scaled_noise))
    report = check_gradients(case.vae, case.x, num_samples=2)
    assert max(tensor.finite_difference_error for tensor in report.tensors) <= FINITE_DIFFERENCE_TOLERANCE
    assert report.loss_error > 1e4 * COMPLEX_STEP_TOLERANCE
    assert not report.passed


def wrongly_scaled(mean, log_var, noise):
    """z = mean + exp(log_var) noise: the variance taken for the deviation."""
    scaled = np.exp(log_var) * noise
    return mean + scaled, GaussianSampleCache(scaled)


def test_other_bits_on_the_second_run_are_found(rng, monkeypatch):
    case, calls = make_case(rng), []
    right = model_check._losses

    def unsteady(*arguments, **scales):
        loss = right(*arguments, **scales)
        calls.append(1)
        ways = {
            label: {name: gradient * (1 + 1e-15 * len(calls)) for name, gradient in way.items()}
            for label, way in loss.ways.items()
        }
        return loss._replace(ways=ways)

    monkeypatch.setattr(model_check, "_losses", unsteady)
    report = check_gradients(case.vae, case.x, max_entries=2)
    assert not report.same_bits_twice
    assert all(tensor.passed for tensor in report.tensors)
    assert not report.passed
    assert "a second run gave other bits" in str(report)


# --- batches, directions, and the way back to a mistake ---------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (lambda n: n, "a factor B: a sum"),
        (lambda n: n / max(n - 1, 1), "a factor B/(B − 1)"),
        (lambda n: 1 + (n > 2), "right for batches of 1, 2"),
    ],
    ids=["B", "n − 1", "large"],
)
def test_a_mistake_that_one_example_hides_is_found_by_other_batches(rng, factor, words):
    case = make_case(rng, **SETTINGS)
    right = VAE.gradients_by_layers

    def wrong(self, x, noise, dloss):
        gradients = right(self, x, noise, dloss)
        gradients["decoder.1.weight"] *= factor(len(x))
        return gradients

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAE, "gradients_by_layers", wrong)
        report = check_gradients(case.vae, batch_size=1)
    (tensor,) = (tensor for tensor in report.tensors if not tensor.passed)
    assert tensor.name == "decoder.1.weight"
    assert tensor.complex_step_error < COMPLEX_STEP_TOLERANCE
    assert [size for size, _ in tensor.batch_errors] == [1, 2, 64]
    assert tensor.wrong_batches == ([64] if "right" in words else [2, 64])
    assert words in tensor.diagnosis
    assert f"WRONG for batches of {', '.join(map(str, tensor.wrong_batches))}" in tensor.verdict
    assert check_gradients(case.vae, batch_size=1).passed


@pytest.mark.parametrize("change", [1.00001, 1.7, 0.5], ids=str)
def test_directions_find_one_wrong_entry(rng, change):
    case = make_case(rng, **SETTINGS)
    assert check_gradients(case.vae, directions=3).passed
    with pytest.MonkeyPatch.context() as patch:
        single_entry(patch, "encoder.mean.weight", (2, 1), change)
        report = check_gradients(case.vae, directions=3, num_samples=2)
    (tensor,) = (tensor for tensor in report.tensors if not tensor.passed)
    assert tensor.worst_index == (2, 1)
    assert tensor.directions == 3
    assert (
        tensor.diagnosis
        == f"a constant factor {change if change != 0.5 else '1/2'} in the entry (2, 1) alone"
    )


def test_the_call_that_a_failure_tells_shows_it_again(rng):
    case = make_case(rng, **SETTINGS)
    model = case.vae
    with pytest.MonkeyPatch.context() as patch:
        single_entry(patch, "decoder.1.bias", (3,), 1.00001)
        for generator in (5, np.random.default_rng(3), None):
            report = check_gradients(model, batch_size=2, num_samples=2, rng=generator)
            (tensor,) = (tensor for tensor in report.tensors if not tensor.passed)
            call = report.rerun(tensor)
            assert call in str(report)
            assert "tensor='decoder.1.bias', index=(3,)" in call
            again = eval(call, {"check_gradients": check_gradients, "model": model})
            (once_more,) = again.tensors
            assert (once_more.analytic, once_more.complex_step) == (tensor.analytic, tensor.complex_step)
            assert once_more.checked <= 2
            assert not again.passed


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda gradients, x: (
                gradients | {"decoder.0.bias": gradients["decoder.0.bias"].astype(np.float32)}
            ),
            "decoder.0.bias (layer by layer) is float32",
        ),
        (
            lambda gradients, x: np.multiply(x, 0.5, out=x) is None or gradients,
            "the model changes x in place",
        ),
    ],
    ids=["float32", "in place"],
)
def test_what_else_a_model_must_keep_to(rng, spoil, words):
    case = make_case(rng, **SETTINGS)
    right = VAE.gradients_by_layers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            VAE, "gradients_by_layers", lambda self, x, noise, dloss: spoil(right(self, x, noise, dloss), x)
        )
        report = check_gradients(case.vae, max_entries=1)
    assert not report.passed
    assert any(words in problem for problem in report.problems), report.problems


@pytest.mark.parametrize("make", [make_autoencoder, lambda rng: make_case(rng, **SETTINGS).vae])
def test_a_threshold_is_found_by_the_scale_of_the_loss(rng, monkeypatch, make):
    # Nothing is below it at the scale 1, and everything at 1e-3.
    right = dense.dense_backward

    def with_a_threshold(dy, cache, *, need_dx=True):
        return right(np.where(np.abs(dy).max() < 3e-3, 0, dy), cache, need_dx=need_dx)

    model = make(rng)
    assert check_gradients(model, max_entries=2).passed
    for module in (stack, vae_module):
        monkeypatch.setattr(module, "dense_backward", with_a_threshold)
    report = check_gradients(model, batch_size=2, max_entries=2)
    assert not report.passed
    assert {tensor.way for tensor in report.tensors if not tensor.passed} == {
        "for the loss times 0.001"
        if isinstance(model, Autoencoder)
        else "layer by layer, for the loss times 0.001"
    }


def test_entries_without_a_limit_become_directions_beyond_a_number(rng, monkeypatch):
    case = make_case(rng)
    total = case.vae.theta.size
    monkeypatch.setattr(plan, "MOST_ENTRIES", total)
    assert not any(tensor.directions for tensor in check_gradients(case.vae).tensors)
    monkeypatch.setattr(plan, "MOST_ENTRIES", total - 1)
    report = check_gradients(case.vae)
    assert {tensor.directions for tensor in report.tensors} == {plan.DIRECTIONS}
    assert "too many to look at one by one" in str(report)
    assert not any(tensor.directions for tensor in check_gradients(case.vae, max_entries=2).tensors)


# --- kinks ------------------------------------------------------------------------------------------------


def test_kinks_are_reported_and_left_to_the_complex_step(rng, monkeypatch):
    # One unit of relu sits exactly on its kink for every example: bias 0 and no weights into it.
    for activation in ("relu", "leaky_relu"):
        case = make_case(rng, activation=activation, smooth=True, batch=2)
        case.vae.parameters["encoder.0.weight"][:, 1] = 0
        case.vae.parameters["encoder.0.bias"][1] = 0
        report = check_gradients(case.vae, np.ones((2, INPUT_DIM)))
        found = {tensor.name: tensor for tensor in report.tensors}
        assert report.passed
        assert found["encoder.0.weight"].inconclusive >= INPUT_DIM
        assert found["encoder.0.bias"].inconclusive >= 1
        assert found["encoder.0.bias"].inconclusive < 4
        assert found["decoder.1.bias"].inconclusive == 0
    # The derivative from the right instead of the left, which only the kink can tell, is found all the same.
    right = ACTIVATIONS["leaky_relu"]
    monkeypatch.setitem(
        ACTIVATIONS, "leaky_relu", right._replace(backward=lambda dy, y: dy * np.where(y >= 0, 1, 0.01))
    )
    report = check_gradients(case.vae, np.ones((2, INPUT_DIM)))
    assert [tensor.name for tensor in report.tensors if not tensor.passed] == [
        "encoder.0.weight",
        "encoder.0.bias",
    ]


def test_a_check_in_which_differences_judged_nothing_has_not_passed():
    def tensor(inconclusive):
        return TensorCheck("bias", 4, 4, 0.0, 0.0, inconclusive, (0,), 1.0, 1.0)

    assert not GradientReport((tensor(4), tensor(4)), 0.0, same_bits_twice=True).passed
    assert GradientReport((tensor(4), tensor(3)), 0.0, same_bits_twice=True).passed
    assert not GradientReport((tensor(0),), 1e-10, same_bits_twice=True).passed
    assert not GradientReport((tensor(0),), 0.0, same_bits_twice=False).passed


@pytest.mark.parametrize(
    ("errors", "passed"),
    [((1e-11, 1e-8), True), ((1.01e-11, 0.0), False), ((0.0, 1.01e-8), False), ((np.inf, 0.0), False)],
)
def test_tolerances_are_relative_and_strict(errors, passed):
    assert TensorCheck("bias", 1, 1, *errors, 0, (0,), 1.0, 1.0).passed == passed


# --- at the door ------------------------------------------------------------------------------------------


def test_what_is_no_model_is_refused():
    words = "target is of type ndarray, expected a VAE or an Autoencoder, or a function"
    assert_refused(TypeError, words, lambda: check_gradients(np.zeros(3)))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": np.zeros((2, 4))}, ValueError, "x has shape (2, 4), expected (B, 5)"),
        ({"x": np.full((2, 5), 2.0)}, ValueError, "x has … 2 … expected values in [0, 1]"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected an integer of at least 1"),
        ({"num_samples": 0}, ValueError, "num_samples is 0, expected an integer of at least 1"),
        ({"num_samples": 1.5}, TypeError, "num_samples is 1.5, expected an integer"),
        ({"max_entries": 0}, ValueError, "max_entries is 0, expected an integer of at least 1"),
        ({"rng": "dice"}, TypeError, "rng is 'dice'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [VAE, Autoencoder])
def test_bad_arguments_are_refused_in_one_sentence(make, arguments, error, words):
    assert_refused(error, words, lambda: check_gradients(make(INPUT_DIM, DEPTHS[1], 2, rng=0), **arguments))
