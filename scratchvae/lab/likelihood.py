"""How well a model explains data: the bound, and log p(x) itself by importance sampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_forward
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE, check_vae
from scratchvae.objectives.elbo import sampled_kl_forward
from scratchvae.objectives.importance_weighted import importance_weighted_forward
from scratchvae.randomness import NoiseStream, as_generator, spawn, standard_normal
from scratchvae.training.loop import average_terms, check_data, minibatch
from scratchvae.validation import check_integer

__all__ = ["evaluate", "log_marginal_likelihood"]

# Rows (samples × examples) that pass through the decoder at a time, which bounds the memory.
_ROWS = 8192


def log_marginal_likelihood(
    vae: VAE, x: np.ndarray, num_samples: int = 5000, rng: np.random.Generator | int | None = None
) -> np.ndarray:
    """log p(x) of each example, estimated by importance sampling from the posterior, in nats. (5.9)

    A lower bound in expectation (5.10); the more samples, the closer.

    Parameters
    ----------
    vae : VAE
    x : ndarray (B, D)
    num_samples : int
        Samples of z per example, all of which enter one mean.
    rng : Generator, int or None

    Returns
    -------
    ndarray (B,)
    """
    x = check_vae(vae).check_x(x)
    num_samples = check_integer("num_samples", num_samples)
    generator = as_generator(rng)
    mean, log_var, _ = vae.encoder_forward(x)
    estimates = np.empty(len(x))
    for row in range(len(x)):
        example, posterior = x[row : row + 1], (mean[row : row + 1], log_var[row : row + 1])
        log_weights = []
        for start in range(0, num_samples, _ROWS):
            shape = (min(_ROWS, num_samples - start), 1, vae.latent_dim)
            z, _ = gaussian_sample_forward(*posterior, standard_normal(generator, shape, vae.dtype))
            reconstruction = vae.integrand(example, *posterior, beta=0).value(z)
            log_weights.append(reconstruction - sampled_kl_forward(z, *posterior)[0])
        bound, _ = importance_weighted_forward(np.concatenate(log_weights))
        estimates[row] = bound[0]
    return estimates


def evaluate(
    model: VAE | Autoencoder,
    x: np.ndarray,
    *,
    num_samples: int = 1,
    likelihood_samples: int = 0,
    likelihood_examples: int = 1000,
    rng: np.random.Generator | int | None = 0,
) -> dict[str, Any]:
    """Mean loss and its terms over a data set, binarized as the model was trained, in nats per example.

    Parameters
    ----------
    model : VAE or Autoencoder
    x : ndarray (N, D)
        Floats or bytes.
    num_samples : int
        Samples of z per example for the bound.
    likelihood_samples : int
        Samples of z per example for log p(x) of a VAE; 0 leaves it out.
    likelihood_examples : int
        log p(x) is estimated on so many of the first examples.
    rng : Generator, int or None

    Returns
    -------
    dict
        loss (with the model's beta), reconstruction, kl, negative_elbo (with beta = 1), binarize, examples,
        num_samples; with likelihood_samples also log_likelihood, its standard_error over examples, and how
        many examples and samples it took.
    """
    data = check_data("x", x, model)
    bound_rng, likelihood_rng = spawn(as_generator(rng), 2)
    loss, reconstruction, kl = average_terms(
        model, data, bound_rng, check_integer("num_samples", num_samples)
    )
    result: dict[str, Any] = {
        "loss": loss,
        "reconstruction": reconstruction,
        "kl": kl,
        "negative_elbo": kl - reconstruction,
        "binarize": model.binarize,
        "examples": len(data),
        "num_samples": num_samples,
    }
    if check_integer("likelihood_samples", likelihood_samples, low=0) and isinstance(model, VAE):
        first = data[: check_integer("likelihood_examples", likelihood_examples)]
        result |= _mean_log_likelihood(model, first, likelihood_samples, likelihood_rng)
    return result


def _mean_log_likelihood(
    vae: VAE, data: np.ndarray, num_samples: int, rng: np.random.Generator
) -> dict[str, Any]:
    pixel_rng, noise_rng = spawn(rng, 2)
    batch = minibatch(data, vae, NoiseStream(pixel_rng))
    values = log_marginal_likelihood(vae, batch, num_samples, noise_rng)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {
        "log_likelihood": float(values.mean()),
        "log_likelihood_standard_error": error,
        "log_likelihood_examples": len(values),
        "log_likelihood_samples": num_samples,
    }
