"""Mistakes that no check of a loss's gradient sees, and the checks that do: moments, masses, closed forms, bounds.

First the second checks of the mistakes that are consistent; then mistakes in what no gradient check of a model passes
through: estimators of the gradient of an expectation, bounds, and the optimizers.
"""

from __future__ import annotations

import numpy as np

from tests.densities import test_bernoulli, test_gaussian
from tests.models import test_linear_vae
from tests.objectives import test_elbo
from tests.planted.bugs import GAUSSIAN, Bug, bug
from tests.planted.checks import Check, by, expectation_of
from tests.training import test_adam, test_sgd

_MOMENTS = by(test_gaussian.test_moments_of_two_point_noise_are_exact)
_MASS = by(test_gaussian.test_densities_integrate_to_one)
_ALL_IMAGES = by(test_bernoulli.test_probabilities_of_all_images_add_up_to_one)
_DIGITS = by(test_gaussian.test_kl_against_fifty_digits, log_var=1.0, dtype=np.float64)
_LINEAR = by(test_linear_vae.test_expected_loss_is_the_closed_form, kl="analytic", beta=4.0)

SECOND_CHECKS: dict[str, Check] = {
    "noise scaled by exp(log_var)": _MOMENTS,
    "log_var read as log σ everywhere": _MOMENTS,
    "noise of standard deviation 0.01": _MOMENTS,
    "KL with σ for σ²": _DIGITS,
    "KL without its ½": _DIGITS,
    "KL averaged over latent dimensions": _LINEAR,
    "KL the other way round": _LINEAR,
    "KL without its constant": _DIGITS,
    "cross-entropy averaged over pixels": _ALL_IMAGES,
    "L2 without its ½": _MASS,
    "L2 without its constant": _MASS,
    "β applied to the reconstruction as well": _LINEAR,
    "β never applied, in loss and gradient": _LINEAR,
}

ESTIMATORS = "scratchvae.estimators."
SCORE = GAUSSIAN + "score"
SCORE_FUNCTION = ESTIMATORS + "score_function:"
TAYLOR = ESTIMATORS + "taylor:Taylor.sample_gradients"
MEASURE_VALUED = ESTIMATORS + "measure_valued:MeasureValued."
BOUND = "scratchvae.objectives.importance_weighted:importance_weighted_forward"
LOG_MEAN = "largest + np.log(scaled.mean(axis=0))"
ADAM, SGD = "scratchvae.training.adam:Adam.update", "scratchvae.training.sgd:SGD.update"

_PLAIN, _LEAVE_ONE_OUT = expectation_of("score-function"), expectation_of("score-function-leave-one-out")
_RUNNING, _OTHERS = (
    expectation_of("score-function-running-mean"),
    expectation_of("score-function-optimal-leave-one-out"),
)
_TAYLOR, _TAYLOR_SCORE = expectation_of("taylor-pathwise"), expectation_of("taylor-score-function")
_MEASURE = expectation_of("measure-valued")
_ADAM, _SGD = by(test_adam.test_three_steps_by_hand), by(test_sgd.test_three_steps_by_hand)
_BOUND = by(test_elbo.test_expected_importance_weight_is_p_and_the_bounds_are_in_order)

