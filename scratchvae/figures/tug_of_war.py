"""Reconstruction pulls the noise down, the KL pulls it up: both terms and the noise, as training goes on."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_forward
from scratchvae.figures.drawing import draw_curves, make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.setting import Setting
from scratchvae.lab.posterior import count_active_units
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream
from scratchvae.training.data import binarize

__all__ = ["tug_of_war"]

_SAMPLES = 10


def tug_of_war(setting: Setting) -> Finding:
    """Measured on the test images, always with the same pixels and noise, before training and after each epoch."""
    pixel_rng, noise_rng = setting.generators(2)
    x = binarize(setting.test, "dynamic", NoiseStream(pixel_rng))
    noise = NoiseStream(noise_rng).standard_normal((_SAMPLES, len(x), setting.latent_dim), np.float32)
    moments: list[dict[str, float]] = []

    def look(model: VAE, epoch: int) -> None:
        moments.append(_look(epoch, model, x, noise))

    setting.trained(watch=look)
    first, last = moments[0], moments[-1]
    columns = ["epoch", "−log p(x|z)", "KL", "mean σ", "active units", "what the noise costs"]
    shown = sorted({0, 1, 3, 10, 30, 100, setting.epochs} & set(range(setting.epochs + 1)))
    return Finding(
        columns,
        [_row(moments[epoch]) for epoch in shown],
        _seen(moments),
        {"samples": _SAMPLES, "first": first, "last": last, "moments": moments},
        f"{setting.describe()}, L = {setting.latent_dim}, dynamic binarization; n = {len(x)} test images, "
        f"{_SAMPLES} samples of z each. What the noise costs: −log p(x|z) at draws of z less that at its mean.",
        _draw(moments),
    )


def _look(epoch: int, vae: VAE, x: np.ndarray, noise: np.ndarray) -> dict[str, float]:
    mean, log_var = vae.encode(x)
    sigma = np.exp(log_var / 2)
    elbo = vae.elbo(x, noise)
    z, _ = gaussian_sample_forward(mean, log_var, np.zeros_like(noise[:1]))
    without_noise = vae.likelihood.forward(x, vae.decode(z[0])[None])[0]
    return {
        "epoch": epoch,
        "negative_reconstruction": -float(elbo.reconstruction.mean()),
        "kl": float(elbo.kl.mean()),
        "mean_sigma": float(sigma.mean()),
        "smallest_sigma": float(sigma.mean(axis=0).min()),
        "largest_sigma": float(sigma.mean(axis=0).max()),
        "active_units": count_active_units(mean),
        "cost_of_noise": float(without_noise.mean() - elbo.reconstruction.mean()),
    }


def _row(moment: dict[str, float]) -> list[str]:
    return [
        str(moment["epoch"]),
        f"{moment['negative_reconstruction']:.2f}",
        f"{moment['kl']:.2f}",
        f"{moment['mean_sigma']:.3f}",
        str(moment["active_units"]),
        f"{moment['cost_of_noise']:.2f}",
    ]


def _seen(moments: list[dict[str, float]]) -> str:
    first, last = moments[0], moments[-1]
    loudest = max(moments, key=lambda moment: moment["cost_of_noise"])
    widest = max(moments, key=lambda moment: moment["mean_sigma"])
    narrower = last["mean_sigma"] < first["mean_sigma"]
    return (
        f"Before training the decoder is bad and z is of no use: σ is {first['mean_sigma']:.2f}, the KL "
        f"{first['kl']:.2f} nats, and the noise costs the reconstruction {first['cost_of_noise']:.2f} nats. While the "
        f"decoder is bad the noise does not have to shrink: it is largest after epoch {widest['epoch']}, with "
        "a mean σ of "
        f"{widest['mean_sigma']:.2f}. As the decoder learns to read z, −log p(x|z) goes from "
        f"{first['negative_reconstruction']:.1f} to {last['negative_reconstruction']:.1f} nats while the KL goes to "
        f"{last['kl']:.1f}, and the noise {'shrinks' if narrower else 'does not shrink'}: the mean σ ends at "
        f"{last['mean_sigma']:.2f}, in the dimension that carries most at {last['smallest_sigma']:.2f}, in that which "
        f"carries least at {last['largest_sigma']:.2f}. It is never zero, since the last digits of z would "
        "cost more KL "
        f"than they save; so at the end the noise costs {last['cost_of_noise']:.2f} nats, at most "
        f"{loudest['cost_of_noise']:.2f} (after epoch {loudest['epoch']})."
    )


def _draw(moments: list[dict[str, float]]) -> Any:
    figure, axes = make_sheet(10, 3.6, "ABC")
    epochs = [moment["epoch"] for moment in moments]
    panels: dict[str, tuple[str, dict[str, str]]] = {
        "A": ("nats per image", {"negative_reconstruction": "−log p(x|z)"}),
        "B": ("nats per image", {"kl": "KL to the prior", "cost_of_noise": "cost of the noise"}),
        "C": (
            "σ of the posterior",
            {
                "largest_sigma": "least used dimension",
                "mean_sigma": "mean of all",
                "smallest_sigma": "most used",
            },
        ),
    }
    titles = {"A": "Reconstruction pulls", "B": "the KL pulls back", "C": "and the noise is between"}
    for panel, (label, names) in panels.items():
        curves = {told: [moment[name] for moment in moments] for name, told in names.items()}
        draw_curves(axes[panel], epochs, curves, "epochs of training", label, titles[panel])
        axes[panel].set_xscale("symlog", linthresh=1)
        axes[panel].xaxis.set_major_formatter("{x:.0f}")
        if len(curves) > 1:
            axes[panel].legend(frameon=False)
    return figure
