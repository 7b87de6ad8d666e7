"""How well a model explains data: the bound, and log p(x) itself by importance sampling."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scratchvae import kernels
from scratchvae.densities.gaussian import gaussian_sample_forward
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE, check_vae
from scratchvae.objectives.elbo import sampled_kl_forward
from scratchvae.objectives.importance_weighted import (
    effective_sample_size,
    importance_weighted_forward,
    monte_carlo_error,
)
from scratchvae.randomness import NoiseStream, as_generator, spawn, standard_normal
from scratchvae.training.loop import average_terms
from scratchvae.training.minibatch import check_data, minibatch
from scratchvae.training.progress import Progress
from scratchvae.validation import check_integer

__all__ = ["LogLikelihood", "bound_ladder", "estimate_log_likelihood", "evaluate", "log_marginal_likelihood"]

# Rows (samples × examples) that pass through the decoder at a time: enough for a product to reach its speed, few
# enough for the rows of the usual networks to stay in the cache from one layer to the next.
_ROWS = 2048
# Bounds that published tables give; each number divides the next, so that they are in order for every draw.
_RUNGS = (1, 5, 50, 500)
# With fewer effective samples the error is more than 1/√10, a third of a nat, and a first order no longer tells it.
_FEW_EFFECTIVE_SAMPLES = 10


class LogLikelihood(NamedTuple):
    """An estimate of log p(x) of each example, and how sure it is; in nats."""

    value: np.ndarray  # (B,), low on average
    monte_carlo_error: np.ndarray  # (B,), its standard error over the samples of z; NaN for one sample
    effective_sample_size: np.ndarray  # (B,), between 1 and num_samples
    bounds: dict[
        int, np.ndarray
    ]  # by number of samples, the importance-weighted bounds (B,); the last is value

    def summary(self) -> dict[str, Any]:
        """What `evaluate` tells of it: means over the examples, in nats, with their errors; all of it fit for JSON."""
        num_samples = max(self.bounds)
        sizes, errors = self.effective_sample_size, self.monte_carlo_error
        return {
            "log_likelihood": float(self.value.mean()),
            "log_likelihood_standard_error": _standard_error(self.value),
            # the errors of the examples are independent
            "log_likelihood_monte_carlo_error": float(np.linalg.norm(errors) / len(errors))
            if num_samples > 1
            else None,
            "log_likelihood_examples": len(self.value),
            "log_likelihood_samples": num_samples,
            "effective_sample_size_median": float(np.median(sizes)),
            "effective_sample_size_smallest": float(sizes.min()),
            "bounds": [
                {"samples": k, "bound": float(values.mean()), "standard_error": _standard_error(values)}
                for k, values in self.bounds.items()
            ],
            "warning": _warning(sizes, num_samples),
        }


def log_marginal_likelihood(
    vae: VAE, x: np.ndarray, num_samples: int = 5000, rng: np.random.Generator | int | None = None
) -> np.ndarray:
    """log p(x) of each example, estimated by importance sampling from the posterior, in nats. (5.9)

    A lower bound in expectation (5.10); the more samples, the closer. `estimate_log_likelihood` says how close.

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
    return estimate_log_likelihood(vae, x, num_samples, rng).value


def estimate_log_likelihood(
    vae: VAE,
    x: np.ndarray,
    num_samples: int = 5000,
    rng: np.random.Generator | int | None = None,
    progress: bool = False,
) -> LogLikelihood:
    """log p(x) of each example by importance sampling, with its error, and the bounds below it. (5.9) (22.9)

    Parameters
    ----------
    vae : VAE
    x : ndarray (B, D)
    num_samples : int
        Samples of z per example, all of which enter one mean.
    rng : Generator, int or None
    progress : bool
        Report on stderr, once two seconds have passed.

    Returns
    -------
    LogLikelihood
    """
    x = check_vae(vae).check_x(x)
    num_samples = check_integer("num_samples", num_samples)
    generator = as_generator(rng)
    posterior = vae.encoder_forward(x)[:2]
    values, errors, sizes = np.empty((3, len(x)))
    ladders = []
    with Progress("log p(x)", len(x), progress) as bar:
        for row in range(len(x)):
            example, mean, log_var = (array[row : row + 1] for array in (x, *posterior))
            log_weights = _log_weights(vae, example, mean, log_var, num_samples, generator)
            bound, cache = importance_weighted_forward(log_weights)
            values[row], errors[row] = bound[0], monte_carlo_error(cache.shares)[0]
            sizes[row] = effective_sample_size(cache.shares)[0]
            ladders.append(bound_ladder(log_weights[:, 0]) | {num_samples: values[row]})
            bar.advance()
    bounds = {k: np.array([ladder[k] for ladder in ladders]) for k in ladders[0]}
    return LogLikelihood(values, errors, sizes, bounds)