UNSEEN: list[tuple[Bug, Check]] = [
    (bug("score: ½ forgotten for log_var", SCORE, "0.5 * (noise**2 - 1)", "noise**2 - 1"), _PLAIN),
    (bug("score: −1 forgotten for log_var", SCORE, "(noise**2 - 1)", "noise**2"), _PLAIN),
    (bug("score: σ forgotten", SCORE, "noise * np.exp(-0.5 * log_var)", "noise"), _PLAIN),
    (bug("score: σ² for σ", SCORE, "np.exp(-0.5 * log_var)", "np.exp(-log_var)"), _PLAIN),
    (bug("score: off by 1.00001", SCORE, "return noise", "return 1.00001 * noise"), _PLAIN),
    (
        bug(
            "score function: multiplier rounded to float32",
            SCORE_FUNCTION + "ScoreFunction.sample_gradients",
            ".astype(noise.dtype)",
            ".astype(np.float32)",
        ),
        _PLAIN,
    ),
    (
        bug(
            "leave-one-out: the mean of all",
            SCORE_FUNCTION + "leave_one_out",
            " * (num_samples / (num_samples - 1))",
            "",
            kind=8,
        ),
        _LEAVE_ONE_OUT,
    ),
    (
        bug(
            "leave-one-out: factor upside down",
            SCORE_FUNCTION + "leave_one_out",
            "num_samples / (num_samples - 1)",
            "(num_samples - 1) / num_samples",
        ),
        _LEAVE_ONE_OUT,
    ),
    (
        bug(
            "leave-one-out: over the batch instead of the samples",
            SCORE_FUNCTION + "leave_one_out",
            "value.mean(axis=0)",
            "value.mean()",
        ),
        _LEAVE_ONE_OUT,
    ),
    (
        bug(
            "running mean learns before it is used",
            SCORE_FUNCTION + "RunningMean.__call__",
            "baselines[s] = self.baseline\n"
            "        self.moment = self.decay * self.moment + (1 - self.decay) * mean\n"
            "        self.count += 1",
            "self.moment = self.decay * self.moment + (1 - self.decay) * mean\n"
            "        self.count += 1\n        baselines[s] = self.baseline",
            kind=8,
        ),
        _RUNNING,
    ),
    (
        bug(
            "optimal baseline from a sum that holds its own sample",
            ESTIMATORS + "baselines:_sum_of_others",
            "return total",
            "return total + terms",
            kind=8,
        ),
        _OTHERS,
    ),
    (
        bug(
            "Taylor: ½ of the curvature forgotten",
            TAYLOR,
            "0.5 * curvature * np.exp(log_var)",
            "curvature * np.exp(log_var)",
        ),
        _TAYLOR,
    ),
    (bug("Taylor: σ for σ²", TAYLOR, "np.exp(log_var)", "np.exp(0.5 * log_var)"), _TAYLOR),
    (
        bug(
            "Taylor: the slope never comes back",
            TAYLOR,
            "dmean + slope.astype(noise.dtype, copy=False)",
            "dmean",
        ),
        _TAYLOR,
    ),
    (
        bug(
            "Taylor: gradient of another polynomial than is taken off",
            ESTIMATORS + "taylor:_Remainder.value_and_gradient",
            "self._curvature * step",
            "0.5 * self._curvature * step",
        ),
        _TAYLOR,
    ),
    (
        bug(
            "Taylor: ½ of the polynomial forgotten",
            ESTIMATORS + "taylor:_Remainder._polynomial",
            "0.5 * self._curvature",
            "self._curvature",
        ),
        _TAYLOR_SCORE,
    ),
    (
        bug(
            "measure-valued: constant without its 2",
            MEASURE_VALUED + "sample_gradients",
            "math.sqrt(2 * math.pi)",
            "math.sqrt(math.pi)",
        ),
        _MEASURE,
    ),
    (
        bug(
            "measure-valued: ½ forgotten for log_var",
            MEASURE_VALUED + "sample_gradients",
            "0.5 * (moved[2] - at_samples)",
            "moved[2] - at_samples",
        ),
        _MEASURE,
    ),
    (
        bug(
            "measure-valued: the same side twice",
            MEASURE_VALUED + "sample_gradients",
            "(upwards, -downwards, outwards)",
            "(upwards, upwards, outwards)",
        ),
        _MEASURE,
    ),
    (
        bug(
            "measure-valued: outer point without the sample",
            MEASURE_VALUED + "_steps",
            "np.copysign(np.hypot(noise, radius), noise)",
            "np.copysign(radius, noise)",
        ),
        _MEASURE,
    ),
    (
        bug(
            "importance weights: softmax over losses",
            BOUND,
            LOG_MEAN,
            "((w := np.exp(log_weights.min(axis=0) - log_weights)) * log_weights).sum(axis=0) / w.sum(axis=0)",
            kind=6,
            seen="AntixK/PyTorch-VAE#53",
        ),
        _BOUND,
    ),
    (
        bug(
            "importance weights: mean of logarithms",
            BOUND,
            LOG_MEAN,
            "log_weights.mean(axis=0)",
            kind=6,
            seen="arahuja/generative-tf#1",
        ),
        _BOUND,
    ),
    (
        bug(
            "importance weights: sum instead of mean",
            BOUND,
            "np.log(scaled.mean(axis=0))",
            "np.log(scaled.sum(axis=0))",
            kind=6,
            seen="YosefLab/scVI-dev#8",
        ),
        _BOUND,
    ),
    (
        bug(
            "Adam without bias correction",
            ADAM,
            "self.learning_rate * root_correction / (1 - self.beta1**self.step)",
            "self.learning_rate",
        ),
        _ADAM,
    ),
    (bug("Adam: steps counted from zero", ADAM, "self.step += 1", "self.step = max(self.step, 1)"), _ADAM),
    (
        bug(
            "Adam: the decays exchanged",
            ADAM,
            "self.beta1,\n        self.beta2,",
            "self.beta2,\n        self.beta1,",
        ),
        _ADAM,
    ),
    (
        bug(
            "momentum forgets what it was",
            SGD,
            "self.learning_rate, self.momentum",
            "self.learning_rate, 0.0",
        ),
        _SGD,
    ),
]
