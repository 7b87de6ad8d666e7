"""Why a mutant that no test notices is none: the reasons, one by one."""

from __future__ import annotations

import re
from typing import NamedTuple


class Equivalent(NamedTuple):
    """In a function, `old` may become `new` and nothing changes that anyone could notice."""

    function: str
    old: str
    new: str
    reason: str


SAME_TWICE = "the activation returns its output twice: as the result and as the cache"
LAST_IS_SECOND = "the argument has two axes by contract, so the last one is axis 1"
SMALLER_DTYPE = "rounds the cotangent once less: a last digit more, and nothing that is wrong"
NUMBER_OF_NUMPY = "the same number, as NumPy's double"
GOES_NOWHERE = "decides only whether a product is computed that is then thrown away or not needed"

EQUIVALENT = [
    Equivalent("layers.activations:leaky_relu_forward", "x > 0", "x >= 0", "at 0 either branch is 0"),
    Equivalent("layers.activations:sigmoid_forward", "x >= 0", "x > 0", "at 0 the decay is 1 as well"),
    Equivalent("layers.dense:dense_forward", "[-1]", "[1]", LAST_IS_SECOND),
    Equivalent(
        "layers.curvature:_times",
        "rows.reshape(-1, rows.shape[-1])",
        "rows",
        "the plain product takes three axes as well; the compiled one does not, and the same tests notice",
    ),
    Equivalent("densities.bernoulli:bernoulli_likelihood_forward", "[0]", "[1]", SAME_TWICE),
    Equivalent("densities.bernoulli:bernoulli_likelihood_forward", "[0]", "[-1]", SAME_TWICE),
    Equivalent("densities.bernoulli:bernoulli_likelihood_backward", "[0]", "[1]", SAME_TWICE),
    Equivalent("densities.bernoulli:bernoulli_likelihood_backward", "[0]", "[-1]", SAME_TWICE),
    Equivalent("densities.gaussian:gaussian_entropy_forward", "axis=-1", "axis=1", LAST_IS_SECOND),
    Equivalent("densities.gaussian:gaussian_kl_forward", "axis=-1", "axis=1", LAST_IS_SECOND),
    Equivalent("densities.gaussian:gaussian_likelihood_forward", "shape[-1]", "shape[1]", LAST_IS_SECOND),
    Equivalent(
        "objectives.elbo:sampled_kl_forward",
        "z, standard, standard",
        "standard, z, standard",
        "log N(0; z, I) = log N(z; 0, I): only the difference counts",
    ),
    Equivalent(
        "estimators.baselines:OptimalBaseline.sample_gradients",
        "baseline.ndim <= mean.ndim",
        "baseline.ndim < mean.ndim",
        "with as many axes the slice is the whole shape",
    ),
    Equivalent(
        "estimators.baselines:_sum_of_others",
        "total[1:] +=",
        "total[1:] =",
        "what is added to is still zero",
    ),
    Equivalent(
        "estimators.measure_valued:MeasureValued.sample_gradients",
        ", dtype=noise.dtype",
        "",
        "points are written into an array of the samples' precision in any case",
    ),
    Equivalent(
        "estimators.learned_baseline:squared_error_forward",
        "(prediction - target) ** 2",
        "(target - prediction) ** 2",
        "a square has no sign",
    ),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline.sample_gradients",
        "baseline.reshape(mean.shape[:-1])",
        "baseline",
        "an array of one entry meets the samples of one example as a number does",
    ),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline.load_state",
        ", dtype=theta.dtype",
        "",
        "written into arrays of that precision in any case",
    ),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline.load_state",
        ", dtype=np.float64",
        "",
        "written into an array of that precision in any case",
    ),
    Equivalent("estimators.learned_baseline:LearnedBaseline._predict", "[-1]", "[1]", LAST_IS_SECOND),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline._predict",
        "output[:, 0]",
        "output[:, -1]",
        "the network has one output, first and last",
    ),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline._level",
        "float(self._running[0])",
        "self._running[0]",
        NUMBER_OF_NUMPY,
    ),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline._scale",
        "float(self._running[1])",
        "self._running[1]",
        NUMBER_OF_NUMPY,
    ),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline._weight",
        "else 1.0",
        "else 2.0",
        "before the first call the moments are zero, whatever they are divided by",
    ),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline._learn",
        ".astype(self.theta.dtype)",
        "",
        SMALLER_DTYPE,
    ),
    Equivalent(
        "estimators.learned_baseline:LearnedBaseline._learn", "need_dx=False", "need_dx=True", GOES_NOWHERE
    ),
    Equivalent("estimators.learned_baseline:LearnedBaseline._learn", ", need_dx=False", "", GOES_NOWHERE),
    Equivalent(
        "estimators.log_weight:LogWeight.direct_gradients",
        "[:-1]",
        "[:-0]",
        "leaves no axis: a single one, which stands for as many",
    ),
    Equivalent(
        "estimators.vimco:bound_of_others",
        "[:-1], axis=0)",
        "[:-1])",
        "a ufunc accumulates along the first axis anyway",
    ),
    Equivalent(
        "estimators.vimco:bound_of_others",
        "[:0:-1], axis=0)",
        "[:0:-1])",
        "a ufunc accumulates along the first axis anyway",
    ),
    Equivalent(
        "models.decoder_integrand:DecoderIntegrand.value",
        "z[..., 0]",
        "z[..., -1]",
        "every latent dimension has as many samples",
    ),
    Equivalent(
        "models.decoder_integrand:DecoderIntegrand.decoder_gradients",
        "self._weights is None or not",
        "not",
        "to NumPy no array equals None",
    ),
    Equivalent(
        "models.vae:VAE._loss_and_gradients", "noise[0]", "noise[-1]", "there is one sample, first and last"
    ),
    Equivalent(
        "models.vae:VAE._loss_and_gradients_by_layers",
        "float(dreconstruction[0, 0])",
        "dreconstruction[0, 0]",
        "the same number; NumPy multiplies in double instead of single precision and rounds once",
    ),
    Equivalent(
        "models.vae:VAE._loss_and_gradients_by_layers",
        "dreconstruction[0, 0]",
        "dreconstruction[-1, 0]",
        "all its entries are equal: a mean weighs every term alike",
    ),
    Equivalent(
        "models.vae:VAE._loss_and_gradients_by_layers",
        "dreconstruction[0, 0]",
        "dreconstruction[0, -1]",
        "all its entries are equal: a mean weighs every term alike",
    ),
    Equivalent(
        "models.vae:VAE._loss_and_gradients_at_once", "(2, len(x))", "(3, len(x))", "a row that nobody reads"
    ),
    Equivalent(
        "models.vae:VAE._loss_and_gradients_at_once", "(2, len(x))", "(4, len(x))", "rows that nobody reads"
    ),
    Equivalent(
        "kernels.reference.elementwise:gaussian_kl_value_and_gradient",
        ".astype(mean.dtype)",
        "",
        SMALLER_DTYPE,
    ),
    Equivalent(
        "kernels.reference.elementwise:bernoulli_value_and_gradient",
        ".astype(logits.dtype)",
        "",
        SMALLER_DTYPE,
    ),
    Equivalent(
        "kernels.reference.elementwise:bernoulli_value_and_gradient",
        "logits >= 0",
        "logits > 0",
        "at 0 the decay is 1 as well",
    ),
    Equivalent(
        "kernels.reference.fused_dense:_derivative",
        "(y > 0).astype(y.dtype)",
        "y > 0",
        "in a product true and false are one and zero",
    ),
    Equivalent("kernels.reference.fused_dense:_activated", "x > 0", "x >= 0", "at 0 either branch is 0"),
    Equivalent("kernels.reference.fused_dense:_activated", "x >= 0", "x > 0", "at 0 the decay is 1 as well"),
    Equivalent(
        "kernels.reference.elementwise:reparameterize",
        "(-1, *",
        "(-2, *",
        "any negative number is the rest of a shape to NumPy",
    ),
    Equivalent(
        "kernels.reference.elementwise:reparameterize_gradient",
        "(-1, *",
        "(-2, *",
        "any negative number is the rest of a shape to NumPy",
    ),
    Equivalent(
        "kernels.reference.vae_gradients:vae_gradients",
        "if not depth:",
        "if False:",
        GOES_NOWHERE,
    ),
    Equivalent("kernels.reference.vae_gradients:vae_gradients", "if i:", "if True:", GOES_NOWHERE),
]


def reason_for(function: str, change: str) -> str | None:
    """Why a change of a function, such as "a = b → a = c" in "layers.dense:dense_forward", changes nothing."""
    before, after = change.split(" → ")
    for known in EQUIVALENT:
        if known.function == function:
            for place in re.finditer(re.escape(known.old), before):
                if before[: place.start()] + known.new + before[place.end() :] == after:
                    return known.reason
    return None
