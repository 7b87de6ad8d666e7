from __future__ import annotations

import numpy as np
import pytest

import scratchvae as sv


def make(free_bits, **settings):
    vae = sv.FreeBitsVAE(
        6, free_bits, hidden=(5,), latent_dim=4, activation="tanh", dtype="f8", rng=0, **settings
    )
    vae.theta += 0.5 * np.random.default_rng(1).standard_normal(vae.theta.size)
    return vae


def by_dimension(vae, x):
    mean, log_var = vae.encode(x)
    return ((mean**2 + np.exp(log_var) - 1 - log_var) / 2).mean(axis=0)


@pytest.mark.parametrize("free_bits", [0.0, 0.3, 1e3])
def test_the_loss_charges_each_dimension_at_least_its_allowance(free_bits, rng):
    vae = make(free_bits, beta=0.6)
    x, noise = rng.random((5, 6)), rng.standard_normal((2, 5, 4))
    charged = np.maximum(by_dimension(vae, x), free_bits).sum()
    expected = -vae.elbo(x, noise).reconstruction.mean() + 0.6 * charged
    assert vae.loss(x, noise) == pytest.approx(expected, rel=1e-12)
    assert vae.loss(x, noise=noise) == vae.loss(x, noise)
    assert vae.loss_and_gradients(x, noise)[0] == pytest.approx(expected, rel=1e-12)
    assert vae.loss_and_gradients(x, noise[0])[0] == pytest.approx(vae.loss(x, noise[0]), rel=1e-12)


@pytest.mark.parametrize("free_bits", [0.05, 0.5, 5.0])
def test_the_whole_model_passes_its_check(free_bits):
    """Against complex steps of an oracle with the maximum in it, by the fused kernel and by layers."""
    assert sv.check_gradients(make(free_bits, beta=0.8), batch_size=3, num_samples=2, rng=1).passed
    assert sv.check_gradients(make(free_bits, beta=0.8), batch_size=3, num_samples=1, rng=1).passed


def test_far_below_the_allowance_only_the_reconstruction_is_felt(rng):
    forgiven, unweighted = make(1e6, beta=0.7), make(1e6, beta=0.0)
    x, noise = rng.integers(0, 2, (4, 6)).astype(float), rng.standard_normal((4, 4))
    expected = unweighted.loss_and_gradients(x, noise)[1]
    for name, gradient in forgiven.loss_and_gradients(x, noise)[1].items():
        assert gradient == pytest.approx(expected[name], rel=1e-10, abs=1e-13 * np.abs(expected[name]).max())


def test_a_run_can_be_kept_and_resumed(rng, tmp_path):
    x = rng.random((20, 6))
    vae = make(5.0)
    history = sv.fit(vae, x, epochs=2, batch_size=5, rng=0, checkpoints=tmp_path)
    again = sv.resume(tmp_path, x).model
    assert again.config() == vae.config()
    assert again.free_bits == 5.0
    assert (again.theta == vae.theta).all()
    # the history has the bound's terms, its loss the shortfall beside them
    last = history.epochs[-1]
    assert last.loss > last.kl - last.reconstruction + 0.01


def test_training_spends_the_allowance(rng):
    """On noise there is nothing to learn: a VAE collapses, free bits hold the KL near what is free."""
    x = rng.integers(0, 2, (64, 6)).astype(np.float32)
    spent = {}
    for free_bits in (0.0, 0.4):
        vae = sv.FreeBitsVAE(6, free_bits, hidden=(8,), latent_dim=2, rng=0)
        sv.fit(vae, x, epochs=150, batch_size=64, learning_rate=0.01, rng=0, progress=False)
        spent[free_bits] = by_dimension(vae, x).min()
    assert spent[0.0] < 0.1
    assert spent[0.4] == pytest.approx(0.4, abs=0.1)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="kl is 'sampled', expected 'analytic'"):
        sv.FreeBitsVAE(6, kl="sampled")
    with pytest.raises(ValueError, match="free_bits is -1, expected a finite number at least 0"):
        sv.FreeBitsVAE(6, free_bits=-1)
