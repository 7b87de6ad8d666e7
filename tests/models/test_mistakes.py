"""Twelve mistakes that public VAE code makes, each planted here, and the check that fails because of it."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae import estimators
from scratchvae.densities import likelihood as likelihoods
from scratchvae.densities.gaussian import GaussianSampleCache, gaussian_kl_forward
from scratchvae.estimators import pathwise
from scratchvae.estimators.score_function import ScoreFunction
from scratchvae.lab import likelihood as lab_likelihood
from scratchvae.lab import variance as lab_variance
from scratchvae.models import model as models
from scratchvae.models import vae as vaes
from scratchvae.models.vae import VAE
from scratchvae.training import loop
from scratchvae.validation import check_array
from tests.lab import test_likelihood, test_variance
from tests.models import test_linear_vae, test_unbiasedness, test_vae
from tests.models.cases import assert_gradients_are_the_oracle_s, make_case
from tests.training import test_loop

# --- the mistakes -----------------------------------------------------------------------------------------
# Each takes a MonkeyPatch and breaks the package. Where a whole step is fused into one kernel there is nothing to
# break inside; three samples of each example go through the rooms one by one.


def noise_scaled_by_the_variance(patch):
    """1. z = mean + exp(log_var) noise, in forward and backward alike."""

    def forward(mean, log_var, noise):
        scaled = np.exp(log_var) * noise
        return mean + scaled, GaussianSampleCache(scaled)

    for module in (pathwise, vaes):
        patch.setattr(module, "gaussian_sample_forward", forward)
    patch.setattr(pathwise, "gaussian_sample_backward", lambda dz, cache: (dz, dz * cache.scaled_noise))


def backward_with_other_noise(patch):
    """2. The sampler's backward pass does not use the noise of its forward pass."""
    right = pathwise.gaussian_sample_backward

    def redrawn(dz, cache):
        return right(dz, cache._replace(scaled_noise=np.roll(cache.scaled_noise, 1, axis=0)))

    patch.setattr(pathwise, "gaussian_sample_backward", redrawn)


def loss_with_other_noise(patch):
    """2. The loss is reported for other noise than its gradient was computed with."""
    right = VAE._loss_and_gradients

    def drawn_twice(self, x, noise, estimator, beta):
        _, elbo = right(self, x, noise, estimator, beta)
        return self._elbo(x, np.roll(noise, 1, axis=1))[0], elbo

    patch.setattr(VAE, "_loss_and_gradients", drawn_twice)


def divergence_averaged(patch):
    """3. KL averaged over latent dimensions, while the reconstruction is summed over pixels."""
    forward, backward = vaes.gaussian_kl_forward, vaes.gaussian_kl_backward

    def mean_forward(mean, log_var):
        kl, cache = forward(mean, log_var)
        return kl / mean.shape[-1], cache

    patch.setattr(vaes, "gaussian_kl_forward", mean_forward)
    patch.setattr(
        vaes, "gaussian_kl_backward", lambda dkl, cache: backward(dkl / cache.mean.shape[-1], cache)
    )


def no_weight_in_validation(patch):
    """4. β is applied in training and not in validation."""
    right = VAE.minibatch_elbo

    def unweighted(self, x, **settings):
        elbo = right(self, x, **settings)
        return elbo._replace(value=elbo.reconstruction - elbo.kl)

    patch.setattr(VAE, "minibatch_elbo", unweighted)


def weight_never_applied(patch):
    """4. β is in the reported loss and not in its gradient."""
    right = vaes.elbo_backward
    patch.setattr(vaes, "elbo_backward", lambda dloss, cache: right(dloss, cache._replace(beta=1.0)))


def anything_goes(patch):
    """5. Cross-entropy on values that are not in [0, 1]."""

    def unbounded(name, value, low=None, high=None, why=None, **options):
        return check_array(name, value, **options)

    patch.setattr(models, "check_array", unbounded)


