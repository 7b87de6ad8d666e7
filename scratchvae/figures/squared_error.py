"""L2 against cross-entropy, and the variance that "L2" leaves unsaid."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.figures.drawing import draw_curves, draw_images, make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.setting import Setting
from scratchvae.lab.likelihood import evaluate
from scratchvae.lab.posterior import count_active_units
from scratchvae.models.vae import VAE

__all__ = ["squared_error"]

# Variances per pixel beside those that the habits below stand for.
_FURTHER_VARIANCES = (0.1, 0.03, 0.01)
_SAMPLES = 10
_SHOWN = 14


def squared_error(setting: Setting) -> Finding:
    """One model per reduction of the squared error that people write, each a Gaussian of some variance v.

    With v the loss is Σ(x − x̂)²/2v + KL and a constant, so the plain sum of squares is v = 1/2, half of it v = 1,
    and the mean over D pixels v = D/2; v does what β = v does at v = 1.
    """
    pixels = setting.train.shape[1]
    habits = {pixels / 2: "mean of squares", 1.0: "half the sum", 0.5: "sum of squares"}
    results, strips = [], [setting.test[:_SHOWN]]
    for variance in (*habits, *_FURTHER_VARIANCES):
        vae = setting.trained(model={"likelihood": "gaussian", "likelihood_variance": variance})[0]
        told = habits.get(variance, "")
        results.append({"name": told or f"v = {variance:g}", "variance": variance, **_measure(vae, setting)})
        strips.append(vae.reconstruct(setting.test[:_SHOWN]))
    vae = setting.trained(model={"binarize": None})[0]
    cross_entropy = {"name": "cross-entropy", **_measure(vae, setting)}
    strips.append(vae.reconstruct(setting.test[:_SHOWN]))
    everything = [*results, cross_entropy]
    return Finding(
        ["loss", "v", "active units", "KL", "error per pixel", "−ELBO of this density"],
        [_row(result) for result in everything],
        _seen(results, cross_entropy),
        {"samples": _SAMPLES, "gaussian": results, "cross_entropy": cross_entropy},
        f"{setting.describe()}, L = {setting.latent_dim}, grey targets, β = 1; error per pixel: root mean "
        "square of the "
        f"reconstruction from the posterior mean; n = {len(setting.test)} test images, {_SAMPLES} samples of z each.",
        _draw(results, everything, np.concatenate(strips), setting),
    )


def _measure(vae: VAE, setting: Setting) -> dict[str, float]:
    terms = evaluate(vae, setting.test, num_samples=_SAMPLES, rng=setting.seed)
    error = setting.test - vae.reconstruct(setting.test)
    return {
        "active_units": count_active_units(vae.code(setting.test)),
        "kl": terms["kl"],
        "pixel_error": float(np.sqrt((error.astype(np.float64) ** 2).mean())),
        "negative_elbo": terms["negative_elbo"],
    }


def _row(result: dict[str, Any]) -> list[str]:
    return [
        result["name"],
        f"{result['variance']:g}" if "variance" in result else "–",
        str(result["active_units"]),
        f"{result['kl']:.2f}",
        f"{result['pixel_error']:.3f}",
        f"{result['negative_elbo']:.1f}",
    ]


def _seen(results: list[dict[str, Any]], cross_entropy: dict[str, Any]) -> str:
    mean, half, best = results[0], results[1], min(results, key=lambda result: result["negative_elbo"])
    collapsed = [result["name"] for result in results if result["active_units"] == 0]
    return (
        f"The variance is a β in disguise. With the mean over pixels, which is v = {mean['variance']:g}, "
        f"{mean['active_units']} dimensions are active and the error per pixel is {mean['pixel_error']:.3f}; with half "
        f"the sum of squares (v = 1) {half['active_units']} and {half['pixel_error']:.3f}. "
        + (f"Collapsed, with nothing wrong in the code: {', '.join(collapsed)}. " if collapsed else "")
        + f"Of these densities, v = {best['variance']:g} explains unseen images best "
        f"({best['negative_elbo']:.1f} nats; a "
        f"density of grey levels, so it may be negative), with {best['active_units']} active dimensions and "
        "an error of "
        f"{best['pixel_error']:.3f}: its standard deviation, {np.sqrt(best['variance']):.2f}, is of the order of the "
        f"error that remains. Cross-entropy on grey levels has {cross_entropy['active_units']} active "
        "dimensions and an error of "
        f"{cross_entropy['pixel_error']:.3f}; it has no variance to choose, but it is no density of grey "
        "levels, and its "
        f"{cross_entropy['negative_elbo']:.1f} nats must not be compared with the others."
    )


def _draw(
    results: list[dict[str, Any]], everything: list[dict[str, Any]], images: np.ndarray, setting: Setting
) -> Any:
    figure, axes = make_sheet(9.5, 7.4, "ABC;DDD", heights=(1, 1.5))
    variances = [result["variance"] for result in results]
    for panel, name, label in (
        ("A", "active_units", "active dimensions"),
        ("B", "pixel_error", "error per pixel"),
        ("C", "negative_elbo", "−ELBO (nats)"),
    ):
        curve = {"Gaussian": [result[name] for result in results]}
        draw_curves(axes[panel], variances, curve, "variance v of the likelihood", label)
        axes[panel].set_xscale("log")
    axes["A"].set_title("What is used")
    axes["B"].set_title("What is lost")
    axes["C"].set_title("What is explained")
    rows = ["test images", *(result["name"] for result in everything)]
    draw_images(axes["D"], images, setting.dataset.image_shape, _SHOWN, "Reconstructed", rows)
    return figure
