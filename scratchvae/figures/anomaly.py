"""Finding what does not belong: scores by the bound and by log p(x), and where they fail."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.figures.drawing import make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.setting import Setting
from scratchvae.lab.likelihood import log_marginal_likelihood
from scratchvae.models.vae import VAE
from scratchvae.plots import COLOURS
from scratchvae.randomness import NoiseStream
from scratchvae.training.data import binarize, load_dataset, pixels
from scratchvae.training.progress import Progress

__all__ = ["anomaly", "area_under_roc"]

_SAMPLES = 100  # of z per image, for log p(x)
_SCORED = 1000  # images of each kind at most
# Which published data set is the other's outsider.
_OTHERS = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}


def area_under_roc(outside: np.ndarray, inside: np.ndarray) -> float:
    """The probability that an outsider's score is the higher one of a pair; one half for chance; ties count half.

    Parameters
    ----------
    outside, inside : ndarray (N,), (M,)
        Scores, high for what looks strange.
    """
    ordered = np.sort(inside)
    below, not_above = (np.searchsorted(ordered, outside, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(inside)))


def anomaly(setting: Setting) -> Finding:
    """Each class in turn is left out of training; with MNIST or Fashion-MNIST, the other set is an outsider too."""
    labels, test_labels = setting.labels
    results: list[dict[str, Any]] = []
    shown: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    with Progress("anomaly: classes left out", len(np.unique(labels))) as bar:
        for label in np.unique(labels):
            vae = setting.trained(x=setting.train[labels != label], progress=False)[0]
            outside, inside = setting.test[test_labels == label], setting.test[test_labels != label]
            results.append(_compare(f"{label} left out", vae, outside, inside, setting, shown))
            bar.advance(f"without {label}")
    other = _OTHERS.get(setting.dataset.name)
    if other is not None:
        vae = setting.trained()[0]
        results.append(_compare(other, vae, pixels(load_dataset(other).test), setting.test, setting, shown))
    return Finding(
        ["outsider", "AUROC by −ELBO", "AUROC by −log p(x)", "outsider's −log p(x)", "insiders' −log p(x)"],
        [_row(result) for result in results],
        _seen(results),
        {"samples": _SAMPLES, "results": results},
        f"{setting.describe()}, L = {setting.latent_dim}, dynamic binarization; at most {_SCORED} test images of each "
        f"kind, {_SAMPLES} samples of z each for either score.",
        _draw(results, shown),
    )


def _compare(
    name: str,
    vae: VAE,
    outside: np.ndarray,
    inside: np.ndarray,
    setting: Setting,
    shown: dict[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    scores = [_score(vae, images[:_SCORED], setting.seed) for images in (outside, inside)]
    shown[name] = (scores[0][1], scores[1][1])
    return {
        "outsider": name,
        "outsiders": len(scores[0][0]),
        "insiders": len(scores[1][0]),
        "area_by_elbo": area_under_roc(scores[0][0], scores[1][0]),
        "area_by_likelihood": area_under_roc(scores[0][1], scores[1][1]),
        "outside": float(scores[0][1].mean()),
        "inside": float(scores[1][1].mean()),
    }


def _score(vae: VAE, images: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """−ELBO and −log p(x), (N,) each: high for what looks strange."""
    x = binarize(images, "dynamic", NoiseStream(seed))
    bound = vae.elbo(x, rng=seed, num_samples=_SAMPLES).value
    return -bound, -log_marginal_likelihood(vae, x, _SAMPLES, seed)


def _row(result: dict[str, Any]) -> list[str]:
    areas = (f"{result[name]:.3f}" for name in ("area_by_elbo", "area_by_likelihood"))
    return [result["outsider"], *areas, f"{result['outside']:.1f}", f"{result['inside']:.1f}"]


def _seen(results: list[dict[str, Any]]) -> str:
    areas = np.array([[result["area_by_elbo"], result["area_by_likelihood"]] for result in results])
    worst = min(results, key=lambda result: result["area_by_likelihood"])
    best = max(results, key=lambda result: result["area_by_likelihood"])
    failures = [result for result in results if result["area_by_likelihood"] < 0.5]
    words = (
        f"On average over {len(results)} outsiders the area under the ROC curve is {areas[:, 0].mean():.3f} "
        "by the bound "
        f"and {areas[:, 1].mean():.3f} by log p(x), where 0.5 is chance; the two scores differ by at most "
        f"{np.abs(areas[:, 0] - areas[:, 1]).max():.3f}. Best found: {best['outsider']} "
        f"({best['area_by_likelihood']:.3f}); worst: {worst['outsider']} ({worst['area_by_likelihood']:.3f}). "
    )
    if failures:
        told = ", ".join(f"{result['outsider']} ({result['area_by_likelihood']:.3f})" for result in failures)
        return words + (
            f"The known failure is here: below chance, that is with a **higher** likelihood than what the model was "
            f"trained on, {told}. Images of few or simple strokes are likely under any model of strokes: the "
            "likelihood "
            "says how well an image can be coded, not whether it belongs."
        )
    return words + "The known failure, an outsider with the higher likelihood, does not show here."


def _draw(results: list[dict[str, Any]], shown: dict[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    figure, axes = make_sheet(9.5, 5.2, "AA;BC")
    where = np.arange(len(results))
    for i, (name, told) in enumerate((("area_by_elbo", "−ELBO"), ("area_by_likelihood", "−log p(x)"))):
        heights = [result[name] for result in results]
        axes["A"].bar(where + 0.4 * i - 0.2, heights, 0.4, color=COLOURS[i], hatch=("", "//")[i], label=told)
    axes["A"].axhline(0.5, color="black", linestyle=":")
    axes["A"].set_xticks(where, [result["outsider"].removesuffix(" left out") for result in results])
    axes["A"].set(xlabel="outsider: the class left out of training", ylabel="AUROC", ylim=(0, 1.3))
    axes["A"].legend(frameon=False, ncols=2, loc="upper right")
    ranked = sorted(results, key=lambda result: result["area_by_likelihood"])
    for panel, result in (("B", ranked[-1]), ("C", ranked[0])):
        outside, inside = shown[result["outsider"]]
        edges = np.linspace(min(outside.min(), inside.min()), max(outside.max(), inside.max()), 24)
        for scores, colour, told in ((inside, COLOURS[0], "insiders"), (outside, COLOURS[1], "outsiders")):
            axes[panel].hist(scores, edges, density=True, alpha=0.6, color=colour, label=told)
        axes[panel].set(xlabel="−log p(x) (nats)", ylabel="density (per nat)")
        axes[panel].set_title(f"{result['outsider']}: {result['area_by_likelihood']:.3f}")
        axes[panel].legend(frameon=False)
    return figure
