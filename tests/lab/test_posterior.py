from __future__ import annotations

import numpy as np
import pytest

import scratchvae as sv
from scratchvae.lab.posterior import count_active_units, diagnose_posterior


def collapsed(rng):
    """A VAE whose posterior is the prior, whatever x is."""
    vae = sv.VAE(6, hidden=(5,), latent_dim=3, rng=rng)
    for name, parameter in vae.parameters.items():
        if name.startswith(("encoder.mean", "encoder.log_var")):
            parameter[...] = 0
    return vae


def test_a_collapsed_posterior_carries_nothing(rng):
    found = diagnose_posterior(collapsed(rng), rng.random((20, 6)), 0)
    assert found.kl_by_dimension.tolist() == [0, 0, 0]
    assert found.active_units == 0
    assert found.mutual_information == pytest.approx(0, abs=1e-6)


def test_a_posterior_that_tells_every_example_carries_the_logarithm_of_their_number(rng):
    """Catches a mixture over the wrong axis, one without the example itself, and a sum for a mean."""
    vae = collapsed(rng)
    vae.parameters["encoder.0.weight"][...] = np.eye(6, 5)
    vae.parameters["encoder.mean.weight"][0, 1] = 100
    vae.parameters["encoder.log_var.bias"][...] = -8
    x = np.zeros((7, 6))
    x[:, 0] = np.arange(7) / 7
    found = diagnose_posterior(vae, x, 0)
    assert found.mutual_information == pytest.approx(np.log(7), rel=1e-5)
    assert found.active_units == 1
    assert found.kl_by_dimension[1] == pytest.approx(
        found.kl_by_dimension[0] + (100 * x[:, 0]).dot(100 * x[:, 0]) / 14
    )


def test_mutual_information_of_two_gaussians_against_quadrature(rng):
    """Two examples, one dimension, means ±1 and unit variance."""
    vae = collapsed(rng)
    vae.parameters["encoder.0.weight"][...] = np.eye(6, 5)
    vae.parameters["encoder.mean.weight"][0, 0], vae.parameters["encoder.mean.bias"][0] = 2, -1
    x = np.zeros((1000, 6))
    x[::2, 0] = 1
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    # log of q(z|+1) over the mixture's density, at z = 1 + noise
    exact = weights @ -np.log(0.5 * (1 + np.exp(-((nodes + 2) ** 2) / 2 + nodes**2 / 2)))
    values = [diagnose_posterior(vae, x, seed).mutual_information for seed in range(4)]
    # one draw has a standard deviation below 1, so the mean of 4,000 one below 0.016: five of them
    assert np.mean(values) == pytest.approx(exact, abs=0.08)
    assert exact > 0.3


def test_active_units_are_judged_by_the_variance_of_the_mean():
    mean = np.zeros((10, 3))
    mean[::2, 1], mean[::2, 2] = 0.19, 0.21  # variances 0.0090 and 0.0110, on either side of 0.01
    assert count_active_units(mean) == 1
    with pytest.raises(ValueError, match=r"mean has shape \(3,\), expected \(B, L\)"):
        count_active_units(np.zeros(3))
