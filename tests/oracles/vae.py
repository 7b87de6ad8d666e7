"""Both models once more: one example and one sample at a time, from the definitions.

Every function takes parameters that may carry leading axes, (..., fan_in, fan_out) and (..., fan_out), and
returns values with those axes: a whole neighbourhood of a point is evaluated at once. So the complex step costs
one pass for all parameters together.
"""

from __future__ import annotations

import re

import numpy as np

from tests.oracles.complex_step import COMPLEX_STEP
from tests.oracles.layers import ACTIVATIONS, KINKED


def affine(parameters, layer, x):
    """y_j = Σ_i x_i weight_ij + bias_j for one example x (..., fan_in). (1.1)"""
    weight, bias = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
    return (x[..., :, np.newaxis] * weight).sum(axis=-2) + bias


def count_layers(parameters, part):
    """How many layers part.0, part.1, … there are."""
    return len([name for name in parameters if re.fullmatch(rf"{part}\.\d+\.bias", name)])


def through_hidden(parameters, part, depth, activation, x, seen=None):
    """One example through `depth` layers with their activation; `seen` collects what enters each."""
    for i in range(depth):
        before = affine(parameters, f"{part}.{i}", x)
        if seen is not None:
            seen.append(before)
        x = ACTIVATIONS[activation](before)
    return x