def clipped_probabilities(patch):
    """5. Cross-entropy on clipped probabilities, whose gradient vanishes where it is needed most."""

    def forward(x, logits):
        p = np.clip(0.5 + 0.5 * np.tanh(logits / 2), 1e-7, 1 - 1e-7)
        return (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=-1, dtype=np.float64), (x, p)

    def backward(dvalue, cache):
        x, p = cache
        inside = (p > 1e-7) & (p < 1 - 1e-7)
        return (dvalue[..., None] * (x - p) * inside).astype(p.dtype)

    patch.setattr(likelihoods, "bernoulli_likelihood_forward", forward)
    patch.setattr(likelihoods, "bernoulli_likelihood_backward", backward)


def analytic_divergence_in_the_weights(patch):
    """6. Importance weights with the closed-form KL inside."""

    def analytic(z, mean, log_var):
        kl, _ = gaussian_kl_forward(mean, log_var)
        return np.broadcast_to(kl, z.shape[:-1]), None

    patch.setattr(lab_likelihood, "sampled_kl_forward", analytic)


def softmax_over_losses(patch):
    """6. An "importance-weighted" bound that weighs samples by a softmax of their losses."""

    def weighted(log_weights):
        losses = -log_weights
        weights = np.exp(losses - losses.max(axis=0))
        return (weights * log_weights).sum(axis=0) / weights.sum(axis=0), None

    patch.setattr(lab_likelihood, "importance_weighted_forward", weighted)


def multiplier_not_constant(patch):
    """7. The score function's multiplier is differentiated through the sample as well."""
    right = ScoreFunction.sample_gradients

    def both(self, integrand, mean, log_var, noise):
        dmean, dlog_var = right(self, integrand, mean, log_var, noise)
        more = pathwise.Pathwise().sample_gradients(integrand, mean, log_var, noise)
        return dmean + more[0], dlog_var + more[1]

    patch.setattr(ScoreFunction, "sample_gradients", both)


def batch_mean_baseline(patch):
    """8. A baseline that depends on its own sample."""
    patch.setattr(estimators, "leave_one_out", test_unbiasedness.batch_mean)


def logarithm_of_zero(patch):
    """9. log of a probability that is zero in floating point."""

    def forward(x, logits):
        p = 0.5 + 0.5 * np.tanh(logits / 2)
        return (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=-1, dtype=np.float64), (x, p)

    patch.setattr(likelihoods, "bernoulli_likelihood_forward", forward)


def variance_squared(patch):
    """9. σ as the root of exp(log_var) squared, which overflows long before σ does."""

    def forward(mean, log_var, noise):
        scaled = (np.exp(log_var) ** 2) ** 0.25 * noise
        return mean + scaled, GaussianSampleCache(scaled)

    patch.setattr(pathwise, "gaussian_sample_forward", forward)


def half_of_the_samples(patch):
    """10. A likelihood estimate that uses fewer samples than asked for."""
    right = lab_likelihood.importance_weighted_forward
    patch.setattr(lab_likelihood, "importance_weighted_forward", lambda weights: right(weights[::2]))


def one_sample_for_the_bound(patch):
    """10. A bound with one sample, whatever was asked for."""
    right = lab_likelihood.average_terms
    patch.setattr(lab_likelihood, "average_terms", lambda model, x, rng, num_samples: right(model, x, rng))


def evaluated_on_the_training_set(patch):
    """11. Validation on what the model was trained on."""
    right, last = loop.check_data, {}

    def training_data(name, x, model):
        last.setdefault("x", right(name, x, model))
        return last["x"]

    patch.setattr(loop, "check_data", training_data)


def another_binarization(patch):
    """11. Evaluation with another binarization than training."""
    right = lab_likelihood.average_terms

    def thresholded(model, *arguments):
        kept, model.binarize = model.binarize, "threshold"
        try:
            return right(model, *arguments)
        finally:
            model.binarize = kept

    patch.setattr(lab_likelihood, "average_terms", thresholded)


