"""Mistakes around the gradient: in evaluation, data, bounds and measurements, each with the check that fails.

They need more than a changed line, so each takes a MonkeyPatch and breaks the package with it. The number before a
mistake says which of twelve kinds it is of, all seen in public VAE code; those that one line makes are in
`tests.planted.bugs` and `tests.planted.unseen`:

1. noise scaled by the variance in sampling, objective and backward alike; 2. other noise in forward and backward;
3. the divergence averaged where the reconstruction is summed; 4. β in training and not in validation, or nowhere;
5. cross-entropy on values outside [0, 1], or on clipped probabilities; 6. importance weights that are none;
7. a multiplier of the score that is differentiated; 8. a baseline that depends on its own sample; 9. NaN from
exponentials and logarithms; 10. another number of samples than asked for; 11. evaluation on other data, or data made
otherwise, than trained for; 12. variance over minibatches and noise at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scratchvae import estimators
from scratchvae.densities import likelihood as likelihoods
from scratchvae.densities.gaussian import GaussianSampleCache, gaussian_kl_forward
from scratchvae.estimators import pathwise
from scratchvae.estimators.score_function import ScoreFunction
from scratchvae.lab import likelihood as lab_likelihood
from scratchvae.lab import variance_blocks
from scratchvae.models import model as models
from scratchvae.models.vae import VAE
from scratchvae.training import loop
from scratchvae.validation import check_array
from tests.lab import test_likelihood, test_variance
from tests.models import test_linear_vae, test_unbiasedness, test_vae
from tests.planted.checks import Check, by, expectation_of
from tests.training import test_loop


def loss_with_other_noise(patch):
    """2. The loss is reported for other noise than its gradient was computed with."""
    right = VAE._loss_and_gradients

    def drawn_twice(self, x, noise, estimator, beta):
        _, elbo = right(self, x, noise, estimator, beta)
        return self.loss(x, np.roll(noise, 1, axis=1)), elbo

    patch.setattr(VAE, "_loss_and_gradients", drawn_twice)


def no_weight_in_validation(patch):
    """4. β is applied in training and not in validation."""
    right = VAE.minibatch_elbo

    def unweighted(self, x, **settings):
        elbo = right(self, x, **settings)
        return elbo._replace(value=elbo.reconstruction - elbo.kl)

    patch.setattr(VAE, "minibatch_elbo", unweighted)


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
    right = variance_blocks.MinibatchPasses.posterior_gradients

    def mixed(passes, samples, group):
        dmean, dlog_var, decoder = right(passes, samples, group)
        return (*test_variance.mix_minibatches((dmean, dlog_var), group), decoder)

    patch.setattr(variance_blocks.MinibatchPasses, "posterior_gradients", mixed)


# --- the checks that fail ---------------------------------------------------------------------------------

MISTAKES: dict[Callable[[pytest.MonkeyPatch], None], Check] = {
    loss_with_other_noise: by(test_vae.test_loss_and_gradient_are_of_the_same_noise),
    no_weight_in_validation: by(
        test_loop.test_validation_carries_the_same_beta_as_training_warm_up_or_not, beta=4.0
    ),
    anything_goes: by(test_vae.test_bad_data_is_refused_in_one_sentence, method="loss", what="above 1"),
    clipped_probabilities: by(
        test_vae.test_a_confidently_wrong_decoder_still_has_a_gradient,
        dtype=np.float64,
        logit=1e4,
        num_samples=2,
    ),
    analytic_divergence_in_the_weights: by(
        test_linear_vae.test_at_the_exact_posterior_every_sample_gives_log_p, num_samples=9
    ),
    multiplier_not_constant: expectation_of("score-function"),
    batch_mean_baseline: expectation_of("score-function-leave-one-out"),
    logarithm_of_zero: by(
        test_vae.test_a_confidently_wrong_decoder_still_has_a_gradient,
        dtype=np.float64,
        logit=-1e4,
        num_samples=2,
    ),
    variance_squared: by(
        test_vae.test_extreme_posteriors_give_finite_gradients,
        dtype=np.float32,
        log_var=60.0,
        kl="analytic",
        estimator="pathwise",
    ),
    half_of_the_samples: Check(
        test_likelihood.test_estimate_is_the_log_of_the_mean_weight_of_all_samples_asked_for.__name__,
        lambda scale, rng, patch: (
            test_likelihood.test_estimate_is_the_log_of_the_mean_weight_of_all_samples_asked_for(
                rng, test_likelihood.record_noise(patch), patch, 10, "tanh", {"kl": "analytic"}
            )
        ),
    ),
    one_sample_for_the_bound: by(test_likelihood.test_samples_for_the_bound_are_those_asked_for),
    evaluated_on_the_training_set: by(test_loop.test_validation_is_on_the_validation_set),
    another_binarization: by(
        test_likelihood.test_data_is_binarized_as_the_model_was_trained, binarize="dynamic"
    ),
    across_minibatches: by(test_variance.test_variance_of_a_linear_model_is_the_exact_one),
}