def _log_weights(
    vae: VAE,
    x: np.ndarray,
    mean: np.ndarray,
    log_var: np.ndarray,
    num_samples: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """log p(x, z) − log q(z|x) at samples of z, (num_samples, 1), of one example; a piece at a time."""
    pieces = []
    for start in range(0, num_samples, _ROWS):
        shape = (min(_ROWS, num_samples - start), 1, vae.latent_dim)
        z, _ = gaussian_sample_forward(mean, log_var, standard_normal(generator, shape, vae.dtype))
        pieces.append(_reconstruction(vae, x, z) - sampled_kl_forward(z, mean, log_var)[0])
    return np.concatenate(pieces)


def _reconstruction(vae: VAE, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """log p(x|z), (S, 1), of one example at z (S, 1, L): the integrand's value by kernels that keep nothing.

    Here nearly all of the time is spent, and the way back, for which layers keep what they see, is never gone.
    """
    output = z[:, 0]
    for layer in vae.decoder_layers:
        output = kernels.dense_activation(output, layer.weight, layer.bias, layer.activation.name)  # (1.1)
    if vae.likelihood.name != "bernoulli":
        return vae.likelihood.forward(x, output[:, None])[0]
    nothing = np.zeros(len(output), output.dtype)  # a derivative that nobody asks for
    value = kernels.bernoulli_value_and_gradient(x, output, nothing, np.empty_like(output))  # (3.2)
    return value[:, None]


def bound_ladder(log_weights: np.ndarray) -> dict[int, float]:
    """Estimates of the importance-weighted bounds of fewer samples, from the same samples. (22.11)

    Parameters
    ----------
    log_weights : ndarray (S,)
        Of one example.

    Returns
    -------
    dict of int to float
        By number of samples: 1 (the ELBO), 5, 50 and 500, as far as they divide S and are less.
    """
    count = len(log_weights)
    rungs = [k for k in _RUNGS if k < count and count % k == 0]
    return {k: float(importance_weighted_forward(log_weights.reshape(-1, k).T)[0].mean()) for k in rungs}


def evaluate(
    model: VAE | Autoencoder,
    x: np.ndarray,
    *,
    num_samples: int = 1,
    likelihood_samples: int = 0,
    likelihood_examples: int = 1000,
    rng: np.random.Generator | int | None = 0,
    progress: bool = False,
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
    progress : bool
        Report on stderr, once two seconds have passed, while log p(x) is estimated.

    Returns
    -------
    dict
        loss (with the model's beta), reconstruction, kl, negative_elbo (with beta = 1), binarize, examples,
        num_samples; with likelihood_samples also log_likelihood, its standard_error over examples, its
        monte_carlo_error over samples of z (which the former includes), how many examples and samples it took,
        median and smallest effective_sample_size, the bounds from the ELBO up to log p(x), and a warning if an
        effective sample size is small, or else None.
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
        result |= _mean_log_likelihood(model, first, likelihood_samples, likelihood_rng, progress)
    return result


def _mean_log_likelihood(
    vae: VAE, data: np.ndarray, num_samples: int, rng: np.random.Generator, progress: bool
) -> dict[str, Any]:
    pixel_rng, noise_rng = spawn(rng, 2)
    batch = minibatch(data, vae, NoiseStream(pixel_rng))
    return estimate_log_likelihood(vae, batch, num_samples, noise_rng, progress).summary()


def _standard_error(values: np.ndarray) -> float | None:
    """Of the mean over examples (B,); one example has no spread."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _warning(sizes: np.ndarray, num_samples: int) -> str | None:
    """What to know about effective sample sizes (B,) before log p(x) is quoted."""
    few = int((sizes < _FEW_EFFECTIVE_SAMPLES).sum())
    if not few:
        return None
    return (
        f"in {few} of {len(sizes)} examples fewer than {_FEW_EFFECTIVE_SAMPLES} of {num_samples} samples have nearly "
        "all the weight: their log p(x) is likely too low and its error understated; take more samples"
    )