def across_minibatches(patch):
    """12. Variance over minibatches and sampling noise at once."""
    right = lab_variance._posterior_gradients
    patch.setattr(
        lab_variance,
        "_posterior_gradients",
        lambda samples, group, *more: tuple(
            test_variance.mix_minibatches(right(samples, group, *more), group)
        ),
    )


# --- the checks that fail ---------------------------------------------------------------------------------
# Each takes a generator and a MonkeyPatch of its own.


def gradients_are_the_oracle_s(rng, _patch):
    assert_gradients_are_the_oracle_s(make_case(rng, num_samples=3, beta=4.0))


CHECKS = {
    noise_scaled_by_the_variance: lambda rng, patch: test_linear_vae.test_expected_loss_is_the_closed_form(
        rng, "analytic", 1.0
    ),
    backward_with_other_noise: gradients_are_the_oracle_s,
    loss_with_other_noise: lambda rng, patch: test_vae.test_loss_and_gradient_are_of_the_same_noise(rng),
    divergence_averaged: lambda rng, patch: test_vae.test_terms_are_those_of_the_definition(rng),
    no_weight_in_validation: lambda rng, patch: (
        test_loop.test_validation_carries_the_same_beta_as_training_warm_up_or_not(rng, 4.0)
    ),
    weight_never_applied: gradients_are_the_oracle_s,
    anything_goes: lambda rng, patch: test_vae.test_bad_data_is_refused_in_one_sentence("loss", "above 1"),
    clipped_probabilities: lambda rng, patch: test_vae.test_a_confidently_wrong_decoder_still_has_a_gradient(
        np.float64, 1e4, 2
    ),
    analytic_divergence_in_the_weights: lambda rng, patch: (
        test_linear_vae.test_at_the_exact_posterior_every_sample_gives_log_p(rng, 9)
    ),
    softmax_over_losses: test_linear_vae.test_bounds_rise_with_the_samples_and_stay_below_log_p,
    multiplier_not_constant: lambda rng, patch: (
        test_unbiasedness.test_expectation_is_the_pathwise_one_for_a_quadratic_model(
            rng, "score-function", 1, "analytic"
        )
    ),
    batch_mean_baseline: lambda rng, patch: (
        test_unbiasedness.test_expectation_is_the_pathwise_one_for_a_quadratic_model(
            rng, "score-function-leave-one-out", 2, "analytic"
        )
    ),
    logarithm_of_zero: lambda rng, patch: test_vae.test_a_confidently_wrong_decoder_still_has_a_gradient(
        np.float64, -1e4, 2
    ),
    variance_squared: lambda rng, patch: test_vae.test_extreme_posteriors_give_finite_gradients(
        rng, np.float32, 60.0, "analytic", "pathwise"
    ),
    half_of_the_samples: lambda rng, patch: (
        test_likelihood.test_estimate_is_the_log_of_the_mean_weight_of_all_samples_asked_for(
            rng, test_likelihood.record_noise(patch), patch, 10, "analytic"
        )
    ),
    one_sample_for_the_bound: test_likelihood.test_samples_for_the_bound_are_those_asked_for,
    evaluated_on_the_training_set: test_loop.test_validation_is_on_the_validation_set,
    another_binarization: lambda rng, patch: test_likelihood.test_data_is_binarized_as_the_model_was_trained(
        rng, patch, "dynamic"
    ),
    across_minibatches: lambda rng, patch: test_variance.test_variance_of_a_linear_model_is_the_exact_one(
        rng
    ),
}


@pytest.mark.parametrize("mistake", CHECKS, ids=lambda mistake: mistake.__name__)
def test_the_check_fails_because_of_the_mistake_and_only_then(rng, mistake):
    check = CHECKS[mistake]
    with pytest.MonkeyPatch.context() as patch:
        check(rng, patch)
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        with pytest.raises((AssertionError, FloatingPointError, pytest.fail.Exception)):
            check(rng, patch)


def test_every_mistake_of_the_list_is_planted():
    numbers = {int(mistake.__doc__.split(".")[0]) for mistake in CHECKS}
    assert numbers == set(range(1, 13))
