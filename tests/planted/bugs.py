"""Mistakes in the gradient of a VAE, one by one, as they are made: a few characters of the shipped source each.

Every one is in code that the loss or its gradient passes through, and has to be found by `check_gradients` at every
scale of the loss. `CONSISTENT` mistakes are made alike in forward, objective and backward: the gradient is right for
the loss that is computed, which is not the declared one. Whoever knows only that loss cannot find them;
`tests.planted.unseen` names for each a second check that does not look at gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.planted.source import Substitution

ACTIVATIONS = "scratchvae.layers.activations:"
DENSE = "scratchvae.layers.dense:dense_backward"
STACK = "scratchvae.layers.stack:stack_backward"
BERNOULLI = "scratchvae.densities.bernoulli:bernoulli_likelihood_"
GAUSSIAN = "scratchvae.densities.gaussian:gaussian_"
ELBO = "scratchvae.objectives.elbo:"
VAE = "scratchvae.models.vae:VAE."
BY_LAYERS = VAE + "_loss_and_gradients_by_layers"
INTEGRAND = "scratchvae.models.decoder_integrand:"
MODEL = "scratchvae.models.model:Model."
AUTOENCODER = "scratchvae.models.autoencoder:Autoencoder._loss_and_gradients"
PLAIN_ELEMENTWISE = "scratchvae.kernels.reference.elementwise:"
PLAIN_DENSE = "scratchvae.kernels.reference.fused_dense:"
PLAIN_VAE = "scratchvae.kernels.reference.vae_gradients:vae_gradients"
COMPILED_ELEMENTWISE = "scratchvae.kernels.compiled.elementwise:"
COMPILED_DENSE = "scratchvae.kernels.compiled.fused_dense:"
COMPILED_VAE = "scratchvae.kernels.compiled.vae_gradients:"


class Bug(NamedTuple):
    """One mistake: where it is planted, and the model that shows it."""

    name: str
    places: tuple[Substitution, ...]
    # Changes to the model of `checks.make_model`, and `kernel`: which fused kernel computes, "reference" or "compiled".
    setting: dict[str, Any]
    consistent: bool = False
    kind: int = (
        0  # which of the twelve kinds of mistakes that public VAE code makes, numbered as in `mistakes`
    )
    seen: str = ""  # where public code had it: a repository and the number of its thread

    @property
    def subject(self) -> str:
        """The place in words: the module, below the package."""
        return self.places[0].function.partition(":")[0].removeprefix("scratchvae.")


def bug(
    name: str, function: str, old: str, new: str, *, kind: int = 0, seen: str = "", **setting: Any
) -> Bug:
    return Bug(name, (Substitution(function, old, new),), setting, kind=kind, seen=seen)


def consistent(
    name: str, *places: tuple[str, str, str], kind: int = 0, seen: str = "", **setting: Any
) -> Bug:
    return Bug(name, tuple(Substitution(*place) for place in places), setting, True, kind, seen)


SQUARE = "cache.x.shape[1] == dy.shape[1]"
WEIGHT, BIAS = "dweight = kernels.matmul_transposed_left(cache.x, dy)", "dbias = dy.sum(axis=0)"
INPUT = "kernels.matmul_transposed_right(dy, cache.weight)"

LAYERS = [
    bug("bias gradient averaged over the batch", DENSE, BIAS, "dbias = dy.mean(axis=0)"),
    bug("bias gradient over n − 1", DENSE, BIAS, "dbias = dy.sum(axis=0) * (len(dy) / (len(dy) - 1))"),
    bug("bias gradient of the first unit forgotten", DENSE, BIAS, "dbias = dy.sum(axis=0); dbias[0] = 0"),
    bug("bias gradient from the first example alone", DENSE, BIAS, "dbias = dy[0].copy()"),
    bug(
        "weight gradient transposed in square layers",
        DENSE,
        "(cache.x, dy)",
        f"(*((dy, cache.x) if {SQUARE} else (cache.x, dy)))",
    ),
    bug("weight gradient without the last example", DENSE, "(cache.x, dy)", "(cache.x[:-1], dy[:-1])"),
    bug("weight gradient off by 1.001", DENSE, WEIGHT, f"{WEIGHT} * 1.001"),
    bug("weight gradient off by 1.00001", DENSE, WEIGHT, f"{WEIGHT} * 1.00001"),
    bug("weight gradient rounded to float32", DENSE, WEIGHT, f"{WEIGHT}.astype(np.float32).astype(dy.dtype)"),
    bug(
        "one entry of a weight gradient off by 1.00001", DENSE, WEIGHT, f"{WEIGHT}; dweight[0, 1] *= 1.00001"
    ),
    bug("one row of a weight gradient off by 1.00001", DENSE, WEIGHT, f"{WEIGHT}; dweight[-1] *= 1.00001"),
    bug(
        "input gradient through W instead of its transpose",
        DENSE,
        INPUT,
        f"({INPUT} if not {SQUARE} else kernels.matmul(dy, cache.weight))",
    ),
    bug("input gradient rounded to float32", DENSE, INPUT, f"{INPUT}.astype(np.float32).astype(dy.dtype)"),
    bug(
        "derivative of the activation taken at its input",
        STACK,
        "dx, cache.y)",
        "dx, cache.activation.forward(cache.y)[0])",
    ),
    bug(
        "derivative of the activation left out of the first layer",
        STACK,
        "cache.activation.backward(dx, cache.y)",
        "cache.activation.backward(dx, cache.y) if index else dx",
    ),
    bug("layers' gradients in the order of the way back", STACK, "gradients[::-1]", "gradients"),
    bug("tanh: 1 − y for 1 − y²", ACTIVATIONS + "tanh_backward", "((1 - y) * (1 + y))", "(1 - y)"),
    bug(
        "tanh: off by 1.00001",
        ACTIVATIONS + "tanh_backward",
        "((1 - y) * (1 + y))",
        "((1 - y) * (1 + y)) * 1.00001",
    ),
    bug(
        "relu: gate on the gradient's sign",
        ACTIVATIONS + "relu_backward",
        "(y > 0)",
        "(dy > 0)",
        activation="relu",
    ),
    bug(
        "leaky relu: another slope on the way back",
        ACTIVATIONS + "leaky_relu_backward",
        "(LEAKY_SLOPE)",
        "(0.2)",
        activation="leaky_relu",
    ),
    bug(
        "sigmoid applied twice on the way back",
        ACTIVATIONS + "sigmoid_backward",
        "(y * (1 - y))",
        "(sigmoid_forward(y)[0] * (1 - sigmoid_forward(y)[0]))",
        activation="sigmoid",
    ),
    bug(
        "softplus: sigmoid of the output",
        ACTIVATIONS + "softplus_backward",
        "-np.expm1(-y)",
        "sigmoid_forward(y)[0]",
        activation="softplus",
    ),
]

SAMPLE = GAUSSIAN + "sample_backward"
KL = GAUSSIAN + "kl_backward"
LOG_DENSITY = GAUSSIAN + "log_density_backward"
DENSITIES = [
    bug("sample: ½ forgotten", SAMPLE, "(0.5 * cache.scaled_noise)", "cache.scaled_noise"),
    bug("sample: sign of dz", SAMPLE, "dmean = dz", "dmean = -dz"),
    bug(
        "sample: z detached from log_var",
        SAMPLE,
        "dlog_var = dz * (0.5 * cache.scaled_noise)",
        "dlog_var = np.zeros_like(dz)",
    ),
    bug("sample: z detached", SAMPLE, "return dmean, dlog_var", "return 0 * dmean, 0 * dlog_var"),
    bug(
        "sample: σ forgotten on the way back",
        GAUSSIAN + "sample_forward",
        "GaussianSampleCache(scaled_noise)",
        "GaussianSampleCache(noise)",
    ),
    bug(
        "sample: another example's noise on the way back",
        GAUSSIAN + "sample_forward",
        "GaussianSampleCache(scaled_noise)",
        "GaussianSampleCache(np.exp(0.5 * log_var) * np.roll(noise, 1, axis=-2))",
        kind=2,
    ),
    bug(
        "sample: fresh noise on the way back",
        GAUSSIAN + "sample_forward",
        "GaussianSampleCache(scaled_noise)",
        "GaussianSampleCache(np.exp(0.5 * log_var) * np.random.default_rng(1).standard_normal(noise.shape))",
        kind=2,
    ),
    bug("KL: ½ forgotten for log_var", KL, "(0.5 * np.expm1(cache.log_var))", "np.expm1(cache.log_var)"),
    bug("KL: ½ too much for the mean", KL, "weight * cache.mean", "weight * (0.5 * cache.mean)"),
    bug("KL: derivative of e^ℓ alone", KL, "np.expm1(cache.log_var)", "np.exp(cache.log_var)"),
    bug(
        "KL: log_var taken for log σ on the way back",
        KL,
        "(0.5 * np.expm1(cache.log_var))",
        "np.expm1(2 * cache.log_var)",
    ),
    bug("KL: no gradient for the mean", KL, "weight * cache.mean", "weight * 0"),
    bug(
        "KL: averaged over latent dimensions on the way back",
        KL,
        ".astype(cache.mean.dtype)",
        ".astype(cache.mean.dtype) / cache.mean.shape[-1]",
    ),
    bug("KL: rounded to float32 on the way back", KL, ".astype(cache.mean.dtype)", ".astype(np.float32)"),
    bug(
        "cross-entropy: sign",
        BERNOULLI + "backward",
        "(cache.x - sigmoid_forward(cache.logits)[0])",
        "(sigmoid_forward(cache.logits)[0] - cache.x)",
    ),
    bug(
        "cross-entropy: derivative of the sigmoid once more",
        BERNOULLI + "backward",
        "(cache.x - sigmoid_forward(cache.logits)[0])",
        "(cache.x - (p := sigmoid_forward(cache.logits)[0])) * p * (1 - p)",
    ),
    bug(
        "cross-entropy: averaged over pixels on the way back",
        BERNOULLI + "backward",
        "(cache.x - sigmoid_forward(cache.logits)[0])",
        "(cache.x - sigmoid_forward(cache.logits)[0]) / cache.x.shape[-1]",
    ),
    bug(
        "cross-entropy: probabilities clipped on the way back",
        BERNOULLI + "backward",
        "sigmoid_forward(cache.logits)[0]",
        "np.clip(sigmoid_forward(cache.logits)[0], 0.4, 0.6)",
    ),
    bug(
        "L2: variance forgotten",
        GAUSSIAN + "likelihood_backward",
        "(dlog_likelihood / cache.variance)",
        "dlog_likelihood",
        likelihood="gaussian",
    ),
    bug(
        "L2: σ for σ²",
        GAUSSIAN + "likelihood_backward",
        "/ cache.variance)",
        "/ math.sqrt(cache.variance))",
        likelihood="gaussian",
    ),
    bug(
        "L2: ½ forgotten",
        GAUSSIAN + "likelihood_backward",
        "/ cache.variance)",
        "/ cache.variance * 2)",
        likelihood="gaussian",
    ),
    bug(
        "log-density: −1 forgotten for log_var",
        LOG_DENSITY,
        "(cache.scaled**2 - 1)",
        "cache.scaled**2",
        kl="sampled",
    ),
    bug(
        "log-density: 1/σ once too few",
        LOG_DENSITY,
        "weight * cache.scaled * cache.inverse_scale",
        "weight * cache.scaled",
        kl="sampled",
    ),
    bug("log-density: z detached", LOG_DENSITY, "dz = -dmean", "dz = 0 * dmean", kl="sampled"),
]

BACK = ELBO + "elbo_backward"
DKL, DRECONSTRUCTION = (
    "dloss * cache.beta / np.prod(cache.kl_shape)",
    "-dloss / np.prod(cache.reconstruction_shape)",
)
OBJECTIVES = [
    bug(
        "β never applied to the gradient",
        BACK,
        DKL,
        "dloss / np.prod(cache.kl_shape)",
        kind=4,
        seen="AlexanderVNikitin/tsgm#69",
    ),
    bug("β applied twice to the gradient", BACK, "dloss * cache.beta", "dloss * cache.beta**2"),
    bug("KL gradient with the wrong sign", BACK, "dloss * cache.beta", "-dloss * cache.beta"),
    bug(
        "loss over n − 1 on the way back",
        BACK,
        DRECONSTRUCTION,
        "-dloss / (np.prod(cache.reconstruction_shape) - 1)",
    ),
    bug(
        "loss summed over the batch on the way back",
        BACK,
        DRECONSTRUCTION,
        "-dloss / cache.reconstruction_shape[0]",
    ),
    bug(
        "loss summed over samples on the way back",
        BACK,
        DRECONSTRUCTION,
        "-dloss / cache.reconstruction_shape[-1]",
        num_samples=2,
    ),
    bug(
        "sampled KL: the prior's term forgotten",
        ELBO + "sampled_kl_backward",
        "dz = dz + dkl[..., None].astype(cache.z.dtype) * cache.z",
        "pass",
        kl="sampled",
    ),
    bug(
        "sampled KL: z detached",
        ELBO + "sampled_kl_backward",
        "return dz, dmean",
        "return 0 * dz, dmean",
        kl="sampled",
    ),
]

SAMPLES = "(weight * sample_dmean).sum(axis=0), (weight * sample_dlog_var).sum(axis=0)"
FROM_KL = "dmean, dlog_var = dmean + from_kl[0], dlog_var + from_kl[1]"
MODELS = [
    bug("the KL's gradient dropped", BY_LAYERS, FROM_KL, "pass"),
    bug(
        "the KL's two gradients exchanged",
        BY_LAYERS,
        FROM_KL,
        "dmean, dlog_var = dmean + from_kl[1], dlog_var + from_kl[0]",
    ),
    bug(
        "gradient averaged over samples twice",
        BY_LAYERS,
        SAMPLES,
        SAMPLES.replace("sum", "mean"),
        num_samples=2,
    ),
    bug(
        "first sample's gradient for all",
        BY_LAYERS,
        "(weight * sample_dmean).sum(axis=0)",
        "len(weight) * (weight * sample_dmean)[0]",
        num_samples=2,
    ),
    bug(
        "decoder's gradient not averaged over samples",
        BY_LAYERS,
        "scale=float(dreconstruction[0, 0])",
        "scale=float(dreconstruction.sum(axis=0)[0])",
        num_samples=2,
    ),
    bug(
        "encoder's gradient from one head alone",
        VAE + "encoder_backward",
        "dhidden_mean + dhidden_log_var",
        "dhidden_mean",
    ),
    bug(
        "encoder's gradient from one head twice",
        VAE + "encoder_backward",
        "dhidden_mean + dhidden_log_var",
        "dhidden_mean + dhidden_mean",
    ),
    bug(
        "second head's gradient at the first head's input",
        VAE + "encoder_backward",
        "(dlog_var, cache.log_var, need_dx=need_dx)",
        "(dlog_var, cache.mean, need_dx=need_dx)",
    ),
    bug(
        "gradients accumulate from call to call",
        MODEL + "_store_layer",
        'np.multiply(dweight, scale, out=self.gradients[f"{layer}.weight"])',
        'self.gradients[f"{layer}.weight"] += dweight * scale',
    ),
    bug(
        "scale forgotten for the decoder's biases",
        MODEL + "_store_layer",
        "np.multiply(dbias, scale, ",
        "np.multiply(dbias, np.sign(scale), ",
    ),
    bug(
        "decoder's gradient flows with β",
        INTEGRAND + "DecoderIntegrand.output_gradient",
        "self.likelihood.backward(weights,",
        "self.likelihood.backward(self.beta * weights,",
    ),
    bug(
        "sampled KL: β forgotten along the path",
        INTEGRAND + "DecoderIntegrand.pull_back",
        "sampled_kl_backward(-self.beta * dvalue,",
        "sampled_kl_backward(-dvalue,",
        kl="sampled",
    ),
    bug(
        "sampled KL: direct dependence on the posterior forgotten",
        INTEGRAND + "sample_gradients",
        "if follows_all else None",
        "if not follows_all else None",
        kl="sampled",
    ),
    bug(
        "autoencoder: loss over n − 1 on the way back",
        AUTOENCODER,
        "-dloss / len(x)",
        "-dloss / (len(x) - 1)",
        model="Autoencoder",
    ),
    bug(
        "autoencoder: stale cache of the encoder",
        AUTOENCODER,
        "_, gradients = stack_backward(dcode, encoder_caches, need_dx=False)",
        "_, gradients = stack_backward(dcode, self._forward(x[::-1])[2][0], need_dx=False)",
        model="Autoencoder",
    ),
]

PLAIN_GRADIENTS = PLAIN_DENSE + "dense_parameter_gradients"
REFERENCE_KERNEL = [
    bug(
        "fused: ½ of the sample forgotten",
        PLAIN_ELEMENTWISE + "reparameterize_gradient",
        "0.5 * np.exp(",
        "np.exp(",
    ),
    bug(
        "fused: σ of the sample forgotten",
        PLAIN_ELEMENTWISE + "reparameterize_gradient",
        "0.5 * np.exp(0.5 * log_var)",
        "0.5",
    ),
    bug(
        "fused: KL's gradient overwrites",
        PLAIN_ELEMENTWISE + "gaussian_kl_value_and_gradient",
        "dmean += weight * mean",
        "dmean[...] = weight * mean",
    ),
    bug(
        "fused: KL's gradient accumulates twice",
        PLAIN_ELEMENTWISE + "gaussian_kl_value_and_gradient",
        "dmean += weight * mean",
        "dmean += 2 * weight * mean",
    ),
    bug(
        "fused: sign of the cross-entropy",
        PLAIN_ELEMENTWISE + "bernoulli_value_and_gradient",
        "* (x - sigmoid)",
        "* (sigmoid - x)",
    ),
    bug("fused: β forgotten", PLAIN_VAE, "beta * each", "each"),
    bug("fused: loss over n − 1", PLAIN_VAE, "1 / num_examples)", "1 / (num_examples - 1))"),
    bug(
        "fused: variance of L2 forgotten",
        PLAIN_VAE,
        "(-1 / num_examples / likelihood_variance)",
        "(-1 / num_examples)",
        likelihood="gaussian",
    ),
    bug("fused: the first head's gradient overwritten", PLAIN_VAE, "accumulate=True", "accumulate=False"),
    bug(
        "fused: derivative of an activation at z", PLAIN_VAE, 'activation if i else "identity"', "activation"
    ),
    bug(
        "fused: activation's derivative twice in the heads",
        PLAIN_VAE,
        'layers[depth][0], encoded[-1], "identity")',
        "layers[depth][0], encoded[-1], activation)",
    ),
    bug(
        "fused: activation's derivative at another layer's output",
        PLAIN_VAE,
        "delta, layers[layer][0], decoded[i]",
        "delta, layers[layer][0], decoded[0]",
    ),
    bug(
        "fused: heads' gradients exchanged",
        PLAIN_VAE,
        "dense_parameter_gradients(encoded[-1], dmean, *gradients[depth])",
        "dense_parameter_gradients(encoded[-1], dlog_var, *gradients[depth])",
    ),
    bug(
        "fused: W instead of its transpose",
        PLAIN_DENSE + "dense_input_gradient",
        "dy @ weight.T",
        "dy @ (weight if weight.shape[0] == weight.shape[1] else weight.T)",
    ),
    bug(
        "fused: tanh off by 1.00001",
        PLAIN_DENSE + "_derivative",
        "(1 - y) * (1 + y)",
        "(1 - y) * (1 + y) * 1.00001",
    ),
    bug(
        "fused: weight gradient transposed in square layers",
        PLAIN_GRADIENTS,
        "x.T @ dy",
        "(x.T @ dy if x.shape != dy.shape else dy.T @ x)",
    ),
    bug(
        "fused: weight gradient through float32",
        PLAIN_GRADIENTS,
        "x.T @ dy",
        "(x.T.astype(np.float32) @ dy.astype(np.float32))",
    ),
    bug("fused: bias gradient averaged", PLAIN_GRADIENTS, "dy.sum(axis=0)", "dy.mean(axis=0)"),
    bug(
        "fused: gradients accumulate from call to call",
        PLAIN_GRADIENTS,
        "if not accumulate:",
        "if accumulate:",
    ),
]
REFERENCE_KERNEL = [
    each._replace(setting={**each.setting, "kernel": "reference"}) for each in REFERENCE_KERNEL
]

COMPILED_KERNEL = [
    bug(
        "compiled: ½ of the sample forgotten",
        COMPILED_VAE + "_latent_rows",
        "c.half * exp(c.half * log_var_row[j])",
        "exp(c.half * log_var_row[j])",
    ),
    bug(
        "compiled: σ² of the sample for σ",
        COMPILED_VAE + "_latent_rows",
        "c.half * exp(c.half * log_var_row[j])",
        "c.half * exp(log_var_row[j])",
    ),
    bug("compiled: β forgotten", COMPILED_VAE + "_latent_rows", "beta * each", "each"),
    bug(
        "compiled: KL's gradient overwrites",
        COMPILED_ELEMENTWISE + "_kl_row",
        "dmean[j] += dvalue",
        "dmean[j] = dvalue",
    ),
    bug(
        "compiled: −1 of the KL's gradient forgotten",
        COMPILED_ELEMENTWISE + "_kl_row",
        "(c.half * growth)",
        "(c.half * (growth + c.one))",
    ),
    bug(
        "compiled: sign of the cross-entropy",
        COMPILED_ELEMENTWISE + "_bernoulli_row",
        "dvalue * (x[j] - sigmoid)",
        "dvalue * (sigmoid - x[j])",
    ),
    bug(
        "compiled: ½ of L2 once too often",
        COMPILED_VAE + "_gaussian_row",
        "dvalue * residual",
        "c.half * dvalue * residual",
        likelihood="gaussian",
    ),
    bug(
        "compiled: variance of L2 forgotten",
        COMPILED_VAE + "_reconstruction_rows",
        "-each / variance",
        "-each",
        likelihood="gaussian",
    ),
    bug(
        "compiled: loss over n − 1",
        COMPILED_VAE + "vae_gradients",
        "number(1 / b)",
        "number(1 / (b - 1))",
    ),
    bug(
        "compiled: the last example's KL left out",
        COMPILED_VAE + "_latent_rows",
        "beta * each",
        "beta * each * (i < rows[1] - 1)",
    ),
    bug(
        "compiled: the next example's noise",
        COMPILED_VAE + "_latent_rows",
        "noise[i], dlog_var[i]",
        "noise[i - 1], dlog_var[i]",
    ),
    bug(
        "compiled: the first head's gradient overwritten",
        COMPILED_VAE + "_encoder_backward",
        "y, dx, True)",
        "y, dx, False)",
    ),
    bug(
        "compiled: derivative of an activation at z",
        COMPILED_VAE + "_decoder_backward",
        "first, IDENTITY,",
        "first, activation,",
    ),
    bug(
        "compiled: bias gradients accumulate from call to call",
        COMPILED_VAE + "_parameter_gradients",
        "dbias[first:last] = 0",
        "pass",
    ),
    bug(
        "compiled: tanh off by 1.00001",
        COMPILED_DENSE + "_multiply_by_derivative",
        "(c.one - y[j]) * (c.one + y[j])",
        "(c.one - y[j]) * (c.one + y[j]) * 1.00001",
    ),
    bug(
        "compiled: a layer's gradient at another layer's input",
        COMPILED_VAE + "_input_of",
        "if layer < depth + 2 else layer - 1",
        "if layer < depth + 2 else depth - 1",
    ),
    bug(
        "compiled: first example left out of the biases",
        COMPILED_DENSE + "add_rows",
        "range(len(dy))",
        "range(1, len(dy))",
    ),
]
COMPILED_KERNEL = [each._replace(setting={**each.setting, "kernel": "compiled"}) for each in COMPILED_KERNEL]

# The two gradients of the sample, with σ as the forward pass has it, follow from the cache that it leaves.
CONSISTENT = [
    consistent(
        "noise scaled by exp(log_var)",
        (GAUSSIAN + "sample_forward", "np.exp(0.5 * log_var) * noise", "np.exp(log_var) * noise"),
        (SAMPLE, "(0.5 * cache.scaled_noise)", "cache.scaled_noise"),
        kind=1,
        seen="keras-team/keras#9970, rachtsingh/ibp_vae#3",
        num_samples=2,
    ),
    consistent(
        "log_var read as log σ everywhere",
        (GAUSSIAN + "sample_forward", "np.exp(0.5 * log_var) * noise", "np.exp(log_var) * noise"),
        (SAMPLE, "(0.5 * cache.scaled_noise)", "cache.scaled_noise"),
        (GAUSSIAN + "kl_forward", "np.expm1(log_var) - log_var", "np.expm1(2 * log_var) - 2 * log_var"),
        (KL, "(0.5 * np.expm1(cache.log_var))", "np.expm1(2 * cache.log_var)"),
        seen="y0ast/VAE-Torch#3",
        num_samples=2,
    ),
    consistent(
        "noise of standard deviation 0.01",
        (
            GAUSSIAN + "sample_forward",
            "np.exp(0.5 * log_var) * noise",
            "0.01 * np.exp(0.5 * log_var) * noise",
        ),
        seen="keras-team/keras#4211",
        num_samples=2,
    ),
    consistent(
        "KL with σ for σ²",
        (GAUSSIAN + "kl_forward", "np.expm1(log_var)", "np.expm1(0.5 * log_var)"),
        (KL, "(0.5 * np.expm1(cache.log_var))", "(0.25 * np.exp(0.5 * cache.log_var) - 0.5)"),
        seen="pytorch/examples#225",
        num_samples=2,
    ),
    consistent(
        "KL without its ½",
        (GAUSSIAN + "kl_forward", "0.5 * (mean**2 +", "(mean**2 +"),
        (KL, "weight * cache.mean", "2 * weight * cache.mean"),
        (KL, "(0.5 * np.expm1(cache.log_var))", "np.expm1(cache.log_var)"),
        seen="SupaeroDataScience/deep-learning#6",
        num_samples=2,
    ),
    consistent(
        "KL averaged over latent dimensions",
        (GAUSSIAN + "kl_forward", ".sum(axis=-1", ".mean(axis=-1"),
        (KL, ".astype(cache.mean.dtype)", ".astype(cache.mean.dtype) / cache.mean.shape[-1]"),
        kind=3,
        seen="mkusner/grammarVAE#2",
        num_samples=2,
    ),
    consistent(
        "KL the other way round",
        (
            GAUSSIAN + "kl_forward",
            "mean**2 + np.expm1(log_var) - log_var",
            "(mean**2 + 1) * np.exp(-log_var) - 1 + log_var",
        ),
        (KL, "weight * cache.mean", "weight * cache.mean * np.exp(-cache.log_var)"),
        (KL, "np.expm1(cache.log_var)", "(1 - (cache.mean**2 + 1) * np.exp(-cache.log_var))"),
        num_samples=2,
    ),
    consistent(
        "KL without its constant",
        (GAUSSIAN + "kl_forward", "np.expm1(log_var)", "np.exp(log_var)"),
        num_samples=2,
    ),
    consistent(
        "cross-entropy averaged over pixels",
        (BERNOULLI + "forward", ".sum(axis=-1", ".mean(axis=-1"),
        (
            BERNOULLI + "backward",
            "(cache.x - sigmoid_forward(cache.logits)[0])",
            "(cache.x - sigmoid_forward(cache.logits)[0]) / cache.x.shape[-1]",
        ),
        seen="wiseodd/generative-models#43",
        num_samples=2,
    ),
    consistent(
        "L2 without its ½",
        (GAUSSIAN + "likelihood_forward", "(residual**2)", "(2 * residual**2)"),
        (GAUSSIAN + "likelihood_backward", "/ cache.variance)", "/ cache.variance * 2)"),
        likelihood="gaussian",
        num_samples=2,
    ),
    consistent(
        "L2 without its constant",
        (GAUSSIAN + "likelihood_forward", "(_LOG_2_PI + math.log(variance))", "0.0"),
        likelihood="gaussian",
        num_samples=2,
    ),
    consistent(
        "β applied to the reconstruction as well",
        (
            ELBO + "elbo_forward",
            "value = reconstruction_per_example -",
            "value = beta * reconstruction_per_example -",
        ),
        (BACK, DRECONSTRUCTION, "-dloss * cache.beta / np.prod(cache.reconstruction_shape)"),
        num_samples=2,
    ),
    consistent(
        "β never applied, in loss and gradient",
        (ELBO + "elbo_forward", "beta * kl_per_example", "kl_per_example"),
        (BACK, DKL, "dloss / np.prod(cache.kl_shape)"),
        seen="WenjieDu/PyPOTS#540",
        num_samples=2,
    ),
]

BUGS = [*LAYERS, *DENSITIES, *OBJECTIVES, *MODELS, *REFERENCE_KERNEL, *COMPILED_KERNEL, *CONSISTENT]
