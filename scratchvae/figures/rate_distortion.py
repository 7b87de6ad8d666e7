"""The weight of the KL from 0, which leaves an autoencoder with noise, to 10: what is kept, and what it costs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from scratchvae.figures.drawing import draw_curves, draw_images, make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.setting import Setting
from scratchvae.plots import COLOURS

__all__ = ["rate_distortion"]

_BETAS = (0.0, 0.1, 0.3, 1.0, 2.0, 4.0, 10.0)
_SAMPLES = 10
_SHOWN = 14


def rate_distortion(setting: Setting) -> Finding:
    """One model per beta, alike in everything else; all are evaluated on the same test images."""
    points, strips = [], []
    sampling_rng = setting.generators(1)[0]
    for beta in _BETAS:
        vae = setting.trained(model={"beta": beta})[0]
        measured = setting.measured(vae, _SAMPLES)
        points.append({"beta": beta, "rate": measured.pop("kl"), **measured})
        strips += [vae.reconstruct(setting.test[:_SHOWN]), vae.sample(_SHOWN, sampling_rng)]
    at_one = next(point for point in points if point["beta"] == 1)
    return Finding(
        ["β", "rate: KL", "distortion: −log p(x|z)", "−ELBO (β = 1)", "mean σ", "active units"],
        [_row(point) for point in points],
        _seen(points, at_one),
        {"samples": _SAMPLES, "points": points},
        f"{setting.describe()}, L = {setting.latent_dim}, dynamic binarization; n = {len(setting.test)} test images, "
        f"{_SAMPLES} samples of z each. Dotted: pairs with the same −ELBO as β = 1. The bar of "
        f"β = 0 goes on to {points[0]['rate']:.0f}.",
        _draw(points, at_one, np.concatenate([setting.test[:_SHOWN], *strips]), setting),
    )


def _row(point: dict[str, float]) -> list[str]:
    return [
        f"{point['beta']:g}",
        *(f"{point[name]:.2f}" for name in ("rate", "distortion", "negative_elbo")),
        f"{point['mean_sigma']:.3g}",
        str(point["active_units"]),
    ]


def _seen(points: list[dict[str, float]], at_one: dict[str, float]) -> str:
    rates = [point["rate"] for point in points]
    distortions = [point["distortion"] for point in points]
    falls = all(a > b for a, b in pairwise(rates))
    rises = all(a < b for a, b in pairwise(distortions))
    best = min(points, key=lambda point: point["negative_elbo"])
    zero, last = points[0], points[-1]
    return (
        f"With growing β the rate {'falls at every step' if falls else 'does not fall at every step'}, from "
        f"{zero['rate']:.1f} to {last['rate']:.2f} nats, and the distortion on test images "
        f"{'rises at every step' if rises else 'does not rise at every step'}, from {zero['distortion']:.1f} to "
        f"{last['distortion']:.1f}. "
        + _why(rises)
        + f"At β = 0 nothing holds σ up (it is {zero['mean_sigma']:.2g}) and nothing keeps the codes near the prior: "
        f"the KL is unbounded, and so is the loss of the ELBO, {zero['negative_elbo']:.1f} against "
        f"{at_one['negative_elbo']:.1f} nats at β = 1. At β = 10, {last['active_units']} dimensions carry "
        "anything. The "
        f"best bound on unseen images is that of β = {best['beta']:g}, {best['negative_elbo']:.2f} nats"
        + ("." if best["beta"] == 1 else f"; β = 1, which trains it, has {at_one['negative_elbo']:.2f}.")
    )


def _why(rises: bool) -> str:
    if rises:
        return ""
    return "Where it does not, what a small β lets the model remember of the training images is no help on others. "


def _draw(
    points: list[dict[str, float]], at_one: dict[str, float], images: np.ndarray, setting: Setting
) -> Any:
    figure, axes = make_sheet(10, 10, "AB;CC", heights=(1, 1.9))
    rates, distortions = ([point[name] for point in points] for name in ("rate", "distortion"))
    curve = axes["A"]
    draw_curves(
        curve, rates, {"one model each": distortions}, "rate: KL (nats)", "distortion: −log p(x|z) (nats)"
    )
    for i, point in enumerate(points):
        if i + 1 < len(points) and abs(points[i + 1]["rate"] - point["rate"]) < 0.1:
            continue  # the next one lies on it and speaks for both
        place = (point["rate"], point["distortion"])
        same = [other for other in points[:i] if abs(other["rate"] - point["rate"]) < 0.1]
        told = ", ".join(f"{other['beta']:g}" for other in [*same, point])
        left = point["rate"] > 50  # where the axis ends
        offset, align = ((-5, 6), "right") if left else ((5, 4), "left")
        curve.annotate(f"β = {told}", place, xytext=offset, textcoords="offset points", ha=align)
    level = at_one["negative_elbo"]
    line = np.linspace(0, level - min(distortions), 50)
    curve.plot(line, level - line, ":", color="#555555")
    curve.set_xscale("symlog", linthresh=10)
    curve.set_title("Rate and distortion")
    where = np.arange(len(points))
    for i, (name, told) in enumerate((("rate", "rate"), ("distortion", "distortion"))):
        heights = [point[name] for point in points]
        axes["B"].bar(where + 0.4 * i - 0.2, heights, 0.4, color=COLOURS[i], label=told, hatch=("", "/")[i])
    axes["B"].set_xticks(where, [f"{point['beta']:g}" for point in points])
    axes["B"].set(xlabel="β", ylabel="nats per image", title="What −ELBO is made of", ylim=(0, 2.2 * level))
    axes["B"].legend(frameon=False)
    rows = ["test images"]
    for point in points:
        rows += [f"β = {point['beta']:g}, reconstructed", "drawn from the prior"]
    draw_images(axes["C"], images, setting.dataset.image_shape, _SHOWN, rows=rows)
    return figure
