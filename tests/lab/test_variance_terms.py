"""The terms of the loss add up, draw by draw, and the analytic KL has no noise."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.lab.variance import gradient_variance
from tests.models.cases import make_case

NAMES = ("pathwise", "sticking-the-landing", "score-function", "measure-valued", "taylor-pathwise")


def test_means_of_the_terms_add_up(rng):
    # The estimators are linear in f and all terms see the same noise: not only in expectation.
    case = make_case(rng, kl="sampled")
    whole, *parts = (
        gradient_variance(case.vae, case.x, NAMES, 100, 0, term=term)
        for term in ("loss", "reconstruction", "kl")
    )
    for name in NAMES:
        for key, mean in whole.mean[name].items():
            total = parts[0].mean[name][key] + parts[1].mean[name][key]
            np.testing.assert_allclose(total, mean, rtol=1e-8, atol=1e-12, err_msg=f"{name} {key}")
        assert parts[1].total(name, "decoder") == 0
        assert parts[1].total(name, "encoder") > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_analytic_kl_has_no_noise_and_the_reconstruction_has_all(rng, name):
    case = make_case(rng)
    whole, reconstruction, kl = (
        gradient_variance(case.vae, case.x, name, 100, 0, term=term)
        for term in ("loss", "reconstruction", "kl")
    )
    assert kl.total(name) == 0
    assert kl.signal_to_noise(name) == np.inf
    np.testing.assert_equal(reconstruction.variance, whole.variance)
    for key, mean in whole.mean[name].items():
        np.testing.assert_allclose(
            reconstruction.mean[name][key] + kl.mean[name][key], mean, rtol=1e-9, atol=1e-13
        )
