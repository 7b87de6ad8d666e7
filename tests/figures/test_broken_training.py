from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scratchvae.figures.broken_training import MISTAKES, MistakenVAE, broken_training
from scratchvae.models.vae import VAE
from tests.figures.checks import check_finding, tiny


def test_mistakes_cost_what_they_cost(tmp_path: Path) -> None:
    """Catches a mistake that is not made, and one that is made in the evaluation too."""
    setting = tiny(40, train=600, test=120)
    record = check_finding("broken-training", setting, broken_training(setting), tmp_path)
    results = {result["mistake"]: result for result in record["results"]}
    assert list(results) == list(MISTAKES)
    right = results["none"]["negative_elbo"]
    assert results["z detached"]["kl"] < 0.1
    assert results["z detached"]["negative_elbo"] > right + 0.5
    assert results["reconstruction averaged"]["kl"] < 0.1
    assert results["KL averaged"]["kl"] > 3 * results["none"]["kl"]
    for mistake in ("log-variance for σ", "KL averaged"):
        assert results[mistake]["negative_elbo"] > right + 1.5


def gradients(mistake: str, x: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    vae = MistakenVAE(6, mistake, hidden=(5,), latent_dim=3, activation="tanh", dtype="f8", rng=0)
    vae.theta += 0.3 * np.random.default_rng(0).standard_normal(vae.theta.size)
    return vae.loss_and_gradients(x, noise)[1]


@pytest.mark.parametrize("mistake", ["none", "z detached", "noise of shape (B, 1)", "log-variance for σ"])
def test_each_mistake_is_the_one_that_it_is_called(mistake: str, rng: np.random.Generator) -> None:
    right = VAE(6, hidden=(5,), latent_dim=3, activation="tanh", dtype="f8", rng=0)
    right.theta += 0.3 * np.random.default_rng(0).standard_normal(right.theta.size)
    x, noise = rng.random((4, 6)), rng.standard_normal((4, 3))
    if mistake == "noise of shape (B, 1)":
        expected = right.loss_and_gradients(x, np.repeat(noise[:, :1], 3, axis=1))[1]
    else:
        expected = right.loss_and_gradients(x, noise)[1]
    found = gradients(mistake, x, noise)
    names = [name for name in found if mistake != "z detached" or name.startswith("decoder")]
    if mistake == "log-variance for σ":
        assert not np.allclose(found["decoder.0.weight"], expected["decoder.0.weight"])
        return
    for name in names:
        assert found[name] == pytest.approx(expected[name], rel=1e-10, abs=1e-14)
    if mistake == "z detached":  # what is left for the encoder is the KL's gradient
        unread = {**right.parameters}
        for name in ("decoder.0.weight",):
            unread[name][...] = 0  # a decoder that does not read z sends nothing back
        from_kl = right.loss_and_gradients(x, noise)[1]
        assert found["encoder.0.weight"] == pytest.approx(from_kl["encoder.0.weight"], rel=1e-10)
