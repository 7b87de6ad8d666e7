"""Interpolation between two digits, by a plain autoencoder and by a VAE of the same size."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.figures.drawing import draw_curves, draw_images, make_sheet, share_legend
from scratchvae.figures.finding import Finding
from scratchvae.figures.neighbours import Neighbours
from scratchvae.figures.setting import Setting
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE

__all__ = ["interpolation"]

_STEPS = 9  # points on the way, both ends included
_PAIRS = 40
_FROM, _TO = 2, 9


def interpolation(setting: Setting) -> Finding:
    """Both models learn from one half of the training images; a classifier that knows the other half judges.

    Along each way between the codes of an unseen 2 and an unseen 9, it gives the distance to the nearest image
    that it knows, and the share of the ten nearest that agree on a class.
    """
    train, labels = setting.train, setting.labels[0]
    learned = np.zeros(len(train), bool)
    learned[setting.generators(1)[0].permutation(len(train))[: len(train) // 2]] = True
    judge = Neighbours(train[~learned], labels[~learned])
    # Grey levels as they are: dynamic binarization would hand the plain autoencoder noise that regularizes it.
    models = {
        name: setting.trained(kind, train[learned], {"binarize": None})[0]
        for name, kind in (("autoencoder", Autoencoder), ("VAE", VAE))
    }
    starts, ends = _pairs(setting)
    steps = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    ways = {"cross-fade": np.stack([(1 - steps) * a + steps * b for a, b in zip(starts, ends, strict=True)])}
    for name, model in models.items():
        pairs = zip(starts, ends, strict=True)
        ways[name] = np.stack([model.interpolate(a, b, _STEPS) for a, b in pairs])
    judged = {name: _judge(judge, way) for name, way in ways.items()}
    real_distance, real_shares = judge.look(setting.test)
    real = {
        "distance": float(real_distance.mean()),
        "confidence": float(real_shares.max(axis=1).mean()),
        "accuracy": float((real_shares.argmax(axis=1) == setting.labels[1]).mean()),
    }
    numbers = {"pairs": len(starts), "from": _FROM, "to": _TO, "test_images": real, "ways": judged}
    return Finding(
        ["way", "distance at its ends", "distance in the middle", "confidence at its ends", "in the middle"],
        [_row(name, judged[name]) for name in judged],
        _seen(judged, real, len(starts)),
        numbers,
        f"{setting.describe()}, L = {setting.latent_dim}, grey targets, {len(train[learned])} images to learn and as "
        f"many for the classifier (10 nearest neighbours, {100 * real['accuracy']:.1f} % right on test images); "
        f"n = {len(starts)} pairs of a {_FROM} and a {_TO} that neither has seen; bars: standard error over pairs.",
        _draw(ways, judged, real, setting.dataset.image_shape),
    )


def _pairs(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Test images of the two classes, each used once."""
    twos, nines = (setting.test[setting.labels[1] == label] for label in (_FROM, _TO))
    count = min(_PAIRS, len(twos), len(nines))
    return twos[:count], nines[:count]


def _judge(judge: Neighbours, way: np.ndarray) -> dict[str, Any]:
    """Means over pairs, and their standard errors, at each step of ways (pairs, steps, D)."""
    distances, shares = judge.look(way.reshape(-1, way.shape[-1]))
    result: dict[str, Any] = {}
    for name, values in (("distance", distances), ("confidence", shares.max(axis=1))):
        by_step = values.reshape(way.shape[:2])
        middle, outer = by_step[:, _STEPS // 2], by_step[:, [0, -1]].mean(axis=1)
        result[name] = by_step.mean(axis=0).tolist()
        result[f"{name}_error"] = (by_step.std(axis=0) / np.sqrt(len(way))).tolist()
        result[f"{name}_middle_minus_ends"] = float((middle - outer).mean())
        result[f"{name}_middle_minus_ends_error"] = float((middle - outer).std() / np.sqrt(len(way)))
    classes = shares.argmax(axis=1).reshape(way.shape[:2])[:, _STEPS // 2]
    result["classes_in_the_middle"] = np.bincount(classes, minlength=shares.shape[1]).tolist()
    return result


def _row(name: str, judged: dict[str, Any]) -> list[str]:
    cells = []
    for what in ("distance", "confidence"):
        values, errors = judged[what], judged[f"{what}_error"]
        middle = _STEPS // 2
        cells += [f"{(values[0] + values[-1]) / 2:.2f}", f"{values[middle]:.2f} ± {errors[middle]:.2f}"]
    return [name, *cells]


def _seen(judged: dict[str, Any], real: dict[str, float], pairs: int) -> str:
    """The words for what was measured, whichever way it came out."""
    plain, vae, fade = (judged[name] for name in ("autoencoder", "VAE", "cross-fade"))
    middle = _STEPS // 2
    gaps = []
    for what, better in (("distance", -1), ("confidence", 1)):
        difference = better * (vae[what][middle] - plain[what][middle])
        error = float(np.hypot(vae[f"{what}_error"][middle], plain[f"{what}_error"][middle]))
        verdict = (
            "is better" if difference > 2 * error else "is worse" if difference < -2 * error else "is level"
        )
        gaps.append(
            f"in {what} the VAE {verdict} ({vae[what][middle]:.2f} against {plain[what][middle]:.2f}, the two "
            f"standard errors together {error:.2f})"
        )
    return (
        f"Half-way between the two codes {gaps[0]}, and {gaps[1]}. For comparison, real test images are "
        f"{real['distance']:.2f} from the nearest image that the classifier knows, with a confidence of "
        f"{real['confidence']:.2f}; a cross-fade of the pixels, which uses no model, is at "
        f"{fade['distance'][middle]:.2f} and {fade['confidence'][middle]:.2f}. A short distance alone is no proof of a "
        "digit: a blurred image is near to many. From its ends to its middle the way moves away from the data by "
        f"{plain['distance_middle_minus_ends']:+.2f} ± {plain['distance_middle_minus_ends_error']:.2f} for the "
        f"autoencoder and {vae['distance_middle_minus_ends']:+.2f} ± {vae['distance_middle_minus_ends_error']:.2f} for "
        f"the VAE, over {pairs} pairs. What the classifier takes the VAE's middle for: {_classes(vae)}; the "
        f"autoencoder's: {_classes(plain)}."
    )


def _classes(judged: dict[str, Any]) -> str:
    counts = judged["classes_in_the_middle"]
    order = np.argsort(counts)[::-1]
    return ", ".join(f"a {label} {counts[label]} times" for label in order if counts[label])


def _draw(ways: dict[str, np.ndarray], judged: dict[str, Any], real: dict[str, float], shape: Any) -> Any:
    figure, axes = make_sheet(9, 7, "AA;BC", heights=(1.15, 1))
    strips = np.concatenate([way[pair] for pair in range(2) for way in ways.values()])
    draw_images(
        axes["A"],
        strips,
        shape,
        _STEPS,
        f"Two pairs, three ways from a {_FROM} to a {_TO}",
        rows=[*ways, *ways],
    )
    steps = np.linspace(0, 1, _STEPS).tolist()
    for panel, what, label in (
        ("B", "distance", "distance to the nearest held-out image"),
        ("C", "confidence", "share of the 10 nearest that agree"),
    ):
        curves = {name: result[what] for name, result in judged.items()}
        errors = {name: result[f"{what}_error"] for name, result in judged.items()}
        draw_curves(axes[panel], steps, curves, "way from the 2 to the 9", label, errors=errors)
        axes[panel].axhline(real[what], color="#555555", linestyle=":", label="real test images")
    share_legend(figure, axes["B"])
    return figure
