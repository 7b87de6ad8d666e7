"""What breaks training: four mistakes of public code, each trained with and evaluated without."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from scratchvae.estimators import Estimator
from scratchvae.figures.drawing import draw_images, make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.setting import Setting
from scratchvae.models.vae import VAE
from scratchvae.objectives.elbo import ELBO
from scratchvae.plots import COLOURS
from scratchvae.training.loop import TrainingDiverged

__all__ = ["MISTAKES", "MistakenVAE", "broken_training"]

MISTAKES = {
    "none": "as derived",
    "log-variance for σ": "z = mean + log_var · noise",
    "noise of shape (B, 1)": "one noise for all dimensions of z",
    "z detached": "no gradient passes from z to the encoder",
    "reconstruction averaged": "a mean over pixels beside a KL that is summed",
    "KL averaged": "a mean over latent dimensions and pixels beside a reconstruction that is summed",
}
_SAMPLES = 10
_SHOWN = 14


class MistakenVAE(VAE):
    """A `VAE` that is trained with a mistake and evaluated, by all that it inherits, without.

    Parameters
    ----------
    input_dim : int
        D.
    mistake : str
        A key of `MISTAKES`.
    **settings
        As for `VAE`.
    """

    def __init__(self, input_dim: int, mistake: str, **settings: Any) -> None:
        super().__init__(input_dim, **settings)
        self.mistake = mistake
        if mistake == "reconstruction averaged":
            # mean over D of the reconstruction − KL is 1/D times reconstruction − D KL, and Adam forgets the 1/D
            self.beta *= self.input_dim
        elif mistake == "KL averaged":
            self.beta /= self.latent_dim * self.input_dim

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().config(), "mistake": self.mistake}

    def _loss_and_gradients(
        self, x: np.ndarray, noise: np.ndarray, estimator: Estimator, beta: float
    ) -> tuple[float, ELBO]:
        if self.mistake == "noise of shape (B, 1)":
            noise = np.ascontiguousarray(np.broadcast_to(noise[..., :1], noise.shape))
        estimator = _Mistaken(estimator, self.mistake)
        return self._loss_and_gradients_by_layers(x, noise, estimator, beta)


class _Mistaken:
    """An estimator that makes the mistake between z and (mean, log_var), or none."""

    needs_gradient = True

    def __init__(self, right: Estimator, mistake: str) -> None:
        self.right, self.mistake = right, mistake
        self.name, self.minimum_samples = right.name, right.minimum_samples

    def sample_gradients(
        self, integrand: Any, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients with respect to mean and log_var, each (S, B, L)."""
        if self.mistake == "log-variance for σ":
            # z = mean + log_var noise: consistent with itself, so that a gradient check finds nothing
            _, dz = integrand.value_and_gradient(mean + log_var * noise)
            return dz, dz * noise
        dmean, dlog_var = self.right.sample_gradients(integrand, mean, log_var, noise)
        if self.mistake == "z detached":
            return np.zeros_like(dmean), np.zeros_like(dlog_var)
        return dmean, dlog_var


def broken_training(setting: Setting) -> Finding:
    """The same model, data and noise with each mistake; what it does is judged by the right bound on test images."""
    results, strips = [], [setting.test[:_SHOWN]]
    drawing_seed = int(setting.generators(1)[0].integers(2**31))
    for mistake in MISTAKES:
        vae, told = _train(setting, mistake)
        results.append({"mistake": mistake, "told": told, **setting.measured(vae, _SAMPLES)})
        strips += [vae.reconstruct(setting.test[:_SHOWN]), vae.sample(_SHOWN, drawing_seed)]
    columns = ["mistake", "loss it reports", "true −ELBO", "−log p(x|z)", "KL", "mean σ", "active units"]
    return Finding(
        columns,
        [_row(result) for result in results],
        _seen(results),
        {"samples": _SAMPLES, "mistakes": MISTAKES, "results": results},
        f"{setting.describe()}, L = {setting.latent_dim}, dynamic binarization; n = {len(setting.test)} test images, "
        f"{_SAMPLES} samples of z each. Losses are per image, summed over pixels, with the mistake's own weight of "
        "the KL. Rows: reconstructions, and draws from the prior.",
        _draw(results, np.concatenate(strips), setting),
    )


def _train(setting: Setting, mistake: str) -> tuple[VAE, float | None]:
    """The model, and the loss that its training reports at the end; None if it diverged."""
    try:
        vae, history = setting.trained(MistakenVAE, model={"mistake": mistake})
    except TrainingDiverged as error:
        return cast("VAE", error.model), None
    return vae, history.epochs[-1].loss


def _row(result: dict[str, Any]) -> list[str]:
    told = "diverged" if result["told"] is None else f"{result['told']:.2f}"
    numbers = (f"{result[name]:.2f}" for name in ("negative_elbo", "distortion", "kl", "mean_sigma"))
    return [result["mistake"], told, *numbers, str(result["active_units"])]


def _seen(results: list[dict[str, Any]]) -> str:
    right, *wrong = results
    words = [f"Without a mistake the bound on test images is {right['negative_elbo']:.2f} nats."]
    for result in wrong:
        cost = result["negative_elbo"] - right["negative_elbo"]
        judgment = f"costs {cost:.2f} nats" if cost > 0 else f"costs nothing here ({cost:+.2f} nats)"
        words.append(
            f"*{result['mistake']}* ({MISTAKES[result['mistake']]}) {judgment}: KL {result['kl']:.2f}, σ "
            f"{result['mean_sigma']:.2f}, {result['active_units']} active dimensions."
        )
    diverged = [result["mistake"] for result in wrong if result["told"] is None]
    stops = (
        f"Only {', '.join(diverged)} made training stop" if diverged else "None of them makes training stop"
    )
    lower = [
        result["mistake"] for result in wrong if result["told"] is not None and result["told"] < right["told"]
    ]
    words.append(
        f"{stops}; {len(lower)} of them report a lower loss than the model without a mistake. The reported "
        "losses are no guide, for those "
        "with another weight of the KL are of another quantity; the right bound, and a look at draws from "
        "the prior, are."
    )
    return " ".join(words)


def _draw(results: list[dict[str, Any]], images: np.ndarray, setting: Setting) -> Any:
    figure, axes = make_sheet(9, 8.6, "A;B", heights=(0.55, 1.5))
    left = np.zeros(len(results))
    names = [result["mistake"] for result in results]
    for i, (name, told) in enumerate((("distortion", "−log p(x|z)"), ("kl", "KL"))):
        lengths = np.array([result[name] for result in results])
        axes["A"].barh(names, lengths, left=left, color=COLOURS[i], hatch=("", "//")[i], label=told)
        left += lengths
    axes["A"].axvline(results[0]["negative_elbo"], color="black", linestyle=":")
    axes["A"].set(xlabel="true −ELBO of test images (nats)", ylabel="mistake")
    axes["A"].invert_yaxis()
    axes["A"].legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.38))
    rows = ["test images"]
    for name in names:
        rows += [name, "drawn"]
    draw_images(axes["B"], images, setting.dataset.image_shape, _SHOWN, rows=rows)
    return figure