def log_normal(value, mean, variance):
    """log N(value; mean, variance), entry by entry. (4.1)"""
    return -((value - mean) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2


def log_likelihood(x, output, likelihood, variance):
    """log p(x | output), summed over pixels: through probabilities, (3.1), or through the density, (4.12)."""
    if likelihood == "gaussian":
        return log_normal(x, output, variance).sum(axis=-1)
    return (x * log_probability(output) + (1 - x) * log_probability(-output)).sum(axis=-1)


def log_probability(logit):
    """log of the probability 1 / (1 + e^−logit), which is e^logit to all digits of a double below −40.

    Much further down the imaginary step would drown among subnormal numbers, and then e^−logit overflows.
    """
    far = logit.real < -40
    return np.where(far, logit, np.log(1 / (1 + np.exp(np.where(far, 0, -logit)))))


def log_ratio(z, mean, variance):
    """log q(z) − log p(z), summed over latent dimensions. (5.6)"""
    return (log_normal(z, mean, variance) - log_normal(z, 0.0, 1.0)).sum(axis=-1)


def posterior(parameters, x, activation):
    """Mean and variance of q(z | x) for one example x (D,)."""
    depth = count_layers(parameters, "encoder")
    top = through_hidden(parameters, "encoder", depth, activation, x)
    return affine(parameters, "encoder.mean", top), np.exp(affine(parameters, "encoder.log_var", top))


def decode(parameters, z, activation):
    """The decoder's output for one z (..., L)."""
    depth = count_layers(parameters, "decoder") - 1
    return affine(parameters, f"decoder.{depth}", through_hidden(parameters, "decoder", depth, activation, z))


def vae_terms(parameters, x, noise, *, activation, likelihood, variance=1.0, kl="analytic"):
    """log p(x|z) for each sample and example, and the divergence: nested lists [s][b] of numbers or arrays."""
    reconstruction, divergence = [], []
    for noise_of_sample in noise:
        reconstruction.append([])
        divergence.append([])
        for x_b, noise_b in zip(x, noise_of_sample, strict=True):
            mean, spread = posterior(parameters, x_b, activation)
            z = mean + np.sqrt(spread) * noise_b
            output = decode(parameters, z, activation)
            reconstruction[-1].append(log_likelihood(x_b, output, likelihood, variance))
            if kl == "sampled":
                divergence[-1].append(log_ratio(z, mean, spread))
            else:
                # E_q of the log-ratio, each of whose terms is quadratic in one coordinate's noise: for those the
                # mean over −1 and 1 is the expectation.
                ends = [log_ratio(mean + sign * np.sqrt(spread), mean, spread) for sign in (-1, 1)]
                divergence[-1].append(sum(ends) / 2)
    return reconstruction, divergence


def vae_loss(parameters, x, noise, *, beta=1.0, **settings):
    """Minus the mean over samples and examples of log p(x|z) − beta · divergence. (5.4)"""
    reconstruction, divergence = vae_terms(parameters, x, noise, **settings)
    terms = [
        r - beta * d
        for r_of_sample, d_of_sample in zip(reconstruction, divergence, strict=True)
        for r, d in zip(r_of_sample, d_of_sample, strict=True)
    ]
    return -sum(terms) / len(terms)


def importance_weighted_loss(parameters, x, noise, *, beta=1.0, **settings):
    """Minus the mean over examples of log mean exp over samples of log p(x|z) − beta · log-ratio. (22.5)"""
    reconstruction, ratio = vae_terms(parameters, x, noise, **settings | {"kl": "sampled"})
    total = 0.0
    for b in range(len(x)):
        log_weights = [r[b] - beta * d[b] for r, d in zip(reconstruction, ratio, strict=True)]
        shift = max(np.real(w).max() for w in log_weights)
        total = total - shift - np.log(sum(np.exp(w - shift) for w in log_weights) / len(noise))
    return total / len(x)


def autoencoder_loss(parameters, x, *, activation, likelihood, variance=1.0):
    """Minus the mean over examples of log p(x | code)."""
    depth = count_layers(parameters, "encoder")
    total = 0.0
    for x_b in x:
        code = affine(
            parameters, "encoder.code", through_hidden(parameters, "encoder", depth, activation, x_b)
        )
        total = total - log_likelihood(x_b, decode(parameters, code, activation), likelihood, variance)
    return total / len(x)


def neighbours(parameters, step):
    """Parameters with a leading axis, one copy for each entry, in which that entry is moved by `step`."""
    total, start, moved = sum(parameter.size for parameter in parameters.values()), 0, {}
    for name, parameter in parameters.items():
        copies = np.repeat(parameter[np.newaxis].astype(np.result_type(step, np.float64)), total, axis=0)
        own = np.arange(parameter.size)
        copies.reshape(total, -1)[start + own, own] += step
        moved[name], start = copies, start + parameter.size
    return moved


def by_name(vector, parameters):
    """A vector (P,) of all entries in order, cut into the shapes of parameters."""
    cuts = np.cumsum([parameter.size for parameter in parameters.values()])
    assert vector.shape == (cuts[-1],)
    pieces = np.split(vector, cuts[:-1])
    return {
        name: piece.reshape(parameter.shape)
        for (name, parameter), piece in zip(parameters.items(), pieces, strict=True)
    }


def complex_step_gradients(loss, parameters):
    """The gradient of loss(parameters) by name: every entry's complex neighbour in one evaluation. (0.7)"""
    return by_name(np.imag(loss(neighbours(parameters, 1j * COMPLEX_STEP))) / COMPLEX_STEP, parameters)


def inputs_of_activations(parameters, x, noise, activation):
    """Everything that enters an activation of a VAE, for every example and sample: a list of arrays."""
    seen = []
    encoder_depth, decoder_depth = (
        count_layers(parameters, "encoder"),
        count_layers(parameters, "decoder") - 1,
    )
    for noise_of_sample in noise:
        for x_b, noise_b in zip(x, noise_of_sample, strict=True):
            through_hidden(parameters, "encoder", encoder_depth, activation, x_b, seen)
            mean, spread = posterior(parameters, x_b, activation)
            through_hidden(
                parameters, "decoder", decoder_depth, activation, mean + np.sqrt(spread) * noise_b, seen
            )
    return seen


def has_kinks_within(parameters, x, noise, activation, step):
    """Does moving any one parameter by `step`, up or down, carry anything over a kink?"""
    if activation not in KINKED:
        return False
    here = inputs_of_activations(parameters, x, noise, activation)
    for signed in (-step, step):
        there = inputs_of_activations(neighbours(parameters, signed), x, noise, activation)
        if any(((moved > 0) != (still > 0)).any() for moved, still in zip(there, here, strict=True)):
            return True
    return any((still == 0).any() for still in here)


# --- exact answers: x = z W + b + noise of variance v, z ~ N(0, I) ------------------------------------------


def linear_log_evidence(x, weight, bias, variance):
    """log p(x) (B,): x ~ N(b, WᵀW + v I) exactly, W being (L, D)."""
    covariance = weight.T @ weight + variance * np.eye(weight.shape[1])
    residual = x - bias
    distance = (residual * np.linalg.solve(covariance, residual.T).T).sum(axis=1)
    return -(distance + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def linear_posterior(x, weight, bias, variance):
    """p(z|x): means (B, L) and the covariance (L, L) that all examples share."""
    covariance = np.linalg.inv(np.eye(len(weight)) + weight @ weight.T / variance)
    return (x - bias) @ weight.T @ covariance / variance, covariance


def linear_expected_reconstruction(x, mean, spread, weight, bias, variance):
    """E log p(x|z) (B,) over z ~ N(mean, diag(spread)): E (a + b z)² = (E)² + variance, pixel by pixel."""
    squares = (x - mean @ weight - bias) ** 2 + spread @ weight**2
    return -(squares / variance + np.log(2 * np.pi * variance)).sum(axis=1) / 2


def divergence_of_gaussians(mean, covariance, other_mean, other_covariance):
    """KL(N(mean, covariance) ‖ N(other_mean, other_covariance)) for one pair."""
    precision = np.linalg.inv(other_covariance)
    shift = other_mean - mean
    volumes = np.linalg.slogdet(other_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return (np.trace(precision @ covariance) + shift @ precision @ shift - len(mean) + volumes) / 2


def probabilistic_pca(x, latent_dim, divisor):
    """(W, b, v) and the mean log-likelihood of x under the best linear model, from one eigendecomposition.

    Tipping and Bishop (1999): `divisor` is the number of examples; one less is the usual mistake.
    """
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / divisor)
    values, vectors = values[::-1], vectors[:, ::-1]
    variance = values[latent_dim:].mean()
    weight = (vectors[:, :latent_dim] * np.sqrt(values[:latent_dim] - variance)).T
    return weight, x.mean(axis=0), variance
