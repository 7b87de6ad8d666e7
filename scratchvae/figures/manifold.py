"""Reconstructions, samples, and the two-dimensional manifold that a VAE with two latent dimensions decodes to."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from scratchvae.figures.drawing import draw_images, make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.neighbours import Neighbours
from scratchvae.figures.setting import Setting
from scratchvae.lab.likelihood import evaluate

__all__ = ["manifold"]

_SIDE = 16  # of the manifold's grid
_SHOWN = 16
_DRAWS = 1000
_SAMPLES = 10


def manifold(setting: Setting) -> Finding:
    """One model with two latent dimensions and one with more, on the same images.

    The grid takes z at evenly spaced quantiles of the prior, so each of its images stands for the same share of the
    prior's mass.
    """
    judge = Neighbours(setting.train, setting.labels[0])
    real = float(judge.look(setting.test)[1].max(axis=1).mean())
    draw_rng = setting.generators(1)[0]
    results, strips = {}, [setting.test[:_SHOWN]]
    figure, axes = make_sheet(9, 10.9, "A;B", heights=(1, 3.1))
    for latent_dim in sorted({2, setting.latent_dim}):
        vae = setting.trained(model={"latent_dim": latent_dim})[0]
        drawn = vae.sample(_DRAWS, draw_rng)
        terms = evaluate(vae, setting.test, num_samples=_SAMPLES, rng=setting.seed)
        error = (setting.test - vae.reconstruct(setting.test)).astype(np.float64)
        results[f"L = {latent_dim}"] = {
            "negative_elbo": terms["negative_elbo"],
            "pixel_error": float(np.sqrt((error**2).mean())),
            "confidence_of_draws": float(judge.look(drawn)[1].max(axis=1).mean()),
        }
        strips += [vae.reconstruct(setting.test[:_SHOWN]), drawn[:_SHOWN]]
        if latent_dim == 2:
            quantiles = [NormalDist().inv_cdf((i + 0.5) / _SIDE) for i in range(_SIDE)]
            points = np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1).reshape(-1, 2)
            grid = vae.likelihood.mean(vae.decode(points))
    rows = ["test images"]
    for name in results:
        rows += [f"{name}: reconstructed", "drawn from the prior"]
    draw_images(axes["A"], np.concatenate(strips), setting.dataset.image_shape, _SHOWN, rows=rows)
    draw_images(
        axes["B"], grid, setting.dataset.image_shape, _SIDE, "L = 2: the manifold, at quantiles of the prior"
    )
    classes = judge.classify(grid)
    return Finding(
        ["model", "−ELBO", "error per pixel", "confidence in draws"],
        [_row(name, result) for name, result in results.items()],
        _seen(results, real, len(np.unique(classes))),
        {
            "samples": _SAMPLES,
            "draws": _DRAWS,
            "confidence_of_test_images": real,
            "models": results,
            "grid_classes": classes.reshape(_SIDE, _SIDE).tolist(),
        },
        f"{setting.describe()}, dynamic binarization; n = {len(setting.test)} test images, {_SAMPLES} samples "
        "of z each, "
        f"{_DRAWS} draws from the prior; confidence: share of the 10 nearest training images that agree on a class.",
        figure,
    )


def _row(name: str, result: dict[str, float]) -> list[str]:
    numbers = ("negative_elbo", "pixel_error", "confidence_of_draws")
    return [name, *(f"{result[key]:.{places}f}" for key, places in zip(numbers, (2, 3, 2), strict=True))]


def _seen(results: dict[str, dict[str, Any]], real: float, classes: int) -> str:
    two, more = next(iter(results.values())), list(results.values())[-1]
    return (
        f"The manifold shows {classes} of the 10 classes, as the nearest training images judge its images, and between "
        f"them the digits pass into each other. Two dimensions explain unseen images with {two['negative_elbo']:.2f} "
        f"nats and reconstruct them with an error of {two['pixel_error']:.3f} per pixel; {list(results)[-1]} with "
        f"{more['negative_elbo']:.2f} nats and {more['pixel_error']:.3f}. The nearest images of a draw from the prior "
        f"agree to {two['confidence_of_draws']:.2f} and {more['confidence_of_draws']:.2f}, those of a test image to "
        f"{real:.2f}: draws are the decoder's means, smoother than any image, and some are between two digits."
    )
