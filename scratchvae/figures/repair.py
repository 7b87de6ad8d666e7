"""Denoising and inpainting: what a trained VAE makes of damaged images, against remedies without a model."""

from __future__ import annotations

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_forward
from scratchvae.figures.drawing import draw_images, make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.setting import Setting
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream
from scratchvae.training.data import binarize
from scratchvae.training.progress import Progress

__all__ = ["repair"]

_FLIPPED = 0.15  # share of pixels turned from black to white or back
# Rounds of drawing z given the image and the missing pixels given z; the mean of the later half is the answer.
_ROUNDS = 60
_SHOWN = 14
_REPAIRED = 1000  # images at most


def repair(setting: Setting) -> Finding:
    """One VAE, trained on whole images alone; errors are shares of pixels that are wrong, black for white or back.

    Denoising is the reconstruction of the damaged image. Inpainting draws z from the posterior of the image as it
    is, then replaces the missing pixels by the decoder's, again and again (Rezende et al. 2014, appendix F): a
    Markov chain whose limit is near the model's own conditional. The remedies without a model are: to leave the
    image as it is, the mean training image, and the nearest training image by what is known.
    """
    pixel_rng, flip_rng, chain_rng = setting.generators(3)
    vae = setting.trained(model={"binarize": "threshold"})[0]
    train = binarize(setting.train, "threshold")
    whole = binarize(setting.test[:_REPAIRED], "threshold")
    flips = NoiseStream(flip_rng).bernoulli(np.full(whole.shape, _FLIPPED, np.float32))
    noisy = np.abs(whole - flips)
    missing = np.zeros(setting.dataset.image_shape, bool)
    missing[setting.dataset.image_shape[0] // 2 :] = True  # the lower half
    hidden = missing.ravel()
    start = np.where(hidden, binarize(np.full_like(whole, 0.5), "dynamic", NoiseStream(pixel_rng)), whole)
    filled = _inpaint(vae, start, hidden, NoiseStream(chain_rng))
    everywhere = np.ones_like(hidden)
    mean = np.broadcast_to(train.mean(axis=0), whole.shape)
    answers = {
        "denoising": {
            "left as it is": _wrong(noisy, whole, everywhere),
            "mean image": _wrong(mean, whole, everywhere),
            "nearest image": _wrong(_nearest(noisy, train, everywhere), whole, everywhere),
            "VAE": _wrong(vae.reconstruct(noisy), whole, everywhere),
            "VAE, undamaged image": _wrong(vae.reconstruct(whole), whole, everywhere),
        },
        "inpainting": {
            "mean image": _wrong(mean, whole, hidden),
            "nearest image": _wrong(_nearest(whole, train, ~hidden), whole, hidden),
            "VAE, one pass": _wrong(vae.reconstruct(start), whole, hidden),
            "VAE": _wrong(filled, whole, hidden),
        },
    }
    shown = slice(0, _SHOWN)
    strips = {
        "test images": whole[shown],
        "flipped pixels": noisy[shown],
        "denoised": vae.reconstruct(noisy[shown]),
        "lower half unknown": np.where(hidden, 0.5, whole)[shown],
        "filled in": filled[shown],
    }
    figure, axes = make_sheet(9, 3.3, "A")
    draw_images(
        axes["A"], np.concatenate([*strips.values()]), setting.dataset.image_shape, _SHOWN, rows=[*strips]
    )
    return Finding(
        ["task", "remedy", "wrong pixels"],
        [
            [task, remedy, f"{100 * error:.1f} ± {100 * spread:.1f} %"]
            for task, remedies in answers.items()
            for remedy, (error, spread) in remedies.items()
        ],
        _seen(answers),
        {"flipped": _FLIPPED, "rounds": _ROUNDS, "wrong_pixels": answers},
        f"{setting.describe()}, L = {setting.latent_dim}, pixels above one half are white; n = {len(whole)} "
        "test images; "
        f"{100 * _FLIPPED:.0f} % of the pixels flipped; {_ROUNDS} rounds of inpainting; ± standard error over images.",
        figure,
    )


def _inpaint(vae: VAE, x: np.ndarray, hidden: np.ndarray, noise: NoiseStream) -> np.ndarray:
    """Probabilities (B, D) of the hidden pixels, averaged over the later half of the chain; the others as they are."""
    total = np.zeros_like(x)
    with Progress("repair: inpainting", _ROUNDS) as bar:
        for step in range(_ROUNDS):
            mean, log_var = vae.encode(x)
            z = gaussian_sample_forward(mean, log_var, noise.standard_normal((1, *mean.shape), np.float32))[
                0
            ][0]
            probability = vae.likelihood.mean(vae.decode(z))
            x = np.where(hidden, noise.bernoulli(probability), x)
            if step >= _ROUNDS // 2:
                total += probability / (_ROUNDS - _ROUNDS // 2)
            bar.advance()
    return np.where(hidden, total, x)


def _nearest(x: np.ndarray, known: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The known images (B, D) that differ least from x in the pixels `by`."""
    seen, candidates = x[:, by], known[:, by]
    squared = (candidates**2).sum(axis=1) - 2 * (seen @ candidates.T)
    return known[squared.argmin(axis=1)]


def _wrong(answer: np.ndarray, whole: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """Share of the pixels in `where` that are wrong, and its standard error over images."""
    shares = ((answer > 0.5) != (whole > 0.5))[:, where].mean(axis=1)
    return float(shares.mean()), float(shares.std() / np.sqrt(len(shares)))


def _seen(answers: dict[str, dict[str, tuple[float, float]]]) -> str:
    words = []
    for task, remedies in answers.items():
        vae = remedies["VAE"]
        others = {name: error for name, error in remedies.items() if not name.startswith("VAE")}
        name, best = min(others.items(), key=lambda entry: entry[1][0])
        gap, error = best[0] - vae[0], float(np.hypot(best[1], vae[1]))
        verdict = "better than" if gap > 2 * error else "worse than" if gap < -2 * error else "level with"
        words.append(
            f"In {task} the VAE leaves {100 * vae[0]:.1f} % of the pixels wrong, {verdict} the best remedy without a "
            f"model ({name}, {100 * best[0]:.1f} %)."
        )
    floor, once = answers["denoising"]["VAE, undamaged image"][0], answers["inpainting"]["VAE, one pass"][0]
    words.append(
        f"Of an undamaged image its reconstruction has {100 * floor:.1f} % wrong, and its encoder has never seen a "
        f"damaged one. A single pass instead of the chain leaves {100 * once:.1f} % of the unknown half wrong."
    )
    return " ".join(words)
