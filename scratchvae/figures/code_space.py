"""Where the codes lie, what lies between them, and what a draw from N(0, I) meets there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_forward
from scratchvae.figures.drawing import draw_images, make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.neighbours import Neighbours
from scratchvae.figures.setting import Setting
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.plots import COLOURS
from scratchvae.randomness import standard_normal

__all__ = ["code_space"]

_DRAWS = 1000
_SHOWN = 24  # of the draws
_SIDE = 15  # of the decoded grid
# A draw is in a hole if it is farther from the known codes than this share of unseen codes are.
_QUANTILE = 0.95
_KINDS: dict[str, Any] = {"autoencoder": Autoencoder, "VAE": VAE}
_ENDING = (
    " In two dimensions a prior much narrower than the codes meets one crowded place of the map, where there are no "
    "holes and little variety; in more dimensions the place between the codes is large and empty."
)


def code_space(setting: Setting) -> Finding:
    """Maps with two latent dimensions, which show all of the space; numbers with more of them, too.

    A hole is measured twice. In the code space: a draw farther from every training image's code than 95 % of the
    test images' codes are. In the images: a decoded draw whose ten nearest training images agree less than those
    of 95 % of the test images. A prior that draws like the data has 5 % of its mass in holes, or less.
    """
    judge = Neighbours(setting.train, setting.labels[0])
    unclear = float(np.quantile(judge.look(setting.test)[1].max(axis=1), 1 - _QUANTILE))
    code_rng, prior_rng = setting.generators(2)
    figure, axes = make_sheet(9, 10.6, "AB;CD;EF", heights=(1.15, 1.15, 0.62))
    measured: list[dict[str, Any]] = []
    for latent_dim in sorted({2, setting.latent_dim}):
        draws = standard_normal(prior_rng, (_DRAWS, latent_dim), np.float32)
        for panels, (name, kind) in zip(("ACE", "BDF"), _KINDS.items(), strict=True):
            model = setting.trained(kind, model={"binarize": None, "latent_dim": latent_dim})[0]
            codes = [_codes(model, images, code_rng) for images in (setting.train, setting.test)]
            pictures = model.likelihood.mean(model.decode(draws))
            numbers = _measure(judge, unclear, codes, draws, pictures)
            measured.append({"model": name, "latent_dim": latent_dim, **numbers})
            if latent_dim == 2:
                _draw([axes[panel] for panel in panels], setting, model, name, codes[1], pictures[:_SHOWN])
    columns = [
        "model",
        "L",
        "spread of the codes",
        "prior in holes of the code space",
        "unclear draws",
        "classes drawn",
    ]
    return Finding(
        columns,
        [_row(numbers) for numbers in measured],
        "\n\n".join(_seen(plain, vae) for plain, vae in zip(measured[::2], measured[1::2], strict=True))
        + _ENDING,
        {"draws": _DRAWS, "unclear_below": unclear, "models": measured},
        f"{setting.describe()}, grey targets. Shown: L = 2. Above: codes of {len(setting.test)} test images "
        "(of the VAE: "
        "draws from the posterior), circles hold 50 and 95 % of the prior's mass. Middle: decoded grid over the same "
        f"square. Below: {_SHOWN} of n = {_DRAWS} decoded draws from N(0, I).",
        figure,
    )


def _codes(model: Any, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Codes (B, 2): of the VAE one draw from each posterior, for that is what its prior should match."""
    if not isinstance(model, VAE):
        return model.code(x)
    mean, log_var = model.encode(x)
    return gaussian_sample_forward(mean, log_var, standard_normal(rng, mean.shape, np.float32)[None])[0][0]


def _measure(
    judge: Neighbours, unclear: float, codes: Sequence[np.ndarray], draws: np.ndarray, pictures: np.ndarray
) -> dict[str, float]:
    known, unseen = codes
    near = Neighbours(known, np.zeros(len(known), int))
    threshold = np.quantile(near.look(unseen)[0], _QUANTILE)
    shares = judge.look(pictures)[1]
    classes = np.bincount(shares.argmax(axis=1)) / len(shares)
    return {
        "code_standard_deviation": float(known.std(axis=0).mean()),
        "prior_mass_in_code_holes": float((near.look(draws)[0] > threshold).mean()),
        "unclear_draws": float((shares.max(axis=1) < unclear).mean()),
        "confidence": float(shares.max(axis=1).mean()),
        # As many equally frequent classes have the same entropy.
        "effective_classes": float(np.exp(-np.sum(classes * np.log(np.where(classes > 0, classes, 1))))),
    }


def _row(measured: dict[str, Any]) -> list[str]:
    return [
        measured["model"],
        str(measured["latent_dim"]),
        f"{measured['code_standard_deviation']:.2f}",
        f"{100 * measured['prior_mass_in_code_holes']:.1f} %",
        f"{100 * measured['unclear_draws']:.1f} %",
        f"{measured['effective_classes']:.1f}",
    ]


def _seen(plain: dict[str, Any], vae: dict[str, Any]) -> str:
    words = []
    for name in ("prior_mass_in_code_holes", "unclear_draws"):
        verdict = "shows" if vae[name] < plain[name] else "does not show"
        words.append(
            f"{100 * plain[name]:.1f} % for the autoencoder, {100 * vae[name]:.1f} % for the VAE ({verdict})"
        )
    return (
        f"With L = {plain['latent_dim']}, the autoencoder's codes spread with a standard deviation of "
        f"{plain['code_standard_deviation']:.1f}, as nothing tells them where to be, and the VAE's with "
        f"{vae['code_standard_deviation']:.2f}, where the prior has 1. Prior mass in holes of the code space: "
        f"{words[0]}. "
        f"Draws that are no clear digit: {words[1]}. The draws show as much variety as "
        f"{plain['effective_classes']:.1f} "
        f"and {vae['effective_classes']:.1f} equally frequent classes."
    )


def _draw(
    panels: list[Any],
    setting: Setting,
    model: Any,
    name: str,
    unseen: np.ndarray,
    pictures: np.ndarray,
) -> None:
    # A square that holds nearly all codes and the prior.
    reach = max(3.0, float(np.quantile(np.abs(unseen), 0.98)))
    where, grid, drawn = panels
    for label in range(10):
        chosen = unseen[setting.labels[1] == label][:200]
        where.scatter(
            *chosen.T, s=26, marker=f"${label}$", color=COLOURS[label % len(COLOURS)], linewidths=0.3
        )
    turn = np.linspace(0, 2 * np.pi, 200)
    for mass in (0.5, 0.95):
        radius = np.sqrt(-2 * np.log(1 - mass))  # of N(0, I) in two dimensions
        where.plot(radius * np.cos(turn), radius * np.sin(turn), color="black", linewidth=1)
    where.set(
        xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=f"{name}: codes of test images"
    )
    where.set(xlabel="first code", ylabel="second code")
    line = np.linspace(-reach, reach, _SIDE, dtype=np.float32)
    points = np.stack(np.meshgrid(line, line[::-1]), axis=-1).reshape(-1, 2)
    shape = setting.dataset.image_shape
    decoded = model.likelihood.mean(model.decode(points))
    draw_images(grid, decoded, shape, _SIDE, f"{name}: decoded grid, ±{reach:.1f}")
    draw_images(drawn, pictures, shape, 8, f"{name}: draws from N(0, I)")
