"""What a VAE's posterior carries: KL by dimension, active units, mutual information. Collapse shows in all three."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scratchvae.densities.gaussian import gaussian_log_density_forward, gaussian_sample_forward
from scratchvae.models.vae import VAE, check_vae
from scratchvae.objectives.importance_weighted import importance_weighted_forward
from scratchvae.randomness import as_generator, standard_normal
from scratchvae.validation import check_array

__all__ = ["PosteriorDiagnosis", "count_active_units", "diagnose_posterior"]

# A latent dimension is active if its mean varies by more than this over the data. Burda et al. 2015 saw two
# separate groups of dimensions, on either side of it.
_ACTIVE_VARIANCE = 0.01
# Examples among which the aggregate posterior is a mixture: every pair is looked at.
_MIXTURE = 1000


class PosteriorDiagnosis(NamedTuple):
    """What the latent variables say about the data, in nats."""

    kl_by_dimension: np.ndarray  # (L,), mean over the examples
    active_units: int
    mutual_information: float  # between the example and z; at most log of the number of examples


def count_active_units(mean: np.ndarray) -> int:
    """How many latent dimensions have a posterior mean (B, L) that varies over the examples."""
    return int((check_array("mean", mean, shape=("B", "L")).var(axis=0) > _ACTIVE_VARIANCE).sum())


def diagnose_posterior(
    vae: VAE, x: np.ndarray, rng: np.random.Generator | int | None = None
) -> PosteriorDiagnosis:
    """Look for posterior collapse, on data x.

    The mutual information is E log q(z|x) − log q(z) at one draw of z for each of the first 1,000 examples, where
    q(z) is the mixture of their posteriors (Hoffman and Johnson 2016). It is a sampled value: near zero it may be a
    little below.

    Parameters
    ----------
    vae : VAE
    x : ndarray (B, D)
    rng : Generator, int or None

    Returns
    -------
    PosteriorDiagnosis
    """
    mean, log_var = check_vae(vae).encode(x)
    by_dimension = 0.5 * (mean**2 + np.expm1(log_var) - log_var).mean(axis=0, dtype=np.float64)
    posterior = mean[:_MIXTURE], log_var[:_MIXTURE]
    noise = standard_normal(as_generator(rng), (1, *posterior[0].shape), vae.dtype)
    z = gaussian_sample_forward(*posterior, noise)[0][0]
    # log q(z of one example | every example): (examples, draws)
    log_densities = np.stack(
        [
            gaussian_log_density_forward(z[None], m[None], v[None])[0][0]
            for m, v in zip(*posterior, strict=True)
        ]
    )
    own = np.diagonal(log_densities)
    information = float((own - importance_weighted_forward(log_densities)[0]).mean())
    return PosteriorDiagnosis(by_dimension, count_active_units(mean), information)
