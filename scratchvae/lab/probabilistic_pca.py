"""Probabilistic PCA: the one latent-variable model whose log p(x) and whose best parameters are known exactly.

A VAE without hidden layers and with a Gaussian likelihood is this model, so both can be held against it. Derived in
`derivations/25-probabilistic_pca.md`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scratchvae.models.vae import VAE, check_vae
from scratchvae.validation import check_array, check_integer, check_number

__all__ = ["ProbabilisticPCA", "linear_log_likelihood", "probabilistic_pca"]


class ProbabilisticPCA(NamedTuple):
    """x = z weight + bias + noise, with z from N(0, I) and noise from N(0, variance I)."""

    weight: np.ndarray  # (L, D), rows orthogonal to each other
    bias: np.ndarray  # (D,)
    variance: float
    log_likelihood: float  # mean over the examples that it was fitted to, in nats: no such model has more


def probabilistic_pca(x: np.ndarray, latent_dim: int, variance: float | None = None) -> ProbabilisticPCA:
    """The maximum-likelihood linear model of x with latent_dim latent variables, by one eigendecomposition.

    (25.4) (25.5) (25.6)

    Parameters
    ----------
    x : ndarray (N, D)
    latent_dim : int
        L, less than D.
    variance : float, optional
        Of the noise, if it is given; by default the best one, the mean of the D − L smallest eigenvalues of the
        covariance (with 1/N) of x.

    Returns
    -------
    ProbabilisticPCA

    Raises
    ------
    ValueError
        If x has no variance beside its L largest principal components, so that its likelihood has no maximum.

    References
    ----------
    Tipping and Bishop, "Probabilistic Principal Component Analysis" (1999).
    """
    x = check_array("x", x, shape=("N", "D"), dtype=np.float64)
    dim = x.shape[1]
    if check_integer("latent_dim", latent_dim) >= dim:
        raise ValueError(f"latent_dim is {latent_dim}, expected less than the {dim} columns of x")
    bias = x.mean(axis=0)
    centred = x - bias
    # Over N, not N − 1: that is what maximises the likelihood.
    ascending, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    values, vectors = ascending[::-1], vectors[:, ::-1]
    if variance is None:
        variance = _noise_variance(values, latent_dim, len(x))
    variance = check_number("variance", variance, above=0)
    excess = np.maximum(values[:latent_dim] - variance, 0)
    weight = np.sqrt(excess)[:, None] * vectors[:, :latent_dim].T
    # Along the components that are kept the model has the variance of the data, elsewhere that of the noise.
    spread = np.concatenate([excess + variance, np.full(dim - latent_dim, variance)])
    log_likelihood = -(np.log(2 * np.pi * spread) + values / spread).sum() / 2
    return ProbabilisticPCA(weight, bias, variance, float(log_likelihood))


def _noise_variance(values: np.ndarray, latent_dim: int, count: int) -> float:
    """The mean of the eigenvalues (D,) that are not kept. (25.5)"""
    discarded = values[latent_dim:].mean()
    if discarded <= len(values) * np.finfo(float).eps * values[0]:
        raise ValueError(
            f"latent_dim is {latent_dim}, expected less: so many principal components are all of the {count} examples "
            "in x, and their likelihood grows without bound as the noise vanishes"
        )
    return float(discarded)


def linear_log_likelihood(vae: VAE, x: np.ndarray) -> np.ndarray:
    """log p(x) of each example under a linear VAE, exactly, in nats. (25.1) (25.2)

    Parameters
    ----------
    vae : VAE
        With hidden=() and likelihood="gaussian".
    x : ndarray (B, D)

    Returns
    -------
    ndarray (B,)
        In float64, whatever the model's precision.
    """
    if check_vae(vae).hidden or vae.likelihood.name != "gaussian":
        raise ValueError(
            f"vae has hidden={vae.hidden} and the likelihood {vae.likelihood.name!r}, expected hidden=() and "
            "'gaussian': log p(x) has a closed form for these alone"
        )
    weight, bias = (vae.parameters[f"decoder.0.{name}"].astype(np.float64) for name in ("weight", "bias"))
    variance = vae.likelihood_variance
    residual = vae.check_x(x).astype(np.float64) - bias
    # C = WᵀW + v I is D × D; M = I + W Wᵀ / v is only L × L, and has all that is needed.  (25.2)
    root = np.linalg.cholesky(np.eye(len(weight)) + weight @ weight.T / variance)
    explained = np.linalg.solve(root, weight @ residual.T / variance)
    distance = (residual**2).sum(axis=1) / variance - (explained**2).sum(axis=0)
    log_determinant = residual.shape[1] * np.log(2 * np.pi * variance) + 2 * np.log(np.diag(root)).sum()
    return -(distance + log_determinant) / 2
